"""What the Lab says about questions that look twice at what they find is what asking does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from app import asking, reading, replaying, what_if
from app.context import App
from app.sessions import Visit
from app.tabs.settings_pieces import loaded
from memlong.chunking import chunk_text
from memlong.config import AskOptions, MemoryConfig
from memlong.evaluation.policies import Replayed, SecondLook, replays
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from tests.app.conftest import FACT, QUESTION

QUESTIONS = (
    QUESTION,
    "Which wind was it on day 41?",
    "Which ships came from port 7 on day 7?",
    "Who wrote of port 12?",
)
LOOKED = 5


class Weighing(HashingRetriever):
    """Weighs what is common in a text less, as the hybrid one does."""

    def weigh_query(self, query_E: Any, mean_squares_E: Any, held: int) -> Any:
        return (query_E / (0.01 + mean_squares_E)).astype(np.float32)


class Reading(HashingRetriever):
    """Scores parts by the question's very words, as a cross-encoder does: others have another order."""

    def score_parts(self, query_E: Any, chunks: Any, question: str = "") -> Any:
        return [np.array([Random(question + text).random() for text in parts.texts]) for parts in chunks]


@pytest.fixture(params=[Weighing])
def loader(request: pytest.FixtureRequest, tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> Callable[..., Any]:
    """Stands in for loading a model whose questions look twice, with chunks of several parts."""

    def load(settings: Any, tell: Callable[[float, str], None]) -> tuple[Any, Any]:
        config = MemoryConfig(
            chunk_tokens=96, window_tokens=96, top_k=2, retrieve_every=0, store_dtype="float32",
            rerank_candidates=LOOKED,
        )  # fmt: skip
        return MemoryModel(tiny_llama(layers=4, hidden=32), tiny_tokenizer, config), request.param(512)

    return load


def take_in(visit: Visit, text: str, title: str) -> int:
    item = reading.add_text(visit, text, title, reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    return item.item_id


def ask(visit: Visit, question: str) -> list[int]:
    """Ask, and return the chunks that were fetched, best first."""
    for _ in asking.ask(visit, question, AskOptions(max_tokens=2)):
        pass
    assert visit.exchanges[-1].answer is not None, visit.exchanges[-1].error
    return [item.chunk_id for item in visit.exchanges[-1].answer.retrieved]


def wanted(visit: Visit, twice: bool = True) -> list[list[int]]:
    """Return the chunks that each question would have fetched had nothing ever left, best first."""
    session, vectors = visit.session, visit.vectors
    assert session is not None and vectors is not None
    made = replaying.recording_of(session)
    for _ in vectors.embed([text for _, text in made.questions]):
        pass
    second = vectors.second_look(made, visit.engine.run) if twice else None
    found = vectors.wanted(made, second)[len(made.chunks) :]
    return [[made.chunks[place].chunk_id for place in row] for row in found]


def lives(visit: Visit) -> list[Replayed]:
    """Return the replay with room for everything."""
    session, vectors = visit.session, visit.vectors
    assert session is not None and vectors is not None
    made = replaying.recording_of(session)
    second = vectors.second_look(made, visit.engine.run)
    chunks_nE = vectors.chunks([chunk.chunk_id for chunk in made.chunks])
    given = (made, chunks_nE, vectors.questions(made.questions), ["lru"], [2 * made.tokens])
    return [row for row in replays(*given, second) if row]


def looks(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> Counter[Any]:
    """Count from now on how often a question looks at the parts of a chunk."""
    session, counted = visit.session, Counter[Any]()
    assert session is not None
    real = session.retriever.score_parts

    def score_parts(query_E: Any, chunks: Any, question: str) -> Any:
        counted.update((query_E.tobytes(), parts.texts) for parts in chunks)
        return real(query_E, chunks, question)

    monkeypatch.setattr(session.retriever, "score_parts", score_parts)
    return counted


@pytest.fixture
def other_text(long_text: str) -> str:
    return (
        long_text.replace("harbour master", "lighthouse keeper").replace("day", "night").replace(FACT, "It was dark.")
    )


@pytest.fixture
def crowded(make_app: Callable[..., App], long_text: str, other_text: str) -> Visit:
    """A visitor whose bank is too small, who asked between two documents and at the end."""
    visit = make_app(capacity=96 * 9).visits.get("crowded")
    take_in(visit, long_text, "Log book")
    for question in QUESTIONS[:2]:
        ask(visit, question)
    take_in(visit, other_text, "Letters")
    for question in QUESTIONS[2:]:
        ask(visit, question)
    return visit


def test_a_bank_without_limits_is_what_asking_has(visit: Visit, long_text: str, other_text: str) -> None:
    take_in(visit, long_text, "Log book")
    fetched = [ask(visit, question) for question in QUESTIONS[:3]]
    before = wanted(visit)
    take_in(visit, other_text, "Letters")
    fetched += [ask(visit, question) for question in QUESTIONS]
    assert before == fetched[:3] and wanted(visit) == fetched
    assert wanted(visit, twice=False) != fetched, "the second look decides something"
    assert wanted(visit) == fetched, "also after somebody looked once"
    *_, last = replaying.policies(visit, [0.5])
    assert last.questions == 7 and all(row.wanted_by_questions == 14 for row in last.rows)
    (row,) = lives(visit)
    assert (row.evicted, row.recall_questions, dict(row.missed)) == (0, 1.0, {})


def test_whether_a_chunk_was_needed_later_is_what_a_larger_bank_fetches(
    crowded: Visit, visit: Visit, long_text: str, other_text: str
) -> None:
    take_in(visit, long_text, "Log book")
    fetched = [ask(visit, question) for question in QUESTIONS[:2]]
    take_in(visit, other_text, "Letters")
    fetched += [ask(visit, question) for question in QUESTIONS[2:]]
    session, said = crowded.session, Counter[bool]()
    assert session is not None
    written = {event.chunk_id: event.step for event in session.recorder.filter("ChunkWritten")}  # type: ignore[attr-defined]
    asked = [event.step for event in session.recorder.filter("QuestionAsked")]
    for event in session.recorder.filter("Evicted"):
        chunk_id = event.chunk_id  # type: ignore[attr-defined]
        assert written[chunk_id] < event.step
        missed = sum(step > event.step and chunk_id in found for step, found in zip(asked, fetched, strict=True))
        words = replaying.needed_later(crowded, chunk_id)
        assert words is not None
        told = next((number for number in (1, 2, 3, 4) if f"{number} question" in words.split("since, ")[-1]), 0)
        assert told == missed, words
        said[missed > 0] += 1
    assert said[True] and said[False]


@pytest.mark.parametrize("loader", [HashingRetriever, Reading], indirect=True)
def test_a_replay_with_a_second_look_is_the_real_life(crowded: Visit) -> None:
    session, vectors = crowded.session, crowded.vectors
    assert session is not None and vectors is not None and session.gone
    made = replaying.recording_of(session)
    *_, last = replaying.policies(crowded, [session.config.capacity_tokens / made.tokens])
    mine = next(row for row in last.rows if row.policy == session.config.policy)
    assert mine.capacity_tokens == session.config.capacity_tokens
    assert list(mine.kept) == [record.chunk_id for record in session.bank.records()]
    missed = [[chunk for chunk in found if chunk in session.gone] for found in wanted(crowded)]
    assert mine.recall_questions is not None and mine.recall_questions < 1 and any(missed)
    triggered: list[int] = []

    def watched(question: int, places: Any, found: Any) -> Any:
        looked = second.scores(question, places, found)
        triggered.extend(places[np.lexsort((places, -looked))][: made.top_k])
        return looked

    second = vectors.second_look(made, crowded.engine.run)
    assert second is not None
    chunks_nE = vectors.chunks([chunk.chunk_id for chunk in made.chunks])
    given = (made, chunks_nE, vectors.questions(made.questions), [mine.policy], [mine.capacity_tokens])
    assert list(filter(None, replays(*given, SecondLook(LOOKED, watched)))) == [mine]
    real = [item.chunk_id for each in crowded.exchanges if each.answer for item in each.answer.retrieved]
    assert triggered[len(real) :] == real, "first what would have been fetched, then what was"


def test_each_question_looks_once_at_each_chunk(crowded: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = looks(crowded, monkeypatch)
    for shares in ([0.25], [0.5, 0.75], [0.25]):
        *_, last = replaying.policies(crowded, shares)
        assert last.share == 1.0
    assert crowded.session is not None
    for chunk_id in crowded.session.gone:
        assert replaying.needed_later(crowded, chunk_id)
    assert len(counted) >= LOOKED * len(QUESTIONS) and set(counted.values()) == {1}


def test_a_click_does_not_wait_for_a_second_look(crowded: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert crowded.session is not None
    gone = next(iter(crowded.session.gone))
    assert replaying.needed_later(crowded, gone)
    assert replaying.needed_later(crowded, gone, at_once=True) == replaying.needed_later(crowded, gone)
    ask(crowded, QUESTION)  # its words are known, but not what it finds now
    counted = looks(crowded, monkeypatch)
    assert replaying.needed_later(crowded, gone, at_once=True) is None and not counted
    words = replaying.needed_later(crowded, gone)
    assert counted and words and replaying.needed_later(crowded, gone, at_once=True) == words


@pytest.mark.parametrize("looked_before", [False, True])
def test_documents_that_were_removed_in_between_are_no_trouble(
    visit: Visit, long_text: str, other_text: str, looked_before: bool
) -> None:
    item = take_in(visit, long_text, "Log book")
    first = ask(visit, QUESTION)
    before = wanted(visit) if looked_before else []
    plain = wanted(visit, twice=False)[0]
    assert first != plain
    reading.remove(visit, item)
    take_in(visit, other_text, "Letters")
    later = ask(visit, QUESTIONS[1])
    session = visit.session
    assert session is not None and {session.bank.get(chunk_id).doc_id for chunk_id in later} == {1}
    found = wanted(visit)
    # Without its text a chunk keeps the score that found it, unless somebody looked while it was there.
    assert found[0] == (first if looked_before else plain) and before in ([], [first])
    assert len(found[1]) == session.config.top_k
    made, vectors = replaying.recording_of(session), visit.vectors
    assert vectors is not None
    second, gone = vectors.second_look(made, visit.engine.run), np.arange(4)
    own = vectors.chunks(gone.tolist()) @ vectors.questions(made.questions)[1]
    assert second is not None and set(gone) <= {chunk.chunk_id for chunk in made.chunks if chunk.doc_id == 0}
    np.testing.assert_allclose(second.scores(1, gone, own), own, rtol=1e-5)
    *_, last = replaying.policies(visit, [0.25, 0.5])
    assert last.share == 1.0 and last.questions == 2
    (row,) = lives(visit)
    assert (row.recall_questions, dict(row.missed)) == (1.0, {})


def test_a_chunk_with_nothing_but_the_rest_of_a_character_is_looked_at_too(
    visit: Visit, long_text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = visit.memory()
    alike = lambda query, chunks, asked: [np.ones(len(parts.texts)) for parts in chunks]  # noqa: E731
    monkeypatch.setattr(session.retriever, "score_parts", alike)
    texts = (long_text[:900] + "s" * more + "\U0001f642" for more in range(200))
    text = next(t for t in texts if chunk_text(session.tokenizer, t, 96)[-1].span == (len(t), len(t)))
    take_in(visit, text, "Log book")
    assert session.evidence_of(session.bank.records()[-1].chunk_id).text == ""
    session.config = session.config.replace(rerank_candidates=50)
    fetched = session.search(session.embed_query(QUESTION), 50)
    ask(visit, QUESTION)
    assert visit.vectors is not None
    made = replaying.recording_of(session)
    list(visit.vectors.embed([QUESTION]))
    second = visit.vectors.second_look(made, visit.engine.run)
    assert second is not None
    places = np.arange(len(made.chunks))
    own = visit.vectors.chunks(places.tolist()) @ visit.vectors.questions(made.questions)[0]
    told = dict(zip(places.tolist(), second.scores(0, places, own).tolist(), strict=True))
    assert told == pytest.approx({hit.chunk_id: hit.score for hit in fetched}, abs=1e-6)


def test_menus_of_what_if_do_not_call_a_first_look_a_score(visit: Visit, long_text: str) -> None:
    take_in(visit, long_text, "Log book")
    ask(visit, QUESTION)
    mine, held, _ = what_if.choices(visit, 0)
    assert all(" · score " in choice.words for choice in mine)
    assert held and all(" · first look " in choice.words and "score" not in choice.words for choice in held)


@pytest.mark.parametrize(
    ("settings", "words"),
    [({}, "2 of 5 looked at twice, anew"), ({"top_k": 9}, "9 of 9 looked"), ({"rerank_candidates": 0}, ">2, anew")],
)
def test_settings_say_how_many_are_looked_at(visit: Visit, settings: dict[str, int], words: str) -> None:
    engine = visit.engine
    engine.model = engine.model.with_config(engine.model.config.replace(**settings))
    assert words in loaded(engine)
