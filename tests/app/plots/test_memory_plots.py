"""Pictures of the bank, on hand-made rows: what is drawn, and whether it explains itself."""

from __future__ import annotations

import pytest

from app.plots import attention, memory
from app.plots.style import EVICTED, LOCAL, MEMORY, figure, how_to_read, plain
from tests.app.plots.figures import explained

FILLS = [(1, 1, 0, 256, 512), (3, 2, 0, 512, 512), (6, 3, 0, 768, 512), (7, 3, 1, 512, 512)]


def test_occupancy_draws_what_is_held_what_fits_and_what_left() -> None:
    fig = memory.occupancy(FILLS)
    explained(fig)
    held, capacity, evicted = fig.data
    assert list(held.x) == [1, 3, 6, 7]
    assert list(held.y) == [256, 512, 768, 512]
    assert set(capacity.y) == {512}
    assert list(evicted.y) == [0, 0, 0, 1]
    assert [held.line.color, capacity.line.color, evicted.line.color] == [MEMORY, LOCAL, EVICTED]
    assert fig.layout.yaxis2.title.text == "chunks evicted"


def test_occupancy_marks_the_step_that_is_looked_at() -> None:
    assert memory.occupancy(FILLS, step=3).layout.shapes[0].x0 == 3
    assert not memory.occupancy(FILLS).layout.shapes


def test_the_bank_is_drawn_up_to_the_last_event():
    last = FILLS[-1]
    for trace in memory.occupancy(FILLS, now=last[0] + 7).data:
        assert trace.x[-1] == last[0] + 7
    held = memory.occupancy(FILLS, now=last[0] + 7).data[0]
    assert held.y[-1] == held.y[-2] == last[3]
    assert memory.occupancy(FILLS, now=last[0]).data[0].x[-1] == last[0]


def test_a_capacity_of_before_anything_was_read_does_not_flatten_the_picture() -> None:
    before = [(0, 0, 0, 0, 131_072), (1, 0, 0, 0, 512)]
    held, capacity, _ = memory.occupancy([*before, *((step + 2, *rest) for step, *rest in FILLS)]).data
    assert set(capacity.y) == {512}
    assert (held.x[0], held.y[0]) == (1, 0)
    assert list(memory.occupancy(before).data[0].x) == [1]


def test_occupancy_without_a_capacity_leaves_its_line_out() -> None:
    fig = memory.occupancy([(1, 1, 0, 256, None)])
    assert [trace.name for trace in fig.data] == ["held", "evicted"]


def test_occupancy_of_a_long_session_keeps_its_ends() -> None:
    fills = [(step, step, 0, step, 9_000) for step in range(5_000)]
    x = memory.occupancy(fills).data[0].x
    assert len(x) == memory.MOST_POINTS
    assert (x[0], x[-1]) == (0, 4_999)


def test_trigger_counts_stack_what_is_held_on_what_left() -> None:
    fig = memory.trigger_counts([("0", 3, 9), ("1", 4, 1), ("2-3", 5, 0)])
    explained(fig)
    held, left = fig.data
    assert list(held.x) == ["0", "1", "2-3"]
    assert (list(held.y), list(left.y)) == ([3, 4, 5], [9, 1, 0])
    assert (held.marker.color, left.marker.color) == (MEMORY, EVICTED)
    assert fig.layout.yaxis.dtick is None
    assert memory.trigger_counts([("0", 1, 0), ("1", 1, 0)]).layout.yaxis.dtick == 1, "no part of a chunk is counted"


@pytest.mark.parametrize("fig", [memory.occupancy([]), memory.trigger_counts([])])
def test_empty_pictures_say_what_to_do(fig: object) -> None:
    explained(fig, empty=True)


def test_a_figure_suits_both_themes_and_explains_itself() -> None:
    fig = figure("T", "x (units)", "y (units)", "Read it so.")
    assert fig.layout.paper_bgcolor == fig.layout.plot_bgcolor == "rgba(0,0,0,0)"
    assert how_to_read(fig) == "Read it so."


def test_plotly_gets_no_tags_from_a_document() -> None:
    assert plain("<b>x</b> & <a href='y'>") == "&lt;b&gt;x&lt;/b&gt; &amp; &lt;a href='y'&gt;"
    fig = attention.score_against_mass([0.5], [0.1], ["<b>x</b>"])
    assert "<b>" not in str(fig.data[0].customdata)
