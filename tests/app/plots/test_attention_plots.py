"""Pictures of attention, on hand-made masses."""

from __future__ import annotations

import numpy as np
import pytest

from app.plots import attention as plots
from app.plots.style import LOCAL, MEMORY, MOST_CELLS
from tests.app.plots.figures import explained

MASS = np.array([[0.01, 0.02], [0.3, 0.0], [0.1, 0.05]])
LAYERS, CHUNKS = [8, 9, 10], ["chunk 3 (A)", "chunk 7 (B)"]


def test_the_heat_map_shows_percent_by_layer_and_chunk_and_marks_memory_layers() -> None:
    fig = plots.layers_by_chunks(MASS, LAYERS, CHUNKS, stored=(8,), whose="token 1")
    explained(fig)
    heat = fig.data[0]
    assert np.allclose(heat.z, MASS * 100)
    assert (heat.zmin, round(heat.zmax, 3)) == (0, 30), (
        "plotly takes no lower end without an upper one, and would start at 5"
    )
    assert plots.layers_by_chunks(0 * MASS, LAYERS, CHUNKS).data[0].zmax > 0
    assert list(heat.y) == ["8 *", "9", "10"]
    assert list(heat.x) == ["3", "7"]
    assert heat.customdata[0][1] == "chunk 7 (B)"
    assert fig.layout.annotations[0].text == "token 1"


def test_too_many_cells_are_pooled_by_the_largest() -> None:
    names = [f"chunk {i}" for i in range(9_000)]
    mass = np.zeros((3, 9_000))
    mass[1, 4_321] = 0.7
    pooled, layers, shown = plots.pooled(mass, LAYERS, names)
    assert pooled.size <= MOST_CELLS
    assert pooled.shape == (3, len(shown))
    assert pooled.max() == 0.7
    assert layers == LAYERS
    assert " to " in shown[0]


def test_shares_of_layers_add_up_to_all_attention() -> None:
    fig = plots.share_by_layer(np.array([0.1, 0.4, 0.0]), LAYERS, stored=(8,))
    explained(fig)
    memory, local = fig.data
    assert np.allclose(memory.x, [10, 40, 0])
    assert np.allclose(memory.x + local.x, 100)
    assert list(memory.y) == ["8 *", "9", "10"]
    assert {bar.orientation for bar in fig.data} == {"h"}, "a layer has its row in both pictures of layers"
    assert (memory.marker.color, local.marker.color) == (MEMORY, LOCAL)


def test_shares_of_tokens_name_the_tokens_and_frame_the_chosen_one() -> None:
    fig = plots.share_by_token(np.array([0.1, 0.4]), [" the", " <key>"], chosen=1)
    explained(fig)
    assert list(fig.layout.xaxis.ticktext) == ["the", "&lt;key&gt;"]
    assert (fig.layout.shapes[0].x0, fig.layout.shapes[0].x1) == (1.5, 2.5)
    many = plots.share_by_token(np.zeros(50), ["x"] * 50)
    assert many.layout.xaxis.ticktext is None


def test_the_scatter_tells_used_from_ignored_chunks() -> None:
    scores, masses = [0.9, 0.8, 0.2, 0.1, np.nan], [0.02, 0.001, 0.1, 0.0, 0.3]
    fig = plots.score_against_mass(scores, masses, [f"chunk {i}" for i in range(5)], chosen=0)
    # Whatever a retriever's score is: that of the default one is no cosine.
    assert fig.layout.xaxis.title.text == "retrieval score (best of this answer)"
    explained(fig)
    assert {trace.name: list(trace.customdata) for trace in fig.data} == {
        "used": ["chunk 0"], "fetched but ignored": ["chunk 1"], "little score, much attention": ["chunk 2"],
        "little of both": ["chunk 3"],
    }  # fmt: skip
    assert len({trace.marker.symbol for trace in fig.data}) == 4
    assert not any(trace.cliponaxis for trace in fig.data), "those without attention stand on the axis"
    assert {trace.marker.color for trace in fig.data} == {MEMORY}, "orange is what left, and none of these did"


@pytest.mark.parametrize("masses", [[0.3, 0.2], [0.2, 0.3]])
def test_two_chunks_are_no_order_to_stand_out_from(masses: list[float]) -> None:
    fig = plots.score_against_mass([0.19, 0.14], masses, ["chunk 0", "chunk 1"])
    assert [trace.name for trace in fig.data] == ["used"]


def test_a_score_far_below_the_best_is_no_good_one() -> None:
    fig = plots.score_against_mass([0.42, 0.011, 0.009, 0.008], [0.5, 0.0, 0.0, 0.0], [f"chunk {i}" for i in range(4)])
    assert [trace.name for trace in fig.data] == ["used", "little of both"]


def test_chunks_of_one_score_have_one_place_and_an_axis_around_it() -> None:
    fig = plots.score_against_mass([0.34] * 4, [0.13, 0.14, 0.16, 0.22], [f"chunk {i}" for i in range(4)])
    assert [trace.name for trace in fig.data] == ["used"], "none of them has little score"
    low, high = fig.layout.xaxis.range
    assert 0 < low < 0.34 < high < 1


@pytest.mark.parametrize(
    "fig",
    [
        plots.layers_by_chunks(np.zeros((0, 0)), [], []),
        plots.share_by_layer(np.zeros(0), []),
        plots.share_by_token(np.zeros(0), []),
        plots.score_against_mass([], [], []),
    ],
)
def test_empty_pictures_say_what_to_do(fig: object) -> None:
    explained(fig, empty=True)
