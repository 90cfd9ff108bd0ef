"""What is trained: MiniLM with low-rank updates and three linear units on its last states.

Source: Hu et al., LoRA (arXiv 2106.09685): W' = W + B A, without their factor alpha / r.
Shapes: n questions, T tokens, E states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from memlong.chunking import without_surrogates
from memlong.retriever.decomposer import UNITS
from memlong.retriever.encoder import mean_pooling
from training.decompose.patterns import Example
from training.loop import halve_frozen
from training.rank.scorer import add_updates, exported

MAX_TOKENS = 96  # of a question; the longest of the sources has 70
_WIDTH = 16  # tokens: few shapes of batches, for each of which a CPU's kernels are made ready anew
_PERSON_WEIGHT = 0.5  # of the unit that only says how to ask


class SpanLogits(NamedTuple):
    """Logits of first and last token [n, T, 2], -inf where none may be; of the person unit [n]; token places."""

    span_nT2: Tensor
    person_n: Tensor
    places: list[list[tuple[int, int]]]


class SpanScorer(nn.Module):
    """Reads questions; its parameters to train are the updates, the layers' norms and the units.

    Args:
        encoder: a plain BERT, which is changed. tokenizer: its own. rank: of the updates.
        half: whether frozen matrices are held in bfloat16, and products computed in it. seed: of the first weights.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any, rank: int, half: bool = False, seed: int = 0) -> None:
        super().__init__()
        self.encoder, self._tokenizer, self._half = encoder, tokenizer, half
        torch.manual_seed(seed)
        add_updates(encoder, rank)
        if half:
            halve_frozen(encoder)
        size = int(encoder.config.hidden_size)  # type: ignore[union-attr,arg-type]
        self.span, self.person = (nn.Linear(size, UNITS[name]) for name in ("span", "person"))
        for unit in (self.span, self.person):
            nn.init.normal_(unit.weight, std=0.02)
            nn.init.zeros_(unit.bias)
        self.to(next(encoder.parameters()).device)
        self.eval()  # and never train(): dropout helps little where so few weights learn

    def forward(self, questions: Sequence[str]) -> SpanLogits:
        """Return the logits of questions."""
        batch = self._tokenizer(
            [without_surrogates(question) for question in questions],
            padding=True, pad_to_multiple_of=_WIDTH, truncation=True, max_length=MAX_TOKENS,
            return_tensors="pt", return_offsets_mapping=True, return_special_tokens_mask=True,
        )  # fmt: skip
        places = batch.pop("offset_mapping").tolist()
        special_nT = batch.pop("special_tokens_mask").bool()
        special_nT[:, 0] = False  # the null place
        device = self.span.weight.device
        batch = batch.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._half):
            states_nTE = self.encoder(**batch).last_hidden_state
        states_nTE = states_nTE.float()
        span_nT2 = self.span(states_nTE).masked_fill(special_nT[..., None].to(device), -torch.inf)
        person_n = self.person(mean_pooling(states_nTE, batch["attention_mask"])).squeeze(-1)
        return SpanLogits(span_nT2, person_n, places)

    def loss(self, examples: Sequence[Example]) -> Tensor:
        """Return the mean loss of examples: cross-entropy of first and last token, and of who or what it is."""
        logits = self([example.question for example in examples])
        ends = [tokens_of(example.inner, places) for example, places in zip(examples, logits.places, strict=True)]
        target_n2 = torch.tensor(ends, device=logits.person_n.device)
        total = functional.cross_entropy(logits.span_nT2, target_n2)
        two_n = torch.tensor([example.inner is not None for example in examples], device=target_n2.device)
        if bool(two_n.any()):
            person_n = torch.tensor([float(example.person) for example in examples], device=target_n2.device)
            asked = functional.binary_cross_entropy_with_logits(logits.person_n[two_n], person_n[two_n])
            total = total + _PERSON_WEIGHT * asked
        return total

    def weights(self) -> dict[str, Tensor]:
        """Return the trained weights under the names that ``memlong.retriever.decomposer`` reads."""
        return exported(self)


def tokens_of(inner: tuple[int, int] | None, places: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Return the first and last token of a span of characters; the null place where there is none, or it is cut off.

    Args:
        places: characters [start, end) of each token; special ones have none.
    """
    if inner is None:
        return 0, 0
    inside = [at for at, (start, end) in enumerate(places) if start < end and start < inner[1] and end > inner[0]]
    whole = inside and places[inside[0]][0] <= inner[0] and places[inside[-1]][1] >= inner[1]
    return (inside[0], inside[-1]) if whole else (0, 0)
