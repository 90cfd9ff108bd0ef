"""Needles and keys over a grid: depth, length of text, capacity of the bank, eviction policy.

Stored K-V depend on their window alone and evictions on embeddings alone. So a text is read once into a bank that
holds all of it, the reading is replayed under every policy and capacity (see ``policies.py``), and each question is
asked with what would have left kept out of retrieval: the same answers as from as many sessions, at the cost of one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, product
from statistics import fmean
from typing import Any

import numpy as np

from memlong.chunking import count_tokens, iter_tokens
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.evaluation.answers import contains_answer
from memlong.evaluation.needle import Needle, hide
from memlong.evaluation.policies import replay
from memlong.evaluation.recording import record
from memlong.model.wrapper import MemoryModel
from memlong.session import Session
from memlong.session.results import Answer


@dataclass(frozen=True)
class Probe:
    """A question on a text: where its answer stands (share of the text, characters), and what a right answer says."""

    depth: float
    span: tuple[int, int]
    question: str
    expected: str


@dataclass(frozen=True)
class Haystack:
    """A text and what is asked of it."""

    text: str
    probes: tuple[Probe, ...]


Make = Callable[[int, int], Iterator[Haystack]]
"""(tokens, number of the try) -> texts with their questions."""


@dataclass(frozen=True)
class Axes:
    """The grid.

    Attributes:
        lengths: tokens of text. capacities: of the bank; up to 1 a share of the text, above it tokens.
        policies: of eviction. tries: other texts and keys for every cell.
    """

    lengths: tuple[int, ...]
    capacities: tuple[float, ...]
    policies: tuple[str, ...]
    tries: int = 1

    def __post_init__(self) -> None:
        for name in ("lengths", "capacities", "policies"):
            if not getattr(self, name):
                raise ConfigError(f"A grid without {name}", "At least one of each axis", f"Give {name}")
        if self.tries < 1:
            raise ConfigError(f"A grid of {self.tries} tries", "A whole number from 1", "Raise tries")
        if min(self.capacities) <= 0:
            raise ConfigError(f"A capacity of {min(self.capacities)}", "More than 0", "Give a share or tokens")


@dataclass(frozen=True)
class Tried:
    """One question in one cell.

    Attributes:
        length: tokens of text asked for. capacity: as the grid has it. capacity_tokens: of the bank.
        kept: whether a chunk with the answer was held. found: whether one was retrieved. right: whether it was said.
    """

    length: int
    depth: float
    capacity: float
    capacity_tokens: int
    policy: str
    kept: bool
    found: bool
    right: bool
    answer: str


@dataclass
class GridResult:
    """Every single try."""

    rows: list[Tried] = field(default_factory=list)

    def table(self) -> list[dict[str, Any]]:
        """Return one row a cell: where it is, and the shares kept, found and answered of its tries."""
        cells: dict[tuple[int, float, str, float], list[Tried]] = {}
        for row in self.rows:
            cells.setdefault((row.length, row.capacity, row.policy, row.depth), []).append(row)
        return [
            {
                "length": length,
                "capacity": capacity,
                "capacity_tokens": round(fmean(row.capacity_tokens for row in rows)),
                "policy": policy,
                "depth": depth,
                "tries": len(rows),
                "kept": fmean(row.kept for row in rows),
                "found": fmean(row.found for row in rows),
                "answered": fmean(row.right for row in rows),
            }
            for (length, capacity, policy, depth), rows in cells.items()
        ]


def run_grid(
    model: MemoryModel,
    retriever: Any,
    make: Make,
    axes: Axes,
    options: AskOptions | None = None,
    progress: Callable[[str], bool] = lambda words: False,
) -> GridResult:
    """Ask every question of every text in every cell.

    Args:
        make: (tokens, number of the try) -> texts with their questions. options: of answering.
        progress: told in words; when it returns True, what was asked until then is returned.

    Raises:
        BankError: for an unknown policy, or a bank too small for one chunk.
    """
    grid = _Grid(axes, options or AskOptions(max_tokens=32, record_attention=False), progress)
    for length, number in product(axes.lengths, range(axes.tries)):
        for haystack in make(length, number):
            grid.where = f"{length:,} tokens, try {number + 1} of {axes.tries}"
            tokens = count_tokens(model.tokenizer, haystack.text)
            whole = model.config.replace(capacity_tokens=tokens + model.config.chunk_tokens)
            session = Session(model.with_config(whole), retriever)
            if grid.read(session, haystack.text) or grid.ask(session, haystack, length):
                return grid.result
    return grid.result


@dataclass
class _Grid:
    """A grid being filled; its methods return whether a person stopped it."""

    axes: Axes
    options: AskOptions
    progress: Callable[[str], bool]
    result: GridResult = field(default_factory=GridResult)
    where: str = ""

    def read(self, session: Session, text: str) -> bool:
        steps = session.read_steps(session.open(text, "text"))
        return any(self.progress(f"{self.where}: {step.tokens_done / step.tokens_total:.0%} read") for step in steps)

    def ask(self, session: Session, haystack: Haystack, length: int) -> bool:
        """Ask a text's questions in every cell of one length."""
        said: dict[tuple[int, tuple[int, ...]], Answer] = {}  # who lost the same chunks has the same answers
        everything = {record.chunk_id for record in session.bank.records()}
        for capacity, policy, kept in _kept(session, self.axes):
            gone = tuple(sorted(everything - set(kept)))
            for number, probe in enumerate(haystack.probes):
                if self.progress(f"{self.where}: capacity {capacity[0]:g}, {policy}, depth {probe.depth:.0%}"):
                    return True
                if (number, gone) not in said:
                    said[number, gone] = session.ask(probe.question, replace(self.options, masked=gone))
                answer = said[number, gone]
                tried = Tried(
                    length=length,
                    depth=probe.depth,
                    capacity=capacity[0],
                    capacity_tokens=capacity[1],
                    policy=policy,
                    kept=any(_overlap(session.bank.get(chunk_id).span, probe.span) for chunk_id in kept),
                    found=any(_overlap(item.span, probe.span) for item in answer.evidence),
                    right=contains_answer(answer.text, [probe.expected]),
                    answer=answer.text,
                )
                self.result.rows.append(tried)
        return False


def _kept(session: Session, axes: Axes) -> Iterator[tuple[tuple[float, int], str, tuple[int, ...]]]:
    """Yield (capacity as given and in tokens), policy, and the chunks that such a bank would hold after reading."""
    tokens = session.documents[0].n_tokens
    config = session.config
    recording = record(session.recorder.events, config.chunk_tokens, config.top_k, config.whole_sentences)
    chunks_nE = np.stack([session.bank.embedding(chunk.chunk_id) for chunk in recording.chunks])
    for capacity in axes.capacities:
        size = round(capacity * tokens) if capacity <= 1 else round(capacity)
        for row in replay(recording, chunks_nE, chunks_nE[:0], axes.policies, [size]):
            yield (capacity, size), row.policy, row.kept


def _overlap(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span[0] < other[1] and span[1] > other[0]


# Texts


def needles(text: str, tokenizer: Any, needle: Callable[[int], Needle], depths: Sequence[float]) -> Make:
    """Return what makes texts of one needle each: the beginning of ``text``, the needle at every depth in turn.

    Args:
        needle: number of the try -> what is hidden.

    Raises:
        ConfigError: later, when the text is too short for a length.
    """

    def make(tokens: int, number: int) -> Iterator[Haystack]:
        cut = beginning(text, tokenizer, tokens)
        hidden = needle(number)
        for depth in depths:
            whole, span = hide(cut, hidden.sentence, depth)
            yield Haystack(whole, (Probe(depth, span, hidden.question, hidden.expected),))

    return make


def beginning(text: str, tokenizer: Any, tokens: int) -> str:
    """Return the first ``tokens`` tokens of a text.

    Raises:
        ConfigError: when it has fewer.
    """
    for at, (_, _, end) in enumerate(iter_tokens(tokenizer, text), start=1):
        if at == tokens:
            return text[:end]
    raise ConfigError(
        f"A text of fewer than {tokens:,} tokens", "One as long as the longest of the grid", "Give a longer text"
    )


def numbered_needle(seed: int) -> Callable[[int], Needle]:
    """Return what makes needles: a town and its secret number, others for every try."""

    def make(number: int) -> Needle:
        rng = random.Random(f"needle {seed} {number}")
        town = "".join(rng.choice(part) for part in (_STARTS, _MIDDLES, _ENDS))
        secret = str(rng.randrange(100_000, 1_000_000))
        return Needle(f"The secret number of {town} is {secret}.", f"What is the secret number of {town}?", secret)

    return make


_STARTS = ("Bel", "Cor", "Dun", "Fal", "Gar", "Hol", "Kel", "Mar", "Nor", "Pel", "Ros", "Tor")
_MIDDLES = ("an", "be", "de", "en", "li", "mo", "ne", "ri", "so", "ta")
_ENDS = ("bridge", "bury", "field", "gate", "ham", "mouth", "port", "stead", "ton", "wick")


def pairs(tokenizer: Any, depths: Sequence[float], seed: int) -> Make:
    """Return what makes texts of keys and values, one a line, of which those at the depths are asked for.

    After the key-value task of Liu et al. 2023 (arXiv 2307.03172), with shorter keys: eight hexadecimal digits, and
    values of six decimal ones.
    """

    def make(tokens: int, number: int) -> Iterator[Haystack]:
        rng = random.Random(f"pairs {seed} {number} {tokens}")
        each = count_tokens(tokenizer, "".join(_line(*_pair(rng)) for _ in range(8))) / 8
        lines = [_pair(rng) for _ in range(max(1, round(tokens / each)))]
        ends = list(accumulate(len(_line(*line)) for line in lines))
        chosen = {depth: min(int(depth * len(lines)), len(lines) - 1) for depth in depths}
        probes = [
            Probe(
                depth,
                (ends[at] - len(_line(*lines[at])), ends[at] - 1),
                f"What is the value of key {lines[at][0]}?",
                lines[at][1],
            )
            for depth, at in chosen.items()
        ]
        yield Haystack("".join(_line(*line) for line in lines), tuple(probes))

    return make


def _pair(rng: random.Random) -> tuple[str, str]:
    return f"{rng.getrandbits(32):08x}", str(rng.randrange(100_000, 1_000_000))


def _line(key: str, value: str) -> str:
    return f"The value of key {key} is {value}.\n"
