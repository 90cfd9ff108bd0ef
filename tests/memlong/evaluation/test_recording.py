"""What a trace says of a session: chunks, questions, and which of these a person asked."""

from __future__ import annotations

import pytest

from memlong.errors import ConfigError
from memlong.evaluation.recording import record
from memlong.trace.events import ChunkWritten, QuestionAsked


def written(chunk_id: int) -> ChunkWritten:
    return ChunkWritten(chunk_id, 0, chunk_id, (chunk_id * 10, chunk_id * 10 + 10), 10, chunk_id)


def asked(text: str, way: str = "memory", of: str = "") -> QuestionAsked:
    return QuestionAsked(0, text, way, 2, None, of)


def test_the_record_is_read_from_the_trace():
    made = record([written(0), asked("a"), written(1), asked("b", "nothing"), asked("c", "both")], 10, 2)
    assert [chunk.chunk_id for chunk in made.chunks] == [0, 1]
    assert made.questions == ((1, "a"), (2, "c")) and made.tokens == 20
    assert made.origins == ((0, "a"), (1, "c")) and (made.asked(), made.asked(2)) == (2, 1)
    with pytest.raises(ConfigError, match="Nothing has been read"):
        record([], 10, 2)


@pytest.mark.parametrize(
    ("events", "numbers"),
    [
        ([asked("who", of="Q"), asked("where", of="Q")], [0, 0]),
        ([asked("who", of="Q"), asked("Q")], [0, 0]),
        ([asked("what", of="Q"), asked("who", of="Q"), asked("where", of="Q")], [0, 0, 0]),
        ([asked("who", of="Q"), asked("where", of="Q"), asked("who", of="Q"), asked("where", of="Q")], [0, 0, 1, 1]),
        ([asked("who", of="Q"), asked("who", of="Q"), asked("Q")], [0, 1, 1]),
        ([asked("who", of="Q"), asked("Q"), asked("Q")], [0, 0, 1]),
        ([asked("who", of="Q"), asked("who", of="R"), asked("R")], [0, 1, 1]),
        ([asked("Q"), asked("Q")], [0, 1]),
    ],
    ids=["steps", "as it stands", "two steps", "asked again", "stopped", "then plain", "another", "plain"],
)
def test_a_question_in_steps_is_one_that_somebody_asked(events, numbers):
    made = record([written(0), *events], 10, 2)
    assert [number for number, _ in made.origins] == numbers and made.asked() == numbers[-1] + 1
    assert all(words == (event.step_of or event.question) for (_, words), event in zip(made.origins, events))
    assert len(made.questions) == len(events), "each of them searched"


def test_a_question_whose_last_step_came_later_was_asked_since():
    made = record([written(0), asked("who", of="Q"), written(1), asked("where", of="Q"), written(2)], 10, 2)
    assert [made.asked(since) for since in (0, 1, 2, 3)] == [1, 1, 1, 0]
