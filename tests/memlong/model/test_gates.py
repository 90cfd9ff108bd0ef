"""Gated layers in place: the same results, two arrays less, only where it may be, and gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GemmaConfig, LlamaConfig
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.llama.modeling_llama import LlamaMLP

from memlong.model.gates import gates_in_place

WIDE = 48
SIZES = {"hidden_size": 16, "intermediate_size": WIDE, "num_attention_heads": 2, "num_key_value_heads": 2}


class _Made(TorchDispatchMode):
    """Counts the wide arrays that operations make anew."""

    def __init__(self):
        super().__init__()
        self.wide = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = {item.data_ptr() for item in args if isinstance(item, torch.Tensor)}
        self.wide += isinstance(found, torch.Tensor) and found.shape[-1] == WIDE and found.data_ptr() not in given
        return found


class _Other(LlamaMLP):
    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) + self.up_proj(x))


class _Halves(LlamaMLP):
    """Whose parts do not fit together as those of a gated layer."""

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)))


class _WantsMore(LlamaMLP):
    def forward(self, x, residual):
        return residual + super().forward(x)


@pytest.fixture
def states():
    torch.manual_seed(0)
    return torch.randn(2, 5, 16)


def llama(dtype=torch.float32, kind=LlamaMLP):
    torch.manual_seed(1)
    return kind(LlamaConfig(**SIZES)).to(dtype)


def gemma(dtype=torch.float32):
    torch.manual_seed(1)
    return GemmaMLP(GemmaConfig(**SIZES)).to(dtype)


@pytest.mark.parametrize(("make", "arrays"), [(llama, 2), (gemma, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_results_are_the_same_and_fewer_arrays_are_made(make, arrays, dtype, states):
    layer, states = make(dtype), states.to(dtype)
    with torch.no_grad():
        with _Made() as before:
            wanted = layer(states)
        with gates_in_place(nn.Sequential(layer)):
            first = layer(states)
            with _Made() as made:
                found = layer(states)
    torch.testing.assert_close(first, wanted, rtol=0, atol=0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert made.wide == arrays < before.wide
    assert "forward" not in layer.__dict__


def test_gradients_take_the_usual_way(states):
    layer = llama()
    layer(states).sum().backward()
    wanted = layer.gate_proj.weight.grad.clone()
    layer.zero_grad()
    with gates_in_place(layer):
        layer(states).sum().backward()
    torch.testing.assert_close(layer.gate_proj.weight.grad, wanted)


def test_what_computes_something_else_is_left_to_itself(states):
    other, wants_more, halves = llama(kind=_Other), llama(kind=_WantsMore), llama(kind=_Halves)
    halves.up_proj = nn.Linear(16, 3)
    with torch.no_grad():
        wanted = other(states), wants_more(states, states), halves(states)
        for _ in range(2):
            with gates_in_place(nn.Sequential(other, wants_more, halves)):
                found = other(states), wants_more(states, states), halves(states)
            torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        with gates_in_place(other):
            assert "forward" not in other.__dict__  # known by now


def test_what_others_look_at_is_left_as_it_is(states):
    """An array that a hook has been given must not change afterwards."""
    seen = []
    for watched in ("gate_proj", "act_fn"):
        layer = llama()
        getattr(layer, watched).register_forward_hook(lambda module, args, out: seen.append((out, out.clone())))
        with torch.no_grad(), gates_in_place(layer):
            layer(states)
    assert len(seen) == 2
    for kept, copied in seen:
        torch.testing.assert_close(kept, copied, rtol=0, atol=0)


def test_what_it_multiplies_may_be_somebody_elses(states):
    layer = llama()
    layer.gate_proj = nn.Identity()
    with torch.no_grad(), gates_in_place(layer):
        assert "forward" not in layer.__dict__


def test_it_is_undone_after_an_error(states):
    layer = llama()

    def broken():
        with gates_in_place(layer), gates_in_place(layer):
            assert "forward" in layer.__dict__
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert "forward" not in layer.__dict__
