"""The recorder: order, listeners, readers in other threads, files."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from memlong.errors import PersistError
from memlong.trace.events import (
    ChunkWritten,
    Deleted,
    Event,
    Hit,
    LayerMass,
    Pinned,
    QuestionAsked,
    Retrieved,
    TokenGenerated,
)
from memlong.trace.recorder import Recorder


def written(chunk_id: int, doc_id: int = 0) -> ChunkWritten:
    return ChunkWritten(chunk_id, doc_id, chunk_id, (0, 9), 8, 0)


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder()
    recorder.append(written(0))
    recorder.append(written(1, doc_id=1))
    recorder.append(Retrieved("question", 5, None, (Hit(1, 0.5, 0, 1),)))
    recorder.append(QuestionAsked(5, "?", "memory", 1, None))
    recorder.append(TokenGenerated(5, 0, 3, "a", -1.0, 0.5, ((1, 0.5),)))
    recorder.append(TokenGenerated(6, 0, 3, "b", -1.0))
    recorder.append(LayerMass(5, 0, 2, 0.5, ((0, 0.25), (1, 0.25))))
    recorder.append(Pinned(0))
    return recorder


def test_steps_count_from_zero(recorder: Recorder) -> None:
    assert [event.step for event in recorder] == list(range(8))
    assert recorder.step == len(recorder) == 8
    assert recorder.append(Deleted(0)).step == 8


def test_an_event_belongs_to_one_trace(recorder: Recorder) -> None:
    with pytest.raises(PersistError, match="has step 0 already"):
        Recorder().append(recorder.events[0])


def test_the_events_returned_are_a_copy(recorder: Recorder) -> None:
    recorder.events.clear()
    recorder.since(0).clear()
    assert len(recorder) == 8


def test_a_reader_asks_for_what_it_has_not_seen(recorder: Recorder) -> None:
    assert [event.step for event in recorder.since(6)] == [6, 7]
    assert recorder.since(recorder.step) == []
    assert len(recorder.since(-5)) == 8


@pytest.mark.parametrize(
    "conditions, steps",
    [
        ({"kind": ChunkWritten}, [0, 1]),
        ({"kind": "ChunkWritten"}, [0, 1]),
        ({"kind": (ChunkWritten, "Pinned")}, [0, 1, 7]),
        ({"doc_id": 1}, [1]),
        ({"chunk_id": 1}, [1, 2, 4, 6]),
        ({"chunk_id": 0}, [0, 6, 7]),
        ({"answer_id": 5}, [3, 4, 6]),
        ({"kind": TokenGenerated, "answer_id": 5}, [4]),
        ({"kind": ()}, []),
        ({}, list(range(8))),
    ],
)
def test_filters_by_what_an_event_is_about(recorder: Recorder, conditions: dict, steps: list[int]) -> None:
    assert [event.step for event in recorder.filter(**conditions)] == steps


def test_listeners_hear_events_in_order_until_they_stop() -> None:
    recorder, heard = Recorder(), []
    recorder.append(written(0))
    stop = recorder.subscribe(heard.append)
    other: list[Event] = []
    recorder.subscribe(other.append)
    recorder.append(written(1))
    stop()
    stop()
    recorder.append(written(2))
    assert [event.step for event in heard] == [1]
    assert [event.step for event in other] == [1, 2]


def test_a_listener_may_stop_itself() -> None:
    recorder, heard = Recorder(), []

    def once(event: Event) -> None:
        heard.append(event)
        stop()

    stop = recorder.subscribe(once)
    recorder.append(written(0))
    recorder.append(written(1))
    assert len(heard) == 1


def test_an_event_is_kept_when_a_listener_fails() -> None:
    recorder = Recorder()

    def fail(event: Event) -> None:
        raise RuntimeError("view closed")

    recorder.subscribe(fail)
    with pytest.raises(RuntimeError, match="view closed"):
        recorder.append(written(0))
    assert len(recorder) == 1


def test_a_reader_in_another_thread_sees_every_event_once_and_in_order() -> None:
    recorder, seen, total = Recorder(), [], 20_000

    def read() -> None:
        while len(seen) < total:
            seen.extend(event.step for event in recorder.since(len(seen)))

    reader = threading.Thread(target=read)
    reader.start()
    for chunk_id in range(total):
        recorder.append(written(chunk_id))
    reader.join()
    assert seen == list(range(total))


def test_a_file_brings_all_back_and_counts_on(recorder: Recorder, tmp_path: Path) -> None:
    recorder.save_jsonl(tmp_path / "trace.jsonl")
    again = Recorder.load_jsonl(tmp_path / "trace.jsonl")
    assert again.events == recorder.events
    assert again.append(Deleted(0)).step == 8
    assert (tmp_path / "trace.jsonl").read_bytes().count(b"\n") == 8


def test_an_empty_trace_has_no_lines() -> None:
    assert Recorder().to_jsonl() == b""
    assert Recorder.from_jsonl(b"").step == 0


@pytest.mark.parametrize(
    "line, words",
    [
        (b'{"kind": "Pinned", "step": 2, "chu', "Line 3 of a trace is no event"),
        (b'{"kind": "Painted", "step": 2}', "Line 3 .* Unknown kind of event 'Painted'"),
        (b"[1, 2]", "Line 3 of a trace is no event"),
        (b"[" * 100_000, "Line 3 of a trace is no event"),
        (b"\xff\xfe", "Line 3 of a trace is no event"),
        (b'{"kind": "Pinned", "step": 7, "chunk_id": 1}', "Event 2 of a trace says that it is step 7"),
    ],
)
def test_a_damaged_line_is_refused_and_named(line: bytes, words: str) -> None:
    recorder = Recorder()
    recorder.append(written(0))
    recorder.append(written(1))
    with pytest.raises(PersistError, match=words):
        Recorder.from_jsonl(recorder.to_jsonl() + line)
