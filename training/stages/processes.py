"""How several processes share weights, gradients and optimiser state: one class each, chosen by ``accelerate launch``.

- :class:`Copies`: every process has everything; gradients are averaged.
- :class:`Sharded`: FSDP2 shards every layer's weights, gradients and optimiser state.
- :class:`Zero2`: DeepSpeed shards gradients and optimiser state.

Losses arrive scaled so that the mean of the gradients over processes is the gradient of the mean loss per token.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from memlong.errors import ConfigError
from memlong.model.wrapper import MemoryModel
from training import checkpoint
from training.adapters import trainable
from training.stages.config import StageConfig

Parameters = dict[str, nn.Parameter]


class Copies:
    """Every process has all weights."""

    reads_to_end = False
    """Whether reading must run all layers, because something waits for the end of every pass."""

    def __init__(self, accelerator: Accelerator, config: StageConfig) -> None:
        self.accelerator, self.config = accelerator, config
        self.optimizer: Any = None

    def adopt(self, model: MemoryModel, parameters: Parameters) -> Parameters:
        """Take ``model`` over, make the optimiser, and return the trained parameters as they are from now on."""
        self.parameters = parameters
        self.optimizer = self._adamw(parameters.values())
        return parameters

    def backward(self, loss: Tensor, last: bool) -> None:
        """Add a loss's gradients; ``last`` before a step."""
        loss.backward()

    def update(self) -> None:
        """Average gradients, clip them, take a step, and forget them."""
        for parameter in self.parameters.values():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = gradient if isinstance(gradient, DTensor) else self._mean(gradient)
        _clip(self.parameters.values(), self.config.clip_norm, self.accelerator)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return :meth:`weights` and whole optimiser state by "name|key"; every process must call it."""
        states = checkpoint.flat_states(self.parameters, self.optimizer)
        return self.weights(), {name: _whole(value) for name, value in states.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return whole trained weights by name; every process must call it."""
        return {name: _whole(parameter.detach()) for name, parameter in self.parameters.items()}

    def restore(self, weights: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> None:
        """Take up what :meth:`snapshot` returned."""
        here = {name: _here(value, self.parameters[name]) for name, value in weights.items()}
        split = {name: _here(value, self.parameters[name.rsplit("|", 1)[0]]) for name, value in states.items()}
        checkpoint.restore(here, split, self.parameters, self.optimizer)

    def _adamw(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        return torch.optim.AdamW(parameters, lr=self.config.learning_rate, weight_decay=self.config.weight_decay)

    def _mean(self, gradient: Tensor) -> Tensor:
        return self.accelerator.reduce(gradient, reduction="mean")


class Sharded(Copies):
    """FSDP2: a layer's weights are whole only while it runs. Maps and memory biases stay copies."""

    # A pass that is left in the middle leaves the sharding's books open.
    reads_to_end = True

    def adopt(self, model: MemoryModel, parameters: Parameters) -> Parameters:
        from torch.distributed.fsdp import fully_shard

        outside = {name: p for name, p in parameters.items() if name not in trainable(model.model)}
        blocks = [_block(model.base, attention) for attention in model.spec.attention.values()]
        sharded: list[Any] = [fully_shard(block, reshard_after_forward=True) for block in blocks]
        sharded.append(fully_shard(model.model))
        for module in sharded:
            # Whether a whole weight takes a gradient is settled when it is first made: not while an adapter is off.
            module.unshard()
            module.reshard()
        return super().adopt(model, trainable(model.model) | outside)


class Zero2(Copies):
    """DeepSpeed's ZeRO stage 2. Its engine averages, clips and steps; weights stay whole."""

    def adopt(self, model: MemoryModel, parameters: Parameters) -> Parameters:
        import deepspeed

        super().adopt(model, parameters)
        settings = {
            "train_micro_batch_size_per_gpu": self.config.batch_size,
            "train_batch_size": self.config.batch_size * self.accelerator.num_processes,
            "gradient_clipping": self.config.clip_norm,
            "zero_optimization": {"stage": 2},
            "zero_allow_untested_optimizer": True,
            "steps_per_print": self.config.steps + 1,
        }
        self.engine, _, _, _ = deepspeed.initialize(model=model.model, optimizer=self.optimizer, config=settings)
        return parameters

    def backward(self, loss: Tensor, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss)

    def update(self) -> None:
        self.engine.step()

    def snapshot(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        from deepspeed.utils import safe_get_full_optimizer_state

        states = {}
        for name, parameter in self.parameters.items():
            for key in _MOMENTS:
                state = safe_get_full_optimizer_state(parameter, key)
                if state is not None:
                    states[f"{name}|{key}"] = state
        steps = [float(state["step"]) for state in self.optimizer.state.values() if "step" in state]
        done = torch.tensor(max(steps, default=0.0))
        return self.weights(), states | {f"{name}|step": done.clone() for name in self.parameters}

    def restore(self, weights: Mapping[str, Tensor], states: Mapping[str, Tensor]) -> None:
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        # There is no state to set before a first step: one that goes nowhere makes it.
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        self.backward(torch.stack([0.0 * parameter.sum() for parameter in self.parameters.values()]).sum(), last=True)
        self.update()
        for name, parameter in self.parameters.items():
            parameter.data.copy_(weights[name])
            safe_set_full_fp32_param(parameter, weights[name])
            for key in _MOMENTS:
                if f"{name}|{key}" in states:
                    safe_set_full_optimizer_state(parameter, states[f"{name}|{key}"], key)
        done = next((value for name, value in states.items() if name.endswith("|step")), torch.tensor(0.0))
        for state in self.optimizer.state.values():
            state["step"] = done.clone()


_MOMENTS = ("exp_avg", "exp_avg_sq")


def shared(accelerator: Accelerator, config: StageConfig) -> Copies:
    """Return what ``accelerate launch`` asked for.

    Raises:
        ConfigError: for another ZeRO stage, the first version of FSDP, or weights kept on the CPU.
    """
    if accelerator.num_processes < 2 or not (_told("ACCELERATE_USE_DEEPSPEED") or _told("ACCELERATE_USE_FSDP")):
        return Copies(accelerator, config)
    if _told("ACCELERATE_USE_DEEPSPEED"):
        stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
        if stage != "2":
            fsdp = "To shard weights too, launch with training/configs/fsdp.yaml"
            raise ConfigError(f"zero_stage: {stage}", "zero_stage: 2", fsdp)
        return Zero2(accelerator, config)
    version, offload = os.environ.get("FSDP_VERSION", "1"), _told("FSDP_OFFLOAD_PARAMS")
    if version != "2" or offload or config.quantization != "none":
        raise ConfigError(
            f"FSDP version {version}, offload {offload}, quantization={config.quantization}",
            "fsdp_version: 2, fsdp_offload_params: false, and weights that are not quantised",
            "Launch with training/configs/fsdp.yaml, or without FSDP",
        )
    return Sharded(accelerator, config)


def _told(name: str) -> bool:
    return os.environ.get(name, "false").lower() == "true"


def _block(base: nn.Module, attention: nn.Module) -> nn.Module:
    """Return the decoder layer that holds an attention module."""
    names = {id(module): name for name, module in base.named_modules()}
    return base.get_submodule(names[id(attention)].rsplit(".", 1)[0])


def _clip(parameters: Iterable[nn.Parameter], limit: float, accelerator: Accelerator) -> None:
    """Scale gradients so that their norm over all processes is at most ``limit``; shards count once, copies too."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = [
        (gradient.to_local() if isinstance(gradient, DTensor) else gradient).float().square().sum()
        for gradient in gradients
    ]
    parts = [square for square, gradient in zip(squares, gradients) if isinstance(gradient, DTensor)]
    copies = [square for square, gradient in zip(squares, gradients) if not isinstance(gradient, DTensor)]
    total = sum(copies, torch.zeros((), device=squares[0].device))
    if parts:
        total = total + accelerator.reduce(torch.stack(parts).sum())
    scale = (limit / (total.sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        (gradient.to_local() if isinstance(gradient, DTensor) else gradient).mul_(scale)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _here(whole: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor as ``parameter`` is kept: its part, where that is sharded."""
    if not isinstance(parameter, DTensor) or whole.shape != parameter.shape:
        return whole
    device = parameter.to_local().device
    return distribute_tensor(whole.to(device), parameter.device_mesh, parameter.placements)
