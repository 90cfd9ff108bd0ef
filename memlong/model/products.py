"""Matrix products of float32 layers by oneDNN, on processors where it is faster than what torch takes by itself.

torch multiplies float32 with the BLAS it was built with. oneDNN, which comes with it and does its bfloat16 products,
reaches a tenth more on some processors and less on others; :func:`~memlong.hardware.onednn_is_faster` measures it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from memlong.hardware import onednn_is_faster, onednn_linear
from memlong.model.forwards import other_forwards

_LEAST_WEIGHTS = 128 * 128
_LEAST_ROWS = 64  # below, the weights are read once for so little work that the kernel does not matter


@contextmanager
def fast_products(model: nn.Module) -> Iterator[None]:
    """Run large float32 linear layers of ``model`` by the faster kernel, without gradients; undone afterwards.

    Re-entrant, and safe for threads that share a model: results differ in rounding alone.
    """
    if not _worthwhile(model):
        yield
        return
    with other_forwards(model, "_memlong_products", _other):
        yield


def _worthwhile(model: nn.Module) -> bool:
    first = next(model.parameters(), None)
    return first is not None and first.dtype == torch.float32 and first.device.type == "cpu" and onednn_is_faster()


def _other(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    # Not subclasses of linear layers, which multiply in ways of their own.
    if type(module) is not nn.Linear or module.weight.numel() < _LEAST_WEIGHTS:
        return None

    def forward(input: Tensor) -> Tensor:
        weight, bias = module.weight, module.bias
        plain = (
            torch.is_grad_enabled()
            or input.dtype != torch.float32
            or weight.dtype != torch.float32
            or type(weight.data) is not Tensor  # sharded over processes
            or input.device.type != "cpu"
            or input.numel() < _LEAST_ROWS * input.shape[-1]
            or torch.is_autocast_enabled("cpu")
        )
        return functional.linear(input, weight, bias) if plain else onednn_linear(input, weight, bias)

    return forward
