"""Four implementations of one formula: eager, fused, merged and single must agree wherever more than one applies."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from memlong.attention.context import EvidenceFocus, LayerMemory
from memlong.attention.retrieval import (
    LocalPart,
    MemoryPart,
    chunk_mass,
    eager,
    evidence_share,
    fused,
    merged,
    single,
)

CLOSE = {"atol": 2e-6, "rtol": 2e-5}
C, D = 4, 8

# What the implementations are compared over: see ``parts`` and ``padding``.
SIZES = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 3),
        "groups": st.integers(1, 2),
        "shared": st.integers(1, 3),
        "tokens": st.integers(1, 5),
        "cached": st.integers(0, 4),
    }
)
LENGTHS = st.none() | st.lists(st.lists(st.integers(0, C), min_size=3, max_size=3), min_size=3, max_size=3)
BLIND = st.none() | st.lists(st.integers(0, 4), min_size=3, max_size=3)


def parts(seed: int, **given: int) -> tuple[LocalPart, MemoryPart]:
    """Return random halves: ``shared`` query heads per key/value head, no mask, no padding, no bias."""
    sizes = {"rows": 2, "groups": 2, "shared": 2, "tokens": 5, "cached": 0, "chunks": 3} | given
    rows, groups, shared, tokens, cached, chunks = sizes.values()
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    local = LocalPart(
        normal(rows, groups * shared, tokens, D), normal(rows, groups, cached + tokens, D),
        normal(rows, groups, cached + tokens, D), None, D**-0.5,
    )  # fmt: skip
    kv = LayerMemory(normal(rows, groups, chunks * C, D), normal(rows, groups, chunks * C, D))
    return local, MemoryPart(kv, None, 0.0, C)


def padding(lengths: list[list[int]]) -> Tensor:
    """Return [B, M], True behind the end of every chunk."""
    return (torch.arange(C) >= torch.tensor(lengths)[..., None]).flatten(1)


def relevance(rows: int, chunks: int = 3) -> Tensor:
    """Return [B, M] numbers of at most 0, the best of every row 0."""
    drawn = torch.randn(rows, chunks * C, generator=torch.Generator().manual_seed(rows))
    return drawn - drawn.max(dim=1, keepdim=True).values


def left_mask(local: LocalPart, blind: list[int]) -> Tensor:
    """Causal bool mask [B, 1, T, S] in which row b does not see its first ``blind[b]`` keys."""
    tokens, keys = local.query_BHTD.shape[2], local.key_BGSD.shape[2]
    causal = torch.ones(tokens, keys, dtype=torch.bool).tril(keys - tokens)
    return causal & (torch.arange(keys) >= torch.tensor(blind)[:, None, None, None])


def formula(local: LocalPart, memory: MemoryPart) -> Tensor:
    """The formula of the module's docstring, one query at a time, in float64."""
    out = torch.empty_like(local.query_BHTD, dtype=torch.float64)
    rows, heads, tokens, _ = out.shape
    keys, kept = local.key_BGSD.shape[2], memory.kv.keys_BGMD.shape[2]
    for b in range(rows):
        for h in range(heads):
            g = h // local.groups
            bias = float(memory.bias[h]) if isinstance(memory.bias, Tensor) else memory.bias
            for t in range(tokens):
                logits, values, q = [], [], local.query_BHTD[b, h, t].double()
                for m in range(kept):
                    if memory.padding_BM is None or not memory.padding_BM[b, m]:
                        near = 0.0 if memory.relevance_BM is None else memory.relevance_BM[b, m].double()
                        logits.append(q @ memory.kv.keys_BGMD[b, g, m].double() * local.scaling + bias + near)
                        values.append(memory.kv.values_BGMD[b, g, m].double())
                for s in range(keys):
                    if local.mask[b, 0, t, s] if local.mask is not None else s <= t + keys - tokens:
                        logits.append(q @ local.key_BGSD[b, g, s].double() * local.scaling)
                        values.append(local.value_BGSD[b, g, s].double())
                out[b, h, t] = torch.stack(logits).softmax(0) @ torch.stack(values)
    return out.float()


def agree(local: LocalPart, memory: MemoryPart) -> None:
    want, weights = eager(local, memory)
    torch.testing.assert_close(fused(local, memory), want, **CLOSE)
    torch.testing.assert_close(merged(local, memory)[0], want, **CLOSE)
    out, mass = merged(local, memory, per_chunk=True)
    torch.testing.assert_close(out, want, **CLOSE)
    chunks = memory.kv.keys_BGMD.shape[2] // C
    torch.testing.assert_close(mass, chunk_mass(weights, C, chunks), **CLOSE)
    assert mass is not None and mass.dtype == torch.float32
    if local.query_BHTD.shape[2] == 1:
        out, weights_BGRK = single(local, memory)
        torch.testing.assert_close(out, want, **CLOSE)
        assert weights_BGRK.dtype == torch.float32
        torch.testing.assert_close(weights_BGRK.flatten(1, 2)[:, :, None], weights, **CLOSE)


def test_eager_is_the_formula() -> None:
    local, memory = parts(0, tokens=3, cached=2, chunks=2)
    memory = replace(memory, padding_BM=padding([[4, 2], [0, 1]]), bias=torch.tensor([0.5, -1.0, 2.0, 0.0]))
    torch.testing.assert_close(eager(local, memory)[0], formula(local, memory), **CLOSE)
    masked = replace(local, mask=left_mask(local, [0, 2]))
    torch.testing.assert_close(eager(masked, memory)[0], formula(masked, memory), **CLOSE)
    graded = replace(memory, relevance_BM=relevance(2, chunks=2))
    torch.testing.assert_close(eager(local, graded)[0], formula(local, graded), **CLOSE)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=SIZES,
    lengths=LENGTHS,
    bias=st.sampled_from(["none", "number", "heads", "some heads off"]),
    blind=BLIND,
    graded=st.booleans(),
)
def test_all_agree(
    seed: int, sizes: dict[str, int], lengths: list[list[int]] | None, bias: str, blind: list[int] | None, graded: bool
) -> None:
    local, memory = parts(seed, **sizes)
    rows, heads = sizes["rows"], sizes["groups"] * sizes["shared"]
    learned = torch.randn(heads, generator=torch.Generator().manual_seed(seed))
    if bias == "some heads off":
        learned[0] = -math.inf
    memory = replace(
        memory,
        padding_BM=padding(lengths[:rows]) if lengths else None,
        bias={"none": 0.0, "number": -0.7}.get(bias, learned),
        relevance_BM=relevance(rows) if graded else None,
    )
    if blind:  # left padding: some queries may see no local key, and nothing at all where memory is empty too
        local = replace(local, mask=left_mask(local, blind[:rows]))
    agree(local, memory)


def test_a_bool_mask_and_an_additive_one_are_the_same() -> None:
    local, memory = parts(1, tokens=5, cached=2)
    mask = left_mask(local, [1, 3])
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    want, _ = eager(replace(local, mask=mask), memory)
    agree(replace(local, mask=additive), memory)
    seeing = slice(1, None)  # finfo.min is not -inf: only rows that see something are alike
    got, _ = eager(replace(local, mask=additive), memory)
    torch.testing.assert_close(got[:, :, seeing], want[:, :, seeing], **CLOSE)


def test_masks_longer_than_the_keys_are_cut() -> None:
    local, memory = parts(2)
    mask = left_mask(local, [0, 1])
    longer = torch.cat([mask, torch.ones(*mask.shape[:3], 4, dtype=torch.bool)], -1)
    torch.testing.assert_close(eager(replace(local, mask=longer), memory), eager(replace(local, mask=mask), memory))
    agree(replace(local, mask=longer), memory)


@pytest.mark.parametrize("tokens", [1, 4])
def test_minus_infinity_is_no_memory(tokens: int) -> None:
    local, memory = parts(3, tokens=tokens, cached=3)
    off = replace(memory, bias=-math.inf)
    want, _ = eager(local, None)
    for got in (eager(local, off)[0], fused(local, off), merged(local, off)[0], merged(local, off, True)[0]):
        torch.testing.assert_close(got, want, **CLOSE)
    mass = merged(local, off, True)[1]
    assert mass is not None and not mass.any()
    if tokens == 1:
        torch.testing.assert_close(single(local, off)[0], want, **CLOSE)
    all_short = replace(memory, padding_BM=torch.ones(2, 12, dtype=torch.bool))
    torch.testing.assert_close(merged(local, all_short, True)[0], want, **CLOSE)


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    local, memory = parts(4)
    local = replace(local, mask=left_mask(local, [3, 0]))
    memory = replace(memory, padding_BM=padding([[0, 0, 0], [4, 4, 4]]))
    for out in (eager(local, memory)[0], fused(local, memory), *merged(local, memory, True)):
        assert out is not None and not out[0, :, :3].any() and not out.isnan().any()


def test_more_bias_is_more_mass() -> None:
    local, memory = parts(5)
    masses = [chunk_mass(eager(local, replace(memory, bias=b))[1], C, 3).sum() for b in (-2.0, 0.0, 2.0)]
    assert masses[0] < masses[1] < masses[2]


def test_softcap_is_applied_to_local_and_memory_logits() -> None:
    local, memory = parts(6, rows=1, groups=1, shared=1, tokens=2, chunks=1)
    capped = replace(local, softcap=0.5)
    kv, q = memory.kv, local.query_BHTD
    logits = torch.cat([q @ kv.keys_BGMD.mT, q @ local.key_BGSD.mT], -1) * local.scaling
    logits = 0.5 * torch.tanh(logits / 0.5)
    logits[..., 0, -1] = -math.inf
    want = logits.softmax(-1) @ torch.cat([kv.values_BGMD, local.value_BGSD], 2)
    torch.testing.assert_close(eager(capped, memory)[0], want, **CLOSE)


def test_sinks_take_attention_and_give_nothing() -> None:
    local, memory = parts(7)
    sinks = torch.tensor([0.0, 1.0, -1.0, 30.0])
    plain, weights = eager(local, memory)
    out, with_sinks = eager(replace(local, sinks_H=sinks), memory)
    left = with_sinks.sum(-1, keepdim=True)
    assert (left < 1).all() and (left[:, 3] < 1e-6).all()
    torch.testing.assert_close(with_sinks, weights * left, **CLOSE)
    torch.testing.assert_close(out, plain * left, **CLOSE)


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_reach_everything_through_fused(tokens: int, masked: bool) -> None:
    local, memory = parts(8, tokens=tokens, cached=2)
    if masked:
        local = replace(local, mask=left_mask(local, [0, 3]))
    memory = replace(memory, padding_BM=padding([[4, 4, 2], [4, 0, 1]]), bias=torch.randn(4))
    grads = []
    for which in (lambda a, b: eager(a, b)[0], fused):
        leaves = [
            t.clone().requires_grad_()
            for t in (local.query_BHTD, local.key_BGSD, local.value_BGSD, *memory.kv, memory.bias)
        ]
        out = which(
            replace(local, query_BHTD=leaves[0], key_BGSD=leaves[1], value_BGSD=leaves[2]),
            replace(memory, kv=LayerMemory(leaves[3], leaves[4]), bias=leaves[5]),
        )
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        grads.append([leaf.grad for leaf in leaves])
    for eager_grad, fused_grad in zip(*grads, strict=True):
        assert eager_grad is not None and eager_grad.abs().max() > 1e-4
        torch.testing.assert_close(fused_grad, eager_grad, atol=5e-6, rtol=5e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near(dtype: torch.dtype) -> None:
    local, memory = parts(9, cached=2)
    memory = replace(memory, padding_BM=padding([[4, 4, 2], [4, 0, 1]]), bias=torch.randn(4))
    want, _ = eager(local, memory)
    names = ("query_BHTD", "key_BGSD", "value_BGSD")
    low = replace(local, **{name: getattr(local, name).to(dtype) for name in names})
    for out in (eager(low, memory)[0], fused(low, memory), merged(low, memory)[0], merged(low, memory, True)[0]):
        assert out.dtype == dtype
        torch.testing.assert_close(out.float(), want, atol=0.03, rtol=0.03)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_single_query_in_half_precision_is_near(dtype: torch.dtype) -> None:
    local, memory = parts(9, tokens=1, cached=5)
    low = LocalPart(*(t.to(dtype) for t in (local.query_BHTD, local.key_BGSD, local.value_BGSD)), None, local.scaling)
    out, _ = single(low, memory)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), eager(local, memory)[0], atol=0.03, rtol=0.03)


def test_dropout_falls_on_memory_too() -> None:
    local, memory = parts(10)
    torch.manual_seed(0)
    draws = torch.stack([eager(replace(local, dropout=0.5), memory)[0] for _ in range(300)])
    torch.testing.assert_close(draws.mean(0), eager(local, memory)[0], atol=0.35, rtol=0.35)
    assert draws.std(0).min() > 0


@settings(deadline=None)
@given(SIZES, LENGTHS, st.integers(0, 999), st.booleans())
def test_evidence_share_is_that_of_the_eager_weights(sizes, lengths, seed, graded):
    local, memory = parts(seed, **sizes)
    rows, heads, tokens, _ = local.query_BHTD.shape
    bias = torch.linspace(-1, 1, heads)
    memory = replace(memory, bias=bias, padding_BM=padding([[C, 1, 2]] * rows) if lengths is None else None)
    memory = replace(memory, relevance_BM=relevance(rows) if graded else None)
    draw = torch.Generator().manual_seed(seed)
    counted_BM = torch.rand(rows, 3 * C, generator=draw) < 0.8
    counted_BM[:, :1] = True
    if memory.padding_BM is not None:
        counted_BM &= ~memory.padding_BM
    evidence_BM = counted_BM & (torch.rand(rows, 3 * C, generator=draw) < 0.5)
    places_BP = torch.randint(tokens, (rows, 2), generator=draw)
    focus = EvidenceFocus(evidence_BM, counted_BM, places_BP, torch.ones_like(places_BP, dtype=torch.bool), frozenset())
    _, weights_BHTK = eager(local, memory)
    far_BHTM = weights_BHTK[..., : 3 * C]
    mass_BHT = far_BHTM.sum(dim=-1)
    shares = [(far_BHTM * chosen[:, None, None]).sum(dim=-1) for chosen in (evidence_BM, counted_BM)]
    expected_BT = (mass_BHT * shares[0] / shares[1]).sum(dim=1) / mass_BHT.sum(dim=1)
    share_BP = evidence_share(local, memory, focus)
    torch.testing.assert_close(share_BP, expected_BT.gather(1, places_BP), **CLOSE)


def test_evidence_share_teaches_the_queries_alone():
    local, memory = parts(3)
    query = local.query_BHTD.requires_grad_()
    evidence_BM = torch.zeros(2, 3 * C, dtype=torch.bool)
    evidence_BM[:, :C] = True
    places_BP = torch.tensor([[1, 2], [0, 4]])
    every = torch.ones(2, 2, dtype=torch.bool)
    focus = EvidenceFocus(evidence_BM, torch.ones_like(evidence_BM), places_BP, every, frozenset())
    before = evidence_share(local, memory, focus)
    (gradient,) = torch.autograd.grad(before.log().sum(), query)
    assert [row.any(dim=(0, 2)).tolist() for row in gradient.bool()] == [
        [False, True, True, False, False],
        [True, False, False, False, True],
    ]
    after = evidence_share(replace(local, query_BHTD=query + 0.1 * gradient), memory, focus)
    assert (after > before).all()
