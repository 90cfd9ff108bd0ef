"""Attention for training on a CPU: the same numbers and gradients as the other implementations, and no more of them."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memlong.attention import learning
from memlong.attention.context import LayerMemory
from memlong.attention.learning import applies, by_row
from memlong.attention.retrieval import LocalPart, MemoryPart, eager, fused
from tests.memlong.attention.test_retrieval import BLIND, CLOSE, LENGTHS, SIZES, left_mask, padding, parts, relevance


def gradients(local: LocalPart, memory: MemoryPart, by: str, seen: Tensor) -> list[Tensor]:
    """Return the output where queries see anything, and the gradients of queries, keys, values and bias."""
    states = [t.clone().requires_grad_() for t in (local.query_BHTD, local.key_BGSD, local.value_BGSD)]
    bias = torch.as_tensor(memory.bias).detach().clone().requires_grad_()
    part = replace(local, query_BHTD=states[0], key_BGSD=states[1], value_BGSD=states[2])
    out = (by_row if by == "row" else fused)(part, replace(memory, bias=bias))
    kept = torch.where(seen[:, None, :, None], out, 0.0)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(3))
    (kept * weight).sum().backward()
    return [kept.detach(), *(t.grad if t.grad is not None else torch.zeros_like(t) for t in (*states, bias))]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=SIZES,
    lengths=LENGTHS,
    blind=BLIND,
    block=st.sampled_from([1, 2, 128]),
    graded=st.booleans(),
)
def test_output_and_gradients_are_those_of_the_fused_kernel(
    seed: int,
    sizes: dict[str, int],
    lengths: list[list[int]] | None,
    blind: list[int] | None,
    block: int,
    graded: bool,
) -> None:
    local, memory = parts(seed, **sizes)
    rows, tokens, keys = sizes["rows"], sizes["tokens"], sizes["tokens"] + sizes["cached"]
    bias = torch.randn(sizes["groups"] * sizes["shared"], generator=torch.Generator().manual_seed(seed))
    memory = replace(memory, bias=bias, padding_BM=None if lengths is None else padding(lengths[:rows]))
    memory = replace(memory, relevance_BM=relevance(rows) if graded else None)
    seen = torch.ones(rows, tokens, dtype=torch.bool)
    if blind is not None:
        local = replace(local, mask=left_mask(local, blind[:rows]))
        seen = torch.arange(keys - tokens, keys) >= torch.tensor(blind[:rows])[:, None]
    if blind is not None and lengths is not None:
        # The kernel's gradient is not a number where a query sees nothing at all.
        alone = memory.padding_BM.all(dim=1) if memory.padding_BM is not None else torch.zeros(rows)
        if bool((alone[:, None] & ~seen).any()):
            return
    with patch.object(learning, "_QUERIES", block):
        found = gradients(local, memory, "row", seen)
    for mine, theirs in zip(found, gradients(local, memory, "fused", seen), strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


def test_what_sees_nothing_gives_zeros_and_no_gradient_that_is_not_a_number() -> None:
    local, memory = parts(0, rows=2)
    local = replace(local, mask=left_mask(local, [0, 3]))
    memory = replace(memory, padding_BM=padding([[4, 4, 1], [0, 0, 0]]))
    seen = torch.tensor([[True] * 5, [False] * 3 + [True] * 2])
    found = gradients(local, memory, "row", seen)
    assert all(bool(t.isfinite().all()) for t in found)
    assert not found[1][1, :, :3].any(), "padding learns nothing"
    want = eager(local, memory)[0]
    torch.testing.assert_close(found[0], torch.where(seen[:, None, :, None], want, 0.0), **CLOSE)


def test_bfloat16_is_close_to_float32() -> None:
    local, memory = parts(5, rows=2, tokens=5, chunks=3)
    want = by_row(local, memory)
    half = replace(local, query_BHTD=local.query_BHTD.bfloat16(), key_BGSD=local.key_BGSD.bfloat16(),
                   value_BGSD=local.value_BGSD.bfloat16())  # fmt: skip
    out = by_row(half, memory)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), want, atol=0.03, rtol=0.03)


@pytest.mark.parametrize(
    ("local", "memory"),
    [
        ({"dropout": 0.1}, {}),
        ({"softcap": 20.0}, {}),
        ({"sinks_H": torch.zeros(4)}, {}),
        ({"mask": torch.zeros(2, 1, 5, 5)}, {}),
        ({"mask": torch.ones(2, 4, 5, 5, dtype=torch.bool)}, {}),
        ({}, {"kv": LayerMemory(torch.zeros(2, 2, 12, 8, requires_grad=True), torch.zeros(2, 2, 12, 8))}),
    ],
)
def test_it_is_left_alone_where_it_would_be_wrong(local: dict, memory: dict) -> None:
    near, far = parts(0)
    assert applies(near, far)
    assert not applies(replace(near, **local), replace(far, **memory))
