"""Answer metrics against hand-worked values and the rules of the SQuAD scripts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memlong.errors import ConfigError
from memlong.evaluation.answers import (
    NOT_IN_TEXT,
    abstains,
    contains_answer,
    exact_match,
    normalise,
    score_answer,
    word_f1,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Cat, a dog; and AN ox!", "cat dog and ox"),
        ("  two\n\tlines ", "two lines"),
        ("theatre", "theatre"),
        ("it's 5,500", "its 5500"),
        ("it\u2019s \u201cso\u201d", "its so"),
        ("the", ""),
    ],
)
def test_normalise(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_exact_match_takes_any_answer() -> None:
    assert exact_match("The Eiffel Tower.", ["Big Ben", "eiffel tower"]) == 1.0
    assert exact_match("Eiffel", ["Eiffel Tower"]) == 0.0


def test_f1_by_hand() -> None:
    # prediction: old red mill (3 words), answer: red mill on hill (4), common 2: 2 * 2 / 7
    assert word_f1("the old red mill", ["red mill on the hill"]) == pytest.approx(4 / 7)
    assert word_f1("the old red mill", ["red mill on the hill", "an old red mill"]) == 1.0
    assert word_f1("mill mill mill", ["mill"]) == pytest.approx(2 * 1 / 4)
    assert word_f1("", ["mill"]) == 0.0
    assert word_f1("the", ["a"]) == 1.0


@given(st.text(max_size=40), st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_exact_implies_full_f1_and_both_stay_in_range(prediction: str, answers: list[str]) -> None:
    exact, f1 = exact_match(prediction, answers), word_f1(prediction, answers)
    assert exact in (0.0, 1.0) and 0.0 <= f1 <= 1.0
    assert f1 >= exact


@given(st.text(alphabet="ab ", max_size=12), st.text(alphabet="ab ", max_size=12))
def test_f1_is_symmetric(left: str, right: str) -> None:
    assert word_f1(left, [right]) == pytest.approx(word_f1(right, [left]))


def test_contains_whole_words_only() -> None:
    assert contains_answer("It was the Red Mill, they said.", ["red mill"])
    assert not contains_answer("A hundred milliners", ["red mill"])
    assert not contains_answer("anything", ["the", ""])


@pytest.mark.parametrize(
    "text",
    [
        NOT_IN_TEXT,
        "",
        "  ",
        "The text doesn't say.",
        "The document does not mention her age.",
        "It is not stated.",
        "Not mentioned in the text.",
        "I don't know.",
        "I cannot tell from this.",
        "unanswerable",
        "No information is given.",
        "The story never says.",
        "Unknown.",
        "The answer is not given.",
        "That is not told.",
    ],
)
def test_abstaining_is_recognised(text: str) -> None:
    assert abstains(text)


@pytest.mark.parametrize(
    "text",
    [
        "not far from the mill",
        "no one",
        "the unknown soldier",
        "It was not sold until May",
        "In the text of the law",
        "never",
        "He did not say a word to the miller",
        "no",
        "nothing but a coat",
    ],
)
def test_answers_are_not_taken_for_abstaining(text: str) -> None:
    assert not abstains(text)


def test_unanswerable_questions_reward_abstaining_only() -> None:
    assert score_answer(NOT_IN_TEXT, [], answerable=False).exact == 1.0
    assert score_answer("in May", ["in May"], answerable=False).f1 == 0.0
    assert exact_match(NOT_IN_TEXT, []) == word_f1(NOT_IN_TEXT, []) == 1.0
    assert exact_match("May", []) == word_f1("May", []) == 0.0


def test_answerable_questions_note_wrong_abstaining() -> None:
    score = score_answer(NOT_IN_TEXT, ["May"])
    assert score.abstained and score.exact == score.f1 == score.contains == 0.0
    assert score_answer("It was in May.", ["May"]).contains == 1.0


def test_mistakes_in_the_call_are_refused() -> None:
    with pytest.raises(ConfigError, match="one string"):
        exact_match("May", "May")
    with pytest.raises(ConfigError, match="without answers"):
        score_answer("May", [])
