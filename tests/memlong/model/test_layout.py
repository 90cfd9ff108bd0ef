"""Which layers are stored, and where each retrieval layer reads: every preset, and every refusal."""

from __future__ import annotations

from typing import Any

import pytest

from memlong.config import PRESETS, MemoryConfig
from memlong.errors import ConfigError
from memlong.model.layout import Source, resolve_layout


def layout(layers: int, **settings: Any) -> Any:
    return resolve_layout(MemoryConfig(**settings), layers)


def test_paper_on_its_own_model() -> None:
    """OpenLLaMA-3B: 26 layers, memory layer 13, retrieval layers 13, 17, 21 and 25."""
    plan = layout(26, preset="paper")
    assert plan.stored_layers == (13,) and plan.retrieval_layers == (13, 17, 21, 25)
    assert plan.sources[13] == Source("own", (13,))
    assert {plan.sources[layer] for layer in (17, 21, 25)} == {Source("same", (13,))}
    assert plan.mapped_layers == ()


def test_own_on_thirty_layers() -> None:
    plan = layout(30)
    assert plan.stored_layers == plan.retrieval_layers == tuple(range(8, 30))
    assert all(source == Source("own", (layer,)) for layer, source in plan.sources.items())


def test_projected_on_thirty_layers() -> None:
    plan = layout(30, preset="projected")
    assert plan.stored_layers == (7,) and plan.retrieval_layers == plan.mapped_layers == tuple(range(8, 30))
    assert set(plan.sources.values()) == {Source("map", (7,))}


def test_interpolated_on_thirty_layers() -> None:
    plan = layout(30, preset="interpolated")
    assert plan.stored_layers == (8, 18, 28) and plan.retrieval_layers == tuple(range(8, 30))
    assert plan.sources[8] == Source("own", (8,)) and plan.sources[18] == Source("own", (18,))
    assert plan.sources[9] == plan.sources[17] == Source("map", (8, 18))
    assert plan.sources[19] == Source("map", (18, 28)) and plan.sources[29] == Source("map", (28,))
    assert plan.mapped_layers == tuple(layer for layer in range(8, 30) if layer not in (8, 18, 28))


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("layers", [1, 2, 3, 4, 6, 12, 26, 30, 48, 80])
def test_every_preset_fits_every_depth(preset: str, layers: int) -> None:
    plan = layout(layers, preset=preset)
    assert plan.stored_layers and plan.retrieval_layers
    assert plan.retrieval_layers == tuple(sorted(plan.sources)) and plan.retrieval_layers[-1] < layers
    for layer, source in plan.sources.items():
        assert set(source.layers) <= set(plan.stored_layers) and min(source.layers) <= layer
        assert source.kind != "own" or source.layers == (layer,)


def test_lists_of_layers_win_over_the_preset() -> None:
    plan = layout(30, preset="paper", stored_layers=(4,), retrieval_layers=(6, 7))
    assert plan.stored_layers == (4,) and plan.sources == {6: Source("same", (4,)), 7: Source("same", (4,))}
    plan = layout(30, preset="own", retrieval_layers=(10, 12))
    assert plan.stored_layers == (10, 12) == plan.retrieval_layers
    plan = layout(30, preset="own", stored_layers=(10, 12), retrieval_layers=(10, 11, 13))
    assert [plan.sources[layer] for layer in (10, 11, 13)] == [
        Source("own", (10,)), Source("same", (10,)), Source("same", (12,)),
    ]  # fmt: skip
    plan = layout(30, preset="interpolated", stored_layers=(2, 9), retrieval_layers=(2, 5, 20))
    assert [plan.sources[layer] for layer in (2, 5, 20)] == [
        Source("own", (2,)), Source("map", (2, 9)), Source("map", (9,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "settings, given",
    [
        ({"stored_layers": (6,)}, "stored_layers=6\\."),
        ({"stored_layers": tuple(range(30))}, "stored_layers=0-29\\."),
        ({"stored_layers": (-1, 2)}, "stored_layers=-1,2\\."),
        ({"stored_layers": (3, 2)}, "stored_layers=3,2\\."),
        ({"stored_layers": (2, 2)}, "stored_layers=2,2\\."),
        ({"stored_layers": (1,), "retrieval_layers": (9,)}, "retrieval_layers=9\\."),
        ({"stored_layers": (3,), "retrieval_layers": (2, 4)}, "retrieval layer 2 below"),
    ],
)
def test_layers_that_cannot_be_are_refused(settings: dict[str, Any], given: str) -> None:
    with pytest.raises(ConfigError, match=given):
        layout(6, **settings)
