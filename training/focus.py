"""Attention to the evidence as a second loss: where to look is known for most questions, so it can be taught.

The loss on the answer alone has to find out from a few tokens which of a thousand stored ones held it. Here the queries
that write the first tokens of an answer are told: -log of the share of their attention to memory that falls on the
sentence with the answer (for answers that follow from several places, on all of the evidence), averaged over layers.

Shapes: B questions, M memory tokens, A scored tokens, P asked tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from memlong.attention.context import EvidenceFocus, MemoryContext
from memlong.errors import ConfigError
from memlong.retriever.parts import token_spans
from training.data.passages import JOINED, Passages
from training.data.questions import Question
from training.questions import IGNORED, Batch, Drawn

ASKED_TOKENS = 4  # of an answer; later ones follow from earlier ones, and most answers are no longer
_AROUND = (160, 120)  # characters before and after an answer, where its sentence has no end
_FLOOR = 1e-4  # of a share: a query that sees nothing of the evidence must not outweigh all others

Range = tuple[int, int]


class EvidenceFinder:
    """Finds the tokens of a question's evidence in a chunk.

    Args:
        tokenizer: the model's. documents: whose chunks are asked for.
    """

    def __init__(self, tokenizer: Any, documents: Sequence[Passages]) -> None:
        self._tokenizer = tokenizer
        self._documents: Mapping[str, Passages] = {document.doc_id: document for document in documents}
        self._tokens: dict[tuple[str, int], list[Range]] = {}

    def ranges(self, item: Drawn, index: int) -> list[Range]:
        """Return token ranges [start, end) of chunk ``index`` that hold the evidence; none where it is not known."""
        question = item.asked.question
        if not question.answerable or index not in item.asked.gold:
            return []
        document = self._documents[item.doc_id]
        start = document.chunks[index].span[0]
        tokens = self._tokens_of(document, index)
        found = []
        for first, last in _spans(question, document.texts[index], start):
            inside = [place for place, (a, b) in enumerate(tokens) if a + start < last and b + start > first]
            if inside:
                found.append((inside[0], inside[-1] + 1))
        return found

    def _tokens_of(self, document: Passages, index: int) -> list[Range]:
        """Return the characters of each of a chunk's tokens, counted from the chunk's first."""
        key = document.doc_id, index
        if key not in self._tokens:
            self._tokens[key] = token_spans(self._tokenizer, document.texts[index], document.chunks[index].n_tokens)
        return self._tokens[key]


def focused(
    context: MemoryContext, finder: EvidenceFinder, drawn: Sequence[Drawn], batch: Batch, layers: Collection[int]
) -> MemoryContext:
    """Return ``context`` with a focus on the evidence of the drawn questions.

    Raises:
        ConfigError: for layers that read no memory.
    """
    if unread := sorted(set(layers) - set(context.layers)):
        raise ConfigError(f"focus_layers={unread}", f"Layers that read memory: {sorted(context.layers)}", "Name others")
    keys_BGMD = next(iter(context.layers.values())).keys_BGMD
    size, memory_tokens, device = context.chunk_tokens, keys_BGMD.shape[2], keys_BGMD.device
    evidence_BM = torch.zeros(len(drawn), memory_tokens, dtype=torch.bool)
    counted_BM = torch.ones_like(evidence_BM) if context.padding_BM is None else ~context.padding_BM.cpu()
    # Attention rests on the first token of a chunk when it is not needed elsewhere, and may go on doing so.
    counted_BM[:, ::size] = False
    for row, item in enumerate(drawn):
        for place, index in enumerate(item.chunks):
            for start, end in finder.ranges(item, index):
                evidence_BM[row, place * size + start : place * size + end] = True
    evidence_BM &= counted_BM
    known_B = evidence_BM.any(dim=1)
    counted_BM[~known_B] = evidence_BM[~known_B] = True  # nothing is asked there, but its shares must be numbers
    places_BP, asked_BP = _asked(batch)
    focus = EvidenceFocus(
        evidence_BM.to(device),
        counted_BM.to(device),
        places_BP.to(device),
        (asked_BP & known_B[:, None]).to(device),
        frozenset(layers or context.layers),
    )
    return replace(context, focus=focus)


def focus_loss(focus: EvidenceFocus) -> Tensor:
    """Return -log of the share of attention on the evidence, the mean of all that was asked; zero when nothing was."""
    if not focus.shares or not bool(focus.asked_BP.any()):
        return torch.zeros(())
    return torch.stack([-(share[focus.asked_BP] + _FLOOR).log().mean() for share in focus.shares.values()]).mean()


def _spans(question: Question, text: str, start: int) -> list[Range]:
    """Return the evidence in a chunk that begins at character ``start``, in characters of the document."""
    spans: list[Range] = []
    for first, last in question.evidence:
        if question.type in JOINED:
            spans.append((first, last))
            continue
        low, high = max(first - start, 0), min(last - start, len(text))
        found = ((answer, text.find(answer, low, high)) for answer in question.answers if low < high)
        answer, at = next(((answer, at) for answer, at in found if at >= 0), ("", -1))
        if at >= 0:
            stop = text.find(". ", at + len(answer) - 1, high)
            begin = max(low, text.rfind(". ", low, at) + 1, at - _AROUND[0])
            end = min(high if stop < 0 else stop + 1, at + len(answer) + _AROUND[1])
            spans.append((start + begin, start + end))
    return spans


def _asked(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return which local tokens write the first tokens of each answer, its end apart, and where there are so many."""
    width, answers = batch.ids_BT.shape[1], batch.labels_BA.shape[1]
    first_B = (batch.labels_BA != IGNORED).int().argmax(dim=1)
    at_BP = first_B[:, None] + torch.arange(min(ASKED_TOKENS, answers))
    # The last one is the end of the turn, which nothing in memory says; a label is written by the token before it.
    return (width - answers - 1 + at_BP).clamp(max=width - 1), at_BP < answers - 1
