"""Numbers in eight or four bits with scales for each token of each head: outliers of one token do not blur another.

Shapes: ... any leading axes, D head size.
"""

from __future__ import annotations

import torch
from torch import Tensor

NIBBLE = 15  # the largest number of four bits


def quantise(states_D: Tensor, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (int8 [..., D], scale [...]) with ``states ~ int8 * scale``.

    The scale is max|x| / 127, rounded to its type before it is used, so its own rounding costs nothing. The
    error of every number is at most half a scale; in float16 scales below 6e-5 (max|x| < 0.0078) become 6e-5.
    """
    wide = states_D.float()
    largest = torch.maximum(wide.amax(dim=-1), wide.amin(dim=-1).neg_())
    limits = torch.finfo(scale_dtype)
    scale = largest.div_(127.0).clamp_(limits.tiny, limits.max).to(scale_dtype)
    steps = torch.div(wide, scale.float().unsqueeze(-1)).round_()
    return steps.clamp_(-127, 127).to(torch.int8), scale


def dequantise(int8_D: Tensor, scale: Tensor, out_dtype: torch.dtype) -> Tensor:
    """Return ``int8 * scale`` in ``out_dtype``; multiplied in float32 and rounded once."""
    return (int8_D.float() * scale.float().unsqueeze(-1)).to(out_dtype)


def quantise_nibbles(states_D: Tensor, scale_dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return (uint8 [..., D/2], scale [...], lowest [...]) with ``states ~ number * scale + lowest``, numbers 0 to 15.

    Number j shares its byte with number j + D/2: low bits and high bits. The scale is the token's range / 15; both are
    rounded to their type before they are used. The error is at most half a scale, and what rounding of ``lowest`` cuts
    off at either end.
    """
    wide = states_D.float()
    low, high = wide.amin(dim=-1), wide.amax(dim=-1)  # torch's aminmax takes five times as long
    limits = torch.finfo(scale_dtype)
    lowest = low.clamp(limits.min, limits.max).to(scale_dtype)
    scale = ((high - lowest.float()) / NIBBLE).clamp(limits.tiny, limits.max).to(scale_dtype)
    steps = torch.sub(wide, lowest.float().unsqueeze(-1)).div_(scale.float().unsqueeze(-1)).round_()
    first, second = steps.clamp_(0, NIBBLE).to(torch.uint8).chunk(2, dim=-1)
    return (second << 4).bitwise_or_(first), scale, lowest


def dequantise_nibbles(packed: Tensor, scale: Tensor, lowest: Tensor, out_dtype: torch.dtype) -> Tensor:
    """Return ``number * scale + lowest`` [..., D] in ``out_dtype``; computed in float32 and rounded once."""
    numbers_D = torch.cat([packed & NIBBLE, packed >> 4], dim=-1).float()
    return (numbers_D.mul_(scale.float().unsqueeze(-1)).add_(lowest.float().unsqueeze(-1))).to(out_dtype)
