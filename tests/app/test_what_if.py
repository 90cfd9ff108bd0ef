"""What if memory had held other chunks: answers weighed and asked again, aside from the visitor's memory."""

from __future__ import annotations

from typing import Any

import pytest

from app import asking, what_if
from app.sessions import Visit
from app.tabs import lab_pieces as pieces
from app.tabs import lab_runs as runs
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.evaluation.counterfactual import answer_logprob
from memlong.retriever.base import Step
from memlong.session import steps
from memlong.session.results import Answer
from tests.app.conftest import QUESTION
from tests.app.test_lab import marks


def test_what_an_answer_owes_is_weighed_and_drawn(read: Visit) -> None:
    before = marks(read)
    *_, (rows,) = what_if.owed(read, 0)
    answer = read.exchanges[0].answer
    assert answer is not None and marks(read) == before
    assert {row.left_out for row in rows[1:-1]} == {item.chunk_id for item in answer.retrieved}
    said, figure = pieces.owed((rows,))
    assert "log-probability" in said and len(figure.data[0].x) == len(rows) - 1
    assert pieces.owed(())[0].startswith('<div class="ml-empty">')


def test_other_chunks_are_put_in_and_compared(read: Visit) -> None:
    before = marks(read)
    answer, without, instead, back = runs.menus(read, None)
    assert answer.value == 0 and without.choices and instead.choices and not back.choices
    assert "score" in without.choices[0][0] and "On day" in instead.choices[0][0]
    (first, other), numbers = what_if.numbers(picked := [without.choices[0][1], instead.choices[0][1]]), picked
    assert without.choices[0][0].startswith(f"{first + 1} "), "people count from 1"
    *_, (html,) = runs.changed(read, 0, numbers[:1], [str(numbers[1])], [])
    assert "Before" in html and "Now" in html and "the answer before has a log-probability of" in html
    *_, after = what_if.ask_again(read, 0, [first], [other])
    assert after.answer is not None
    ids = [item.chunk_id for item in after.answer.retrieved]
    assert other in ids and first not in ids
    with pytest.raises(ConfigError, match="There is no chunk 100000"):
        list(what_if.ask_again(read, 0, [], [99_999]))
    assert marks(read) == before and not read.experimenting


def test_asked_again_with_nothing_changed_it_is_the_same_answer(read: Visit) -> None:
    *_, after = what_if.ask_again(read, 0, [], [])
    told = read.exchanges[0].answer
    assert told is not None and after.answer is not None
    assert (after.text, after.answer.logprob) == (told.text, pytest.approx(told.logprob))
    assert after.before == pytest.approx(after.after)


@pytest.mark.parametrize("changes", [{}, {"memory_strength": 1.5}, {"answer_from": "both"}, {"history": 1}])
def test_an_answer_is_weighed_as_it_was_asked(read: Visit, changes: dict[str, Any]) -> None:
    for _ in asking.ask(read, "Which day had wind 3?", AskOptions(max_tokens=5, **changes)):
        pass
    answer = read.exchanges[1].answer
    assert answer is not None
    *_, after = what_if.ask_again(read, 1, [], [])
    assert after.before == pytest.approx(answer.logprob, abs=0.02) and after.after == pytest.approx(after.before)
    *_, (rows,) = what_if.owed(read, 1)
    assert rows[0].logprob == pytest.approx(answer.logprob, abs=0.02)
    card = f"log-probability of {answer.logprob:.2f}"
    assert card in pieces.moved(after) and card in pieces.owed((rows,), answer)[0]


def test_a_number_that_is_not_the_card_s_says_what_it_is(crowded: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    session = crowded.session
    assert session is not None
    real, queries = session.embed_query, iter(["Which day had wind 3?", "the customs house"])
    monkeypatch.setattr(session, "embed_query", lambda text: real(next(queries)))
    for _ in asking.ask(crowded, "Which day had wind 3?", AskOptions(max_tokens=6, retrieve_every=3)):
        pass
    answer = crowded.exchanges[1].answer
    assert answer is not None and len(answer.retrieved) > session.config.top_k, "memory changed half way"
    *_, (rows,) = what_if.owed(crowded, 1)
    assert abs(rows[0].logprob - answer.logprob) > 0.02
    said = pieces.owed((rows,), answer)[0]
    assert "Weighed anew with all its chunks at once" in said and f"({answer.logprob:.2f} while it was written)" in said
    session.delete_chunk(answer.retrieved[0].chunk_id)
    *_, after = what_if.ask_again(crowded, 1, [], [])
    assert after.gone == 1 and "without 1 chunk that left memory since" in pieces.moved(after)


def test_a_chunk_that_left_is_brought_back_for_one_answer(crowded: Visit) -> None:
    before = marks(crowded)
    _, _, _, back = runs.menus(crowded, 0)
    (gone,) = what_if.numbers([back.choices[0][1]])
    assert crowded.session is not None and gone in crowded.session.gone
    *_, after = what_if.ask_again(crowded, 0, [], [gone])
    assert after.answer is not None and gone in [item.chunk_id for item in after.answer.retrieved]
    assert after.before != after.after
    assert marks(crowded) == before, "it is gone from the visitor's memory as before"
    assert "pinned" in what_if.keep(crowded, [gone])
    assert crowded.session.bank.get(gone).pinned, "now it was asked for"
    with pytest.raises(ConfigError, match="No chunk is chosen"):
        what_if.keep(crowded, [])


def test_what_its_steps_find_now_is_part_of_the_change(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    session, whole = read.memory(), "Where did that one live?"
    session.config = session.config.replace(question_steps=2)
    found = iter([True, False])
    step = Step((10, 18), QUESTION)
    monkeypatch.setattr(session.retriever, "first_step", lambda question: step if question == whole else None)
    monkeypatch.setattr(steps, "_stands_in", lambda text, evidence: next(found))
    for _ in asking.ask(read, whole, AskOptions(max_tokens=4)):
        pass
    answer = read.exchanges[1].answer
    assert answer is not None and answer.asked != whole
    *_, after = what_if.ask_again(read, 1, [], [])
    assert after.answer is not None and (after.answer.asked, after.reworded) == (whole, whole)
    held = [item.chunk_id for item in after.answer.retrieved]
    assert after.before == pytest.approx(answer_logprob(session, answer.asked, answer.token_ids, [
        item.chunk_id for item in answer.retrieved]), abs=0.02)  # fmt: skip
    assert after.after == pytest.approx(answer_logprob(session, whole, answer.token_ids, held), abs=0.02)
    assert f"asked “{whole}”" in pieces.moved(after)
    monkeypatch.setattr(steps, "_stands_in", lambda text, evidence: True)
    *_, same = what_if.ask_again(read, 1, [], [])
    assert same.reworded == "" and "asked “" not in pieces.moved(same) and same.before == pytest.approx(same.after)


def in_steps(read: Visit, monkeypatch: pytest.MonkeyPatch) -> Answer:
    """Ask the visitor's question, and another one that needs it first; return the answer of the latter."""
    session, whole = read.memory(), "Where did that one live?"
    session.config = session.config.replace(question_steps=2)
    step = Step((10, 18), QUESTION)
    monkeypatch.setattr(session.retriever, "first_step", lambda question: step if question == whole else None)
    monkeypatch.setattr(steps, "_stands_in", lambda text, evidence: True)
    for _ in asking.ask(read, whole, AskOptions(max_tokens=4)):
        pass
    answer = read.exchanges[1].answer
    assert answer is not None and len(answer.steps) == 1
    return answer


def test_what_its_steps_found_is_weighed_with_an_answer(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = in_steps(read, monkeypatch)
    (step,) = answer.steps
    *_, (rows, first) = what_if.owed(read, 1)
    assert {row.left_out for row in first[1:-1]} == {item.chunk_id for item in step.retrieved}
    assert first[0].logprob == pytest.approx(step.logprob, abs=0.02), "a step is weighed as it was asked"
    said, figure = pieces.owed((rows, first), answer)
    assert f"What was asked first, <q>{QUESTION}</q>, " in said and said.count("log-probability") == 1
    assert f"chunk {first[1].left_out + 1}, step 1" in figure.data[0].y
    assert "is being weighed" in pieces.owed((rows, first[:1]), answer)[0]
    assert "asked first" not in pieces.owed((rows, first[:1]), answer, stopped=True)[0]


def test_a_comparison_tells_what_was_asked_first(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = in_steps(read, monkeypatch)
    only = {item.chunk_id for item in answer.evidence} - {item.chunk_id for item in answer.retrieved}
    _, without, _, _ = runs.menus(read, 1)
    assert sum("for what was asked first" in words for words, _ in without.choices) == len(only)
    monkeypatch.setattr(runs, "SHOW_EVERY", 0)
    *grown, (html,) = runs.changed(read, 1, [], [], [])
    assert html.count(f"Asked first: <q>{QUESTION}</q>") == 2, "before and now"
    assert any(each.count("Asked first: ") == 2 and "<h4>Now</h4>" in each for (each,) in grown), "as soon as it is"
    assert (" for what was asked first" in html) == bool(only)


def test_who_opens_the_lab_finds_the_newest_answer_or_the_one_they_picked(read: Visit) -> None:
    assert runs.to_try(read, None, None) == 0
    for _ in asking.ask(read, "Which day had wind 3?", AskOptions(max_tokens=3)):
        pass
    assert runs.to_try(read, 0, None) == 1, "what nobody chose gives way to the newest"
    picked = runs.id_of(read, 0)
    assert picked is not None and runs.to_try(read, 1, picked) == 0
    read.experimenting = True
    assert runs.to_try(read, 0, None) == 0, "what is being tried stays"
    read.experimenting = False
    asking.clear(read)
    assert runs.to_try(read, 0, picked) is None and runs.id_of(read, 0) is None
    for _ in asking.ask(read, QUESTION, AskOptions(max_tokens=3)):
        pass
    assert runs.id_of(read, 0) != picked, "another conversation has other answers"


def test_chunks_that_were_chosen_stay_when_the_lab_is_opened_again(read: Visit) -> None:
    _, without, held, gone = runs.menus(read, 0, [[3], ["7"], []])
    assert (without.value, held.value, gone.value) == ([3], ["7"], [])
    assert runs.menus(read, 0)[1].value == []


@pytest.mark.parametrize("given", [["many"], ["-1"], list(range(9)), ["0"]])
def test_what_is_no_number_of_a_chunk_is_refused(given: list[Any]) -> None:
    with pytest.raises(ConfigError):
        what_if.numbers(given)
    assert what_if.numbers(["12 · Chapter 1", 12, "", 3]) == [11, 2], "numbers count from 1, ids from 0"
