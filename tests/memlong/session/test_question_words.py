"""Whoever fetches chunks or weighs their tokens for a question tells the retriever its words.

A retriever that reads them gives other scores without: then a number of the Lab would not be the card's.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from memlong.config import AskOptions
from memlong.evaluation.aside import aside
from memlong.evaluation.counterfactual import answer_logprob, leave_one_out
from memlong.evaluation.icl import Example, Task, classify
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session
from memlong.session.shading import shade
from memlong.trace.events import TokenGenerated

QUESTION = "Where did the brass lantern of Ottoline Varga stand?"


class Reading(HashingRetriever):
    """Scores parts by the question's very words, doubts by them too, and notes them."""

    def __init__(self) -> None:
        super().__init__(256)
        self.told: list[str] = []

    def score_parts(self, query_E, chunks, question=""):
        self.told.append(question)
        return [np.float32([Random(question + text).random() / 5 for text in parts.texts]) for parts in chunks]

    def doubt(self, query_E, chunks, question):
        self.told.append(question)
        return np.float32([Random(question + parts.texts[0]).random() / 5 for parts in chunks])


@pytest.fixture
def retriever():
    return Reading()


@pytest.fixture
def session(make_session, long_text, retriever):
    made = make_session(rerank_candidates=6, relevance_strength=4.0)
    made = Session(made.model, retriever, made.config)
    made.read(long_text)
    return made


@pytest.mark.parametrize("options", [{}, {"forced": (2,)}, {"forced": (1, 4, 9)}, {"answer_from": "both"}])
def test_asking_tells_them_each_time_that_it_searches(session, retriever, options):
    session.ask(f"  {QUESTION} ", AskOptions(max_tokens=9, **options))
    assert len(retriever.told) >= 6 and set(retriever.told) == {QUESTION}


def test_a_counterfactual_with_nothing_changed_is_the_answer(session, retriever):
    answer = session.ask(QUESTION, max_tokens=6, retrieve_every=0)
    ids = [item.chunk_id for item in answer.retrieved]
    own = answer_logprob(session, QUESTION, answer.token_ids, ids)
    assert own == pytest.approx(answer.logprob, abs=1e-4)
    whole, *others = leave_one_out(aside(session), QUESTION, answer.token_ids, ids)
    assert whole.logprob == pytest.approx(own, abs=1e-4) and all(abs(each.logprob - own) > 1e-4 for each in others)
    assert set(retriever.told) == {QUESTION}


def test_shading_adds_up_to_what_was_recorded(session, retriever):
    session.ask(QUESTION, AskOptions(max_tokens=9))
    tokens = [event for event in session.recorder.events if isinstance(event, TokenGenerated)]
    memories = [[chunk_id for chunk_id, _ in token.chunk_mass or ()] for token in tokens]
    retriever.told.clear()
    for token, shading in zip(tokens, shade(session, QUESTION, [t.token_id for t in tokens], memories, range(0, 9, 4))):
        sums = {chunk_id: float(mass.sum()) for chunk_id, mass in shading.mass.items()}
        assert sums == pytest.approx(dict(token.chunk_mass or ()), abs=1e-5)
    assert set(retriever.told) == {QUESTION}


def test_a_text_to_classify_is_the_question(session, retriever):
    shown = tuple(Example(f"day {number}", label) for number, label in enumerate(("weak", "strong")))
    task = Task("wind", shown, shown, "Log: {text}\nWind: {label}")
    classify(session, task, "", "day 7")
    assert set(retriever.told) == {task.asked("day 7")}
