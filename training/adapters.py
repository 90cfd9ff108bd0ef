"""LoRA on the layers that read memory, through peft, or those layers' matrices themselves; nothing below is trained.

Source: Hu et al., LoRA (arXiv 2106.09685): W' = W + (alpha / r) B A.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from memlong.quiet import quiet


class AdapterSettings(Protocol):
    """What a recipe says about its adapter."""

    @property
    def lora_rank(self) -> int: ...
    @property
    def lora_alpha(self) -> int: ...
    @property
    def lora_targets(self) -> tuple[str, ...]: ...
    @property
    def seed(self) -> int: ...


def add_adapter(
    model: nn.Module,
    config: AdapterSettings,
    layers: tuple[int, ...],
    norms: bool = False,
    copies: tuple[str, ...] = (),
) -> Any:
    """Return ``model`` with trainable weights in ``layers`` and everything else frozen.

    Args:
        norms: whether the layers' norms are trained too. copies: matrices that are trained in full, as copies: the
            originals stay, since they write memory.
    """
    with quiet():
        from peft import LoraConfig, get_peft_model  # whose relatives talk while they are imported

    torch.manual_seed(config.seed)
    copied = _named(model, layers, copies, norms)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules=list(config.lora_targets),
        layers_to_transform=list(layers),
        modules_to_save=copied or None,
        task_type="CAUSAL_LM",
    )
    with quiet():
        adapted = get_peft_model(model, lora)  # type: ignore[arg-type]
    for parameter in trainable(adapted).values():
        # Small steps vanish in half precision.
        parameter.data = parameter.data.float()
    return adapted


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def export_adapter(
    model: Any, folder: Path, weights: Mapping[str, Tensor] | None = None, dtype: torch.dtype = torch.bfloat16
) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (half precision: a quarter of the size).

    Args:
        weights: trained weights by the model's names, where the model itself holds parts of them only.
    """
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = get_peft_model_state_dict(model, state_dict=dict(weights) if weights else None)
    save_file(
        {name: tensor.detach().to(dtype).contiguous() for name, tensor in state.items()},
        folder / "adapter_model.safetensors",
    )
    config = model.peft_config["default"]
    config.inference_mode = True
    # The base is named by the memory configuration beside it; a path of the training machine helps nobody.
    config.base_model_name_or_path = ""
    config.save_pretrained(str(folder))
    config.inference_mode = False
    # safetensors lets nobody but the owner read what it writes.
    (folder / "adapter_model.safetensors").chmod((folder / "adapter_config.json").stat().st_mode)


def _named(model: nn.Module, layers: tuple[int, ...], targets: tuple[str, ...], norms: bool) -> list[str]:
    """Return the full names of modules in ``layers`` that are trained as copies."""
    found = []
    for name, module in model.named_modules():
        _, inside, rest = name.partition(".layers.")
        number, _, inner = rest.partition(".")
        if not inside or not number.isdigit() or int(number) not in layers:
            continue
        norm = norms and "norm" in inner.rsplit(".", 1)[-1] and not list(module.children())
        if norm or inner.rsplit(".", 1)[-1] in targets:
            found.append(name)
    return found
