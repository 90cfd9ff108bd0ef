"""A question and the texts read for it, and where in them its answer stands."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from memlong.retriever.base import Range
from memlong.retriever.pointer import widened
from training.data.chronicle.words import sentences
from training.data.questions import FREE_FORM
from training.point.config import PointConfig
from training.rank.drawing import Drawn
from training.rank.pairs import Candidate, RankedQuestion

_WORKED_OUT = ("counting", "comparing", FREE_FORM)  # types whose answer is no words of a text
_CHANGED = "changed_fact"
_FIRST = 4  # parts, by which the weight of the next ones falls to 1/e
_OPEN = sentences("""
    Summarise the text.
    Summarise this passage in two sentences.
    What is this text about?
    What happens in this chapter?
    Give me the main points.
    What do you think of the style?
    How does the story begin?
    How does it end?
    Tell me more.
    Go on.
    Can you explain that in simple words?
    Tell me about {n}.
    Describe {n}.
    What does the text say about {n}?
    What kind of person is {n}?
    What happens to {n}?
    How is {n} connected with the rest?
    Do you like {n}?
    List everything that is said about {n}.
    How often is {n} mentioned?
    Write a poem about {n}.
    What would have happened without {n}?
    Compare {n} with {m}.
    Which is more important, {n} or {m}?
    What do {n} and {m} have in common?
    How many people are named?
    Hello!
    Thank you.""")


@dataclass(frozen=True)
class Pointed(Drawn):
    """What is pointed at in the texts of a question.

    Attributes:
        targets: (text, characters) where the answer stands; none where it does not.
        stated: whether the answer to such a question is words of a text.
    """

    targets: tuple[tuple[int, Range], ...]
    stated: bool = True


def usable(question: RankedQuestion) -> bool:
    """Say whether a question can be learned from: not one whose answer needs two places, or stands in no part."""
    if question.type == "two_hop" or not (question.candidates or question.rescued):
        return False
    return question.type in _WORKED_OUT or not question.answerable or bool(holding(question))


def holding(question: RankedQuestion) -> list[Candidate]:
    """Return the parts with the evidence in whose windows an answer stands."""
    return [each for each in question.positives if _targets(question, [window_of(question, each)])]


def window_of(question: RankedQuestion, part: Candidate) -> Range:
    """Return the characters of a part's document that are read."""
    return widened(question.text, part.start, part.start + len(part.text))


def example(question: RankedQuestion, config: PointConfig, rng: random.Random) -> Pointed:
    """Return some parts of a question, of which one holds the answer, if any, and where."""
    held = holding(question) if question.answerable and question.type not in _WORKED_OUT else []
    chosen = [rng.choice(held)] if held and rng.random() >= config.lost else []
    windows = [window_of(question, part) for part in chosen]
    others = [window_of(question, each) for each in _likely_first(question.candidates, rng) if not each.holds]
    # What was true before looks as an answer does: it is no example of what is none.
    others = [] if question.type == _CHANGED else [each for each in others if _apart(each, question.stands)]
    for other in others:
        if len(windows) >= config.pairs:
            break
        if all(other[1] <= start or end <= other[0] for start, end in windows):
            windows.append(other)
    if not windows:  # nothing but parts with the evidence was found
        windows = [window_of(question, rng.choice(held or list(question.candidates)))]
    rng.shuffle(windows)
    texts = tuple(question.text[start:end] for start, end in windows)
    stated = question.type not in _WORKED_OUT
    return Pointed(question.question, texts, tuple(_targets(question, windows)) if stated else (), stated)


def open_ended(question: RankedQuestion, config: PointConfig, rng: random.Random) -> Pointed:
    """Return a question that no words of a text answer, beside the parts that another question found."""
    parts = question.candidates or question.rescued
    windows = [window_of(question, each) for each in rng.sample(parts, min(config.pairs, len(parts)))]
    texts = tuple(question.text[start:end] for start, end in windows)
    names = sorted({word for text in texts for word in text.split() if word.isalpha() and word.istitle()}) or ["it"]
    asked = rng.choice(_OPEN).format(n=rng.choice(names), m=rng.choice(names))
    return Pointed(asked, texts, (), stated=False)


def _likely_first(candidates: Sequence[Candidate], rng: random.Random) -> list[Candidate]:
    """Return parts in a random order in which those of chunks that were found first mostly come first.

    They are what is read later, and the only ones that look as if they answered what the text does not.
    """
    # Weighted sampling without replacement (Efraimidis and Spirakis 2006): the largest u^(1/w) first, w = e^(-n/4).
    keys = [math.log(rng.random() or 1e-9) * math.exp(number / _FIRST) for number in range(len(candidates))]
    return [each for _, each in sorted(zip(keys, candidates), key=lambda pair: -pair[0])]


def _targets(question: RankedQuestion, windows: Sequence[Range]) -> list[tuple[int, Range]]:
    return [
        (index, (first - start, last - start))
        for index, (start, end) in enumerate(windows)
        for first, last in question.stands
        if start <= first and last <= end
    ]


def _apart(window: Range, spans: Sequence[Range]) -> bool:
    return all(last <= window[0] or window[1] <= first for first, last in spans)
