"""Attention of an answer as arrays, against the events it was made from."""

from __future__ import annotations

import numpy as np
import pytest

from app.rows.attention import MEAN, MOST, answers, looked
from app.rows.timeline import Timeline, timeline_of
from memlong.trace import events as e
from tests.app.traces import Made, full, made


@pytest.fixture
def session() -> Made:
    return full()


def test_answers_are_listed_newest_first_with_what_was_recorded(session: Made) -> None:
    session.ask("Without looking?", masses=False)
    rows = answers(timeline_of(session.recorder))
    assert [(row.answer_id, row.recorded) for row in rows] == [(2, False), (1, True), (0, True)]
    assert looked(timeline_of(session.recorder), 2) is None
    assert answers(Timeline()) == []


def test_masses_are_those_of_the_events(session: Made) -> None:
    look = looked(timeline_of(session.recorder), 0)
    assert look is not None
    assert look.layers == session.layers
    assert look.n_heads == session.heads
    assert look.tokens[0] == " harbour"
    for event in session.recorder.filter(e.LayerMass, answer_id=0):
        assert isinstance(event, e.LayerMass)
        layer = look.layers.index(event.layer)
        assert look.local_TL[event.index, layer] == event.local_mass
        for place, (chunk_id, mass) in enumerate(event.chunk_mass):
            at = look.chunk_ids.index(chunk_id)
            assert look.mean_TLN[event.index, layer, at] == mass
            assert event.head_chunk_mass is not None and look.heads_TLHN is not None
            assert look.heads_TLHN[event.index, layer, 2, at] == event.head_chunk_mass[2][place]


def test_heads_are_chosen_averaged_or_the_largest_taken(session: Made) -> None:
    look = looked(timeline_of(session.recorder), 0)
    assert look is not None and look.heads_TLHN is not None
    assert np.allclose(look.by_chunk(1, MEAN), look.heads_TLHN[1].mean(axis=1))
    assert np.allclose(look.by_chunk(1, MOST), look.heads_TLHN[1].max(axis=1))
    assert np.allclose(look.by_chunk(1, 2), look.heads_TLHN[1, :, 2])
    assert np.allclose(look.by_chunk(None), look.mean_TLN.mean(axis=0))
    assert np.allclose(look.memory_share(), 1 - look.local_TL)
    assert (look.memory_share(MOST) >= look.memory_share(0) - 1e-9).all()


def test_scores_are_the_best_of_the_answers_own_searches(session: Made) -> None:
    look = looked(timeline_of(session.recorder), 1)
    assert look is not None
    hits = {
        hit.chunk_id: hit.score
        for event in session.recorder.filter(e.Retrieved)
        if isinstance(event, e.Retrieved) and event.query == "question" and event.query_id == 1
        for hit in event.hits
    }
    assert dict(zip(look.chunk_ids, look.scores)) == hits


def test_a_trace_without_heads_still_has_layers() -> None:
    session = made()
    session.read(4, "A")
    session.recorder.append(e.QuestionAsked(0, "?", "memory", 4, None))
    session.recorder.append(e.LayerMass(0, 0, 9, 0.75, ((2, 0.25),)))
    look = looked(timeline_of(session.recorder), 0)
    assert look is not None
    assert look.n_heads == 0
    assert look.by_chunk(0, MOST).tolist() == [[0.25]]
    assert look.memory_share(3).tolist() == [[0.25]]
    assert np.isnan(look.scores).all()


def test_chunks_of_a_second_retrieval_have_no_mass_before_it() -> None:
    session = made()
    session.read(4, "A")
    add = session.recorder.append
    add(e.QuestionAsked(0, "?", "memory", 1, None))
    add(e.LayerMass(0, 0, 9, 0.75, ((3, 0.25),), (0.25,), ((0.25,),)))
    add(e.LayerMass(0, 1, 9, 0.5, ((1, 0.5),), (0.5,), ((0.5,),)))
    look = looked(timeline_of(session.recorder), 0)
    assert look is not None
    assert look.chunk_ids == (1, 3)
    assert look.mean_TLN[:, 0].tolist() == [[0.0, 0.25], [0.5, 0.0]]
