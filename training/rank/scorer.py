"""What is trained: MiniLM with low-rank updates (through peft) and one linear unit on the mean of its last states.

Source: Hu et al., LoRA (arXiv 2106.09685): W' = W + B A, without their factor alpha / r.
Shapes: n pairs, T tokens, E states.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from memlong.chunking import without_surrogates
from memlong.quiet import quiet
from memlong.retriever.encoder import mean_pooling
from memlong.retriever.minilm import minilm_folder
from memlong.retriever.updates import DOWN, UP
from training.adapters import trainable
from training.loop import halve_frozen

_LAYERS = "encoder."  # of the embeddings nothing is trained: the retriever's own encoder shares them
_WIDTH = 16  # tokens: few shapes of batches, for each of which a CPU's kernels are made ready anew


class PairScorer(nn.Module):
    """Reads pairs of texts; its parameters to train are the updates, the layers' norms and the unit.

    Args:
        encoder: a plain BERT, which is changed. tokenizer: its own. rank: of the updates. max_tokens: of a pair.
        half: whether frozen matrices are held in bfloat16, and products computed in it. seed: of the first weights.
    """

    def __init__(
        self, encoder: nn.Module, tokenizer: Any, rank: int, max_tokens: int, half: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        self.encoder, self._tokenizer, self._max_tokens, self._half = encoder, tokenizer, max_tokens, half
        torch.manual_seed(seed)
        add_updates(encoder, rank)
        if half:
            halve_frozen(encoder)
        self.score = nn.Linear(int(encoder.config.hidden_size), 1)  # type: ignore[union-attr,arg-type]
        nn.init.normal_(self.score.weight, std=0.02)
        nn.init.zeros_(self.score.bias)
        self.to(next(encoder.parameters()).device)
        self.eval()  # and never train(): dropout helps little where so few weights learn, and blurs the null logit

    def forward(self, questions: Sequence[str], texts: Sequence[str]) -> Tensor:
        """Return one logit per pair, [n]."""
        batch = self._tokenizer(
            [without_surrogates(question) for question in questions], [without_surrogates(text) for text in texts],
            padding=True, pad_to_multiple_of=_WIDTH, truncation="longest_first", max_length=self._max_tokens,
            return_tensors="pt",
        ).to(self.score.weight.device)  # fmt: skip
        device = self.score.weight.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self._half):
            states_nTE = self.encoder(**batch).last_hidden_state
        return self.score(mean_pooling(states_nTE.float(), batch["attention_mask"])).squeeze(-1)

    def weights(self) -> dict[str, Tensor]:
        """Return the trained weights under the names that ``memlong.retriever.cross_encoder`` reads."""
        return exported(self)


def exported(scorer: nn.Module) -> dict[str, Tensor]:
    """Return the trained weights of what has an ``encoder`` with updates, under the names that memlong reads."""
    found = {}
    for name, parameter in trainable(scorer).items():
        name = name.removeprefix("encoder.")
        for part in (DOWN, UP):
            name = name.replace(f"{part}.default.weight", part)
        found[name] = parameter.detach().float().cpu().contiguous()
    return found


def add_updates(encoder: nn.Module, rank: int) -> None:
    """Freeze an encoder but for its layers' norms and new low-rank updates of every linear layer, 0 at first."""
    with quiet():
        from peft import LoraConfig, inject_adapter_in_model  # whose relatives talk while they are imported

    linear = [name for name, module in encoder.named_modules() if isinstance(module, nn.Linear)]
    targets = [name for name in linear if name.startswith(_LAYERS)]
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=targets), encoder)
    for name, parameter in encoder.named_parameters():
        low = name.endswith(f"{DOWN}.default.weight")
        if low:
            # A's outputs are of the size of its inputs; peft's own are smaller, and learn more slowly at this rate.
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        parameter.requires_grad_(low or name.endswith(f"{UP}.default.weight") or _is_norm(name))


def load_scorer(rank: int, max_tokens: int, half: bool, device: torch.device, seed: int) -> PairScorer:
    """Return the scorer of the original MiniLM.

    Raises:
        RetrieverError: when MiniLM is not to be had.
    """
    encoder, tokenizer = load_minilm(device)
    return PairScorer(encoder, tokenizer, rank, max_tokens, half, seed)


def load_minilm(device: torch.device) -> tuple[nn.Module, Any]:
    """Return the original MiniLM and its tokenizer, for training.

    Raises:
        RetrieverError: when MiniLM is not to be had.
    """
    from transformers import AutoModel, AutoTokenizer

    folder = minilm_folder()
    with quiet():
        # Eager: the backward pass of scaled_dot_product_attention is several times slower in bfloat16 on CPUs.
        encoder = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, add_pooling_layer=False,
            attn_implementation="eager",
        ).to(device)  # fmt: skip
        return encoder, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def write_weights(weights: Mapping[str, Tensor], path: Path) -> Path:
    """Write a safetensors file, whole or not at all, and return its path."""
    fresh = path.with_name(path.name + ".new")
    save_file(dict(weights), fresh)
    fresh.chmod(0o644)  # safetensors lets nobody but the owner read what it writes
    os.replace(fresh, path)
    return path


def _is_norm(name: str) -> bool:
    return name.startswith(_LAYERS) and "LayerNorm" in name
