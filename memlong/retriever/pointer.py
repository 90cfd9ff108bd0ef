"""Where in the text the answer stands: words of the best parts, pointed at by who reads the question beside them.

The likeliest first and last token of an answer, each with a softmax over the tokens of all texts read for a question
together (the shared normalisation of Clark and Gardner 2018, arXiv 1710.10723), and a null place of logit 0 that wins
where none of them answers (as in Devlin et al. 2018, arXiv 1810.04805, on SQuAD 2.0).

Ours is MiniLM with low-rank updates of its layers and two linear units: first and last token, and whether the answer to
such a question is words of a text at all; counts, comparisons and summaries are not. ``training/point`` has the code
and ``assets/pointer`` the weights.

Shapes: n texts, T tokens, E states.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from memlong.chunking import without_surrogates
from memlong.retriever.base import Place, Places, Range
from memlong.retriever.encoder import mean_pooling
from memlong.retriever.updates import updated

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "pointer"
WEIGHTS = "pointer.safetensors"
UNITS = {"span": 2, "stated": 1}  # outputs of the linear units
MAX_TOKENS = 224  # of a question and a text; a longer pair loses the end of its longer text
LONGEST = 24  # tokens of an answer
WIDER = 160  # characters around a part that are read with it
_MOST = 12  # places told of
# Logits that a span loses for each token behind its first, among the spans: the beginning of one answer and the end of
# another make a third one, whose words are neither. EXPERIMENTS.md has other numbers.
_LESS = 0.3


class Pointer:
    """MiniLM with the updates of a folder, reading a question beside texts.

    Args:
        encoder: MiniLM, which is left as it is; its embeddings are shared. tokenizer: its own, copied.
        folder: with the updates.

    Raises:
        RetrieverError: when the folder has no such weights, or those of another model.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any, folder: Path = BUNDLED) -> None:
        self._tokenizer = deepcopy(tokenizer)
        self._encoder, self._units = updated(encoder, folder / WEIGHTS, UNITS, "point")

    def places(self, question: str, texts: Sequence[str]) -> Places | None:
        """Return where the answer may stand; None of no texts."""
        if not texts:
            return None
        pairs = [without_surrogates(question)] * len(texts), [without_surrogates(text) for text in texts]
        # What looks like a special token in a text is text.
        batch = self._tokenizer(
            *pairs, padding=True, truncation="longest_first", max_length=MAX_TOKENS, return_tensors="pt",
            return_offsets_mapping=True, split_special_tokens=True,
        )  # fmt: skip
        offsets_nT2, cut_nT2 = batch.pop("offset_mapping"), within_words(batch)
        mask_nT = readable(batch)
        device = next(self._encoder.parameters()).device
        with torch.inference_mode():
            states_nTE = self._encoder(**batch.to(device)).last_hidden_state.float().cpu()
        weight, bias = self._units["span"]
        logits_nT2 = (states_nTE @ weight.T + bias).masked_fill(~mask_nT[..., None], -torch.inf)
        weight, bias = self._units["stated"]
        pooled_nE = mean_pooling(states_nTE, batch["attention_mask"].cpu())
        if float((pooled_nE @ weight.T + bias).mean()) <= 0:
            return Places((), 0.0)
        return Places(*likeliest_places(logits_nT2, offsets_nT2, LONGEST, _MOST, cut_nT2))


def readable(batch: Any) -> Tensor:
    """Return which tokens are of a pair's text, [n, T]: not of its question, and no special ones."""
    segments = [batch.sequence_ids(row) for row in range(len(batch["input_ids"]))]
    return torch.tensor([[segment == 1 for segment in row] for row in segments])


def within_words(batch: Any) -> Tensor:
    """Return which tokens go on with a word, and which are gone on with, [n, T, 2]: no answer begins or ends there."""
    words_nT = torch.tensor(
        [[-1 if word is None else word for word in batch.word_ids(row)] for row in range(len(batch["input_ids"]))]
    )
    same_nT = (words_nT[:, 1:] == words_nT[:, :-1]) & (words_nT[:, 1:] >= 0)
    return torch.stack([pad(same_nT, (1, 0)), pad(same_nT, (0, 1))], dim=-1)


def likeliest_places(
    logits_nT2: Tensor, offsets_nT2: Tensor, longest: int, most: int, cut_nT2: Tensor | None = None
) -> tuple[tuple[Place, ...], float]:
    """Return the likeliest spans of all texts, best first, and how likely none of them is an answer.

    Args:
        logits_nT2: of first and last token, -inf where none may be; the null place has 0 and 0.
        offsets_nT2: characters of each token in its text. longest: tokens of a span. most: spans.
        cut_nT2: where no span begins and ends. What is lost there counts against the null place all the same.
    """
    length = logits_nT2.shape[1]
    tokens_TT = torch.arange(length)[None, :] - torch.arange(length)[:, None]
    sums_nTT = logits_nT2[:, :, None, 0] + logits_nT2[:, None, :, 1]
    allowed_TT = torch.ones(length, length, dtype=torch.bool).triu().tril(longest - 1)
    sums_nTT = sums_nTT.masked_fill(~allowed_TT, -torch.inf)
    nowhere = float((-torch.logaddexp(sums_nTT.flatten().logsumexp(0), sums_nTT.new_zeros(()))).exp())
    if cut_nT2 is not None:
        sums_nTT = sums_nTT.masked_fill(cut_nT2[:, :, None, 0] | cut_nT2[:, None, :, 1], -torch.inf)
    flat = (sums_nTT - _LESS * tokens_TT).flatten()
    total = flat.logsumexp(0)
    found = flat.topk(min(most, len(flat)))
    places = []
    for value, at in zip(found.values.tolist(), found.indices.tolist(), strict=True):
        row, first, last = at // length**2, at // length % length, at % length
        if value > -float("inf"):
            span = int(offsets_nT2[row, first, 0]), int(offsets_nT2[row, last, 1])
            places.append(Place(row, span, (1 - nowhere) * float((torch.tensor(value) - total).exp())))
    return tuple(places), nowhere


def widened(text: str, start: int, end: int) -> Range:
    """Return characters [start, end) of a text with some more on both sides, no word of it cut."""
    wide_start, wide_end = max(0, start - WIDER), min(len(text), end + WIDER)
    while 0 < wide_start < start and not text[wide_start - 1].isspace():
        wide_start += 1
    while end < wide_end < len(text) and not text[wide_end].isspace():
        wide_end -= 1
    return wide_start, wide_end
