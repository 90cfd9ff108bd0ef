"""Experiments without a page: on a tiny real session, with turns, a Stop, and nothing left behind."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app import api, asking, lab, looking, reading, replaying, what_if
from app.context import App
from app.looking import Look
from app.sessions import Visit
from app.tabs import lab as tab
from app.tabs import lab_pieces as pieces
from app.tabs import lab_runs as runs
from app.tabs import life
from app.tabs.evidence import notices
from app.tabs.pieces import error_box
from memlong.bank.eviction import POLICIES
from memlong.config import ANSWER_FROM, AskOptions
from memlong.errors import ConfigError
from memlong.evaluation.needle import Needle
from memlong.retriever.base import Step
from tests.app.conftest import QUESTION


def marks(visit: Visit) -> tuple[Any, ...]:
    """Return everything of a visitor's memory that a look at it must not change."""
    session = visit.session
    assert session is not None
    counts = [(record.chunk_id, record.trigger_count, record.pinned) for record in session.bank.records()]
    texts = [(document.title, document.text, document.chunks_read) for document in session.documents.values()]
    return counts, session.recorder.step, list(session.turns), texts, session.asked, sorted(session.gone)


def test_nothing_can_be_tried_before_something_was_read(visit: Visit) -> None:
    for run in (lab.four_ways(visit, QUESTION, AskOptions()), replaying.policies(visit)):
        with pytest.raises(ConfigError, match="Nothing has been read"):
            next(run)
    with pytest.raises(ConfigError, match="No answer from memory"):
        next(what_if.owed(visit, 0))
    assert what_if.choices(visit, 0) == ([], [], [])
    assert not visit.experimenting


def test_four_ways_answer_one_question_and_leave_no_mark(read: Visit) -> None:
    before = marks(read)
    *_, last = lab.four_ways(read, QUESTION, AskOptions(max_tokens=3))
    assert list(last.answers) == list(ANSWER_FROM)
    assert len(last.answers["nothing"].retrieved) == 0 < len(last.answers["passages"].retrieved)  # type: ignore[union-attr]
    assert marks(read) == before and len(read.exchanges) == 1 and not read.experimenting and not read.comparing
    html = pieces.four(last)
    assert html.count("lab-card") == 4 and html.count("a token)") == 4
    assert last.with_memory is not None and last.without is not None and "Memory" in pieces.helped(last)


def test_every_way_shows_its_steps(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    session, whole = read.memory(), "Where did <that> one live?"
    session.config = session.config.replace(question_steps=2)
    step = Step((10, 20), "Who wrote of <wind> 3?")
    monkeypatch.setattr(session.retriever, "first_step", lambda question: step if question == whole else None)
    steps = list(lab.four_ways(read, whole, AskOptions(max_tokens=3)))
    growing = next(each for each in steps if each.steps.get("memory") and each.answers["memory"] == "")
    assert "Asked first: <q>Who wrote of &lt;wind&gt; 3?</q>" in pieces.four(growing), "while it is being answered"
    answers, html = steps[-1].answers, pieces.four(steps[-1])
    assert html.count("Asked first: <q>Who wrote of &lt;wind&gt; 3?</q>") == 3 == html.count("For step 1:")
    assert not steps[-1].steps["nothing"]
    for way in ("memory", "passages", "both"):
        (mine,) = answers[way].steps  # type: ignore[union-attr]
        assert steps[-1].steps[way] == ((mine.question, mine.text),)


def test_memory_s_own_answer_is_the_same_from_aside(read: Visit) -> None:
    *_, last = lab.four_ways(read, QUESTION, AskOptions(max_tokens=3))
    told = read.exchanges[0].answer
    assert told is not None and told.text == last.answers["memory"].text  # type: ignore[union-attr]
    assert told.logprob == pytest.approx(last.answers["memory"].logprob)  # type: ignore[union-attr]


@pytest.mark.parametrize(("move", "words"), [(20.0, "over a million"), (1.0, "2.7 times more"), (0.1, "no difference")])
def test_whether_memory_helped_is_said_in_words(read: Visit, move: float, words: str) -> None:
    *_, last = lab.four_ways(read, QUESTION, AskOptions(max_tokens=2))
    assert words in pieces.helped(lab.Ways(last.answers, {}, -1.0, -1.0 - move))
    assert "less likely with it" in pieces.helped(lab.Ways(last.answers, {}, -3.0, -1.0))
    answer = last.answers["memory"]
    assert not isinstance(answer, str)
    for low in (True, False):
        told = {**last.answers, "memory": replace(answer, low_evidence=low)}
        assert ("may be wrong" in pieces.helped(lab.Ways(told, {}, -1.0, -9.0))) == low


def test_an_answer_without_evidence_points_to_what_has_left(crowded: Visit, read: Visit) -> None:
    for visit, gone in ((crowded, True), (read, False)):
        exchange = visit.exchanges[0]
        assert exchange.answer is not None
        low = replace(exchange, answer=replace(exchange.answer, low_evidence=True))
        assert ("Or it has left" in notices(low)) == gone
        assert "Or it has left" not in notices(replace(low, answer=replace(exchange.answer, low_evidence=False)))


def test_an_empty_panel_says_where_to_begin() -> None:
    for panel, where in {"ways": "Read", "policies": "Ask", "needle": "Read", "owed": "Ask"}.items():
        assert f"on the tab {where}" in pieces.empty(panel), panel


def test_answers_that_grow_and_evil_ones_are_shown(read: Visit) -> None:
    html = pieces.four(lab.Ways({"memory": "<script>alert(1)</script>"}))
    assert "<script>" not in html and "&lt;script&gt;" in html and "being answered" in html and "waiting" in html
    stopped = pieces.four(lab.Ways({"memory": "so far"}), stopped=True)
    assert "Stopped" in stopped and "being answered" not in stopped and "waiting" not in stopped


def test_stop_ends_an_experiment_frees_its_place_and_leaves_no_progress(read: Visit) -> None:
    steps = lab.four_ways(read, QUESTION, AskOptions(max_tokens=50))
    next(steps), next(steps)
    with pytest.raises(ConfigError, match="An experiment is running"):
        next(replaying.policies(read))
    lab.stop(read)
    rest = list(steps)
    assert set(rest[-1].answers if rest else {"memory": ""}) == {"memory"} and not read.experimenting


@pytest.mark.parametrize("name", ["ways", "policies", "owed", "changed", "needle"])
def test_stop_leaves_no_progress_on_any_panel(read: Visit, name: str) -> None:
    given: dict[str, tuple[Any, ...]] = {
        "ways": (QUESTION, 32), "policies": ([0.5],), "owed": (0,), "changed": (0, [], [], []),
        "needle": ("The code is Iris.", "What is the code?", "Iris", None, 0, 512, 2, [0.5]),
    }  # fmt: skip
    shown = runs.HANDLERS[name](read, *given[name])
    next(shown)
    lab.stop(read)
    *_, last = shown
    assert "Stopped" in last[0] and "ml-bar" not in last[0] and "Asking" not in last[0]
    assert not read.experimenting and not read.comparing


def test_the_visitor_s_own_question_and_the_lab_s_take_turns(read: Visit) -> None:
    mine = asking.ask(read, QUESTION, AskOptions(max_tokens=3))
    next(mine)
    for run in (
        lab.four_ways(read, QUESTION, AskOptions()), what_if.owed(read, 0), what_if.ask_again(read, 0, [], []),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="An answer is being written on the tab Ask"):
            next(run)
    *_, replayed = replaying.policies(read, [0.5])
    assert replayed.share == 1.0, "replaying asks nothing"
    for _ in mine:
        pass
    steps = lab.four_ways(read, QUESTION, AskOptions(max_tokens=3))
    next(steps)
    with pytest.raises(ConfigError, match="The Lab is asking"):
        next(asking.ask(read, QUESTION, AskOptions()))
    with pytest.raises(ConfigError, match="The Lab is asking"):
        asking.take_back(read, 0)
    steps.close()
    assert not read.comparing and len(read.exchanges) == 2
    for _ in asking.ask(read, QUESTION, AskOptions(max_tokens=2)):
        pass
    assert len(read.exchanges) == 3


def test_policies_are_replayed_on_what_was_really_asked(read: Visit) -> None:
    *_, last = replaying.policies(read, [0.25, 0.5])
    assert {(row.policy, row.capacity_tokens) for row in last.rows} == {
        (policy, capacity) for policy in POLICIES for capacity in {row.capacity_tokens for row in last.rows}
    }
    assert len({row.capacity_tokens for row in last.rows}) == 2
    assert all(row.recall_questions is not None and row.evicted for row in last.rows)
    assert last.questions == 1 and last.rows[0].wanted_by_questions == 3, "one question, three chunks"
    said, recall, course, table = pieces.policies(last)
    assert len(recall.data) == len(course.data) == len(POLICIES)
    assert "trigger_count (yours)" in table.replace("<wbr>", "") and "with room for " in last.words
    assert "Too few questions" in said and "1 question asked" in said


def test_policies_are_judged_in_the_memory_that_overflowed(crowded: Visit) -> None:
    session = crowded.session
    assert session is not None
    own = session.bank.capacity.tokens
    *_, last = replaying.policies(crowded, [0.25, 0.9])
    sizes = sorted({row.capacity_tokens for row in last.rows})
    assert last.capacity == own and own in sizes
    assert all(abs(size - own) > own / 10 for size in sizes if size != own), "one that is nearly the same tells no more"
    assert f"with room for {own} tokens, as memory has" in last.words
    assert pieces.policies(last)[3].count(f"<td>{own} (yours)</td>") == len(POLICIES)


def test_a_question_in_steps_counts_as_the_one_that_was_asked(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    session, whole = read.memory(), "Where did that one live?"
    session.config = session.config.replace(question_steps=2)
    step = Step((10, 18), QUESTION)
    monkeypatch.setattr(session.retriever, "first_step", lambda question: step if question == whole else None)
    for _ in asking.ask(read, whole, AskOptions(max_tokens=2)):
        pass
    *_, last = replaying.policies(read, [0.5])
    assert last.questions == 2 and last.rows[0].wanted_by_questions == 9, "two were asked, three were searched"
    assert "2 questions asked" in pieces.policies(last)[0]


def test_nothing_that_was_read_is_embedded_again(crowded: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    session, asked = crowded.session, []
    assert session is not None
    real = session.retriever.embed_documents

    def embed(texts: list[str]) -> np.ndarray:
        asked.extend(texts)
        return np.asarray(real(texts))

    monkeypatch.setattr(session.retriever, "embed_documents", embed)
    for shares in ([0.25], [0.5, 0.75]):
        *_, last = replaying.policies(crowded, shares)
        assert last.share == 1.0
    assert asked == [QUESTION], "a question once, however often it is replayed"
    own = session.config.policy, session.config.capacity_tokens
    mine = next(row for row in last.rows if (row.policy, row.capacity_tokens) == own)
    assert list(mine.kept) == [record.chunk_id for record in session.bank.records()], "the replay is the real life"


def test_lives_drawn_at_the_same_time_do_not_count_queries_twice(
    crowded: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from memlong.evaluation import policies, recording

    def slowly(*given: Any) -> Any:
        time.sleep(0.05)  # others come in meanwhile, when they may
        return wanted_by(*given)

    wanted_by = policies.wanted_by
    monkeypatch.setattr(policies, "wanted_by", slowly)
    session = crowded.session
    assert session is not None
    gone = next(record.chunk_id for record in session.recorder.filter("Evicted"))  # type: ignore[attr-defined]
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: replaying.needed_later(crowded, gone), range(4)))
    assert len(set(said)) == 1
    assert "needed later" in said[0]
    made, vectors = replaying.recording_of(session), crowded.vectors
    assert vectors is not None
    assert (len(vectors._by_chunks), len(vectors._by_questions)) == (len(made.chunks), len(made.questions))
    earlier = recording.record(session.recorder.events[:60], session.config.chunk_tokens, session.config.top_k)
    assert len(vectors.wanted(earlier)) == len(earlier.chunks), "also for who looked before the last ones came"


def test_a_chunk_that_left_says_whether_it_was_needed_later(crowded: Visit) -> None:
    session = crowded.session
    assert session is not None
    gone, held = sorted(session.gone), [record.chunk_id for record in session.bank.records()]
    words = {chunk_id: replaying.needed_later(crowded, chunk_id) for chunk_id in gone}
    assert all("needed later" in each for each in words.values()) and len(set(words.values())) > 1
    assert replaying.needed_later(crowded, held[0]) == ""
    # The best match of the question, were nothing ever gone, is wanted by it; so a chunk that left for it says so.
    assert crowded.vectors is not None
    everything = [chunk.chunk_id for chunk in replaying.recording_of(session).chunks]
    scores = crowded.vectors.chunks(everything) @ session.retriever.embed_query(QUESTION)
    best = [everything[at] for at in np.argsort(-scores, kind="stable")[: session.config.top_k]]
    for chunk_id in gone:
        assert ("question would have fetched it" in words[chunk_id]) == (chunk_id in best)
    found = looking.life(crowded, Look(chunk_id=gone[0]))
    assert found is not None and words[gone[0]].split(",")[0] in life.life_html(found)
    before = next(e.step for e in session.recorder.filter("Evicted", chunk_id=gone[0])) - 1
    assert replaying.needed_later(crowded, gone[0], before) == "", "it was still here"


def test_replayed_questions_are_weighed_by_all_that_was_read_before_them(
    crowded: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, vectors = crowded.session, crowded.vectors
    assert session is not None and vectors is not None and session.gone
    list(vectors.embed([QUESTION]))
    chunks_nE = vectors.chunks([chunk.chunk_id for chunk in replaying.recording_of(session).chunks])
    monkeypatch.setattr(session.retriever, "weigh_query", lambda query_E, squares_E, held: query_E * squares_E * held)
    plain_E = session.retriever.embed_query(QUESTION)
    ends = [len(chunks_nE), 1, 3, 0, 3]
    found = vectors.questions([(end, QUESTION) for end in ends])
    for end, found_E in zip(ends, found, strict=True):
        expected = plain_E * np.square(chunks_nE[:end]).sum(axis=0)
        np.testing.assert_allclose(found_E, expected, atol=1e-6)
    assert vectors.questions([]).shape == (0, session.retriever.dim)


def test_a_needle_is_hidden_in_a_session_of_its_own(read: Visit) -> None:
    before = marks(read)
    needle = Needle("The password is Marigold.", "What is the password?", "Marigold")
    steps = list(lab.needle(read, needle, lab.Hay(tokens=512), 2, [0.25, 1.0]))
    last, told = steps[-1], [pieces.needle(step)[0] for step in steps]
    assert any(re.search(r"Reading place 2 of 4 .*, [\d,]+ tokens/s \(\d+%\)", words) for words in told)
    assert len(last.tries) == 4 and last.share == 1.0 and marks(read) == before
    said, grid, tries = pieces.needle(last)
    assert tries.count("<li>") == 4 and grid.data[0].z.shape == (2, 2) and "of 4 places answered rightly" in said
    with pytest.raises(ConfigError, match="Choose fewer"):
        next(lab.needle(read, needle, lab.Hay(tokens=512), 9, [0.25, 1.0]))


def test_a_needle_whose_answer_is_not_in_the_sentence_is_refused(read: Visit) -> None:
    for expected in ("Violet", "Mari", "?"):
        needle = Needle("The password is Marigold.", "What is the password?", expected)
        with pytest.raises(ConfigError, match="is not in the sentence"):
            next(lab.needle(read, needle, lab.Hay(tokens=512), 1, [1.0]))
    assert not read.experimenting


def test_what_was_wrong_is_no_longer_said_to_who_comes_back(make_app: Callable[..., App]) -> None:
    with gr.Blocks(), gr.Tabs():
        parts = tab.build(make_app())
    error = error_box(ConfigError("Nothing has been read yet", "A document", "Read one"))
    stays, gone = gr.skip(), pieces.empty("ways")
    assert tab.without_errors(parts, [error, None, "<p>It moved.</p>", error, "", ""])[:4] == [gone, stays, stays, ""]
    assert tab.without_errors(parts, [pieces.note('<div class="ml-error"')] * 6) == [stays] * 6


def test_the_text_for_a_needle_is_any_part_of_any_document(read: Visit) -> None:
    reading.add_text(
        read,
        " ".join(f"In {year} it rained." for year in range(300)),
        "Second",
        reading.limits_of(read.engine.settings),
    )
    for _ in reading.read_all(read):
        pass
    session = read.session
    assert session is not None
    first, second = lab.documents(session)
    assert lab.Hay(tokens=256).of(session) == first.text[:998]
    late = lab.Hay(second.doc_id, 256, 0.5).of(session)
    assert late in second.text and second.text.index(late) > len(second.text) // 3
    end = lab.Hay(second.doc_id, 256, 0.95).of(session)
    assert second.text.endswith(end) and len(end) > 900, "a late start still gives as much text"
    assert [name for name, _ in runs.documents(read, second.doc_id).choices] == ["Log <b>book</b>", "Second"]
    assert runs.documents(read, 99).value == first.doc_id
    for hay in (lab.Hay(7), lab.Hay(tokens=10), lab.Hay(start=1.0)):
        with pytest.raises(ConfigError):
            hay.of(session)


def test_what_to_ask_is_suggested_until_something_is_typed(read: Visit) -> None:
    assert runs.question(read, " ") == QUESTION
    assert runs.question(read, "Mine")["__type__"] == "update", "what was typed stays"
    assert runs.question(read, "Asked before?", own=False) == QUESTION, "what nobody typed gives way to the newest"
    assert "Type" not in tab.blank("ways")[0], "where a question stands already there is nothing to type"


def test_handlers_give_as_many_values_as_their_panel_shows(read: Visit) -> None:
    assert all(len(row) == 4 for row in runs.policies(read, []))
    assert all(len(row) == 2 for row in runs.owed(read, 0))
    assert all(len(row) == 1 for row in runs.ways(read, QUESTION, 2))
    hidden = runs.needle(read, "The code is Iris.", "What is the code?", "Iris", None, 10, 256, 1, [1.0])
    assert all(len(row) == 3 for row in hidden)


def test_programs_compare_and_replay_with_plain_values(read: Visit) -> None:
    answers = api.compare(read, QUESTION, top_k=2, max_tokens=2)
    assert list(answers) == list(ANSWER_FROM) and len(answers["passages"]["retrieved"]) == 2
    told = api.policies(read, [0.25])
    assert {row["policy"] for row in told["replays"]} == set(POLICIES) and told["conclusion"]
    assert json.loads(json.dumps([answers, told]))
    for shares in ([], [0.0], [1.5]):
        with pytest.raises(ConfigError, match="Choose others"):
            api.policies(read, shares)


@pytest.mark.parametrize("top_k", [-1, 2.5, "x", True])
def test_programs_are_told_that_top_k_may_be_0(read: Visit, top_k: Any) -> None:
    for asked in (api.ask, api.compare):
        with pytest.raises(ConfigError, match=r"from 0\. Send 0 for"):
            asked(read, QUESTION, top_k=top_k, max_tokens=1)
    assert api.ask(read, QUESTION, top_k=0, max_tokens=1)["retrieved"]


def test_evidence_of_every_way_is_shown_and_escaped(read: Visit) -> None:
    *_, last = lab.four_ways(read, QUESTION, AskOptions(max_tokens=2))
    html = pieces.four(last)
    assert html.count("<details") == 3 and "Log <b>book</b>" not in html
