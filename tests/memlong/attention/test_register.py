"""Switching a model's attention, and giving everything back."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, LlamaForCausalLM

from memlong.attention.context import LayerMemory, MassObserver, MemoryContext, ReadCapture, Weights
from memlong.attention.register import NAME, bound, bound_memory, register, switched


@pytest.fixture
def model(tiny_llama: Callable[..., LlamaForCausalLM]) -> LlamaForCausalLM:
    return tiny_llama(layers=2, hidden=32, vocab=64)


def test_attention_and_mask_are_registered_together() -> None:
    register()
    register()
    assert NAME in AttentionInterface().valid_keys() and NAME in AttentionMaskInterface().valid_keys()


@pytest.mark.parametrize("own", ["sdpa", "eager"])
def test_own_attention_is_back_afterwards(model: LlamaForCausalLM, own: str) -> None:
    model.set_attn_implementation(own)
    with switched(model):
        assert model.config._attn_implementation == NAME
        with switched(model):
            assert model.config._attn_implementation == NAME
        assert model.config._attn_implementation == NAME
    assert model.config._attn_implementation == own


def test_own_attention_is_back_after_an_error(model: LlamaForCausalLM) -> None:
    own = model.config._attn_implementation
    with pytest.raises(KeyError), switched(model), bound(ReadCapture((0,))):
        raise KeyError
    assert model.config._attn_implementation == own and bound_memory() is None


def test_the_last_of_two_threads_restores(model: LlamaForCausalLM) -> None:
    own, inside, leave = model.config._attn_implementation, threading.Event(), threading.Event()

    def other() -> None:
        with switched(model):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with switched(model):
        thread.start()
        inside.wait()
    assert model.config._attn_implementation == NAME
    leave.set()
    thread.join()
    assert model.config._attn_implementation == own


def test_what_is_bound_is_seen_on_this_thread_alone() -> None:
    seen: list[object] = []
    outer, inner = ReadCapture((0,)), ReadCapture((1,))
    with bound(outer):
        with bound(inner):
            assert bound_memory() is inner
        assert bound_memory() is outer
        thread = threading.Thread(target=lambda: seen.append(bound_memory()))
        thread.start()
        thread.join()
    assert seen == [None] and bound_memory() is None


def test_observer_keeps_the_last_row_or_all_and_joins_passes() -> None:
    for last_only, tokens in ((True, 1), (False, 3)):
        observer = MassObserver(last_only=last_only)
        mass = torch.rand(1, 2, tokens, 4)
        observer.record(5, mass)
        observer.record(5, mass + 1)
        taken = observer.take()
        assert list(taken) == [5] and torch.equal(taken[5], torch.cat([mass, mass + 1], 2))
        assert observer.take() == {}


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(
    "kind", ["tokens", "chunks", "some of both", "chunks of two lengths", "windows of two lengths"]
)
def test_observer_sums_the_weights_of_each_chunk(kind, passes) -> None:
    observer, last, want = MassObserver(), MassObserver(), {}
    for layer in (2, 5, 7):
        other = layer == 5
        for _ in range(passes):
            weights = torch.rand(2, 2, 3, 12 + (3 if kind == "windows of two lengths" and other else 5))
            size = 6 if kind == "chunks of two lengths" and other else 4
            mass = weights[..., :12].unflatten(-1, (-1, size)).sum(-1).reshape(2, 6, 1, -1)
            summed = kind == "chunks" or (kind == "some of both" and other)
            for each in (observer, last):
                each.record(layer, mass if summed else Weights(weights, 12, size))
            want.setdefault(layer, []).append(mass)
    taken = observer.take()
    assert list(taken) == [2, 5, 7]
    for layer, masses in want.items():
        torch.testing.assert_close(taken[layer], torch.cat(masses, dim=2))
    assert observer.take() == {}
    if kind != "chunks of two lengths":  # no memory has such
        found = last.take_last()
        assert found is not None and found.layers == (2, 5, 7)
        torch.testing.assert_close(found.mass_LHN, torch.stack([masses[-1][0, :, -1] for masses in want.values()]))
        assert last.take_last() is None and last.take() == {}


def test_observer_takes_the_last_row_of_many() -> None:
    observer, mass = MassObserver(last_only=False), torch.rand(2, 6, 3, 4)
    observer.record(5, mass)
    found = observer.take_last()
    assert found is not None and torch.equal(found.mass_LHN, mass[:1, :, -1])


def test_layer_bias_adds_the_strength() -> None:
    kv = LayerMemory(torch.zeros(1, 1, 4, 2), torch.zeros(1, 1, 4, 2))
    context = MemoryContext({1: kv, 2: kv}, 4, bias={1: torch.tensor([1.0, 2.0])}, strength=0.5)
    assert torch.equal(torch.as_tensor(context.layer_bias(1)), torch.tensor([1.5, 2.5]))
    assert context.layer_bias(2) == 0.5
