"""A question taken apart: which of its words stand for something that must be found first.

"Where was the person who built the mill born?" names nobody, and no single place of a text need answer it. So "the
person who built the mill" is looked up first, and the question asked again with what was found in place of those words.
Marking them as a span of the question is how Min et al. 2019 (Multi-hop Reading Comprehension through Question
Decomposition and Rescoring, arXiv 1906.02916) take apart what they call bridging questions.

Ours is MiniLM with low-rank updates of its layers and three linear units: the first and the last token of the span,
each with a softmax over the question's tokens and the null place before them (as in Devlin et al. 2018, arXiv
1810.04805, on SQuAD 2.0), and whether it is somebody. ``training/decompose`` has the code and ``assets/decomposer`` the
weights.

Shapes: T tokens, E states.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memlong.chunking import special_texts, without_surrogates
from memlong.retriever.base import Step
from memlong.retriever.encoder import mean_pooling
from memlong.retriever.updates import updated

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "decomposer"
WEIGHTS = "decomposer.safetensors"
UNITS = {"span": 2, "person": 1}  # outputs of the linear units
_SURE = 3.0  # logits between the span and the null place; EXPERIMENTS.md has others
LONGEST = 32  # tokens of a span
_WHO_DID = re.compile(r"(?:the|a|an) (?:person|one|man|woman|boy|girl) who (.+)", re.IGNORECASE | re.DOTALL)


class Decomposer:
    """MiniLM with the updates of a folder, reading questions.

    Args:
        encoder: MiniLM, which is left as it is; its embeddings are shared. tokenizer: its own, copied.
        folder: with the updates. max_tokens: of a question; of a longer one the rest is not looked at.

    Raises:
        RetrieverError: when the folder has no such weights, or those of another model.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any, folder: Path = BUNDLED, max_tokens: int = 512) -> None:
        self._tokenizer, self._max_tokens = deepcopy(tokenizer), max_tokens
        self._encoder, self._units = updated(encoder, folder / WEIGHTS, UNITS, "decompose")

    def first_step(self, question: str) -> Step | None:
        """Return what must be found before the question can be answered; None where nothing must."""
        text = without_surrogates(question)
        if len(text) != len(question) or any(name in text for name in special_texts(self._tokenizer)):
            return None  # the span would be another one
        batch = self._tokenizer(
            text, truncation=True, max_length=self._max_tokens, return_tensors="pt", return_offsets_mapping=True
        )
        places = batch.pop("offset_mapping")[0].tolist()
        with torch.inference_mode():
            device = next(self._encoder.parameters()).device
            states_1TE = self._encoder(**batch.to(device)).last_hidden_state.float().cpu()
        logits_T2 = self._unit("span", states_1TE[0])
        found = best_span(logits_T2[:-1], LONGEST)  # the last token ends the sequence
        if found is None or found[2] < _SURE:
            return None
        span = places[found[0]][0], places[found[1]][1]
        somebody = self._unit("person", mean_pooling(states_1TE, batch["attention_mask"].cpu())[0]) > 0
        words = text[slice(*span)]
        if not words.strip() or words == text.strip():
            return None
        asked = asking(words, bool(somebody))
        return None if asked.casefold() == text.strip().casefold() else Step(span, asked)

    def _unit(self, name: str, states_E: Tensor) -> Tensor:
        weight, bias = self._units[name]
        return states_E @ weight.T + bias


def best_span(logits_T2: Tensor, longest: int) -> tuple[int, int, float] | None:
    """Return the first and last token of the likeliest span, and by how many logits it beats the null place.

    Args:
        logits_T2: of first and last token, [T, 2]; token 0 is the null place, the others may be of the span.
        longest: tokens of a span.
    """
    first_T, last_T = logits_T2[1:, 0], logits_T2[1:, 1]
    if not len(first_T):
        return None
    sums_TT = first_T[:, None] + last_T[None, :]
    allowed = torch.ones_like(sums_TT, dtype=torch.bool).triu().tril(longest - 1)
    flat = sums_TT.masked_fill(~allowed, -torch.inf).flatten()
    at = int(flat.argmax())
    start, end = divmod(at, len(first_T))
    return start + 1, end + 1, float(flat[at] - logits_T2[0].sum())


def asking(words: str, somebody: bool) -> str:
    """Return the question for what words stand for: "Who built it?" for "the person who built it"."""
    if somebody and (done := _WHO_DID.fullmatch(words)):
        return f"Who {done[1]}?"
    first = words.split(maxsplit=1)[0]
    inside = words[:1].lower() + words[1:] if first in ("The", "A", "An", "Whoever") else words
    return f"{'Who' if somebody else 'What'} is {inside}?"
