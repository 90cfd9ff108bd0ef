"""A PEFT adapter on a model: merged into second copies of the weights, or run beside them.

Text is read by the original weights and answered by the adapted ones. With merged copies answering costs no
more than without an adapter, at the price of a second copy of the adapted matrices; quantised weights cannot
be merged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from memlong.errors import ModelError
from memlong.model.refusals import refusals
from memlong.quiet import quiet

WEIGHTS = "adapter_model.safetensors"
_SHARE_OF_FREE_MEMORY = 0.5


def attach(model: nn.Module, folder: Path, device: torch.device) -> Any:
    """Return ``model`` wrapped into a PeftModel with the adapter of ``folder``.

    Raises:
        ModelError: for pickled weights, or an adapter of another model.
    """
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"The adapter {str(folder)!r} has no {WEIGHTS}",
            "An adapter saved as safetensors (pickle files can run code when they are read)",
            "Save it again with PEFT's save_pretrained",
        )
    with quiet(), refusals(str(folder)):
        from peft import PeftModel  # whose relatives talk while they are imported

        return PeftModel.from_pretrained(model, str(folder), is_trainable=False, torch_device=str(device))


def can_merge(wrapped: Any) -> bool:
    """Say whether the adapter only changes matrices that are there in full, and copies of them fit."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    layers = [module for module in wrapped.modules() if isinstance(module, BaseTunerLayer)]
    if not layers or any(isinstance(module, AuxiliaryTrainingWrapper) for module in wrapped.modules()):
        return False
    weights = [getattr(layer.get_base_layer(), "weight", None) for layer in layers]
    if not all(isinstance(w, Tensor) and w.is_floating_point() and type(w.data) is Tensor for w in weights):
        return False
    needed = sum(w.numel() * w.element_size() for w in weights if w is not None)
    return needed < _SHARE_OF_FREE_MEMORY * _free_bytes(weights[0].device if weights[0] is not None else None)


def merged(wrapped: Any) -> tuple[Any, dict[str, Tensor]]:
    """Take the adapter off and return (the original model, parameter name -> adapted copy)."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    copies: dict[int, Tensor] = {}
    for module in wrapped.modules():
        if isinstance(module, BaseTunerLayer):
            weight = module.get_base_layer().weight
            original = weight.data
            weight.data = original.clone()
            module.merge(safe_merge=True)
            copies[id(weight)], weight.data = weight.data, original
            module.merged_adapters.clear()  # the originals are back: nothing is merged any more
    model = wrapped.unload()
    adapted = {name: copies[id(p)] for name, p in model.named_parameters() if id(p) in copies}
    return model, adapted


def _free_bytes(device: torch.device | None) -> int:
    if device is not None and device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)
