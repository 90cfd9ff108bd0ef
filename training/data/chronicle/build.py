"""Makes whole chronicles, and fits their length."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from memlong.errors import ConfigError
from training.data.chronicle.ask import Asker
from training.data.chronicle.names import Split
from training.data.chronicle.prose import Statement, Writer
from training.data.chronicle.world import WorldMaker
from training.data.questions import Question

CHARS_PER_TOKEN = 3.9
"""Characters per token where no count is given; a 32k BPE gives 3.6 to 4.4 on English."""

MIN_TOKENS = 200

_TRIES = 5
_TOLERANCE = 0.004


@dataclass(frozen=True, slots=True)
class Chronicle:
    """A made-up chronicle. ``statements``: each telling of a fact with its span, in the order of the text."""

    title: str
    text: str
    questions: tuple[Question, ...]
    doc_id: str = ""
    statements: tuple[Statement, ...] = ()


def make_chronicle(
    seed: int, tokens: int, split: Split = "eval", count_tokens: Callable[[str], int] | None = None
) -> Chronicle:
    """Return the chronicle of a seed: some ``tokens`` tokens of prose with planted facts, and its questions.

    The same arguments give the same chronicle in every process. Chronicles of the splits "train" and "eval"
    share no name. ``count_tokens`` counts the tokens of a text; without it a token is 3.9 characters. The
    length is met within a sentence or two, from some 1,000 tokens on within 2 %.

    Raises:
        ConfigError: ``tokens`` is below 200, or the split is unknown.
    """
    if tokens < MIN_TOKENS:
        raise ConfigError(
            f"A chronicle of {tokens} tokens was asked for",
            f"{MIN_TOKENS} tokens and more are allowed",
            "Ask for a longer one",
        )
    chars = round(tokens * CHARS_PER_TOKEN)
    world = WorldMaker(random.Random(f"world {split} {seed} {tokens}"), split, chars).make()
    goal = chars
    for _ in range(_TRIES):
        title, text, told = Writer(world, random.Random(f"prose {split} {seed} {tokens}"), goal).write()
        if count_tokens is None:
            break
        counted = count_tokens(text)
        if abs(counted - tokens) <= _TOLERANCE * tokens:
            break
        # The facts stay as they are: only the prose between them grows or shrinks.
        goal = max(1, round(goal + (tokens - counted) * len(text) / counted))
    doc_id = f"chronicle-{split}-{seed}-{tokens}"
    questions = Asker(world, told, random.Random(f"questions {split} {seed} {tokens}"), doc_id).ask()
    return Chronicle(title, text, questions, doc_id, tuple(told))
