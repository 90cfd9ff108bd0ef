"""Rotary positions, applied by us: how most models turn the queries and keys of a layer to their places.

Reading takes keys un-rotated. Instead of projecting twice, once for position 0 and once for the real positions, a
stored layer is run at position 0 and its queries and keys are turned here. Whether a module turns them in just
this way is measured before it is relied on (``model/capture.py``).

Shapes: B batch, H heads, T tokens, D head size, R <= D rotated dimensions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """Cosines and sines [B or 1, T, R] of the positions, the factor of the model's rotary scale taken out."""

    cos_BTR: Tensor
    sin_BTR: Tensor

    def turn(self, states_BHTD: Tensor) -> Tensor:
        """Return the states at their positions: pairs are (i, i + R/2) of the first R dimensions (Su et al.,
        arXiv 2104.09864, in the layout of GPT-NeoX and Llama). The same products and sums as in the models, so that
        rounding is the same too."""
        cos, sin = self.cos_BTR[:, None], self.sin_BTR[:, None]
        rotated, rest = states_BHTD[..., : cos.shape[-1]], states_BHTD[..., cos.shape[-1] :]
        first, second = rotated.chunk(2, dim=-1)
        turned = rotated * cos + torch.cat((-second, first), dim=-1) * sin
        whole = torch.cat((turned, rest), dim=-1) if rest.shape[-1] else turned
        return whole.to(states_BHTD.dtype)  # OLMo-2 has its cosines in float32 whatever its weights are
