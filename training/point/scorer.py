"""What is trained: MiniLM with low-rank updates and two linear units on its last states.

Source: Hu et al., LoRA (arXiv 2106.09685): W' = W + B A, without their factor alpha / r.
Shapes: n texts, T tokens, E states.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from memlong.chunking import without_surrogates
from memlong.retriever import cross_encoder, pointer
from memlong.retriever.encoder import mean_pooling
from memlong.retriever.pointer import MAX_TOKENS, UNITS, readable
from memlong.retriever.updates import DOWN, UP, apply_updates, load_updates
from training.loop import halve_frozen
from training.point.examples import Pointed
from training.rank.scorer import add_updates, exported

_WIDTH = 16  # tokens: few shapes of batches, for each of which a CPU's kernels are made ready anew
_STATED_WEIGHT = 1.0  # of the unit that says whether to point at all


class PlaceLogits(NamedTuple):
    """Logits of first and last token [n, T, 2], -inf where none may be; of the stated unit [n]; token places."""

    span_nT2: Tensor
    stated_n: Tensor
    offsets_nT2: Tensor


class PointScorer(nn.Module):
    """Reads questions beside texts; its parameters to train are the updates, the layers' norms and the units.

    Args:
        encoder: a plain BERT, which is changed. tokenizer: its own. rank: of the updates.
        half: whether frozen matrices are held in bfloat16, and products computed in it. seed: of the first weights.
        start: a folder with the first updates: a pointer's, whose units are the first too, or a cross-encoder's.
            None for none.

    Raises:
        RetrieverError: when the folder has neither, or those of another model.
    """

    def __init__(
        self,
        encoder: nn.Module,
        tokenizer: Any,
        rank: int,
        half: bool = False,
        seed: int = 0,
        start: Path | None = None,
    ) -> None:
        super().__init__()
        self.encoder, self._tokenizer, self._half = encoder, tokenizer, half
        torch.manual_seed(seed)
        self._before, units = ({}, {}) if start is None else _begun(encoder, start)
        add_updates(encoder, rank)
        if half:
            halve_frozen(encoder)
        size = int(encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.span, self.stated = (nn.Linear(size, UNITS[name]) for name in ("span", "stated"))
        for unit in (self.span, self.stated):
            nn.init.normal_(unit.weight, std=0.02)
            nn.init.zeros_(unit.bias)
        nn.init.constant_(self.span.bias, -4.0)  # of hundreds of tokens hardly one is an answer's end
        self.load_state_dict(units, strict=False)  # none, but where a pointer goes on
        self.to(next(encoder.parameters()).device)
        self.eval()  # and never train(): dropout helps little where so few weights learn

    def forward(self, questions: Sequence[str], texts: Sequence[str]) -> PlaceLogits:
        """Return the logits of pairs."""
        batch = self._tokenizer(
            [without_surrogates(question) for question in questions], [without_surrogates(text) for text in texts],
            padding=True, pad_to_multiple_of=_WIDTH, truncation="longest_first", max_length=MAX_TOKENS,
            return_tensors="pt", return_offsets_mapping=True,
        )  # fmt: skip
        offsets_nT2 = batch.pop("offset_mapping")
        device = self.span.weight.device
        hidden_nT = ~readable(batch).to(device)
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            states_nTE = self.encoder(**batch).last_hidden_state
        states_nTE = states_nTE.float()
        span_nT2 = self.span(states_nTE).masked_fill(hidden_nT[..., None], -torch.inf)
        stated_n = self.stated(mean_pooling(states_nTE, batch["attention_mask"])).squeeze(-1)
        return PlaceLogits(span_nT2, stated_n, offsets_nT2)

    def loss(self, examples: Sequence[Pointed]) -> Tensor:
        """Return the sum of the losses of questions: of first and last token, and of the unit."""
        counts = [len(each.texts) for each in examples]
        logits = self([e.question for e in examples for _ in e.texts], [text for e in examples for text in e.texts])
        total, at = logits.span_nT2.new_zeros(()), 0
        for each, count in zip(examples, counts, strict=True):
            rows = slice(at, at + count)
            gold_nT2 = gold_tokens(each, logits.offsets_nT2[rows], logits.span_nT2[rows] > -torch.inf)
            total = total + span_loss(logits.span_nT2[rows], gold_nT2)
            stated_n = torch.full((count,), float(each.stated), device=total.device)
            asked = functional.binary_cross_entropy_with_logits(logits.stated_n[rows], stated_n)
            total, at = total + _STATED_WEIGHT * asked, at + count
        return total

    def weights(self) -> dict[str, Tensor]:
        """Return the trained weights, with those of the start, under the names that the pointer reads."""
        found = exported(self)
        for name in found:
            if name in self._before and name.endswith((DOWN, UP)):
                both = [self._before[name].float(), found[name]]
                found[name] = torch.cat(both, dim=0 if name.endswith(DOWN) else 1).contiguous()
        return {name: each.bfloat16() if name.endswith((DOWN, UP)) else each for name, each in found.items()}


def _begun(encoder: nn.Module, start: Path) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Change an encoder by a folder's updates; return them, and the units of a pointer.

    Raises:
        RetrieverError: when the folder has no updates, or those of another model.
    """
    goes_on = (start / pointer.WEIGHTS).is_file()
    path, command = start / (pointer if goes_on else cross_encoder).WEIGHTS, "point" if goes_on else "rank"
    weights = load_updates(path, command)
    units = {name: each for name, each in weights.items() if name.split(".")[0] in (*UNITS, cross_encoder.UNIT)}
    before = {name: each for name, each in weights.items() if name not in units}
    apply_updates(encoder, before, path, command)
    return before, units if goes_on else {}


def gold_tokens(example: Pointed, offsets_nT2: Tensor, allowed_nT2: Tensor) -> Tensor:
    """Return which tokens begin and which end an answer, [n, T, 2]; none of an answer that was cut off."""
    gold_nT2 = torch.zeros_like(allowed_nT2)
    for row, (start, end) in example.targets:
        first_T = (offsets_nT2[row, :, 0] <= start) & (start < offsets_nT2[row, :, 1])
        last_T = (offsets_nT2[row, :, 0] < end) & (end <= offsets_nT2[row, :, 1])
        first_T, last_T = (each.to(gold_nT2.device) & allowed_nT2[row, :, 0] for each in (first_T, last_T))
        if first_T.any() and last_T.any():
            gold_nT2[row, :, 0] |= first_T
            gold_nT2[row, :, 1] |= last_T
    return gold_nT2


def span_loss(logits_nT2: Tensor, gold_nT2: Tensor) -> Tensor:
    """Return the mean over first and last token of -log of the share of gold ones among all and the null place.

    Source: see ``memlong/retriever/pointer.py``; several gold places count together (Clark and Gardner 2018).
    """
    flat_M2, gold_M2 = logits_nT2.flatten(0, 1), gold_nT2.flatten(0, 1)
    null_12 = flat_M2.new_zeros(1, 2)
    total_2 = torch.cat([flat_M2, null_12]).logsumexp(0)
    if not gold_M2.any():
        return total_2.mean()  # the null place's logit is 0
    return (total_2 - flat_M2.masked_fill(~gold_M2, -torch.inf).logsumexp(0)).mean()
