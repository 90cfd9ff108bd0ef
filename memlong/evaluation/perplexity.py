"""Score a text with memory: the loss of every token, windows in blocks, each retrieving from all windows before it.

Within a block the stored layers of all windows are reached before any retrieval layer. So one forward pass serves:
when the first retrieval layer asks for memory, the windows' K-V are there; window after window then searches the
bank, fetches its chunks, and is stored itself, exactly as if the windows had run one by one.

Shapes: B windows of a block, T tokens of a window, V vocabulary, E embedding size.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from memlong.attention.context import MemoryContext
from memlong.bank.bank import Bank
from memlong.bank.ledger import ChunkPlace
from memlong.chunking import Chunk, chunk_text
from memlong.errors import ConfigError, DocumentError, unknown_name
from memlong.evaluation.ngrams import NGramCache
from memlong.model.wrapper import MemoryModel, StoredKV
from memlong.retriever.base import normalise
from memlong.session.session import make_bank

QUERIES = ("previous", "current")
_LOGIT_BYTES = 256 << 20  # logits of one block at most
_BLOCK = 1024  # tokens: fewer make the products slower, more no faster
_SLICE = 64  # tokens whose losses are computed in one go: what log-softmax makes of them stays in a CPU's cache


@dataclass(frozen=True)
class TextScore:
    """What came of scoring one text.

    Attributes:
        n_tokens: tokens with a loss: all but the first. loss: their summed negative log-likelihood, in nats.
        chunks_kept, chunks_evicted: of the bank, at the end.
    """

    n_tokens: int
    loss: float
    chunks_kept: int
    chunks_evicted: int

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return math.exp(self.loss / self.n_tokens)


@dataclass(frozen=True)
class Losses:
    """Losses [n] of some tokens in nats, by the model and with the n-gram cache's say; chunks that left the bank."""

    model_n: Tensor
    mixed_n: Tensor
    chunks_evicted: int


@dataclass(frozen=True)
class BlockLogits:
    """Logits [B, T, V] of a block of windows, their token ids [B, T] and how many tokens each has."""

    logits_BTV: Tensor
    ids_BT: Tensor
    lengths: tuple[int, ...]

    def flat(self) -> tuple[Tensor, Tensor]:
        """Return logits [tokens, V] and ids [tokens] of all real tokens, in the text's order."""
        if min(self.lengths) == self.ids_BT.shape[1]:
            return self.logits_BTV.flatten(0, 1), self.ids_BT.flatten()
        rows = [(self.logits_BTV[row, :n], self.ids_BT[row, :n]) for row, n in enumerate(self.lengths)]
        logits, ids = zip(*rows, strict=True)
        return torch.cat(logits), torch.cat(ids)


class Scorer:
    """Scores texts one by one; memory is empty at the start of each.

    Args:
        model, retriever: as for a session. The model's configuration sets chunk, window, top_k, capacity and policy.
        query: ``previous`` searches with the chunk before the window (causal: what we report); ``current`` with the
            window itself, which looks at the tokens it is about to predict, as the published implementation does.
        block_tokens: tokens of all windows of one forward pass; None takes 1,024 (or ``read_batch_tokens``, if that
            is more), or fewer where the logits of so many would not fit into 256 MB.
        newest: of the top-k chunks, how many are those right before the window, whatever they say; the others are the
            best among older ones. What a sentence goes on with often stands there, and no search needs to find it.
        ngrams: share of an n-gram cache of all that the bank holds in each prediction (see ``ngrams.py``); 0 is none.

    Raises:
        MemLongError: for an unknown query, more newest chunks than are fetched, or a share that is none.
    """

    def __init__(
        self,
        model: MemoryModel,
        retriever: Any,
        query: str = "previous",
        block_tokens: int | None = None,
        newest: int = 0,
        ngrams: float = 0.0,
    ) -> None:
        if query not in QUERIES:
            raise unknown_name("query", query, QUERIES)
        if not 0 <= newest <= model.config.top_k:
            raise ConfigError(
                f"{newest} newest chunks of {model.config.top_k} that are fetched",
                f"0 to {model.config.top_k}",
                "Fetch more chunks (top_k), or ask for fewer of the newest",
            )
        self.newest, self.ngrams = newest, NGramCache(ngrams).weight
        self.model, self.retriever, self.query = model, retriever, query
        fits = _LOGIT_BYTES // (4 * model.spec.vocab_size)
        self.block_tokens = block_tokens or min(max(model.config.read_batch_tokens, _BLOCK), fits)
        layout = model.layout
        # One pass serves when nothing that memory changed is stored, and the same weights write and read.
        self._one_pass = layout.stored_layers[-1] <= layout.retrieval_layers[0] and not model.adapts

    def score(self, text: str) -> TextScore:
        """Return the loss of a text.

        Raises:
            DocumentError: for a text of fewer than two tokens.
        """
        run = _Run(self, text)
        parts = list(_losses(run.blocks()))
        if not sum(len(part) for part in parts):
            raise DocumentError("A text of fewer than two tokens", "Two or more", "Choose another text")
        losses = run.mixed(torch.cat(parts))
        return TextScore(len(losses), float(losses.double().sum()), len(run.bank), run.evicted)

    def losses_after(self, text: str, chunks: Sequence[Chunk], first: int) -> Losses:
        """Return the losses of all tokens of ``chunks[first:]``.

        Chunks before are only read and stored, up to the window whose end predicts the first scored token: no logits
        are made for them, so a long context costs no more than reading it.

        Args:
            text: the document that the chunks were cut from. chunks: consecutive ones of it, whole windows.
            first: a window's first chunk, and not the first of all.

        Raises:
            ConfigError: for chunks that do not begin or break at a window.
        """
        per_window = self.model.config.window_tokens // self.model.config.chunk_tokens
        if first < per_window or first % per_window or first >= len(chunks):
            raise ConfigError(
                f"Scoring from chunk {first} of {len(chunks)}",
                f"A multiple of {per_window}, with one window before it",
                "Give a longer context",
            )
        run = _Run(self, text, chunks)
        losses = torch.cat(list(_losses(run.blocks(first - per_window))))
        losses = losses[-sum(chunk.n_tokens for chunk in chunks[first:]) :]
        return Losses(losses, run.mixed(losses), run.evicted)

    def logits(self, text: str) -> Iterator[BlockLogits]:
        """Yield the logits of one block of windows after the other, so that no more than a block is ever held."""
        yield from _Run(self, text).blocks()


class _Run:
    """One text on its way through the model, with a bank of its own."""

    def __init__(self, scorer: Scorer, text: str, chunks: Sequence[Chunk] | None = None) -> None:
        self.scorer, self.model, self.text = scorer, scorer.model, text
        self.config = self.model.config
        self.bank: Bank = make_bank(self.model, scorer.retriever.dim, self.config)
        self.chunks = chunks or chunk_text(self.model.tokenizer, text, self.config.chunk_tokens)
        self.evicted = 0
        self._before: np.ndarray | None = None  # embedding of the chunk before the block
        self._written: deque[int] = deque(maxlen=max(1, scorer.newest))  # the last chunks stored
        self._ngrams = NGramCache(scorer.ngrams) if scorer.ngrams else None
        self._lines: list[Tensor] = []  # the cache's say on each token of the windows that are scored, [n, 2] a window
        self._past: list[int] = []  # tokens right before the window at hand

    def blocks(self, first: int = 0) -> Iterator[BlockLogits]:
        """Yield the logits of the windows from chunk ``first`` on; those before are read and stored."""
        per_window = self.config.window_tokens // self.config.chunk_tokens
        per_block = max(1, self.scorer.block_tokens // self.config.window_tokens) * per_window
        for begin, end in ((0, first), (first, len(self.chunks))):
            for start in range(begin, end, per_block):
                block = self.chunks[start : min(start + per_block, end)]
                windows = [block[at : at + per_window] for at in range(0, len(block), per_window)]
                if end <= first:
                    self._read(windows)
                else:
                    yield self._block(windows)

    def mixed(self, losses_n: Tensor) -> Tensor:
        """Return the losses [n] of the last n tokens of all blocks with the n-gram cache's say, if it has one."""
        if not self._ngrams:
            return losses_n
        return self._ngrams.mix(losses_n, torch.cat(self._lines)[-len(losses_n) :])

    def _read(self, windows: Sequence[Sequence[Chunk]]) -> None:
        ids, mask, _ = self._ids(windows)
        self._store(windows, self._embed(windows), self.model.read(ids, mask), gather=False)

    def _block(self, windows: Sequence[Sequence[Chunk]]) -> BlockLogits:
        embeddings = self._embed(windows)
        ids, mask, lengths = self._ids(windows)

        def memory(kv: StoredKV) -> MemoryContext | None:
            return self._store(windows, embeddings, kv)

        with torch.no_grad():
            if self.scorer._one_pass:
                out = self.model.forward_reading(ids, memory, mask)
            else:
                out = self.model.forward(ids, memory(self.model.read(ids, mask)), mask)
        return BlockLogits(out.logits, ids, lengths)

    def _embed(self, windows: Sequence[Sequence[Chunk]]) -> np.ndarray:
        texts = [self.text[slice(*chunk.span)] for window in windows for chunk in window]
        return np.asarray(self.scorer.retriever.embed_documents(texts))

    def _ids(self, windows: Sequence[Sequence[Chunk]]) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
        """Return ids [B, T], the mask [B, T] where windows differ in length, and their lengths."""
        lengths = tuple(sum(chunk.n_tokens for chunk in window) for window in windows)
        ids = torch.zeros(len(windows), max(lengths), dtype=torch.long)
        for row, window in enumerate(windows):
            ids[row, : lengths[row]] = torch.tensor([token for chunk in window for token in chunk.token_ids])
        mask = None
        if min(lengths) < max(lengths):
            mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long().to(self.model.device)
        return ids.to(self.model.device), mask, lengths

    def _store(
        self, windows: Sequence[Sequence[Chunk]], embeddings: np.ndarray, kv: StoredKV, gather: bool = True
    ) -> MemoryContext | None:
        """Let window after window retrieve and then be stored; return the memory of all, if it is to be read."""
        rows, at = [], 0
        for row, window in enumerate(windows):
            mine = embeddings[at : at + len(window)]
            at += len(window)
            found = self._retrieve(mine)
            if gather:
                rows.append((*self.bank.gather(found, self.model.dtype, self.model.device), self.bank.lengths(found)))
            if gather and self._ngrams:
                tokens = [token for chunk in window for token in chunk.token_ids]
                self._lines.append(self._ngrams.lines(self._past, tokens))
            start = 0
            for chunk, embedding in zip(window, mine, strict=True):
                place = ChunkPlace(0, chunk.index, chunk.span, chunk.n_tokens)
                piece = kv.piece(row, start, start + chunk.n_tokens)
                chunk_id = self.bank.write(place, embedding, *piece, step=chunk.index).chunk_id
                self._written.append(chunk_id)
                start += chunk.n_tokens
                if self._ngrams:
                    self._ngrams.add(chunk_id, self._past, chunk.token_ids)
                    self._past = [*self._past, *chunk.token_ids][-self._ngrams.order :]
            self._evict(window[-1].index)
            self._before = mine[-1]
        return self.model.stack_memory(rows) if any(lengths for _, _, lengths in rows) else None

    def _evict(self, step: int) -> None:
        gone = self.bank.evict(step)
        self.evicted += len(gone)
        if self._ngrams:
            for eviction in gone:
                self._ngrams.remove(eviction.record.chunk_id)

    def _retrieve(self, embeddings: np.ndarray) -> list[int]:
        """Return the chunks that a window reads, in document order, and count them as retrieved."""
        query = normalise(embeddings.mean(axis=0)) if self.scorer.query == "current" else self._before
        newest = [chunk_id for chunk_id in self._written if chunk_id in self.bank] if self.scorer.newest else []
        older = self.config.top_k - len(newest)
        hits = [] if query is None or not older else self.bank.search(query, older, exclude=newest)
        ids = sorted([*newest, *(hit.chunk_id for hit in hits)])
        self.bank.trigger(ids)
        return ids


def _losses(blocks: Iterator[BlockLogits]) -> Iterator[Tensor]:
    """Yield the losses of each block's tokens; a window's first token is predicted by the end of the one before."""
    carried: Tensor | None = None
    for block in blocks:
        logits, ids = block.flat()
        if carried is not None:
            yield losses_of(carried[None], ids[:1])
        yield losses_of(logits[:-1], ids[1:])
        carried = logits[-1].clone()


def losses_of(logits_nV: Tensor, wanted_n: Tensor) -> Tensor:
    """Return -log p [n] of each wanted token, in nats, float32 on the CPU; a few at a time, whatever n is."""
    parts = zip(logits_nV.split(_SLICE), wanted_n.split(_SLICE), strict=True)
    return torch.cat([functional.cross_entropy(some.float(), wanted, reduction="none") for some, wanted in parts]).cpu()
