"""Pictures of experiments, on rows made by hand."""

from __future__ import annotations

import numpy as np

from app.plots import lab
from app.plots.style import EVICTED, LOCAL, MEMORY, how_to_read


def test_each_policy_is_one_line_by_rising_capacity() -> None:
    fig = lab.recall_by_capacity([("fifo", 50, 60), ("trigger_count", 25, 80), ("fifo", 25, 40)])
    lines = {trace.name: (list(trace.x), list(trace.y)) for trace in fig.data}
    assert lines == {"fifo": ([25, 50], [40, 60]), "trigger_count": ([25], [80])}
    colours = {trace.name: trace.line.color for trace in fig.data}
    assert colours["trigger_count"] == MEMORY and colours["fifo"] not in (MEMORY, EVICTED), "orange is what left"


def test_the_course_names_its_capacity() -> None:
    fig = lab.recall_over_time([("lru", [(1, 100.0), (2, 50.0)])], ", with 512 tokens")
    assert "with 512 tokens" in fig.layout.title.text and list(fig.data[0].y) == [100.0, 50.0]


def test_a_needle_not_yet_hidden_leaves_its_cell_empty() -> None:
    fig = lab.needle_grid([0, 50], [256, 512], np.array([[3, np.nan], [0, 1]]))
    grid, words = fig.data
    assert [list(row) for row in grid.text] == [["evicted", ""], ["answered", "found, not said"]]
    assert list(zip(words.x, words.y, words.text, words.textfont.color, strict=True)) == [
        ("0", "256", "evicted", "#000000"), ("0", "512", "answered", "#ffffff"),
        ("50", "512", "found,<br>not said", "#000000"),
    ]  # fmt: skip
    assert LOCAL not in [colour for _, colour in grid.colorscale] and grid.colorscale[-1][1] == EVICTED
    assert grid.texttemplate is None and words.textfont.size >= 11, "plotly would shrink words to fit a phone's cells"


def test_bars_go_from_most_needed_downwards() -> None:
    fig = lab.owed_to_chunks([("chunk 4", -3.0), ("chunk 9", 0.5)])
    assert list(fig.data[0].y) == ["chunk 9", "chunk 4"] and list(fig.data[0].x) == [0.5, -3.0]
    assert fig.data[0].marker.color == MEMORY, "orange is what left, and these are in memory"


def test_empty_pictures_say_what_to_do_and_all_say_how_to_read_them() -> None:
    empty = np.zeros((0, 0))
    for fig in (
        lab.recall_by_capacity([]), lab.recall_over_time([]), lab.needle_grid([], [], empty), lab.owed_to_chunks([]),
    ):  # fmt: skip
        assert fig.layout.annotations and how_to_read(fig)
        assert fig.layout.xaxis.title.text and fig.layout.yaxis.title.text
