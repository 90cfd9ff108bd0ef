"""A sentence hidden in a text: was it kept, was it found, was it used, by depth and capacity.

After "needle in a haystack" (G. Kamradt 2023), with a bank that may be too small: so a needle can be lost in three
ways, by eviction, by retrieval, or in answering.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.evaluation.answers import contains_answer
from memlong.model.wrapper import MemoryModel
from memlong.retriever.base import Retriever
from memlong.session import Session
from memlong.session.results import Answer

OUTCOMES = ("answered", "found, but not said", "held, but not found", "evicted")
"""From best to worst."""


@dataclass(frozen=True)
class Needle:
    """What is hidden, what is asked, and the words that a right answer contains."""

    sentence: str
    question: str
    expected: str

    def __post_init__(self) -> None:
        for words, given in (
            ("sentence", self.sentence), ("question", self.question), ("right answer", self.expected),
        ):  # fmt: skip
            if not given.strip():
                raise ConfigError(f"An empty {words}", "A sentence, a question about it, and its answer", "Fill it in")


@dataclass(frozen=True)
class Try:
    """One hiding place at one capacity.

    Attributes:
        depth: 0 is the beginning of the text, 1 its end. outcome: one of ``OUTCOMES``. answer: what was said.
        chunk_id: the chunk that the sentence begins in.
    """

    depth: float
    capacity_tokens: int
    outcome: str
    answer: str
    chunk_id: int


@dataclass(frozen=True)
class Step:
    """How far the whole test is: ``share`` of it done, what is being done, and the tries finished so far."""

    share: float
    words: str
    tries: tuple[Try, ...]


def hide(text: str, sentence: str, depth: float) -> tuple[str, tuple[int, int]]:
    """Return the text with the sentence between two of its sentences near ``depth``, and where it stands."""
    at = round(len(text) * min(max(depth, 0.0), 1.0))
    ends = [place for mark in (". ", "\n") if (place := text.rfind(mark, 0, at)) >= 0]
    at = max(ends) + 1 if ends and at < len(text) else (0 if at < len(text) else at)
    before = text[:at].rstrip()
    start = len(before) + (1 if before else 0)
    hidden = f"{before}{' ' if before else ''}{sentence.strip()} {text[at:].lstrip()}"
    return hidden, (start, start + len(sentence.strip()))


def run(
    model: MemoryModel,
    retriever: Retriever,
    text: str,
    needle: Needle,
    places: Sequence[tuple[float, int]],
    cancel: Callable[[], bool] = lambda: False,
) -> Iterator[Step]:
    """Hide, read and ask for every (depth, capacity), each in a session of its own; one step a batch or token.

    Raises:
        ConfigError, BankError: for capacities that hold no chunk.
    """
    tries: list[Try] = []
    for number, (depth, capacity) in enumerate(places):
        hidden, span = hide(text, needle.sentence, depth)
        session = Session(model.with_config(model.config.replace(capacity_tokens=capacity)), retriever)
        where = f"place {number + 1} of {len(places)} (depth {depth:.0%}, capacity {capacity:,} tokens)"
        doc_id = session.open(hidden, "needle")
        for progress in session.read_steps(doc_id):
            share = (number + 0.9 * progress.tokens_done / progress.tokens_total) / len(places)
            yield Step(share, f"Reading {where}, {progress.tokens_per_second:,.0f} tokens/s", tuple(tries))
            if cancel():
                return
        answer: Answer | None = None
        for item in session.stream(needle.question, AskOptions(max_tokens=32, record_attention=False), cancel):
            answer = item if isinstance(item, Answer) else answer
            yield Step((number + 0.95) / len(places), f"Asking at {where}", tuple(tries))
        if cancel() or answer is None:
            return
        tries.append(_judge(session, answer, needle, span, depth))
        yield Step((number + 1) / len(places), f"Done with {where}", tuple(tries))


def _judge(session: Session, answer: Answer, needle: Needle, span: tuple[int, int], depth: float) -> Try:
    """Say what became of the needle; a sentence over the border of two chunks counts where it begins."""
    reading = next(iter(session.readings.values()))
    index = next(chunk.index for chunk in reading.chunks if chunk.span[1] > span[0])
    held = index in session.bank
    found = any(item.chunk_id == index for item in answer.evidence)
    right = contains_answer(answer.text, [needle.expected])
    outcome = OUTCOMES[0] if right else OUTCOMES[1] if found else OUTCOMES[2] if held else OUTCOMES[3]
    return Try(depth, session.config.capacity_tokens, outcome, answer.text, index)
