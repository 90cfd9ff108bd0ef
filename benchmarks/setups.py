"""The models that are measured: random weights, a tokenizer of made-up words, and text of any length.

Speed does not depend on what weights say, so no download is needed and any size can be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever

_ONSETS, _VOWELS, _CODAS = "b c d f g h k l m n p r s t v z".split(), "a e i o u".split(), ["", "l", "n", "r", "s"]


@dataclass(frozen=True)
class Sizes:
    """Sizes of a Llama with a memory: the paper's layout, one stored layer and the retrieval layers above it."""

    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocab: int
    stored_layer: int
    retrieval_layers: tuple[int, ...]
    chunk_tokens: int
    top_k: int
    dtype: torch.dtype


# 10.4 M parameters: configuration (a) of the measurements that the targets come from.
SMALL = Sizes(256, 8, 8, 688, 8000, 4, (5, 6, 7), 128, 8, torch.float32)
OPEN_LLAMA_3B = Sizes(3200, 26, 32, 8640, 32000, 13, tuple(range(14, 26)), 256, 4, torch.bfloat16)
TINY = Sizes(64, 4, 4, 128, 400, 2, (2, 3), 16, 3, torch.float32)


@dataclass(frozen=True)
class Setup:
    """Everything a contender needs."""

    sizes: Sizes
    llama: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    retriever: HashingRetriever
    words: tuple[str, ...]
    device: str
    seed: int

    def model(self, **changes: Any) -> MemoryModel:
        """Return the model with a memory; ``changes`` are settings of :class:`MemoryConfig`."""
        sizes = self.sizes
        config = MemoryConfig(
            preset="paper",
            stored_layers=(sizes.stored_layer,),
            retrieval_layers=sizes.retrieval_layers,
            chunk_tokens=sizes.chunk_tokens,
            window_tokens=sizes.chunk_tokens,
            top_k=sizes.top_k,
        )
        return MemoryModel(self.llama, self.tokenizer, config.replace(**changes))

    def text(self, tokens: int, seed: int | None = None) -> str:
        """Return a text of exactly ``tokens`` tokens, its words as frequent as in real prose (Zipf's law)."""
        rng = np.random.default_rng(self.seed if seed is None else seed)
        weight = 1.0 / np.arange(1, len(self.words) + 1)
        picked = rng.choice(len(self.words), size=tokens, p=weight / weight.sum())
        return " ".join(self.words[i] for i in picked)


def make_setup(device: str = "cpu", seed: int = 0, sizes: Sizes | None = None) -> Setup:
    """Return the small model on a CPU and OpenLLaMA-3B's sizes on a GPU, or ``sizes``."""
    sizes = sizes or (SMALL if device == "cpu" else OPEN_LLAMA_3B)
    words = made_up_words(sizes.vocab - 2)
    config = LlamaConfig(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        max_position_embeddings=1 << 17,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(seed)
    with torch.device(device):
        llama = LlamaForCausalLM._from_config(config, dtype=sizes.dtype).eval()
    return Setup(sizes, llama, word_tokenizer(words), HashingRetriever(), tuple(words), device, seed)


def made_up_words(count: int) -> list[str]:
    """Return ``count`` different words of two or three syllables, always the same ones."""
    syllables = [onset + vowel + coda for onset in _ONSETS for vowel in _VOWELS for coda in _CODAS]
    rng = np.random.default_rng(1)
    words: dict[str, None] = {}
    while len(words) < count:
        for picks in rng.integers(len(syllables), size=(count, 3)):
            length = 2 + int(picks[0] % 2)
            words["".join(syllables[i] for i in picks[:length])] = None
            if len(words) == count:
                break
    return list(words)


def word_tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a word: texts have as many tokens as words, and survive decoding."""
    ids = {word: index for index, word in enumerate(["<unk>", "<end>", *words])}
    raw = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", eos_token="<end>", pad_token="<unk>")
