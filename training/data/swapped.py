"""Documents with other facts: names and numbers that answer questions are exchanged, in text and questions alike.

A reader that is trained on few articles for long learns their answers by heart. Of a document whose answers were
exchanged it can know none, so it has to look (entity substitution as in Longpre et al., arXiv 2109.05052, there to
measure how much a model relies on what it knows).
"""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from training.data.questions import Document, Question

_NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*\d(?![\w%]|[.,]\d)")
_NAME = re.compile(r"[A-Z][\w'.-]+(?: (?:of |the |de |and )?[A-Z][\w'.-]+){0,3}")
_YEAR = re.compile(r"1\d{3}|20[01]\d")
_ASKING = ("who", "where", "when", "which", "what", "how")
_TRIES = 8  # names drawn until one is not in the text


def name_pool(documents: Iterable[Document]) -> dict[tuple[str, int], list[str]]:
    """Return the names that answer questions, by what is asked for and their number of words, sorted."""
    pool: dict[tuple[str, int], set[str]] = {}
    for _, _, questions in documents:
        for question in questions:
            if question.answers and (name := _as_name(question.answers[0])):
                pool.setdefault(_kind(question, name), set()).add(name)
    return {kind: sorted(names) for kind, names in pool.items()}


def swap(document: Document, pool: Mapping[tuple[str, int], Sequence[str]], seed: int) -> Document:
    """Return the document with its answers exchanged, and the questions whose answer changed or that have none.

    Every occurrence of a name or number is exchanged for the same other one, in the text, the questions and the
    answers; names for names of other documents that answer the same kind of question, years for years near by, other
    numbers for numbers of as many digits. Evidence spans follow.
    """
    doc_id, text, questions = document
    terms = _terms(document, pool, random.Random(f"{seed}:{doc_id}"))
    if not terms:
        return f"{doc_id}~{seed}", text, []
    longest_first = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{longest_first})(?!\w)")
    starts, moves, shift = [], [0], 0
    for match in pattern.finditer(text):
        shift += len(terms[match[0]]) - len(match[0])
        starts.append(match.start())
        moves.append(shift)

    def exchange(old: str) -> str:
        return pattern.sub(lambda match: terms[match[0]], old)

    def moved(at: int) -> int:
        return at + moves[bisect_right(starts, at - 1)]

    changed = []
    for question in questions:
        answers = tuple(map(exchange, question.answers))
        if answers[:1] != question.answers[:1] or not question.answerable:
            evidence = tuple((moved(start), moved(end)) for start, end in question.evidence)
            changed.append(
                replace(
                    question,
                    id=f"{question.id}~{seed}",
                    doc_id=f"{doc_id}~{seed}",
                    question=exchange(question.question),
                    answers=answers,
                    evidence=evidence,
                )
            )
    return f"{doc_id}~{seed}", exchange(text), changed


def _terms(document: Document, pool: Mapping[tuple[str, int], Sequence[str]], rng: random.Random) -> dict[str, str]:
    """Return what is exchanged for what."""
    _, text, questions = document
    terms: dict[str, str] = {}
    for question in questions:
        for answer in question.answers[:1]:
            for number in _NUMBER.findall(answer):
                terms.setdefault(number, _other_number(number, rng))
            name = _as_name(answer)
            if name is None or name in terms:
                continue
            kind = _kind(question, name)
            tried = (rng.choice(pool[kind]) for _ in range(_TRIES if pool.get(kind) else 0))
            other = next((other for other in tried if other not in text), None)
            if other is not None:
                terms[name] = other
                last, new = name.split()[-1], other.split()[-1]
                if kind[0] == "who" and kind[1] > 1 and last not in terms and new not in text:
                    terms[last] = new  # people are called by it alone
    return terms


def _as_name(answer: str) -> str | None:
    bare = answer.removeprefix("the ").removeprefix("The ").rstrip(".,")
    return bare if _NAME.fullmatch(bare) else None


def _kind(question: Question, name: str) -> tuple[str, int]:
    words = re.findall(r"[a-z]+", question.question.lower())
    return next((word for word in words if word in _ASKING), ""), len(name.split())


def _other_number(number: str, rng: random.Random) -> str:
    if _YEAR.fullmatch(number):
        shift = rng.choice([*range(-60, 0), *range(1, 61)])
        return str(min(int(number) + shift, 2019 - rng.randrange(10)))
    digits = [rng.choice("123456789"), *(rng.choice("0123456789") for _ in range(len(number) - 1))]
    return "".join(old if old == "," else new for old, new in zip(number, digits, strict=True))
