"""LoRA on the layers that read memory, through peft; nothing below them is trained.

Source: Hu et al., LoRA (arXiv 2106.09685): W' = W + (alpha / r) B A.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

from training.config import TrainConfig


def add_adapter(model: nn.Module, config: TrainConfig, layers: tuple[int, ...]) -> Any:
    """Return ``model`` with trainable LoRA weights in ``layers`` and everything else frozen."""
    torch.manual_seed(config.seed)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=0.0,
        target_modules=list(config.lora_targets),
        layers_to_transform=list(layers),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)  # type: ignore[arg-type]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that training changes, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def export_adapter(model: Any, folder: Path, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write ``adapter_config.json`` and ``adapter_model.safetensors`` (half precision: a quarter of the size)."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Tensor] = get_peft_model_state_dict(model)
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
