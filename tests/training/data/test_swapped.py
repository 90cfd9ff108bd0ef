"""Exchanged facts: text, questions, answers and evidence stay one story, and another one than before."""

from __future__ import annotations

from training.data.questions import Document, Question
from training.data.swapped import name_pool, swap


def document(doc_id: str, person: str, place: str, year: str) -> Document:
    first = f"The bell was cast in {year} by {person} of {place}. "
    text = first + f"It weighed 1,240 pounds. {person.split()[-1]} never saw {place} again."
    spans = ((0, len(first)),)
    asked = [
        Question(f"{doc_id}-who", doc_id, "Who cast the bell?", (person, person.split()[-1]), evidence=spans),
        Question(f"{doc_id}-where", doc_id, f"Where did {person} live?", (place,), evidence=spans),
        Question(f"{doc_id}-when", doc_id, "When was the bell cast?", (f"in {year}", year), evidence=spans),
        Question(
            f"{doc_id}-heavy", doc_id, "How heavy was it?", ("1,240 pounds",), evidence=((len(first), len(text)),)
        ),
        Question(f"{doc_id}-how", doc_id, "How was it made?", ("was cast",), evidence=spans),
        Question(f"{doc_id}-none", doc_id, f"Who sold the bell of {place}?", (), answerable=False),
    ]
    return doc_id, text, asked


BELL = document("bell", "Anna Rosvall", "Tarnby", "1731")
OTHER = document("other", "Piet Hollander", "Querfurt", "1807")
POOL = name_pool([BELL, OTHER])


def test_everything_says_the_same_other_thing() -> None:
    doc_id, text, questions = swap(BELL, POOL, seed=3)
    asked = {question.id.removeprefix("bell-").removesuffix("~3"): question for question in questions}
    assert asked.keys() == {"who", "where", "when", "heavy", "none"}  # "was cast" is no name, and stayed
    assert asked["who"].answers == ("Piet Hollander", "Hollander")
    assert asked["where"].question == "Where did Piet Hollander live?" and asked["where"].answers == ("Querfurt",)
    assert asked["none"].question == "Who sold the bell of Querfurt?" and not asked["none"].answers
    year = asked["when"].answers[1]
    assert asked["when"].answers[0] == f"in {year}" and year != "1731" and 1671 <= int(year) <= 1791
    pounds = asked["heavy"].answers[0].removesuffix(" pounds")
    assert pounds != "1,240" and len(pounds) == 5 and pounds[1] == ","
    assert text == (
        f"The bell was cast in {year} by Piet Hollander of Querfurt. "
        f"It weighed {pounds} pounds. Hollander never saw Querfurt again."
    )
    for question in questions:
        assert question.doc_id == doc_id == "bell~3"
        for start, end in question.evidence:
            assert question.answers[0] in text[start:end]
            assert text[start] in "TI" and text[end - 1] in " ."


def test_the_same_seed_swaps_alike_and_another_one_otherwise() -> None:
    assert swap(BELL, POOL, seed=1) == swap(BELL, POOL, seed=1)
    assert {swap(BELL, POOL, seed=seed)[1] for seed in range(8)} != {swap(BELL, POOL, seed=1)[1]}


def test_a_text_keeps_what_no_other_document_can_replace() -> None:
    _, text, questions = swap(BELL, name_pool([BELL]), seed=0)
    assert "Anna Rosvall of Tarnby" in text
    assert {question.id for question in questions} == {"bell-when~0", "bell-heavy~0", "bell-none~0"}


def test_nothing_to_swap_leaves_the_text_and_asks_nothing() -> None:
    plain = ("plain", "It rained.", [Question("p", "plain", "What did it do?", ("rained",), evidence=((0, 10),))])
    assert swap(plain, POOL, seed=0) == ("plain~0", "It rained.", [])
