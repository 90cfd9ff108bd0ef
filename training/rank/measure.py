"""What a scorer does on held-out questions: is the best pair the evidence, and how early come the chunks with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from training.data.passages import JOINED
from training.rank.pairs import RankedQuestion

FIRST = (1, 2, 4)
Score = Callable[[Sequence[str], Sequence[str]], Tensor]  # questions and texts of n pairs -> logits [n]


def measure(score: Score, questions: Mapping[str, Sequence[RankedQuestion]]) -> dict[str, float]:
    """Return shares from 0 to 1 as "SOURCE/NAME" -> share.

    Of answerable questions: ``best_pair``, whose best pair holds the evidence; ``first_1``, ``first_2``, ``first_4``,
    whose evidence is among so many first chunks (all of it where an answer follows from all together), in the order
    of their best parts; ``found``, whose best logit is above 0. Of the others ``refused``, whose best one is not.
    A question whose evidence retrieval did not find counts as missed.
    """
    shares: dict[str, float] = {}
    for source, asked in questions.items():
        seen: dict[str, list[bool]] = {}
        for question in asked:
            with torch.inference_mode():
                texts = [candidate.text for candidate in question.candidates]
                logits = score([question.question] * len(texts), texts).float().cpu().tolist()
            for name, yes in judge(question, logits).items():
                seen.setdefault(f"{source}/{name}", []).append(yes)
        shares |= {name: sum(each) / len(each) for name, each in seen.items()}
    return shares


def judge(question: RankedQuestion, logits: Sequence[float]) -> dict[str, bool]:
    """Return which of the shares of :func:`measure` a question adds to, given a logit for each candidate."""
    best = max(range(len(logits)), key=logits.__getitem__)
    if not question.answerable:
        return {"refused": logits[best] <= 0}
    chunks: dict[int, float] = {}
    for candidate, logit in zip(question.candidates, logits, strict=True):
        chunks[candidate.chunk] = max(logit, chunks.get(candidate.chunk, logit))
    order, gold = sorted(chunks, key=lambda chunk: -chunks[chunk]), set(question.gold)
    among = {f"first_{count}": gold & set(order[:count]) for count in FIRST}
    early = {name: found == gold if question.type in JOINED else bool(found) for name, found in among.items()}
    return {"best_pair": question.candidates[best].holds, "found": logits[best] > 0, **early}


def spread(questions: Mapping[str, Sequence[RankedQuestion]], most: int) -> dict[str, list[RankedQuestion]]:
    """Return at most ``most`` questions of each source, evenly spread."""
    return {
        source: [asked[index * len(asked) // most] for index in range(most)] if len(asked) > most else list(asked)
        for source, asked in questions.items()
    }
