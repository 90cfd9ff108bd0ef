"""Documents cut into chunks, and questions tied to the chunks that hold their answers.

A document here is what one bank would hold: a SQuAD article, a story, a chronicle, or a pack of short passages.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from memlong.chunking import Chunk, chunk_text
from training.data.questions import CONTINUATION, FREE_FORM, Document, Question

JOINED = ("two_hop", "counting", "comparing", FREE_FORM)
"""Types of questions whose answer follows from all of their evidence together."""


@dataclass(frozen=True)
class AskedChunk:
    """A question and the chunks of its document that hold an answer (indices into ``Passages.chunks``).

    ``before``: only so many first chunks may be retrieved for it; None: all.
    """

    question: Question
    gold: tuple[int, ...]
    before: int | None = None


@dataclass(frozen=True)
class Passages:
    """One document: its chunks in order, their texts, and what is asked of it."""

    doc_id: str
    chunks: tuple[Chunk, ...]
    texts: tuple[str, ...]
    asked: tuple[AskedChunk, ...]


def cut(
    tokenizer: Any,
    doc_id: str,
    text: str,
    questions: Iterable[Question],
    chunk_tokens: int,
    whole_sentences: bool = False,
) -> Passages:
    """Cut ``text`` into chunks and find each question's chunks.

    A question whose answer does not stand word for word in its evidence is left out (its gold chunk is unknown); one
    that the text does not answer has no gold chunk, and neither has a free-form one of unknown evidence.
    """
    chunks = tuple(chunk_text(tokenizer, text, chunk_tokens, whole_sentences))
    texts = tuple(text[chunk.span[0] : chunk.span[1]] for chunk in chunks)
    asked = []
    for question in questions:
        if question.type == CONTINUATION:
            # What stands in the passage itself, or after it, is not to be looked up.
            before = next(chunk.index for chunk in chunks if chunk.span[1] > question.evidence[0][0])
            asked.append(AskedChunk(question, (), before))
            continue
        gold = _gold(text, chunks, question)
        if gold or not question.answerable or question.type == FREE_FORM:
            asked.append(AskedChunk(question, gold))
    return Passages(doc_id, chunks, texts, tuple(asked))


def pack(questions: Sequence[Question], seed: int, characters: int = 24_000) -> list[Document]:
    """Pack questions with short contexts into documents of about ``characters``: (doc_id, text, questions).

    Unrelated passages side by side in one chunk are distractors that cost nothing. Evidence becomes the span of the
    passage in the pack.
    """
    contexts: dict[str, list[Question]] = {}
    for question in questions:
        if question.context and question.answerable:
            contexts.setdefault(question.context, []).append(question)
    order = sorted(contexts)
    random.Random(seed).shuffle(order)
    packs: list[Document] = []
    parts: list[str] = []
    here: list[Question] = []
    at = 0
    for context in order:
        span = (at, at + len(context))
        here += [_with_evidence(question, span) for question in contexts[context]]
        parts.append(context)
        at = span[1] + 2
        if at >= characters:
            packs.append((f"pack-{seed}-{len(packs)}", "\n\n".join(parts), here))
            parts, here, at = [], [], 0
    if parts:
        packs.append((f"pack-{seed}-{len(packs)}", "\n\n".join(parts), here))
    return packs


def group(questions: Iterable[Question]) -> Mapping[str, list[Question]]:
    """Return doc_id -> its questions, in order of first appearance."""
    grouped: dict[str, list[Question]] = {}
    for question in questions:
        if question.answers or not question.answerable:
            grouped.setdefault(question.doc_id, []).append(question)
    return grouped


def _with_evidence(question: Question, span: tuple[int, int]) -> Question:
    return replace(question, context=None, evidence=(span,))


def _gold(text: str, chunks: Sequence[Chunk], question: Question) -> tuple[int, ...]:
    if question.type in JOINED:
        return tuple(c.index for c in chunks if any(c.span[0] < e and c.span[1] > s for s, e in question.evidence))
    for start, end in question.evidence:
        for answer in question.answers:
            found = text.find(answer, start, end)
            if found < 0:
                continue
            return tuple(c.index for c in chunks if c.span[0] < found + len(answer) and c.span[1] > found)
    return ()
