"""What a question would have fetched had nothing left: only what was not there, and searched as the question was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app import asking, missed, reading
from app.context import App
from app.sessions import Visit
from app.tabs import ask
from app.tabs.evidence import among_gone, evidence
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.retriever.base import Place, Places, Step
from tests.app.conftest import FACT, QUESTION
from tests.app.test_second_look import loader as looks_twice

__all__ = ["looks_twice"]


def lose(visit: Visit, text: str) -> int:
    """Read a text, delete the chunk that holds the fact, and ask about it; return the chunk's id."""
    reading.add_text(visit, text, "Log <b>book</b>", reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    session = visit.session
    assert session is not None
    at = session.documents[0].text.index(FACT) + len(FACT) // 2
    lost = next(each.chunk_id for each in session.bank.records() if each.span[0] <= at < each.span[1])
    session.delete_chunk(lost)
    for _ in asking.ask(visit, QUESTION, AskOptions(max_tokens=2)):
        pass
    return lost


def test_a_chunk_that_left_and_would_have_been_fetched_is_named(visit: Visit, long_text: str) -> None:
    lost = lose(visit, long_text)
    found = missed.missed(visit, 0)
    assert found[0].chunk_id == lost
    assert found[0].rank == 1
    assert not {each.chunk_id for each in found} & {item.chunk_id for item in visit.exchanges[0].evidence}


def test_the_evidence_offers_to_look_and_tells_what_came_of_it(visit: Visit, long_text: str) -> None:
    lost = lose(visit, long_text)
    assert 'data-act="missed"' in evidence(visit)
    assert among_gone(visit) == "", "nobody asked"
    shown, _ = ask.look_at(visit, {"act": "missed", "id": "0"})
    assert "Looking among the chunks that left" in shown
    told = among_gone(visit)
    assert (
        "The best match had left memory" in told
        and "number 1, score" in told
        and f'data-act="life" data-id="{lost}"' in told
    )
    assert "<b>book" not in told
    assert among_gone(visit) == "" and 'data-act="missed"' not in evidence(visit)


def test_what_matches_a_question_badly_is_no_best_match(
    visit: Visit, long_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose(visit, long_text)
    session = visit.memory()
    for record in session.bank.records()[2:]:
        session.delete_chunk(record.chunk_id)
    for _ in asking.ask(visit, "Qwzx vbnk plmj?", AskOptions(max_tokens=2)):
        pass
    surely, nearest = missed.missed(visit, 0)[0], missed.missed(visit, 1)[0]
    assert nearest.rank == 1 and surely.likely
    session.config = session.config.replace(low_score=(surely.score + nearest.score) / 2)
    assert missed.missed(visit, 0)[0].likely, "it answers"
    found = visit.exchanges[1].missed = missed.missed(visit, 1)
    assert found and not any(each.likely for each in found)
    told = evidence(visit)
    assert "Nothing that had left matches this question well.</strong> These would" in told and "best match" not in told
    nearest, *others = found
    for likely, words in (([nearest], "The best match had left"), (others, "This had left memory")):
        visit.exchanges[1].missed = tuple(replace(each, likely=each in likely) for each in found)
        assert words in evidence(visit)
    session.config = session.config.replace(low_score=0.0, relevance_strength=1.0)
    assert missed.missed(visit, 1)[0].likely
    monkeypatch.setattr(session.retriever, "doubt", lambda query_E, parts, question: np.full(len(parts), 2.0))
    assert not any(each.likely for each in missed.missed(visit, 1)), "whoever reads them beside the question says no"
    seen = Places((Place(0, (0, 4), 0.6), Place(1, (0, 4), 0.4)), 0.0)
    monkeypatch.setattr(session.retriever, "point", lambda query_E, parts, question: seen)
    assert not any(each.likely for each in missed.missed(visit, 1)), "nobody is asked to point"
    session.config = session.config.replace(pointing_strength=1.0)
    assert sum(each.likely for each in missed.missed(visit, 1)) == 1, "who points at its words has looked closer"


def test_what_an_evicting_bank_lost_is_what_a_bank_without_limits_would_have_given(
    crowded: Visit, make_app: Callable[..., App], long_text: str
) -> None:
    whole = make_app().visits.get("somebody else")
    reading.add_text(whole, long_text, "Log book", reading.limits_of(whole.engine.settings))
    for _ in reading.read_all(whole):
        pass
    for _ in asking.ask(whole, QUESTION, AskOptions(max_tokens=3)):
        pass
    wanted = {item.chunk_id for item in whole.exchanges[0].evidence}
    had = {item.chunk_id for item in crowded.exchanges[0].evidence}
    assert wanted - had, "something was lost"
    found = missed.missed(crowded, 0)
    assert {each.chunk_id for each in found} == wanted - had
    ranks = {item.chunk_id: item.rank for item in whole.exchanges[0].evidence}
    assert {each.chunk_id: each.rank for each in found} == {each: ranks[each] for each in wanted - had}


def test_chunks_of_removed_and_of_other_documents_are_left_out(visit: Visit, long_text: str) -> None:
    lost = lose(visit, long_text)
    reading.add_text(
        visit, "The mill of Anna Brook burnt down. " * 40, "Mill", reading.limits_of(visit.engine.settings)
    )
    for _ in reading.read_all(visit):
        pass
    assert visit.session is not None
    other = max(visit.session.documents)
    for _ in asking.ask(visit, QUESTION, AskOptions(max_tokens=2, documents=(other,))):
        pass
    assert missed.missed(visit, 1) == ()
    assert [each.chunk_id for each in missed.missed(visit, 0)][:1] == [lost]
    reading.remove(visit, visit.shelf.of_doc(0).item_id)  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="was removed"):
        missed.missed(visit, 0)


def test_what_a_step_would_have_fetched_was_missed(
    visit: Visit, long_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = lose(visit, long_text)
    session, whole = visit.memory(), "Who wrote of port 7 on day 7?"
    session.config = session.config.replace(question_steps=2)
    monkeypatch.setattr(
        session.retriever, "first_step", lambda question: Step((13, 19), QUESTION) if question == whole else None
    )
    for _ in asking.ask(visit, whole, AskOptions(max_tokens=2)):
        pass
    answer = visit.exchanges[1].answer
    assert answer is not None and [step.question for step in answer.steps] == [QUESTION] and answer.asked == whole
    found = missed.missed(visit, 1)
    assert (found[0].chunk_id, found[0].rank, found[0].question) == (lost, 1, QUESTION)
    visit.exchanges[1].missed = found
    assert f"would have been number 1 for <q>{QUESTION}</q>" in evidence(visit)
    assert [each.rank for each in found] == sorted(each.rank for each in found)
    answer = visit.exchanges[1].answer = replace(answer, steps=())
    assert lost not in {each.chunk_id for each in missed.missed(visit, 1)}


def test_an_answer_that_missed_nothing_offers_nothing(read: Visit) -> None:
    assert not missed.may_have_missed(read, 0) and 'data-act="missed"' not in evidence(read)
    for index in (0, 7):
        with pytest.raises(ConfigError):
            missed.missed(read, index)
    read.exchanges[0].looking = "working"
    assert among_gone(read) == "", "somebody is at it"
    read.exchanges[0].looking = "asked"
    assert among_gone(read).startswith('<div class="ml-error"') and not read.exchanges[0].looking


def test_scores_are_of_a_second_look_where_the_answer_looked_twice(looks_twice: Any, long_text: str) -> None:
    from app.settings import Settings

    app = App.make(Settings(capacity=96 * 100), looks_twice)
    assert app.engine.start().wait()
    visit = app.visits.get("somebody")
    lost = lose(visit, long_text)
    for _ in asking.ask(visit, "Another question, of which nobody asked what it missed?", AskOptions(max_tokens=2)):
        pass
    (best, *_) = missed.missed(visit, 0)
    assert best.chunk_id == lost
    assert visit.session is not None
    visit.session.restore(lost)
    for _ in asking.ask(visit, QUESTION, AskOptions(max_tokens=2)):
        pass
    again = {item.chunk_id: item.score for item in visit.exchanges[2].evidence}
    assert again[lost] == pytest.approx(best.score, abs=1e-5)
    app.visits.close_all()
