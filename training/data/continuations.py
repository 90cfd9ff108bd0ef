"""Plain text as questions: how a passage goes on, with what stands before it in memory.

Trained beside questions, so that a reader of answers stays a language model, and one that looks back.
"""

from __future__ import annotations

import random

from training.data.questions import CONTINUATION, Question

SHOWN = SCORED = 200  # characters of a passage in the local context, and after it to be predicted


def excerpt(text: str, characters: int) -> str:
    """Return whole paragraphs of ``text``, from a fifth of it on, where front matter is over."""
    if len(text) <= characters:
        return text
    start = text.find("\n\n", len(text) // 5) + 1
    return text[start : start + characters].rpartition("\n")[0].strip() or text[start : start + characters]


def continuations(doc_id: str, text: str, count: int, seed: int) -> list[Question]:
    """Return ``count`` passages of ``text`` at random places of its last three quarters, fewer of a short text.

    ``question`` is a passage's beginning and the only answer its end; ``evidence`` is the span of both.
    """
    rng = random.Random(f"{seed}:{doc_id}")
    made = []
    first, last = len(text) // 4, len(text) - SHOWN - SCORED
    for number in range(count if last > first else 0):
        start = _word(text, rng.randint(first, last))
        turn, end = _word(text, start + SHOWN), _word(text, start + SHOWN + SCORED)
        shown, scored = text[start:turn].strip(), text[turn:end].rstrip()
        if shown and scored.strip():
            made.append(
                Question(f"{doc_id}/{number}", doc_id, shown, (scored,), type=CONTINUATION, evidence=((start, end),))
            )
    return made


def _word(text: str, at: int) -> int:
    """Return where the first blank at or after ``at`` stands, the end of the text at most."""
    while at < len(text) and not text[at].isspace():
        at += 1
    return min(at, len(text))
