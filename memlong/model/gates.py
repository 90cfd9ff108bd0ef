"""Gated feed-forward layers that multiply in place where nothing needs what they multiply.

A layer down(act(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202) makes four arrays of its inner width, the widest of
a forward pass. Two are enough, so more windows fit into the memory of one pass, and into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional

from memlong.nesting import nested

_PARTS = ("gate_proj", "up_proj", "down_proj", "act_fn")
_SAME: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


@contextmanager
def gates_in_place(model: nn.Module) -> Iterator[None]:
    """Run the gated layers of ``model`` in place, without gradients and on a CPU; undone afterwards.

    Re-entrant, and safe for threads that share a model: results are the same to the last bit. A layer that computes
    something else is left to itself; which those are is measured when each runs for the first time.
    """
    with nested(model, "_memlong_gates", lambda: _replaced(model)):
        yield


def _replaced(model: nn.Module) -> Callable[[], None]:
    layers = [module for module in model.modules() if _replaceable(module)]
    for module in layers:
        module.__dict__["forward"] = _forward(module)

    def restore() -> None:
        for module in layers:
            del module.__dict__["forward"]

    return restore


def _replaceable(module: nn.Module) -> bool:
    # Of a plain linear layer alone it is known that its result is its own, and nobody else's to read.
    if not all(hasattr(module, part) for part in _PARTS) or "forward" in module.__dict__:
        return False
    gate: Any = module.gate_proj
    if type(gate) is not nn.Linear or gate._forward_hooks or gate.weight.device.type != "cpu":
        return False
    if getattr(module.act_fn, "_forward_hooks", None):
        return False
    return _SAME.get(module, True)


def _forward(module: nn.Module) -> Callable[..., Tensor]:
    own: Callable[..., Tensor] = module.forward

    def forward(*args: Any, **kwargs: Any) -> Tensor:
        if torch.is_grad_enabled() or len(args) != 1 or kwargs or not _SAME.get(module, True):
            return own(*args, **kwargs)
        if module in _SAME:
            return _in_place(module, *args)
        found = own(*args)
        _SAME[module] = _gives(module, args[0], found)
        return found

    return forward


def _gives(module: nn.Module, states: Tensor, wanted: Tensor) -> bool:
    try:
        return torch.equal(wanted, _in_place(module, states))
    except (RuntimeError, TypeError):  # parts of other sizes, or that want more than states
        return False


def _in_place(module: Any, states: Tensor) -> Tensor:
    gate: Tensor = module.gate_proj(states)
    # As transformers and torch call x * sigmoid(x).
    if type(module.act_fn).__name__ in ("SiLU", "SiLUActivation"):
        gate = functional.silu(gate, inplace=True)
    else:
        gate = module.act_fn(gate)
    gate.mul_(module.up_proj(states))
    result: Tensor = module.down_proj(gate)
    return result


__all__ = ["gates_in_place"]
