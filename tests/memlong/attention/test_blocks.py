"""Attention in blocks against the same formula in one piece, and where it must not be used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from memlong.attention import blocks


def states(tokens: int, dtype: torch.dtype = torch.bfloat16, batch: int = 3, kv_heads: int = 2) -> list[Tensor]:
    """Query, key and value as a model hands them over: heads are a view of what is laid out by token."""
    made = torch.Generator().manual_seed(tokens)
    return [
        torch.randn(batch, tokens, heads, 16, generator=made).to(dtype).transpose(1, 2)
        for heads in (6, kv_heads, kv_heads)
    ]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "faster", lambda dtype: True)


@pytest.mark.parametrize("kv_heads", [1, 2, 6])
@pytest.mark.parametrize("tokens", [128, 130, 191, 257])
def test_blocks_give_what_one_piece_gives(tokens: int, kv_heads: int) -> None:
    query, key, value = states(tokens, kv_heads=kv_heads)
    wanted = functional.scaled_dot_product_attention(
        query.float(), key.float(), value.float(), is_causal=True, scale=0.3, enable_gqa=True
    )
    found = blocks.causal(query, key, value, 0.3)
    assert found.dtype == torch.bfloat16 and found.is_contiguous()
    # As near as the kernel itself comes in this type.
    torch.testing.assert_close(found.float(), wanted.transpose(1, 2), atol=0.02, rtol=0.02)


def test_it_serves_whole_windows_of_short_numbers_without_a_gradient() -> None:
    assert blocks.serves(*states(128)) and blocks.serves(*states(128, torch.float16))
    assert not blocks.serves(*states(128, torch.float32)), "there the kernel is as fast"
    assert not blocks.serves(*states(64)), "too little to gain"
    query, key, value = states(128)
    longer = states(192)
    assert not blocks.serves(query, *longer[1:]), "queries at the end of more keys"
    assert not blocks.serves(query, key, value[..., :8])
    with torch.autocast("cpu"):
        assert not blocks.serves(query, key, value)
    query.requires_grad_()
    assert not blocks.serves(query, key, value)
    with torch.no_grad():
        assert blocks.serves(query, key, value)


def test_a_reading_model_takes_it_and_reads_the_same(tiny_llama, tiny_tokenizer, monkeypatch) -> None:
    from memlong.config import MemoryConfig
    from memlong.model.wrapper import MemoryModel

    settings = MemoryConfig(chunk_tokens=64, window_tokens=192, capacity_tokens=384, stored_layers=(3,))
    model = MemoryModel(tiny_llama(layers=4).to(torch.bfloat16), tiny_tokenizer, settings)
    ids = torch.randint(3, 60, (3, 192), generator=torch.Generator().manual_seed(0))
    calls: list[int] = []
    causal = blocks.causal
    monkeypatch.setattr(blocks, "causal", lambda *states: calls.append(1) or causal(*states))
    found = model.read(ids)
    assert len(calls) == 3, "the stored layer's own attention is not run"
    monkeypatch.setattr(blocks, "faster", lambda dtype: False)
    wanted = model.read(ids)
    assert len(calls) == 3
    exact = MemoryModel(model.model.float(), tiny_tokenizer, settings).read(ids)
    for name in ("keys_SBGTD", "values_SBGTD"):
        mine, kernel = ((getattr(kv, name) - getattr(exact, name)).float().std() for kv in (found, wanted))
        assert mine < 1.2 * kernel < 0.1, "rounding alone"


def test_it_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    blocks.faster.cache_clear()
    clock = iter(t for _ in range(7) for t in (0.0, 3.0, 3.0, 5.0))  # the kernel takes 3, blocks 2
    monkeypatch.setattr(blocks, "thread_time", lambda: next(clock))
    assert blocks.faster(torch.bfloat16)
    blocks.faster.cache_clear()
    clock = iter(t for _ in range(7) for t in (0.0, 3.0, 3.0, 5.9))
    assert not blocks.faster(torch.bfloat16)
    blocks.faster.cache_clear()
