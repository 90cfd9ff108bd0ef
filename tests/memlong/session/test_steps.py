"""A question in steps: what it needs is asked first, stands in its place, and every step is an answer of its own."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.evaluation.aside import aside
from memlong.retriever.base import Step
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Answer, Session
from memlong.session import steps as module
from memlong.session.results import Evidence
from memlong.trace.events import AnswerFinished, QuestionAsked, Retrieved, from_dict

INNER, INNEST = "the keeper of the brass lantern", "the brass lantern"
QUESTION = f"Where did {INNER} live?"


class Knowing(HashingRetriever):
    """Says what must be found first of two questions, the second of which the first one leads to."""

    def __init__(self) -> None:
        super().__init__(256)
        self.told: list[str] = []

    def first_step(self, question):
        self.told.append(question)
        for words in (INNER, INNEST):
            at = question.find(words)
            if at >= 0 and not question.startswith(("What is ", f"Who is {INNEST}")):
                start = question.find(INNEST) if question.startswith("Who is ") else at
                words = INNEST if question.startswith("Who is ") else words
                return Step((start, start + len(words)), f"{'Who' if words == INNER else 'What'} is {words}?")
        return None


@pytest.fixture
def session(make_session, long_text):
    def build(steps: int) -> Session:
        made = make_session(question_steps=steps)
        made = Session(made.model, Knowing(), made.config)
        made.read(long_text)
        return made

    return build


@pytest.fixture
def found(monkeypatch):
    """Take whatever a step says for a name from the text: the tiny model says nothing of sense."""
    monkeypatch.setattr(module, "_stands_in", lambda found, evidence: True)


def bare(text: str) -> str:
    return text.strip().rstrip(".")


def test_what_is_found_stands_in_the_place_of_its_words(session, found):
    made = session(2)
    answer = made.ask(QUESTION, max_tokens=5)
    (step,) = answer.steps
    assert (step.question, step.answer_id, answer.answer_id) == (f"Who is {INNER}?", 0, 1)
    assert (answer.question, answer.asked) == (QUESTION, f"Where did {bare(step.text)} live?")
    assert made.retriever.told == [QUESTION]
    assert made.turns == [(QUESTION, answer.text)]


def test_a_follow_up_is_taken_apart_as_it_stands_alone(session, found):
    made = session(2)
    options = AskOptions(max_tokens=5, follow_ups=True)
    made.ask("Who was Ottoline Varga?", options)
    question, alone = f"And when did she meet {INNER}?", f"When did Ottoline Varga meet {INNER}?"
    answer = made.ask(question, options)
    (step,) = answer.steps
    assert made.retriever.told[-1] == alone and answer.question == question
    assert answer.asked == alone.replace(INNER, bare(step.text))
    events = [event for event in made.recorder.events if isinstance(event, QuestionAsked)]
    assert [event.step_of for event in events] == ["", alone, alone]


def test_a_step_may_take_steps_as_far_as_is_allowed(session, found):
    made = session(3)
    answer = made.ask(QUESTION, max_tokens=5)
    first, second = answer.steps
    assert first.question == f"What is {INNEST}?"
    assert second.question == f"Who is the keeper of {bare(first.text)}?"
    assert answer.asked == f"Where did {bare(second.text)} live?"
    assert [each.answer_id for each in (first, second, answer)] == [0, 1, 2] and made.asked == 3


def test_what_was_put_in_may_leave_more_to_be_found(session, found, monkeypatch):
    made = session(4)
    spans = iter([Step((10, 14), "Who is B?"), None, Step((0, 4), "Who is A?"), None, None])
    monkeypatch.setattr(made.retriever, "first_step", lambda question: next(spans))
    answer = made.ask("Does know that one?", max_tokens=4)
    first, second = answer.steps
    assert (first.question, second.question) == ("Who is B?", "Who is A?")
    assert answer.asked == f"{bare(second.text)} know {bare(first.text)} one?"


def test_what_does_not_stand_in_the_text_is_not_put_in_its_place(session):
    answer = session(2).ask(QUESTION, max_tokens=5)
    assert len(answer.steps) == 1 and answer.asked == answer.question == QUESTION


def test_a_short_answer_leaves_its_steps_room_for_a_name(session):
    answer = session(2).ask(QUESTION, max_tokens=1)
    assert answer.n_tokens == 1 < answer.steps[0].n_tokens


def test_a_name_that_little_speaks_for_is_not_put_in(session, found, monkeypatch):
    made = session(2)
    made.config = made.config.replace(low_score=2.0)
    answer = made.ask(QUESTION, max_tokens=5)
    assert answer.steps[0].low_evidence and answer.asked == QUESTION


def test_steps_are_found_greedily_and_to_their_end(session, found):
    plain = session(2).ask(QUESTION, max_tokens=5)
    sampled = session(2).ask(QUESTION, max_tokens=5, temperature=1.5, seed=3, stop=("e",))
    assert sampled.steps[0].text == plain.steps[0].text


def test_chunks_that_somebody_wants_are_for_the_last_question_alone(session, found):
    made = session(2)
    once = AskOptions(max_tokens=5, retrieve_every=0)
    plain = made.ask(QUESTION, once)
    used = {item.chunk_id for item in plain.evidence}
    held = [record.chunk_id for record in made.bank.records()]
    wanted = tuple(each for each in held if each not in used)[: made.config.top_k]
    out = plain.steps[0].retrieved[0].chunk_id
    answer = made.ask(QUESTION, once, forced=wanted, masked=(out,))
    assert {item.chunk_id for item in answer.retrieved} == set(wanted)
    (step,) = answer.steps
    fetched = {item.chunk_id for item in step.retrieved}
    assert len(fetched) == made.config.top_k and not fetched & set(wanted) and out not in fetched


@pytest.mark.parametrize(("steps", "answer_from"), [(1, "memory"), (3, "nothing")])
def test_it_is_asked_as_it_stands_where_steps_are_not_wanted(session, steps, answer_from):
    made = session(steps)
    answer = made.ask(QUESTION, max_tokens=3, answer_from=answer_from)
    assert answer.steps == () and answer.asked == QUESTION and made.retriever.told == []


def test_evidence_triggers_and_seconds_of_steps_count(session, found):
    made = session(2)
    answer = made.ask(QUESTION, max_tokens=5)
    (step,) = answer.steps
    ids = [item.chunk_id for item in answer.evidence]
    assert ids == list(dict.fromkeys([e.chunk_id for e in (*answer.retrieved, *step.retrieved)]))
    searches = [event for event in made.recorder.events if isinstance(event, Retrieved) and event.query != "chunk"]
    assert {event.query_id for event in searches} == {0, 1}
    again = {e.chunk_id for e in step.retrieved} & {e.chunk_id for e in answer.retrieved}
    counts = {e.chunk_id: e.trigger_count for e in answer.retrieved}
    before = {e.chunk_id: e.trigger_count for e in step.retrieved}
    assert all(counts[chunk_id] > before[chunk_id] for chunk_id in again)
    assert all(answer.seconds[name] >= step.seconds[name] for name in answer.seconds)
    values = answer.to_dict()
    assert values["steps"][0]["answer"] == step.text and values["asked"] == answer.asked
    assert values["steps"][0]["asked"] == step.question


def test_looking_for_steps_takes_time_of_the_answer_too(session, monkeypatch):
    made = session(2)
    monkeypatch.setattr(made.retriever, "first_step", lambda question: time.sleep(0.2))
    answer = made.ask(QUESTION, max_tokens=1)
    assert answer.steps == () and answer.seconds["embed"] >= 0.2


def test_evidence_begins_with_that_of_the_last_question_best_first(session):
    answer = session(1).ask(QUESTION, max_tokens=1)

    def fetched(*ids: int) -> tuple[Evidence, ...]:
        return tuple(replace(answer.retrieved[0], chunk_id=each, rank=at) for at, each in enumerate(ids, 1))

    steps = tuple(replace(answer, retrieved=fetched(*ids)) for ids in ((5, 1, 2), (2, 3)))
    whole = replace(answer, retrieved=fetched(1, 4, 2), steps=steps)
    assert [(item.chunk_id, item.rank) for item in whole.evidence] == [(1, 1), (4, 2), (2, 3), (3, 2), (5, 1)]


def test_the_trace_tells_of_every_step_what_it_is_a_step_of(session, found):
    made = session(2)
    answer = made.ask(QUESTION, max_tokens=5)
    asked = [event for event in made.recorder.events if isinstance(event, QuestionAsked)]
    assert [(each.question, each.step_of) for each in asked] == [
        (f"Who is {INNER}?", QUESTION), (answer.asked, QUESTION)
    ]  # fmt: skip
    assert [from_dict(each.to_dict()) for each in asked] == asked
    assert sum(isinstance(event, AnswerFinished) for event in made.recorder.events) == 2
    made.ask("Where was wind?", max_tokens=2)
    assert [e.step_of for e in made.recorder.events if isinstance(e, QuestionAsked)][-1] == ""
    older = {key: value for key, value in asked[0].to_dict().items() if key != "step_of"}
    assert from_dict(older).step_of == ""


def test_the_steps_are_told_while_they_grow(session, found):
    items = list(session(2).stream(QUESTION, AskOptions(max_tokens=4)))
    answer = items.pop()
    assert isinstance(answer, Answer)
    step = answer.steps[0]
    during = [item for item in items if (item.steps and item.steps[-1][1] != step.text) or not item.text]
    assert during and all(item.text == "" and item.steps[0][0] == step.question for item in during)
    own = items[len(during) :]
    assert own and all(item.steps == ((step.question, step.text),) for item in own)
    assert own[-1].text.strip() == answer.text


def test_a_question_that_is_stopped_in_a_step_ends_there(session, found):
    made, seen = session(3), []

    def stop() -> bool:
        return len(seen) >= 2

    for item in made.stream(QUESTION, AskOptions(max_tokens=8), stop):
        seen.append(item)
    answer = seen[-1]
    assert isinstance(answer, Answer) and answer.stop_reason == "cancelled" and answer.stopped_in_steps
    (step,) = answer.steps
    assert (answer.text, answer.asked, answer.retrieved, answer.n_tokens) == ("", "", (), 0)
    assert answer.question == QUESTION and answer.evidence == step.retrieved and step.n_tokens == 2
    assert not answer.low_evidence and answer.seconds["decode"] == step.seconds["decode"]
    asked = [event.question for event in made.recorder.events if isinstance(event, QuestionAsked)]
    assert asked == [step.question], "neither memory nor the model hears of the question itself"
    assert made.turns == []


def test_a_question_that_is_stopped_before_its_steps_is_cut_as_any_other(session):
    *_, answer = session(3).stream(QUESTION, AskOptions(max_tokens=8), lambda: True)
    assert answer.steps == () and answer.n_tokens == 1 and not answer.stopped_in_steps


def test_from_aside_the_same_steps_are_taken(session, found):
    made = session(2)
    before = made.recorder.step
    other = aside(made).ask(QUESTION, max_tokens=5)
    assert made.recorder.step == before and made.turns == []
    answer = made.ask(QUESTION, max_tokens=5)
    assert (other.asked, other.text) == (answer.asked, answer.text)


def test_a_found_name_must_stand_in_a_chunk_word_by_word():
    chunk = Evidence(0, 1, 0.5, None, 0, 1, 0, "t", "", (0, 40), "It was Ada-Lena Brenn, the miller's niece.")
    assert module._stands_in("Ada-Lena Brenn", (chunk,)) and module._stands_in("the MILLER", (chunk,))
    for text in ("Lena Bren", "Brenn Ada", "The text does not say", "", "...", " ".join(["the"] * 13)):
        assert not module._stands_in(text, (chunk,))


@pytest.mark.parametrize("steps", [0, -1, 1.5, "2"])
def test_wrong_numbers_of_steps_are_refused(make_session, steps):
    with pytest.raises(ConfigError, match="question_steps"):
        make_session(question_steps=steps)
