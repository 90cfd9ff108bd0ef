"""A Llama with memory, written out from the formulas in plain torch: the truth for tests that need any depth.

One row, no batch, no cache, float32. Shapes: T local tokens, M memory tokens, H query heads, G key/value heads,
D head size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel

Memory = Mapping[int, tuple[Tensor, Tensor]]  # layer -> keys, values [G, M, D] at position 0


@dataclass
class Result:
    """Logits [T, V]; un-rotated K-V [G, T, D] of every layer; weights [H, T, M + T] of every layer."""

    logits: Tensor
    kv: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    weights: dict[int, Tensor] = field(default_factory=dict)


@torch.no_grad()
def plain_forward(
    model: PreTrainedModel, ids_T: Tensor, memory: Memory | None = None, bias: Mapping[int, Tensor] | float = 0.0
) -> Result:
    """Run local tokens at positions 1, 2, ... with ``memory``; ``bias`` is b_h per layer [H], or one number."""
    c, w = model.config, model.state_dict()
    heads, groups, size = c.num_attention_heads, c.num_key_value_heads, c.hidden_size // c.num_attention_heads
    tokens = len(ids_T)
    result = Result(torch.empty(0))
    x = w["model.embed_tokens.weight"][ids_T]
    for layer in range(c.num_hidden_layers):
        at = f"model.layers.{layer}."
        h = _norm(x, w[at + "input_layernorm.weight"], c.rms_norm_eps)
        q, k, v = (
            functional.linear(h, w[f"{at}self_attn.{name}_proj.weight"]).view(tokens, n, size).transpose(0, 1)
            for name, n in (("q", heads), ("k", groups), ("v", groups))
        )
        result.kv[layer] = (k, v)
        logits = _rotate(q, c) @ _rotate(k, c).repeat_interleave(heads // groups, 0).transpose(1, 2) / size**0.5
        logits = logits.masked_fill(torch.ones(tokens, tokens, dtype=torch.bool).triu(1), -torch.inf)
        if memory is not None and layer in memory:
            far_k, far_v = memory[layer]
            far = _rotate(q, c) @ far_k.repeat_interleave(heads // groups, 0).transpose(1, 2) / size**0.5
            far = far + (bias if isinstance(bias, float) else bias[layer].view(-1, 1, 1))
            logits, v = torch.cat([far, logits], -1), torch.cat([far_v, v], 1)
        weights = result.weights[layer] = logits.softmax(-1)
        out = (weights @ v.repeat_interleave(heads // groups, 0)).transpose(0, 1).flatten(1)
        x = x + functional.linear(out, w[at + "self_attn.o_proj.weight"])
        h = _norm(x, w[at + "post_attention_layernorm.weight"], c.rms_norm_eps)
        gate, up = (functional.linear(h, w[f"{at}mlp.{name}_proj.weight"]) for name in ("gate", "up"))
        x = x + functional.linear(functional.silu(gate) * up, w[at + "mlp.down_proj.weight"])
    result.logits = functional.linear(_norm(x, w["model.norm.weight"], c.rms_norm_eps), w["lm_head.weight"])
    return result


def _norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return x * (x.square().mean(-1, keepdim=True) + epsilon).rsqrt() * weight


def _rotate(x_HTD: Tensor, config: object) -> Tensor:
    size = x_HTD.shape[-1]
    base = config.rope_parameters["rope_theta"]
    angles = torch.arange(1, x_HTD.shape[1] + 1)[:, None] / base ** (torch.arange(0, size, 2) / size)
    cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
    first, second = x_HTD.chunk(2, -1)
    return x_HTD * cos + torch.cat([-second, first], -1) * sin
