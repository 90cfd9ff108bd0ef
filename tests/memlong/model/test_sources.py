"""From stored K-V to what each retrieval layer reads: presets equal one another where they must, and the formula."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from memlong import cli
from memlong.config import PRESETS, MemoryConfig
from memlong.errors import ModelError
from memlong.model.sources import KVMaps, expand, features, unfold
from memlong.model.wrapper import MemoryModel
from tests.memlong.model.plain_llama import plain_forward

LAYERS, C = 6, 8
Build = Callable[..., LlamaForCausalLM]


def wrap(model: LlamaForCausalLM, maps: str = "random", **settings: Any) -> MemoryModel:
    """Return the model with random maps (nearly the identity), identity maps, or none."""
    wrapped = MemoryModel(model, None, MemoryConfig(chunk_tokens=C, window_tokens=C, **settings))
    if maps != "none":
        wrapped.maps = KVMaps(wrapped.layout, wrapped.spec.kv_heads, wrapped.spec.head_dim).requires_grad_(False)
    if maps == "random":
        torch.manual_seed(1)
        for parameter in wrapped.maps.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return wrapped


@pytest.fixture
def model(tiny_llama: Build) -> LlamaForCausalLM:
    return tiny_llama(layers=LAYERS, hidden=32, vocab=64).requires_grad_(False)


def ids(tokens: int, seed: int) -> Tensor:
    return torch.randint(3, 64, (1, tokens), generator=torch.Generator().manual_seed(seed))


def logits(wrapped: MemoryModel, lengths: tuple[int, ...] = (C, C - 3)) -> Tensor:
    """Read two chunks, the second one short, and answer with both."""
    stored = [wrapped.read(ids(length, seed)) for seed, length in enumerate(lengths)]
    shape = (len(wrapped.layout.stored_layers), len(lengths), wrapped.spec.kv_heads, C, wrapped.spec.head_dim)
    keys, values = torch.zeros(shape), torch.zeros(shape)
    for index, (kv, length) in enumerate(zip(stored, lengths, strict=True)):
        keys[:, index, :, :length], values[:, index, :, :length] = kv.piece(0, 0, length)
    return wrapped.forward(ids(9, 7), wrapped.memory(keys, values, lengths)).logits


def test_features_fold_and_unfold() -> None:
    keys, values = torch.randn(3, 2, C, 4), torch.randn(3, 2, C, 4)
    flat = features(keys, values)
    assert flat.shape == (3 * C, 16)
    # Token 1 of chunk 2: its keys of head 0 and 1, then its values of head 0 and 1.
    want = torch.cat([keys[2, 0, 1], keys[2, 1, 1], values[2, 0, 1], values[2, 1, 1]])
    assert torch.equal(flat[2 * C + 1], want)
    for got, original in zip(unfold(flat, C, 2), (keys, values), strict=True):
        assert torch.equal(got, original)


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_equals_the_formula(model: LlamaForCausalLM, preset: str) -> None:
    """A plain forward, written out: K-V of each chunk by itself, mapped, before the local keys in one softmax."""
    settings: dict[str, Any] = {
        "own": {"stored_layers": (1, 3, 5)},
        "paper": {"stored_layers": (2,), "retrieval_layers": (2, 4, 5)},
        "projected": {"stored_layers": (1,), "retrieval_layers": (2, 3, 5)},
        "interpolated": {"stored_layers": (1, 4), "retrieval_layers": (1, 2, 3, 4, 5)},
    }[preset]
    wrapped = wrap(model, preset=preset, **settings)
    chunks = [plain_forward(model, ids(length, seed)[0]).kv for seed, length in enumerate((C, C - 3))]
    stored = {
        layer: tuple(torch.cat([chunk[layer][part] for chunk in chunks], 1) for part in (0, 1))
        for layer in wrapped.layout.stored_layers
    }
    flat = {layer: torch.cat([part.transpose(0, 1).flatten(1) for part in kv], -1) for layer, kv in stored.items()}
    memory: dict[int, Any] = {}
    for layer in wrapped.layout.retrieval_layers:
        below = max(s for s in stored if s <= layer)
        above = min((s for s in stored if s >= layer), default=below)
        if preset in ("own", "paper"):
            memory[layer] = stored[below]
        elif layer in stored:
            memory[layer] = stored[layer]
        else:
            pair = [below] if preset == "projected" else sorted({below, above})
            weight, bias = wrapped.maps.weight[str(layer)], wrapped.maps.bias[str(layer)]
            mapped = torch.cat([flat[s] for s in pair], -1) @ weight + bias
            memory[layer] = tuple(
                half.unflatten(-1, (wrapped.spec.kv_heads, -1)).transpose(0, 1) for half in mapped.chunk(2, -1)
            )
    want = plain_forward(model, ids(9, 7)[0], memory).logits
    torch.testing.assert_close(logits(wrapped)[0], want, atol=3e-5, rtol=3e-5)


def test_identity_maps_read_what_paper_reads(model: LlamaForCausalLM) -> None:
    layers = {"stored_layers": (1,), "retrieval_layers": (2, 4, 5)}
    paper = wrap(model, "none", preset="paper", **layers)
    projected = wrap(model, "identity", preset="projected", **layers)
    torch.testing.assert_close(logits(projected), logits(paper))
    assert (logits(wrap(model, preset="projected", **layers)) - logits(paper)).abs().max() > 1e-3


def test_interpolated_with_every_layer_stored_is_own(model: LlamaForCausalLM) -> None:
    every = tuple(range(1, LAYERS))
    own = wrap(model, "none", preset="own", stored_layers=every)
    interpolated = wrap(model, "none", preset="interpolated", stored_layers=every, retrieval_layers=every)
    torch.testing.assert_close(logits(interpolated), logits(own))


def test_own_with_one_layer_is_paper_with_that_layer(model: LlamaForCausalLM) -> None:
    layers = {"stored_layers": (3,), "retrieval_layers": (3,)}
    torch.testing.assert_close(
        logits(wrap(model, "none", **layers)), logits(wrap(model, "none", preset="paper", **layers))
    )


def test_unfitted_maps_are_the_mean_of_their_sources(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model, "identity", preset="interpolated", stored_layers=(1, 4), retrieval_layers=(1, 2, 4))
    keys, values = torch.randn(2, 3, 2, C, 8), torch.randn(2, 3, 2, C, 8)
    key, value = expand(wrapped.layout, wrapped.maps, keys, values)[2]
    torch.testing.assert_close(key, keys.mean(0))
    torch.testing.assert_close(value, values.mean(0))


@pytest.mark.parametrize("preset", ["projected", "interpolated"])
def test_a_row_that_retrieved_nothing_reads_nothing(model: LlamaForCausalLM, preset: str) -> None:
    """A document's first window has nothing to retrieve, in one batch with later ones that have."""
    stored = {"projected": (1,), "interpolated": (1, 4)}[preset]
    wrapped = wrap(model, preset=preset, stored_layers=stored, retrieval_layers=(2, 3, 5))
    shape = (len(stored), 2, wrapped.spec.kv_heads, C, wrapped.spec.head_dim)
    none, some = torch.zeros(shape)[:, :0], torch.randn(shape)
    for key, value in expand(wrapped.layout, wrapped.maps, none, none).values():
        assert key.shape == value.shape == (0, *shape[2:])
    text = torch.cat([ids(9, 7), ids(9, 8)])
    both = wrapped.forward(text, wrapped.stack_memory([(none, none, []), (some, some, [C, C])])).logits
    torch.testing.assert_close(both[0], wrapped.forward(text[:1]).logits[0], atol=3e-5, rtol=3e-5)
    alone = wrapped.forward(text[1:], wrapped.memory(some, some, [C, C])).logits
    torch.testing.assert_close(both[1], alone[0], atol=3e-5, rtol=3e-5)


def test_gradients_reach_the_maps(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model, preset="interpolated", stored_layers=(1, 4), retrieval_layers=(1, 2, 3, 4, 5))
    wrapped.maps.requires_grad_(True)
    logits(wrapped).square().sum().backward()
    assert {name for name, p in wrapped.maps.named_parameters() if p.grad is not None and p.grad.any()} == {
        f"{kind}.{layer}" for kind in ("weight", "bias") for layer in (2, 3, 5)
    }


def test_maps_work_in_the_type_of_what_was_retrieved(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model, preset="projected", stored_layers=(1,), retrieval_layers=(2,))
    keys, values = torch.randn(1, 2, 2, C, 8), torch.randn(1, 2, 2, C, 8)
    want = expand(wrapped.layout, wrapped.maps, keys, values)[2]
    got = expand(wrapped.layout, wrapped.maps, keys.bfloat16(), values.bfloat16())[2]
    assert got[0].dtype == torch.bfloat16
    torch.testing.assert_close(got[0].float(), want[0], atol=0.05, rtol=0.05)


def test_missing_maps_are_refused(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model, "none", preset="projected", stored_layers=(1,), retrieval_layers=(2, 3))
    with pytest.raises(ModelError, match=r"\[2, 3\] read mapped K-V, and there are no maps") as refused:
        logits(wrapped)
    command = refused.value.do.split("`")[1].removeprefix("python -m memlong ")
    assert cli._parser().parse_args(command.split()).out == "maps/", "what it says can be typed"
    other = wrap(model, preset="projected", stored_layers=(1,), retrieval_layers=(3,))
    wrapped.maps = other.maps
    with pytest.raises(ModelError, match=r"\[2\] read mapped K-V"):
        logits(wrapped)
