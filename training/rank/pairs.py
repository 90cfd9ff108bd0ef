"""Pairs of a question and a part of a chunk: those that a question's retrieval finds, and which hold the evidence.

Shapes: A questions of a document, N its chunks, P parts of a chunk, E embedding size, W of the words in it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memlong.retriever.base import Parts, Range, Vectors, normalise
from memlong.retriever.hybrid import HybridRetriever
from memlong.retriever.parts import MARGIN_TOKENS, cut_parts, token_spans
from training.data.jsonl import read_jsonl, write_jsonl
from training.data.passages import AskedChunk, Passages, cut
from training.data.questions import CONTINUATION, FREE_FORM, Document, Question
from training.rank.config import RankConfig, Source, parse_source
from training.rank.documents import held_out_origins, origin, read_source

PAIRS = "pairs.jsonl.zst"
_RESCUED = 2  # parts with the evidence of a question whose candidates have none
_MOSTLY, _NEARLY = 0.5, 0.8
# What pairs are made from: a change of any other setting leaves them as they are.
_MADE_FROM = ("sources", "data", "held_out", "chunk_tokens", "candidates", "parts")
_FORM = 2  # of a file's rows; what was written in another one is made anew


class Candidate(NamedTuple):
    """A part of a chunk with some more text around it, whether it holds the evidence, and where it begins."""

    chunk: int
    text: str
    holds: bool
    start: int = 0


@dataclass(frozen=True)
class RankedQuestion:
    """A question and the parts to be read beside it.

    Attributes:
        gold: chunks that hold the answer, or a piece of it. candidates: of the chunks found, best chunk first.
        rescued: parts with the evidence where no candidate has it.
        text: of its document, whole. stands: characters of it where one of the answers stands in the evidence.
    """

    question: str
    type: str
    answerable: bool
    gold: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    rescued: tuple[Candidate, ...]
    text: str = ""
    stands: tuple[Range, ...] = ()

    @property
    def positives(self) -> tuple[Candidate, ...]:
        """Parts that hold the evidence; none of a question that the text does not answer."""
        return tuple(each for each in self.candidates if each.holds) or self.rescued


@dataclass(frozen=True)
class PairSets:
    """Questions by source: those to learn from, and those of documents that are kept out."""

    training: dict[str, list[RankedQuestion]]
    held_out: dict[str, list[RankedQuestion]]


class PartSpan(NamedTuple):
    """Characters of a part in its document: its own, and with what stands around it."""

    own: Range
    around: Range


def load_pairs(
    config: RankConfig, tokenizer: Any, retriever: HybridRetriever, folder: Path, say: Callable[[str], None]
) -> PairSets:
    """Return the pairs of all sources; they are made once a folder, which takes minutes, and read from then on.

    Raises:
        MemLongError: for sources that are not there.
    """
    path = folder / PAIRS
    made_from = {"form": _FORM} | {name: config.to_dict()[name] for name in _MADE_FROM}
    if not (path.is_file() and next(read_jsonl(path), None) == made_from):
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name("new-" + PAIRS)
        # Level 3: packed in a second, and no larger than it must be.
        write_jsonl(fresh, _with_header(made_from, make_rows(config, tokenizer, retriever, say)), level=3)
        fresh.replace(path)
    rows = read_jsonl(path)
    next(rows)
    return pair_sets(rows)


def make_rows(
    config: RankConfig, tokenizer: Any, retriever: HybridRetriever, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """Yield a JSON row a document with its questions and candidates, each [chunk, start, end, holds] in characters."""
    sources = [parse_source(text) for text in config.sources]
    documents = {source.name: read_source(source, Path(config.data)) for source in sources}
    apart = held_out_origins(documents, config.held_out)
    for source in sources:
        for number, document in enumerate(documents[source.name], 1):
            asked = rank_document(config, tokenizer, retriever, source, document)
            doc_id, text, _ = document
            yield {
                "source": source.name, "doc_id": doc_id, "held_out": origin(doc_id) in apart, "text": text,
                "asked": asked,
            }  # fmt: skip
            if number % 20 == 0 or number == len(documents[source.name]):
                say(f"pairs of {source.name}: {number} of {len(documents[source.name])} documents")


def rank_document(
    config: RankConfig, tokenizer: Any, retriever: HybridRetriever, source: Source, document: Document
) -> list[dict[str, Any]]:
    """Return the questions of a document as JSON values, with the parts of the chunks that each of them finds."""
    doc_id, text, questions = document
    passages = cut(tokenizer, doc_id, text, questions, config.chunk_tokens, whole_sentences=True)
    asked = [each for each in passages.asked if each.question.type not in (FREE_FORM, CONTINUATION)]
    if source.questions is not None and len(asked) > source.questions:
        asked = random.Random(doc_id).sample(asked, source.questions)
    if not asked:
        return []
    chunks_NE = retriever.embed_documents(list(passages.texts))
    questions_AE = retriever.embed_documents([each.question.question for each in asked])
    questions_AE = retriever.weigh_query(questions_AE, np.square(chunks_NE).mean(axis=0), len(chunks_NE))
    orders_AN = np.argsort(-(questions_AE @ chunks_NE.T), axis=1, kind="stable")
    words_AW = normalise(questions_AE[:, -retriever.words :])
    parts = PartsOfChunks(tokenizer, retriever, passages)
    rows = []
    for each, order_N, words_W in zip(asked, orders_AN, words_AW, strict=True):
        spans = evidence_spans(text, each.question, source.states_facts)
        find = _Finder(parts, spans, words_W, source.states_facts)
        found = [int(chunk) for chunk in order_N[: config.candidates]]
        rows.append(_row(each, answer_spans(text, each.question), find, found, config.parts))
    return rows


def evidence_spans(text: str, question: Question, states_facts: bool) -> list[Range]:
    """Return the characters that a part must hold to answer a question; none where the text does not answer it.

    Where evidence states the fact it is that, else the first of the answers that stands in it.
    """
    if not question.answerable:
        return []
    spans = []
    for start, end in question.evidence:
        found = [(at, at + len(each)) for each in question.answers if (at := text.find(each, start, end)) >= 0]
        spans.append(found[0] if found and not states_facts else (start, end))
    return spans


def answer_spans(text: str, question: Question) -> list[Range]:
    """Return the characters of evidence where an answer stands word for word: of the first that does, each time."""
    for answer in (each.strip() for each in question.answers if each.strip()):
        whole = re.compile(rf"(?<!\w){re.escape(answer)}(?!\w)")
        found = {match.span() for span in question.evidence for match in whole.finditer(text, *span)}
        if found:
            return sorted(found)
    return []


def holds_evidence(part: PartSpan, spans: Iterable[Range], states_facts: bool) -> bool:
    """Say whether a part holds one of the spans: more than half of the part lies in a span longer than itself.

    A shorter span must lie inside it; one that states a fact inside the part with what stands around it, or for four
    fifths in the part itself: the rest of a sentence may be missing.
    """
    (start, end), (wide_start, wide_end) = part
    for first, last in spans:
        shared = min(last, end) - max(first, start)
        if last - first > end - start:
            held = shared > _MOSTLY * (end - start)
        elif states_facts:
            held = (wide_start <= first and last <= wide_end) or shared >= _NEARLY * (last - first)
        else:
            held = start <= first and last <= end
        if held:
            return True
    return False


def pair_sets(rows: Iterable[Mapping[str, Any]]) -> PairSets:
    """Return the questions of rows by source; those to learn from without answers that no part holds."""
    sets = PairSets({}, {})
    for row in rows:
        side = sets.held_out if row["held_out"] else sets.training
        texts: dict[Range, str] = {}
        asked = [_question(each, row["text"], texts) for each in row["asked"]]
        kept = asked if row["held_out"] else [each for each in asked if each.positives or not each.answerable]
        side.setdefault(row["source"], []).extend(kept)
    return sets


class PartsOfChunks:
    """Parts of a document's chunks: where they stand, and which words are in them; cut when somebody asks."""

    def __init__(self, tokenizer: Any, retriever: HybridRetriever, passages: Passages) -> None:
        self._tokenizer, self._retriever, self._passages = tokenizer, retriever, passages
        self._kept: dict[int, tuple[list[PartSpan], Vectors]] = {}

    def of(self, chunk: int) -> tuple[list[PartSpan], Vectors]:
        """Return the spans of a chunk's parts, and unit vectors of their words, [P, W]."""
        if chunk not in self._kept:
            text, about = self._passages.texts[chunk], self._passages.chunks[chunk]
            parts = cut_parts(self._tokenizer, text, about.n_tokens)
            spans = part_spans(token_spans(self._tokenizer, text, about.n_tokens), parts, about.span)
            self._kept[chunk] = spans, self._retriever.embed_words(parts.texts)
        return self._kept[chunk]


def part_spans(tokens: Sequence[Range], parts: Parts, chunk: Range) -> list[PartSpan]:
    """Return where the texts of parts stand in the document.

    Args:
        tokens: characters of each of the chunk's tokens in it. chunk: its characters in the document.
    """
    edges = [chunk[0] + start for start, _ in tokens]
    edges += [chunk[1]] * (parts.n_tokens + 1 - len(tokens))

    def characters(start: int, end: int) -> Range:
        return edges[max(0, start)], edges[min(end, parts.n_tokens)]

    return [
        PartSpan(characters(start, end), characters(start - MARGIN_TOKENS, end + MARGIN_TOKENS))
        for start, end in parts.ranges
    ]


@dataclass(frozen=True)
class _Finder:
    """Parts of chunks as one question sees them."""

    parts: PartsOfChunks
    spans: list[Range]
    words_W: Vectors
    states_facts: bool

    def best(self, chunk: int, count: int) -> list[list[Any]]:
        """Return the parts of a chunk whose words match best, as JSON values."""
        spans, words_PW = self.parts.of(chunk)
        order = np.argsort(-(words_PW @ self.words_W), kind="stable")[:count]
        return [self._candidate(chunk, spans[index]) for index in order]

    def holding(self, chunks: Iterable[int], count: int) -> list[list[Any]]:
        """Return the parts with the evidence whose words match best, as JSON values."""
        found = []
        for chunk in chunks:
            spans, words_PW = self.parts.of(chunk)
            scored = zip((words_PW @ self.words_W).tolist(), (self._candidate(chunk, span) for span in spans))
            found += [each for each in scored if each[1][-1]]
        return [candidate for _, candidate in sorted(found, key=lambda each: -each[0])[:count]]

    def _candidate(self, chunk: int, span: PartSpan) -> list[Any]:
        return [chunk, *span.around, holds_evidence(span, self.spans, self.states_facts)]


def _row(asked: AskedChunk, stands: list[Range], find: _Finder, chunks: Sequence[int], parts: int) -> dict[str, Any]:
    candidates = [candidate for chunk in chunks for candidate in find.best(chunk, parts)]
    missed = not any(candidate[-1] for candidate in candidates)
    question = asked.question
    return {
        "question": question.question, "type": question.type, "answerable": question.answerable,
        "gold": list(asked.gold), "candidates": candidates,
        "rescued": find.holding(sorted(set(asked.gold)), _RESCUED) if missed else [], "stands": stands,
    }  # fmt: skip


def _question(row: Mapping[str, Any], text: str, kept: dict[Range, str]) -> RankedQuestion:
    """Return a row's question; ``kept`` are texts of parts by their characters, so that each is held once."""

    def candidates(name: str) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(chunk, kept.setdefault((start, end), text[start:end]), holds, start)
            for chunk, start, end, holds in row[name]
        )

    return RankedQuestion(
        row["question"], row["type"], row["answerable"], tuple(row["gold"]), candidates("candidates"),
        candidates("rescued"), text, tuple((start, end) for start, end in row["stands"]),
    )  # fmt: skip


def _with_header(header: dict[str, Any], rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    yield header
    yield from rows
