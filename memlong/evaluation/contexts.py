"""Perplexity of the same tokens under several systems and lengths of context.

A passage is cut out of a document: some context and the tokens that are scored behind it. Every system predicts
exactly these tokens; what differs is what it may see of the context:

- memory: the model with its memory, which holds the whole context in chunks and is empty before it;
- ngrams: the same, with an n-gram cache of all that memory holds (see ``ngrams.py``);
- nothing: the same model, window by window, without memory;
- window: the same model with the first tokens of the context (attention sinks) and the newest ones, as many as
  memory and window together are. All are run anew for each window, the better of the two ways to slide in Xiao et
  al. 2023 (arXiv 2309.17453), with their four sinks;
- full: the same model with all of the context in its window, where it has positions for it;
- original: as nothing, by the weights before our training.

Key tokens are chosen as in LongPPL (Fang et al. 2024, arXiv 2410.23771): those that a judge with full attention
predicts much better with a long context than with a short one (log-probabilities differ by more than 2), and not
badly (above -2). They are chosen once for a passage, so all systems and lengths are scored on the same ones.

Shapes: n tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from memlong.chunking import Chunk, chunk_text
from memlong.errors import ConfigError, unknown_name
from memlong.evaluation.ngrams import WEIGHT
from memlong.evaluation.perplexity import Scorer, losses_of
from memlong.model.wrapper import MemoryModel

SYSTEMS = ("memory", "ngrams", "nothing", "window", "full", "original")
REMEMBERING = ("memory", "ngrams")
BLIND = ("nothing", "original")
"""They see a window and no more, so every length gives the same."""

SINKS = 4
KEY_GAIN, KEY_LIKELY = 2.0, -2.0  # LongPPL's thresholds, natural logarithms


@dataclass(frozen=True)
class Passage:
    """Chunks ``chunks[:first]`` of context and the scored ones behind them, of one document's ``text``."""

    title: str
    text: str
    chunks: tuple[Chunk, ...]
    first: int

    def after(self, context_chunks: int) -> tuple[tuple[Chunk, ...], int]:
        """Return the chunks with so much context only, and where scoring starts among them."""
        return self.chunks[self.first - context_chunks :], context_chunks


@dataclass(frozen=True)
class Plan:
    """What is compared.

    Attributes:
        contexts: tokens of context, multiples of a window. systems: of ``SYSTEMS``. query, newest: see
            :class:`Scorer`. ngrams: share of the n-gram cache in what "ngrams" predicts.
        slide_tokens: local tokens of "window"; None takes what memory and window are together.
        full_tokens: most tokens given to full attention; None takes what the model has positions for.
        judge: chooses key tokens, by its original weights; None takes the model itself.
        key_short: tokens of the judge's short context, at least.
    """

    contexts: tuple[int, ...]
    systems: tuple[str, ...] = SYSTEMS
    query: str = "previous"
    newest: int = 0
    ngrams: float = WEIGHT
    slide_tokens: int | None = None
    full_tokens: int | None = None
    judge: MemoryModel | None = None
    key_short: int = 1024


@dataclass
class Cell:
    """Sums of one system at one length: tokens and their loss in nats, key tokens and theirs, chunks that left."""

    tokens: int = 0
    loss: float = 0.0
    key_tokens: int = 0
    key_loss: float = 0.0
    evicted: int = 0

    def add(self, losses_n: Tensor, key_n: Tensor, evicted: int) -> None:
        """Add the losses of a passage."""
        losses = losses_n.double()
        self.tokens += len(losses)
        self.loss += float(losses.sum())
        self.key_tokens += int(key_n.sum())
        self.key_loss += float(losses[key_n].sum())
        self.evicted += evicted

    def row(self) -> dict[str, float | None]:
        """Return perplexities (None without tokens) and counts."""
        return {
            "perplexity": math.exp(self.loss / self.tokens),
            "key_perplexity": math.exp(self.key_loss / self.key_tokens) if self.key_tokens else None,
            "tokens": self.tokens,
            "key_tokens": self.key_tokens,
            "evicted": self.evicted,
        }


@dataclass
class Comparison:
    """What came of it.

    Attributes:
        cells: (system, tokens of context) -> sums over the passages that every system finished.
        left_out: (system, tokens of context) -> why there is no number. passages: how many were finished.
    """

    cells: dict[tuple[str, int], Cell] = field(default_factory=dict)
    left_out: dict[tuple[str, int], str] = field(default_factory=dict)
    passages: int = 0

    def table(self) -> dict[str, dict[str, Any]]:
        """Return system -> tokens of context -> row, or {"left_out": why}."""
        found: dict[str, dict[str, Any]] = {}
        for (system, context), cell in self.cells.items():
            found.setdefault(system, {})[str(context)] = cell.row()
        for (system, context), why in self.left_out.items():
            found.setdefault(system, {})[str(context)] = {"left_out": why}
        return found


def cut_passages(
    model: MemoryModel, title: str, text: str, context: int, scored: int, count: int = 1
) -> Iterator[Passage]:
    """Yield ``count`` passages of a document, evenly spread; none where it is too short.

    Args:
        context, scored: tokens of a passage, each a multiple of the window.

    Raises:
        ConfigError: for lengths that are no multiples.
    """
    config = model.config
    _refuse_lengths(config.window_tokens, (context, scored))
    per_window = config.window_tokens // config.chunk_tokens
    before, behind = context // config.chunk_tokens, scored // config.chunk_tokens
    chunks = chunk_text(model.tokenizer, text, config.chunk_tokens)[:-1]  # the last is short
    spare = len(chunks) - before - behind
    if spare < 0:
        return
    for number in range(count):
        start = int(spare * (number + 0.5) / count) // per_window * per_window
        yield Passage(title, text, tuple(chunks[start : start + before + behind]), before)


def compare(
    model: MemoryModel,
    retriever: Any,
    passages: Iterable[Passage],
    plan: Plan,
    progress: Callable[[str], bool] = lambda words: False,
) -> Comparison:
    """Score every passage by every system at every length.

    Args:
        progress: told in words; when it returns True, the passages finished until then are returned.

    Raises:
        MemLongError: for an unknown query or system, more newest chunks than are fetched, a context of broken
            windows, or a judge with another vocabulary.
    """
    for system in plan.systems:
        if system not in SYSTEMS:
            raise unknown_name("system", system, SYSTEMS)
    _refuse_lengths(model.config.window_tokens, plan.contexts)
    result = Comparison()
    scorer = Scorer(model, retriever, plan.query, newest=plan.newest, ngrams=plan.ngrams)
    judge = plan.judge or model
    if judge.tokenizer.get_vocab() != model.tokenizer.get_vocab():
        raise ConfigError("A judge of key tokens with another vocabulary", "The model's own", "Choose another judge")
    for passage in passages:
        found: dict[tuple[str, int], tuple[Tensor, int]] = {}
        if progress(f"{passage.title}: key tokens"):
            return result
        key_n = _key_tokens(judge, passage, plan)
        for context in plan.contexts:
            for system in plan.systems:
                if why := _unfit(model, system, context, passage, plan):
                    result.left_out[system, context] = why
                    continue
                if progress(f"{passage.title}: {system}, {context:,} tokens of context"):
                    return result
                if system in BLIND and (same := found.get((system, plan.contexts[0]))):
                    found[system, context] = same
                elif (system, context) not in found:
                    made = _score(scorer, passage, context, system, plan)
                    found |= {(name, context): each for name, each in made.items()}
        for (system, context), (losses_n, evicted) in found.items():
            if system in plan.systems:
                result.cells.setdefault((system, context), Cell()).add(losses_n, key_n, evicted)
        result.passages += 1
    return result


def _score(scorer: Scorer, passage: Passage, context: int, system: str, plan: Plan) -> dict[str, tuple[Tensor, int]]:
    """Return the losses [n] of the scored tokens by one system, and how many chunks left its bank.

    One pass serves both systems that have memory.
    """
    model, config = scorer.model, scorer.model.config
    chunks, first = passage.after(context // config.chunk_tokens)
    if system in REMEMBERING:
        made = scorer.losses_after(passage.text, chunks, first)
        both = zip(REMEMBERING, (made.model_n, made.mixed_n), strict=True)
        return {name: (losses_n, made.chunks_evicted) for name, losses_n in both}
    ids = [token for chunk in chunks for token in chunk.token_ids]
    if system == "full":
        rows = [_Row(0, context - 1, len(ids) - 1)]
    elif system == "window":
        most = plan.slide_tokens or config.window_tokens + config.top_k * config.chunk_tokens
        rows = _sliding(len(ids), context, config.window_tokens, most)
    else:
        rows = _windows(len(ids), context, config.window_tokens)
    with model.original_weights() if system == "original" else nullcontext():
        return {system: (_losses(model, ids, rows), 0)}


@dataclass(frozen=True)
class _Row:
    """Tokens ``start`` to ``end`` are run, ``sinks`` first ones before them; those from ``first`` on predict."""

    start: int
    first: int
    end: int
    sinks: int = 0


def _windows(n: int, scored_from: int, window: int) -> list[_Row]:
    """Return windows as memory has them: the first token of one is predicted by the end of the one before."""
    starts = range((scored_from - 1) // window * window, n - 1, window)
    return [_Row(start, max(start, scored_from - 1), min(start + window, n - 1)) for start in starts]


def _sliding(n: int, scored_from: int, stride: int, most: int) -> list[_Row]:
    """Return one row a stride, none longer than ``most`` tokens, the attention sinks among them."""
    rows = []
    for first in range(scored_from - 1, n - 1, stride):
        end = min(first + stride, n - 1)
        start = max(0, min(end - most, first - SINKS))
        sinks = SINKS if start > SINKS else 0
        rows.append(_Row(start + sinks if sinks else 0, first, end, sinks))
    return rows


def _losses(model: MemoryModel, ids: Sequence[int], rows: Sequence[_Row]) -> Tensor:
    """Return the losses [n] of the tokens that the rows predict, one after the other, without memory."""
    found = []
    for row in rows:
        given = torch.tensor([[*ids[: row.sinks], *ids[row.start : row.end]]], device=model.device)
        wanted_n = torch.tensor(ids[row.first + 1 : row.end + 1], device=model.device)
        with torch.no_grad():
            logits_nV = model.forward(given, logits_to_keep=len(wanted_n)).logits[0, -len(wanted_n) :]
        found.append(losses_of(logits_nV, wanted_n))
    return torch.cat(found)


def _key_tokens(judge: MemoryModel, passage: Passage, plan: Plan) -> Tensor:
    """Return which of the scored tokens [n] are key tokens."""
    ids = [token for chunk in passage.chunks for token in chunk.token_ids]
    before = sum(chunk.n_tokens for chunk in passage.chunks[: passage.first])
    scored = len(ids) - before
    room = _positions(judge, plan) - scored
    ids = ids[max(0, before - room) :] if room > 0 else ids[before:]
    before = len(ids) - scored
    if before <= plan.key_short:
        return torch.zeros(scored, dtype=torch.bool)
    stride = max(1, plan.key_short // 4)  # the paper's: 1,024 of 4,096
    starts = range(before - 1, len(ids) - 1, stride)
    short = [_Row(first - plan.key_short + 1, first, min(first + stride, len(ids) - 1)) for first in starts]
    with judge.original_weights():
        long_n = -_losses(judge, ids, [_Row(0, before - 1, len(ids) - 1)])
        short_n = -_losses(judge, ids, short)
    return (long_n - short_n > KEY_GAIN) & (long_n > KEY_LIKELY)


def _refuse_lengths(window: int, lengths: Sequence[int]) -> None:
    for tokens in lengths:
        if tokens < window or tokens % window:
            raise ConfigError(
                f"{tokens:,} tokens with windows of {window:,}",
                "Whole windows, one at least",
                f"Choose a multiple of {window:,}",
            )


def _positions(model: MemoryModel, plan: Plan) -> int:
    """Return how many tokens full attention may have."""
    own = model.spec.max_positions or 1 << 30
    return min(own, plan.full_tokens or own)


def _unfit(model: MemoryModel, system: str, context: int, passage: Passage, plan: Plan) -> str:
    """Say why a system cannot be scored, or ""."""
    if system == "original" and not model.adapts:
        return "The model has no trained weights beside the original ones"
    tokens = context + sum(chunk.n_tokens for chunk in passage.chunks[passage.first :])
    if system == "full" and tokens - 1 > _positions(model, plan):
        return f"{tokens:,} tokens, and full attention is given {_positions(model, plan):,} at most"
    return ""
