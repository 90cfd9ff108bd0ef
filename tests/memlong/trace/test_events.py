"""Events there and back, through plain values and through JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields

import pytest

from memlong.errors import PersistError
from memlong.trace import events as module
from memlong.trace.events import EVENTS, Event, Hit, field_names, from_dict

EXAMPLES: list[Event] = [
    module.CapacityChanged(1024, "trigger_count"),
    module.DocumentOpened(0, "Straße", 1000, 4, 5000),
    module.ChunkWritten(0, 0, 0, (0, 1200), 256, 0),
    module.Retrieved("chunk", 1, 0, (Hit(0, 0.75, 0, 1), Hit(3, -0.5, 1, 9))),
    module.Retrieved("question", 1, None, ()),
    module.Evicted(0, 0, "fifo", "oldest first", 1, 7, 1280, 1024),
    module.Pinned(1),
    module.Unpinned(1),
    module.Deleted(1),
    module.Restored(1, 0, 1, (5, 9), 2, 3),
    module.DocumentClosed(0, "done", 4, 1.5),
    module.QuestionAsked(0, 'Who kept\nthe "ledger"?', "memory", 4, (0, 2)),
    module.QuestionAsked(1, "?", "both", 4, None),
    module.TokenGenerated(0, 0, 17, " salt", -0.25, 0.5, ((0, 0.25), (3, 0.25))),
    module.TokenGenerated(0, 1, 18, "\u2028", -0.25),
    module.LayerMass(0, 0, 8, 0.5, ((0, 0.5),), (0.25, 0.75)),
    module.AnswerFinished(0, "salt", "end", {"search": 0.5, "decode": 1.0}, 2, 0.5, False),
]


def test_every_kind_has_an_example() -> None:
    assert {event.kind for event in EXAMPLES} == set(EVENTS)


def test_every_kind_defined_is_registered() -> None:
    defined = {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }
    assert defined == set(EVENTS)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.kind)
def test_comes_back_equal_through_json(event: Event) -> None:
    again = from_dict(json.loads(json.dumps(event.to_dict())))
    assert again == event
    assert type(again) is type(event)
    assert hash(again.to_dict()["kind"]) == hash(event.kind)


def test_hits_come_back_with_their_names() -> None:
    event = from_dict(json.loads(json.dumps(EXAMPLES[3].to_dict())))
    assert isinstance(event, module.Retrieved)
    assert event.hits[1].trigger_count == 9


@pytest.mark.parametrize("kind", EVENTS.values(), ids=EVENTS)
def test_is_frozen_and_small(kind: type[Event]) -> None:
    assert not hasattr(object.__new__(kind), "__dict__")
    assert field_names(kind) == tuple(field.name for field in fields(kind))
    event = next(each for each in EXAMPLES if type(each) is kind)
    with pytest.raises(FrozenInstanceError):
        event.step = 3  # type: ignore[misc]


def test_an_unknown_kind_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(PersistError, match="Did you mean 'Evicted'"):
        from_dict({"kind": "Evict", "step": 0})
    with pytest.raises(PersistError, match="Unknown kind of event None"):
        from_dict({"step": 0})
    with pytest.raises(PersistError, match="Unknown kind of event"):
        from_dict({"kind": ["Pinned"], "step": 0})


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "Pinned", "step": 0},
        {"kind": "Pinned", "step": 0, "chunk_id": 1, "colour": "red"},
        {"kind": "Retrieved", "step": 0, "query": "chunk", "query_id": 0, "doc_id": 0, "hits": [[1, 2]]},
        {"kind": "Retrieved", "step": 0, "query": "chunk", "query_id": 0, "doc_id": 0, "hits": 3},
    ],
)
def test_missing_and_unknown_fields_are_refused(values: dict) -> None:
    with pytest.raises(PersistError, match="Its fields are"):
        from_dict(values)
