"""Stored keys by turning once against stored keys by a second run, on every family."""

from __future__ import annotations

import copy

import pytest
import torch

from memlong.config import MemoryConfig
from memlong.model import capture
from memlong.model.wrapper import MemoryModel
from tests.memlong.model.families import FAMILIES, VOCAB, build

LAYERS = 3
# Interleaved pairs, half-length cosines, layers without positions, and states changed after the rotation: for these
# a second run is right.
TWICE = {"cohere", "cohere2", "glm", "gpt_oss", "smollm3", "llama4"}


def _own(family: str) -> MemoryModel:
    return MemoryModel(build(family, LAYERS), None, MemoryConfig(stored_layers=(0, 1, 2), retrieval_layers=(0, 1, 2)))


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_turning_once_equals_a_second_run(family: str, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _own(family)
    ids = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    if padded:
        mask[1, 6:] = 0
    once = model.read(ids, mask if padded else None)
    again = model.read(ids, mask if padded else None)
    monkeypatch.setattr(capture, "_turns", lambda *_: False)
    twice = model.read(ids, mask if padded else None)
    seen = mask.bool()[None, :, None, :, None]
    for mine, repeated, own in zip(vars(once).values(), vars(again).values(), vars(twice).values(), strict=True):
        assert torch.equal(mine, repeated)
        error = ((mine - own).abs() * seen).max() / own.abs().max()
        assert error < 2e-5


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_padding_behind_a_window_changes_nothing_of_it(family: str) -> None:
    """So windows of unequal length are read together without a mask."""
    model = _own(family)
    ids = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(0))
    alone = model.read(ids[1:, :6])
    ids[1, 6:] = 0
    together = model.read(ids)
    for mine, own in zip(vars(together).values(), vars(alone).values(), strict=True):
        assert (mine[:, 1:, :, :6] - own).abs().max() < 2e-5 * own.abs().max()


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_half_precision_is_read(family: str) -> None:
    half = copy.deepcopy(build(family, LAYERS)).to(torch.bfloat16)
    model = MemoryModel(half, None, MemoryConfig(stored_layers=(0, 1, 2), retrieval_layers=(0, 1, 2)))
    ids = torch.arange(3, 12)[None]
    model.read(ids)
    read = model.read(ids)  # the second time by turning once, where the first found that it may
    assert {each.dtype for each in vars(read).values()} == {torch.bfloat16}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_it_is_known_which_modules_need_a_second_run(family: str) -> None:
    model = _own(family)
    model.read(torch.arange(3, 12)[None])
    verdicts = [capture._TURNING.get(model.spec.attention[layer]) for layer in (0, 1)]
    if not model.spec.rotary:
        assert verdicts == [None, None]
    elif family in TWICE:
        assert False in verdicts or None in verdicts
    else:
        assert verdicts == [True, True]
