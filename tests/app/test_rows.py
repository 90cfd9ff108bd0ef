"""Rows of the views, on hand-made traces."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from app.rows.attention import answers, looked
from app.rows.cells import DELETED, EMPTY, EVICTED, HELD, PINNED, map_cells
from app.rows.chunks import Filter, chunk_rows, headline, page_of, place_of, select, table, trigger_histogram
from app.rows.life import life_of, summary
from app.rows.log import LogFilter, log_events, log_table
from app.rows.timeline import Timeline, timeline_of
from app.rows.words import KINDS, event_words, mass_words
from app.tabs.life import life_html
from memlong.trace import events as e
from memlong.trace.recorder import Recorder
from memlong.trace.replay import rebuild
from tests.app.traces import full, made


def test_a_timeline_grows_with_its_recorder_and_dies_with_it() -> None:
    session = made()
    timeline = timeline_of(session.recorder)
    session.read(5, "A")
    assert timeline_of(session.recorder) is timeline
    assert timeline.written == 5
    assert timeline.titles == {0: "A"}
    alive = weakref.ref(timeline)
    del timeline, session
    gc.collect()
    assert alive() is None


def test_a_timeline_agrees_with_replay_at_every_step() -> None:
    session = full(30, 10)
    timeline = timeline_of(session.recorder)
    events = session.recorder.events
    for step in range(0, len(events), 7):
        assert timeline.state(step) == rebuild(events, step)
    assert timeline.state() == rebuild(events)
    assert timeline.state().evicted.keys() == session.gone.keys()


def test_the_state_handed_out_is_the_callers_own() -> None:
    timeline = timeline_of(full().recorder)
    timeline.state().chunks.clear()
    assert timeline.state().chunks


def test_an_event_that_two_threads_bring_counts_once() -> None:
    events = full().recorder.events
    timeline = Timeline(events)
    timeline.update(events[-5:])
    assert len(timeline.events) == len(events)


def test_replay_stops_leave_out_single_layers() -> None:
    timeline = timeline_of(full().recorder)
    assert not any(isinstance(timeline.events[step], e.LayerMass) for step in timeline.stops)
    assert timeline.stop_at(len(timeline.stops) - 1) is None
    assert timeline.stop_at(3) == timeline.stops[3]
    assert [timeline.position_of(step) for step in timeline.stops] == list(range(len(timeline.stops)))


def test_the_steps_of_a_question_are_counted_with_it() -> None:
    session = made()
    session.read(8, "Ledger")
    whole = "Where did the keeper live?"
    asked = [("Who wrote?", ""), ("Who was the keeper?", whole), ("Where did Ada live?", whole), ("When?", "")]
    for question, of in asked:
        session.ask(question, n_tokens=1, of=of)
    timeline = timeline_of(session.recorder)
    assert [timeline.number_of(answer_id) for answer_id in range(4)] == ["1", "2, step 1", "2", "3"]
    marks = [mark.words for mark in timeline.landmarks if mark.words.startswith("Question")]
    assert marks == ["Question 1: Who wrote?", f"Question 2: {whole}", "Question 3: When?"], (
        "as the conversation counts"
    )
    told = [event_words(event, timeline, {}) for event in timeline.events]
    (step, own) = [words for words in told if whole in words]
    assert step == f"Question 2, step 1, answered from memory: Who was the keeper? (a step of: {whole})"
    assert own == f"Question 2, answered from memory: Where did Ada live? (for: {whole})"
    assert any("by question 2, step 1: Who was the keeper?" in words for words in told)
    assert sum(words.startswith("Answer 2, step 1 finished") for words in told) == 1
    assert [row.question for row in answers(timeline)] == ["When?", whole, "Who was the keeper?", "Who wrote?"]


def test_a_step_is_one_before_the_question_itself_is_asked() -> None:
    session = made()
    session.read(8, "Ledger")
    session.ask("Who was the keeper?", n_tokens=1, of="Where did the keeper live?")
    timeline = timeline_of(session.recorder)
    assert timeline.number_of(0) == "1, step 1"
    session.ask("Where did the keeper live?", n_tokens=1)  # nothing was found that stands in it
    assert [timeline_of(session.recorder).number_of(each) for each in (0, 1)] == ["1, step 1", "1"]


@pytest.mark.parametrize(
    ("mass", "words"), [(None, ""), (0.0, "0.0%"), (0.0004, "under 0.1%"), (0.0321, "3.2%"), (1.0, "100.0%")]
)
def test_a_share_of_attention_in_words(mass: float | None, words: str) -> None:
    assert mass_words(mass) == words


def test_landmarks_name_documents_questions_and_the_first_eviction() -> None:
    words = [mark.words for mark in timeline_of(full().recorder).landmarks]
    assert words[0].startswith("Reading begins: The ledger")
    assert "The bank is full: first eviction" in words
    assert "Question 2: When was the bridge rebuilt?" in words


def test_attention_adds_up_over_tokens() -> None:
    session = full()
    timeline = timeline_of(session.recorder)
    expected: dict[int, float] = {}
    for event in session.recorder:
        if isinstance(event, e.TokenGenerated):
            for chunk_id, mass in event.chunk_mass or ():
                expected[chunk_id] = expected.get(chunk_id, 0) + mass
    assert timeline.attention() == pytest.approx(expected)
    assert timeline.attention(0) == {}


def test_cells_in_reading_order_show_what_left_and_what_is_to_come() -> None:
    session = full(60, 20)
    session.documents[1].status = "cancelled"
    cells = map_cells(timeline_of(session.recorder))
    assert len(cells) == 60 + 30
    assert cells.count(HELD, PINNED) == 20
    assert cells.count(PINNED) == 1
    assert cells.count(EVICTED) == 75 - 20
    assert cells.count(EMPTY) == 15
    assert (np.diff(cells.docs.astype(int)) >= 0).all()
    assert cells.indices[60:].tolist() == list(range(30))
    assert cells.levels[np.isin(cells.states, (HELD, PINNED))].max() == 255
    assert cells.high == max(session.counts.values())


def test_cells_of_the_bank_are_what_is_held_and_free_slots() -> None:
    session = made(capacity=16)
    session.read(10, "A")
    cells = map_cells(timeline_of(session.recorder), arrangement="bank")
    assert (len(cells), cells.count(HELD), cells.count(EMPTY)) == (16, 10, 6)
    assert cells.chunk_ids[:10].tolist() == list(range(10))


def test_cells_of_an_earlier_step_are_those_of_then() -> None:
    session = made()
    session.read(10, "A")
    timeline = timeline_of(session.recorder)
    third = next(event.step for event in timeline.events if isinstance(event, e.ChunkWritten) and event.chunk_id == 2)
    cells = map_cells(timeline, third)
    assert (cells.count(HELD), cells.count(EMPTY)) == (3, 7)


@pytest.mark.parametrize("colour", ["triggers", "age", "document", "attention"])
def test_every_colour_has_levels_from_0_to_255(colour: str) -> None:
    cells = map_cells(timeline_of(full().recorder), colour=colour)
    known = cells.levels[np.isin(cells.states, (HELD, PINNED))]
    assert known.max() == 255
    assert known.min() >= 0


def test_age_counts_chunks_written_since() -> None:
    session = made()
    session.read(5, "A")
    cells = map_cells(timeline_of(session.recorder), colour="age")
    assert cells.high == 4
    assert cells.levels[0] == 255
    assert cells.levels[4] == 0


def test_deleted_chunks_stay_on_the_map_and_removed_documents_do_not() -> None:
    session = made()
    session.read(4, "A")
    session.read(3, "B")
    session.recorder.append(e.Deleted(1))
    assert map_cells(timeline_of(session.recorder)).count(DELETED) == 1
    session.recorder.append(e.DocumentClosed(0, "removed", 4, 1.0))
    cells = map_cells(timeline_of(session.recorder))
    assert len(cells) == 3
    assert set(cells.docs) == {1}


def test_an_empty_trace_has_no_cells_rows_or_headline() -> None:
    timeline = timeline_of(Recorder())
    assert len(map_cells(timeline)) == 0
    assert chunk_rows(timeline) == []
    assert trigger_histogram([]) == []
    assert headline(timeline) == ""


def test_rows_filter_sort_and_search() -> None:
    session = full()
    timeline = timeline_of(session.recorder)
    rows = chunk_rows(timeline)
    assert len(rows) == 75
    evicted = select(rows, Filter(state="evicted"), session.documents)
    assert {row.chunk_id for row in evicted} == session.gone.keys()
    assert all(row.rule for row in evicted)
    held = select(rows, Filter(state="held", order="Most triggered"), session.documents)
    assert [row.trigger_count for row in held] == sorted(session.counts.values(), reverse=True)
    assert {row.doc_id for row in select(rows, Filter(doc_id=1), session.documents)} == {1}
    found = select(rows, Filter(words="LEDGER part 12:"), session.documents)
    assert [row.index_in_doc for row in found] == [12]
    assert [row.chunk_id for row in select(rows, Filter(words="32"), session.documents)] == [31, 32], (
        "the chunk of this number, and the one that has it in its text"
    )


def test_table_cells_are_plain_text_as_it_stands_in_the_document() -> None:
    session = full()
    row = table(chunk_rows(timeline_of(session.recorder))[:1], session.documents)[0]
    assert row[6] == "The ledger <b>of</b> ships"
    assert place_of(chunk_rows(timeline_of(session.recorder))[3], session.documents) == "position 4"


@pytest.mark.parametrize(
    ("n", "page", "expected"),
    [(0, 1, (1, 0, 0)), (26, 2, (2, 25, 26)), (26, 9, (2, 25, 26)), (26, -1, (1, 0, 25))],
)
def test_pages_are_clipped_to_what_exists(n: int, page: int, expected: tuple[int, int, int]) -> None:
    assert page_of(n, page) == expected


def test_the_histogram_counts_every_chunk_once() -> None:
    rows = chunk_rows(timeline_of(full().recorder))
    bars = trigger_histogram(rows)
    assert sum(held + left for _, held, left in bars) == len(rows)
    assert [name for name, _, _ in bars[:9]] == [str(count) for count in range(8)] + ["8-15"]
    for name, held, left in bars:
        low, _, high = name.partition("-")
        wanted = [row for row in rows if int(low) <= row.trigger_count <= int(high or low)]
        assert (held, left) == (
            sum(row.state in ("held", "pinned") for row in wanted),
            sum(row.state == "evicted" for row in wanted),
        )


def test_the_headline_says_what_is_held() -> None:
    words = headline(timeline_of(full().recorder))
    assert words.startswith("75 chunks read, 20 in memory, 55 evicted, 1 pinned.")
    assert "100% full" in words


def test_the_headline_counts_deleted_chunks_so_that_its_numbers_add_up() -> None:
    session = full()
    held = next(iter(set(session.counts) - session.pinned))
    session.recorder.append(e.Deleted(held))
    words = headline(timeline_of(session.recorder))
    assert words.startswith("75 chunks read, 19 in memory, 55 evicted, 1 deleted, 1 pinned.")


def test_the_log_is_filtered_by_kind_document_and_chunk() -> None:
    session = full()
    timeline = timeline_of(session.recorder)
    plain = log_events(timeline, LogFilter())
    assert not any(event.kind in ("LayerMass", "TokenGenerated") for event in plain)
    assert [event.step for event in plain] == sorted((event.step for event in plain), reverse=True)
    assert {event.kind for event in log_events(timeline, LogFilter(("Evicted",)))} == {"Evicted"}
    chunk_id = next(iter(session.gone))
    mine = log_events(timeline, LogFilter(chunk_id=chunk_id))
    assert [event.kind for event in (mine[-1], mine[0])] == ["ChunkWritten", "Evicted"]
    second = log_events(timeline, LogFilter(doc_id=1))
    assert all(event.doc_id == 1 for event in second if isinstance(event, e.ChunkWritten))
    assert max(event.step for event in log_events(timeline, LogFilter(until=50))) <= 50


def test_every_kind_of_event_has_words_of_its_own() -> None:
    session = full()
    chunk_id = next(iter(session.gone))
    session.restore(chunk_id)
    for event in (e.Unpinned(max(session.counts)), e.Deleted(max(session.counts))):
        session.recorder.append(event)
    timeline = timeline_of(session.recorder)
    assert KINDS.keys() == e.EVENTS.keys()
    events = log_events(timeline, LogFilter(tuple(KINDS)))
    for _, what, words in log_table(events, timeline, session.documents):
        assert what in KINDS.values()
        assert words not in KINDS


def test_the_life_of_a_chunk_goes_from_written_to_evicted_and_back() -> None:
    session = made(capacity=20)
    session.read(40, "A")
    chunk_id = max(session.counts, key=lambda each: session.counts[each])
    session.ask("Who kept the ledger?", n_tokens=3)
    session.leave(chunk_id)
    session.restore(chunk_id)
    session.pin(chunk_id)
    life = life_of(timeline_of(session.recorder), chunk_id, session.documents)
    assert life is not None and life.here
    whats = [station.what for station in life.stations]
    assert whats[0] == "written"
    assert whats[-3:] == ["evicted", "restored", "pinned"]
    assert whats.count("retrieved") == session.counts[chunk_id]
    evicted = next(station.words for station in life.stations if station.what == "evicted")
    assert "fewest triggers" in evicted and "policy trigger_count" in evicted
    assert "first trigger" in next(station.words for station in life.stations if station.what == "retrieved")
    assert life.text.startswith("A part")
    assert summary(life).startswith("In memory and pinned")


def test_a_life_shows_how_much_attention_which_answer_paid() -> None:
    session = full()
    timeline = timeline_of(session.recorder)
    chunk_id = max(timeline.attention(), key=lambda each: timeline.attention()[each])
    life = life_of(timeline, chunk_id, session.documents)
    assert life is not None
    attended = [station for station in life.stations if station.what == "attended"]
    assert attended
    assert "most in layer" in attended[0].words and "of attention over 6 tokens" in attended[0].words
    layers = attended[0].layers
    assert [each.layer for each in layers] == list(session.layers)
    look = looked(timeline, 0)
    assert look is not None and look.heads_TLHN is not None
    mean_L = look.mean_TLN[:, :, look.chunk_ids.index(chunk_id)].mean(axis=0)
    heads_LH = look.heads_TLHN[:, :, :, look.chunk_ids.index(chunk_id)].mean(axis=0)
    assert [each.mass for each in layers] == pytest.approx(mean_L.tolist())
    assert [each.head for each in layers] == heads_LH.argmax(axis=1).tolist()
    assert [each.most for each in layers] == pytest.approx(heads_LH.max(axis=1).tolist())
    html = life_html(life)
    assert html.count('<i style="height:') == sum(len(station.layers) for station in life.stations)
    assert f"layer {layers[-1].layer}: {mass_words(layers[-1].mass)}, most in head {layers[-1].head}" in html


def test_of_heads_that_hardly_looked_none_is_named() -> None:
    session = made()
    session.read(1, "Ledger")
    session.recorder.append(e.QuestionAsked(0, "Who?", "memory", 4, None))
    session.recorder.append(e.LayerMass(0, 0, 4, 0.9999, ((0, 0.0001),), (0.0, 0.0), ((0.0,), (0.0,))))
    session.recorder.append(e.TokenGenerated(0, 0, 5, "Ada", -0.5, 0.0001, ((0, 0.0001),)))
    life = life_of(timeline_of(session.recorder), 0, session.documents)
    assert life is not None
    words = life.stations[-1].words
    assert "most in layer 4 (under 0.1%)" in words and "head" not in words


def test_a_life_seen_from_an_earlier_step_marks_what_came_later() -> None:
    session = full()
    timeline = timeline_of(session.recorder)
    life = life_of(timeline, 0, session.documents, step=10)
    assert life is not None and life.here
    assert any(station.future for station in life.stations)
    assert not life.stations[0].future
    assert life_of(timeline, 70, session.documents, step=10) is None


def test_a_life_ends_when_its_document_is_removed() -> None:
    session = made()
    session.read(4, "A")
    session.recorder.append(e.DocumentClosed(0, "removed", 4, 1.0))
    del session.documents[0]
    life = life_of(timeline_of(session.recorder), 2, session.documents)
    assert life is not None
    assert life.stations[-1].words == "because its document was removed"
    assert life.text == ""
    assert summary(life).startswith("Not in memory: its document was removed")


def test_what_was_stopped_is_called_so() -> None:
    said = event_words(e.DocumentClosed(0, "cancelled", 4, 1.0), timeline_of(Recorder()), {})
    assert "stopped: 4 chunks read" in said
    answer = e.AnswerFinished(0, "", "cancelled", {}, 3, None, False)
    assert "(stopped)" in event_words(answer, timeline_of(Recorder()), {})
