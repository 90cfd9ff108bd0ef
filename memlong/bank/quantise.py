"""Symmetric int8 with one scale for each token of each head: outliers of one token do not blur another.

Shapes: ... any leading axes, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor


def quantise(states_D: Tensor, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (int8 [..., D], scale [...]) with ``states ~ int8 * scale``.

    The scale is max|x| / 127, rounded to its type before it is used, so its own rounding costs nothing. The
    error of every number is at most half a scale; in float16 scales below 6e-5 (max|x| < 0.0078) become 6e-5.
    """
    wide = states_D.float()
    scale = wide.abs().amax(dim=-1) / 127.0
    limits = torch.finfo(scale_dtype)
    scale = scale.clamp(limits.tiny, limits.max).to(scale_dtype)
    steps = torch.round(wide / scale.float().unsqueeze(-1))
    return steps.clamp_(-127, 127).to(torch.int8), scale


def dequantise(int8_D: Tensor, scale: Tensor, out_dtype: torch.dtype) -> Tensor:
    """Return ``int8 * scale`` in ``out_dtype``; multiplied in float32 and rounded once."""
    return (int8_D.float() * scale.float().unsqueeze(-1)).to(out_dtype)
