"""Gated layers in place: the same results, two arrays less, only where it may be, and gone afterwards."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GemmaConfig, LlamaConfig
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4MLP
from transformers.models.gemma.modeling_gemma import GemmaMLP
from transformers.models.gemma2.modeling_gemma2 import Gemma2MLP
from transformers.models.llama.modeling_llama import LlamaMLP
from transformers.models.mistral.modeling_mistral import MistralMLP
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from memlong.config import MemoryConfig
from memlong.model.gates import gates_in_place
from memlong.model.wrapper import MemoryModel

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


class _Limited(LlamaMLP):
    """As some models do: the same for small numbers."""

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x).clamp(max=7)) * self.up_proj(x))


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
        with gates_in_place(nn.Sequential(layer)), _Made() as made:
            found = layer(states)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert made.wide == arrays < before.wide
    assert "forward" not in layer.__dict__


def test_gradients_take_the_usual_way(states):
    layer = llama()
    layer(states).sum().backward()
    wanted = {name: each.grad.clone() for name, each in layer.named_parameters()}
    layer.zero_grad()
    with gates_in_place(layer):
        assert "forward" in layer.__dict__
        layer(states).sum().backward()
    torch.testing.assert_close({name: each.grad for name, each in layer.named_parameters()}, wanted)


@pytest.mark.parametrize("kind", [MistralMLP, Qwen3MLP, Gemma2MLP])
def test_layers_of_other_models_are_known_by_what_they_do(kind):
    layer = kind(LlamaConfig(**SIZES, hidden_activation="silu"))
    with gates_in_place(layer):
        assert "forward" in layer.__dict__


@pytest.mark.parametrize("kind", [_Limited, DeepseekV4MLP])
def test_what_computes_something_else_is_left_to_itself(kind, states):
    layer = kind(LlamaConfig(**SIZES, swiglu_limit=7.0))
    with torch.no_grad():
        wanted = layer(1000 * states)
        with gates_in_place(layer):
            assert "forward" not in layer.__dict__
            torch.testing.assert_close(layer(1000 * states), wanted, rtol=0, atol=0)


@pytest.mark.parametrize("watched", ["gate_proj", "up_proj", "act_fn", "down_proj"])
def test_what_others_look_at_is_left_as_it_is(watched, states):
    """An array that a hook has been given must not change afterwards, and it is given one at each pass."""
    layer, seen = llama(), []
    getattr(layer, watched).register_forward_hook(lambda module, args, out: seen.append((out, out.clone())))
    with torch.no_grad(), gates_in_place(layer):
        layer(states)
    ((kept, copied),) = seen
    torch.testing.assert_close(kept, copied, rtol=0, atol=0)


def test_threads_share_a_layer_one_of_them_with_gradients(states):
    layer, errors = llama(), []
    with torch.no_grad():
        wanted = layer(states)

    def run(learns):
        try:
            for _ in range(50):
                with torch.set_grad_enabled(learns), gates_in_place(layer):
                    found = layer(states)
                    torch.testing.assert_close(found.detach(), wanted, rtol=0, atol=0)
                    if learns:
                        torch.autograd.grad(found.sum(), [*layer.parameters()])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number == 0,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert "forward" not in layer.__dict__


def test_reading_runs_in_place(tiny_llama, tiny_tokenizer):
    memory = MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(chunk_tokens=8, window_tokens=8))
    layer, seen = memory.base.model.layers[0].mlp, []
    layer.register_forward_pre_hook(lambda module, args: seen.append("forward" in module.__dict__))
    memory.read(torch.tensor([[5, 6, 7, 8]]))
    assert seen == [True] and "forward" not in layer.__dict__


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
