"""Every supported architecture against the truth of its own eager attention, and clear refusals of the others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, StaticCache

from memlong.attention.context import LayerMemory, MassObserver, MemoryContext
from memlong.attention.register import bound, switched
from memlong.config import MemoryConfig
from memlong.errors import ModelError
from memlong.model.wrapper import MemoryModel, StoredKV
from tests.memlong.model.families import (
    FAMILIES,
    WINDOW,
    build,
    eager_logits,
    layer_types,
    left_padded,
    random_ids,
)

CLOSE = {"atol": 3e-5, "rtol": 3e-5}
T, C = 11, 6  # local tokens, chunk tokens: both longer than the sliding window
everywhere = pytest.mark.parametrize("family", FAMILIES)


def memory_model(model: PreTrainedModel, chunk: int = C) -> MemoryModel:
    """Store and retrieve in every layer."""
    layers = tuple(range(model.config.num_hidden_layers))
    config = MemoryConfig(stored_layers=layers, retrieval_layers=layers, chunk_tokens=chunk, window_tokens=chunk)
    return MemoryModel(model, None, config)


def rows_of(kv: StoredKV, lengths: list[list[int]], chunk: int = C) -> list[tuple[Tensor, Tensor, list[int]]]:
    """Return one (keys, values, lengths) triple a batch row; window i of ``kv`` is the i-th chunk of all."""
    rows, window = [], 0
    for row in lengths:
        keys = torch.zeros(kv.keys_SBGTD.shape[0], len(row), kv.keys_SBGTD.shape[2], chunk, kv.keys_SBGTD.shape[4])
        values = torch.zeros_like(keys)
        for index, length in enumerate(row):
            keys[:, index, :, :length], values[:, index, :, :length] = kv.piece(window, 0, length)
            window += 1
        rows.append((keys, values, row))
    return rows


def truth_mask(memory: int, tokens: int, window: int | None) -> Tensor:
    """Additive [1, 1, T, M + T]: all of memory, and causal local tokens within the sliding window."""
    query, key = torch.arange(tokens)[:, None], torch.arange(tokens)[None]
    local = (key <= query) & (True if window is None else key > query - window)
    visible = torch.cat([torch.ones(tokens, memory, dtype=torch.bool), local], dim=1)
    return torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)[None, None]


def truth_masks(family: str, layers: int, memory: int, tokens: int) -> Any:
    """Return what the model takes as 4-D mask: one for all layers, or one for each type of layer."""
    masks = {
        "full_attention": truth_mask(memory, tokens, None),
        "sliding_attention": truth_mask(memory, tokens, WINDOW),
    }
    types = layer_types(family, layers)
    return masks[types[0]] if len(set(types)) == 1 else masks


def filled_cache(memory: MemoryContext, layers: int) -> DynamicCache:
    """Return a cache that begins with memory, for the model's own attention to concatenate."""
    cache = DynamicCache()
    for layer in range(layers):
        cache.update(*memory.layers[layer], layer)
    return cache


@everywhere
@pytest.mark.parametrize("padded", [False, True])
def test_without_memory_logits_equal_the_models_own(family: str, padded: bool) -> None:
    model = build(family)
    ids, mask = left_padded(random_ids(2, T), [T, T - 4] if padded else [T, T])
    positions = (mask.cumsum(1) - 1).clamp(min=0) + 1
    kwargs = {"attention_mask": mask if padded else None, "position_ids": positions}
    want = eager_logits(model, ids, **kwargs)
    empty = torch.zeros(3, 0, *_heads(model)[:1], C, _heads(model)[1])
    no_chunks = memory_model(model).stack_memory([(empty, empty, [])] * 2)
    for memory in (None, no_chunks):
        with torch.no_grad(), switched(model), bound(memory):
            got = model(input_ids=ids, use_cache=False, **kwargs).logits
        torch.testing.assert_close(got[mask.bool()], want[mask.bool()], **CLOSE)
        assert not got.isnan().any()


def _heads(model: PreTrainedModel) -> tuple[int, int]:
    spec = memory_model(model).spec
    return spec.kv_heads, spec.head_dim


@everywhere
def test_memory_equals_one_stock_forward_with_memory_at_position_zero(family: str) -> None:
    """In one layer K-V depend on the token alone, so stock attention over [memory ; local] is the truth."""
    model = build(family, layers=1)
    wrapped = memory_model(model)
    chunks, ids = random_ids(2, C, seed=1), random_ids(1, T)
    got = wrapped.forward(ids, wrapped.stack_memory(rows_of(wrapped.read(chunks), [[C, C]]))).logits
    rotary = wrapped.spec.rotary
    before = [0] * (2 * C) if rotary else [*range(C), *range(C)]
    positions = torch.tensor([before + [position + rotary for position in range(T)]])
    mask = truth_masks(family, 1, 2 * C, T)
    blind = torch.zeros(1, 1, 2 * C, 2 * C + T)  # what memory tokens see changes no logit of a local token
    whole = torch.cat([chunks.view(1, -1), ids], 1)
    want = eager_logits(model, whole, position_ids=positions, attention_mask=torch.cat([blind, mask], 2))[:, -T:]
    torch.testing.assert_close(got, want, **CLOSE)
    assert (wrapped.forward(ids).logits - want).abs().max() > 1e-2


@everywhere
def test_memory_in_all_layers_equals_stock_attention_over_a_cache(family: str) -> None:
    """The model's own attention, given memory as its cache and the mask of the formula, is the truth at any depth."""
    model = build(family)
    wrapped = memory_model(model)
    memory = wrapped.stack_memory(rows_of(wrapped.read(random_ids(2, C, seed=1)), [[C, C]]))
    ids = random_ids(1, T)
    positions = torch.arange(T)[None] + int(wrapped.spec.rotary)
    want = eager_logits(
        model, ids, position_ids=positions, attention_mask=truth_masks(family, 3, 2 * C, T),
        past_key_values=filled_cache(memory, 3), use_cache=True,
    )  # fmt: skip
    torch.testing.assert_close(wrapped.forward(ids, memory).logits, want, **CLOSE)
    observed = wrapped.stack_memory(rows_of(wrapped.read(random_ids(2, C, seed=1)), [[C, C]]), observer=MassObserver())
    torch.testing.assert_close(wrapped.forward(ids, observed).logits, want, **CLOSE)
    assert (wrapped.forward(ids).logits - want).abs().max() > 1e-2


@everywhere
def test_stored_keys_are_the_modules_own_at_position_zero(family: str) -> None:
    model = build(family)
    wrapped = memory_model(model)
    ids = random_ids(2, T)
    rotary = wrapped.spec.rotary
    seen: dict[int, dict[str, Any]] = {}
    zero: dict[int, Any] = {}

    def record(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if running_at_zero:
            zero[module.layer_idx] = kwargs.get("position_embeddings")
        else:
            seen[module.layer_idx] = kwargs | ({"hidden_states": args[0]} if args else {})

    handles = [m.register_forward_pre_hook(record, with_kwargs=True) for m in wrapped.spec.attention.values()]
    try:
        running_at_zero = False
        eager_logits(model, ids, position_ids=torch.arange(T)[None] + int(rotary))
        running_at_zero = True
        eager_logits(model, ids, position_ids=torch.zeros(1, T, dtype=torch.long))
    finally:
        for handle in handles:
            handle.remove()
    kv = wrapped.read(ids)
    for layer, module in wrapped.spec.attention.items():
        cache = DynamicCache()
        name = "layer_past" if "layer_past" in seen[layer] else "past_key_values"  # GPT-NeoX has its own word
        again = {**seen[layer], name: cache, "attention_mask": None}
        if rotary:
            again["position_embeddings"] = zero[layer]
        with torch.no_grad():
            module(**again)
        held = cache.layers[layer]
        torch.testing.assert_close(kv.keys_SBGTD[layer], held.keys, **CLOSE)
        torch.testing.assert_close(kv.values_SBGTD[layer], held.values, **CLOSE)


@everywhere
def test_left_padded_rows_with_other_chunks_equal_rows_alone(family: str) -> None:
    """Rows of a batch differ in length, number of chunks and chunk lengths; one has no chunk at all."""
    model = build(family)
    wrapped = memory_model(model)
    lengths, tokens = [[C, 2], [3], []], [T, T - 4, T - 7]
    chunks, chunk_mask = random_ids(3, C, seed=1), torch.tensor([[1] * C, [1] * 2 + [0] * (C - 2), [1] * 3 + [0] * 3])
    rows = rows_of(wrapped.read(chunks * chunk_mask, chunk_mask), lengths)
    ids, mask = left_padded(random_ids(3, T), tokens)
    for observer in (None, MassObserver()):
        together = wrapped.forward(ids, wrapped.stack_memory(rows, observer=observer), attention_mask=mask).logits
        assert not together.isnan().any()
        for row, length in enumerate(tokens):
            alone = wrapped.forward(ids[row : row + 1, -length:], wrapped.stack_memory([rows[row]])).logits
            torch.testing.assert_close(together[row, -length:], alone[0], **CLOSE)
    kv = wrapped.read(chunks * chunk_mask, chunk_mask)
    for window, length in enumerate((C, 2, 3)):  # right-padded windows are stored as if they were alone
        alone_kv = wrapped.read(chunks[window : window + 1, :length])
        torch.testing.assert_close(kv.piece(window, 0, length), alone_kv.piece(0, 0, length), **CLOSE)


@everywhere
@pytest.mark.parametrize("kind", ["plain", "own", "static"])
def test_cached_steps_equal_the_whole_sequence(family: str, kind: str) -> None:
    model = build(family)
    wrapped = memory_model(model)
    memory = wrapped.stack_memory(rows_of(wrapped.read(random_ids(4, C, seed=1)), [[C, 4], [5, C]]))
    ids, mask = left_padded(random_ids(2, T), [T, T - 2])
    whole = wrapped.forward(ids, memory, attention_mask=mask).logits
    if kind == "static":
        cache: Any = StaticCache(config=model.config, max_cache_len=T + 3)
    else:
        cache = DynamicCache(config=model.config) if kind == "own" else DynamicCache()
    done, parts = 0, []
    for size in (6, 3, 1, 1):
        step = ids[:, done : done + size]
        seen = mask[:, : done + size]
        out = wrapped.forward(step, memory, attention_mask=seen, past_key_values=cache, start=done)
        parts.append(out.logits)
        done += size
    torch.testing.assert_close(torch.cat(parts, 1)[mask.bool()], whole[mask.bool()], **CLOSE)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "mistral"])
def test_cached_steps_without_padding_count_positions_from_start(family: str) -> None:
    model = build(family)
    wrapped = memory_model(model)
    memory = wrapped.stack_memory(rows_of(wrapped.read(random_ids(1, C, seed=1)), [[C]]))
    ids = random_ids(1, T)
    whole = wrapped.forward(ids, memory).logits
    for cache in (DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=T + 3)):
        first = wrapped.forward(ids[:, :7], memory, past_key_values=cache).logits
        second = wrapped.forward(ids[:, 7:10], memory, past_key_values=cache, start=7).logits
        last = wrapped.forward(ids[:, 10:], memory, past_key_values=cache, start=10).logits
        torch.testing.assert_close(torch.cat([first, second, last], 1), whole, **CLOSE)


def small(stem: str, **settings: Any) -> PreTrainedModel:
    config = getattr(transformers, f"{stem}Config")(**settings)
    return transformers.AutoModelForCausalLM.from_config(config)


REFUSED = {
    "bloom": (lambda: small("Bloom", hidden_size=32, n_layer=2, n_head=4, vocab_size=64), "attention interface"),
    "falcon": (
        lambda: small("Falcon", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=64),
        "attention interface",
    ),
    "gptj": (
        lambda: small("GPTJ", n_embd=32, n_layer=2, n_head=4, rotary_dim=4, vocab_size=64), "attention interface",
    ),
    "mamba": (lambda: small("Mamba", hidden_size=32, num_hidden_layers=2, vocab_size=64), "attention modules for 0"),
    "bert": (
        lambda: small("Bert", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=64),
        "inside its attention",
    ),
    "deepseek": (
        lambda: small(
            "DeepseekV2", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
            vocab_size=64, kv_lora_rank=8, q_lora_rank=None, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=8,
            intermediate_size=48, moe_intermediate_size=16, first_k_dense_replace=2,
        ),
        "latent attention",
    ),
    "doge": (
        lambda: small(
            "Doge", hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, vocab_size=64,
            intermediate_size=48,
        ),
        "mask computed from the values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_supported_is_refused_at_once(name: str) -> None:
    make, reason = REFUSED[name]
    with pytest.raises(ModelError, match=reason) as error:
        MemoryModel(make(), None)
    assert error.value.given and error.value.allowed and error.value.do


def test_encoder_decoders_are_refused() -> None:
    config = transformers.T5Config(d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=64)
    with pytest.raises(ModelError, match="encoder-decoder"):
        MemoryModel(transformers.T5ForConditionalGeneration(config), None)


def test_other_objects_are_refused() -> None:
    with pytest.raises(ModelError, match="not a transformers model"):
        MemoryModel(torch.nn.Linear(2, 2), None)


@pytest.mark.parametrize("extra", ["position_bias", "indices", "head_mask"])
def test_unknown_extras_are_refused(extra: str) -> None:
    model = build("llama")
    wrapped = memory_model(model)
    memory = wrapped.stack_memory(rows_of(wrapped.read(random_ids(1, C)), [[C]]))
    with pytest.raises(ModelError, match=extra):
        wrapped.forward(random_ids(1, T), memory, **{extra: torch.ones(1)})
    torch.testing.assert_close(wrapped.forward(random_ids(1, T), memory, **{extra: None}).logits,
                               wrapped.forward(random_ids(1, T), memory).logits)  # fmt: skip


def test_layers_of_other_head_sizes_are_refused() -> None:
    wrapped = memory_model(build("llama"))
    object.__setattr__(wrapped.spec, "head_dim", 4)
    with pytest.raises(ModelError, match="2 heads of 8"):
        wrapped.read(random_ids(1, C))


def test_an_attention_that_looks_both_ways_is_refused() -> None:
    model = build("llama", layers=1)
    wrapped = memory_model(model)
    module = wrapped.spec.attention[0]
    memory = MemoryContext({0: LayerMemory(torch.ones(1, 2, C, 8), torch.ones(1, 2, C, 8))}, C)
    module.is_causal = False
    try:
        with pytest.raises(ModelError, match="not causal"):
            wrapped.forward(random_ids(1, T), memory)
    finally:
        module.is_causal = True
