"""A question that leans on the one before it, asked so that it stands alone.

"And when was she born?" names nobody, and what searches, what reads it beside a text, and a reader that was trained on
questions which stand alone make nothing of it. So the name that the question before was about takes the pronoun's
place, as people do it by hand in CANARD (Elgohary et al., EMNLP 2019, "Can You Unpack That?"). Here it is done by rule,
for English alone, and a question that no rule fits stays as it is. The two questions asked as one, which takes no
rules, are mostly answered with the answer to the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PRONOUN = re.compile(r"\b(?:he|she|it|they|him|her|his|its|their|them)\b", re.IGNORECASE)
_OF_THINGS = ("it", "its")
# "It" that stands for nothing (time, weather, distance, "is it true that ...") or for the text ("does it say ...").
_NO_THING = re.compile(
    r"\b(?:(?:what|which) (?:time|hour|day|date|month|season|year) (?:is|was)|"
    r"how (?:late|early|far)(?: away)? (?:is|was)|"
    r"(?:is|was|does|did|had|has)(?= it (?:be |been )?(?:clear|certain|likely|possible|true|known|said|say|tell|"
    r"mention|state|matter|seem|rain|snow|thunder|freez|cold|dark|night|because|that|who))) it\b|"
    r"\bit (?:rain|snow|say|said|tell|told|mention|seem|matter)",
    re.IGNORECASE,
)
# "her" before a noun is "Ada's", anywhere else it is "Ada".
_POSSESSIVE = re.compile(
    r"(?:his|its|their)\b|her(?= (?!(?:a|about|after|an|and|as|at|before|by|for|from|in|into|last|of|on|or|that|the|"
    r"there|to|when|where|while|with)\b)[a-z])",
    re.IGNORECASE,
)
_WORD = re.compile(r"(?:Mr|Mrs|Ms|Dr|St)\.|[^\W_](?:[\w-]|['’](?!s\b)(?=\w))*")
_THE = re.compile(r"\bthe (?:[^\W\d_]+ )?\Z")
_OWNED = re.compile(r"['’]s [^\W\d_]+")  # "'s boat" of "Ada's boat"
_OF_ANOTHER = re.compile(r"(?:(?:and|but) )?(?:(?:what|how) about )?(\S.*?)\s*\?", re.IGNORECASE)
_AND = re.compile(r"(?:and|but|so)\b,? ", re.IGNORECASE)
# Elsewhere some of the pronouns are other words, as "he" is in Spanish.
_ENGLISH = re.compile(
    r"\b(?:and|are|can|did|do|does|had|has|have|how|is|tell|was|were|what|when|where|which|who|whom|whose|why)\b", re.I
)
_NO_NAMES = frozenset(
    "I January February March April May June July August September October November December Monday Tuesday Wednesday "
    "Thursday Friday Saturday Sunday".split()
)


class _Name(NamedTuple):
    """Where in a question a name stands, and where what is said to be its own ends: its noun, or the name itself."""

    start: int
    end: int
    owned: int


def standing_alone(question: str, earlier: Iterable[str]) -> str:
    """Return a question with names for what it leaves to those before it; itself where it stands alone.

    Args:
        earlier: the questions before it, oldest first. They may lean on each other.
    """
    before = ""
    for each in (*earlier, question):
        before = _after(each, before)
    return before


def _after(question: str, before: str) -> str:
    """Return a question with the name that the one before it, which stands alone, was about."""
    names, own = _names(before), _names(question)
    if not names:
        return question
    other = _OF_ANOTHER.fullmatch(question)
    if other and [each[:2] for each in own] == [other.span(1)]:  # "And Ada Brenn?"
        return before[: names[0].start] + other[1] + before[names[0].end :]
    nothing = [each.span() for each in _NO_THING.finditer(question)]
    pronouns = (p for p in _PRONOUN.finditer(question) if not any(a <= p.start() < b for a, b in nothing))
    pronoun = next(pronouns, None)
    if pronoun is None or not _ENGLISH.search(question):
        return question
    thing = pronoun.group().lower() in _OF_THINGS
    if own and (thing or own[0].start < pronoun.start()):
        return question  # it may well be about that name, or "it" about nothing: "Does it say who ..."
    said = _meant(before, names, thing)
    whose = "'s" if _POSSESSIVE.match(question, pronoun.start()) else ""
    asked = f"{question[: pronoun.start()]}{said}{whose}{question[pronoun.end() :]}"
    asked = asked[begun.end() :] if (begun := _AND.match(asked)) else asked
    return asked[:1].upper() + asked[1:]


def _meant(before: str, names: list[_Name], thing: bool) -> str:
    """Return the first name of a question that a pronoun may stand for: things are "the ... X" or somebody's."""
    for name in names:
        if thing == (name.owned > name.end or before.startswith("the ", name.start)):
            return before[name.start : name.owned if thing else name.end]
    name = names[0]
    return before[name.start : name.owned if thing else name.end]


def _names(question: str) -> list[_Name]:
    """Return the names in a question. Its first word is none: every question begins with a capital."""
    runs: list[tuple[int, int]] = []
    for word in list(_WORD.finditer(question))[1:]:
        start, end = word.span()
        if question[start].isupper() and word.group() not in _NO_NAMES:
            if runs and question[runs[-1][1] : start] == " ":
                start, _ = runs.pop()
            runs.append((start, end))
    names = []
    for start, end in runs:
        article, owned = _THE.search(question[:start]), _OWNED.match(question, end)
        names.append(_Name(article.start() if article else start, end, owned.end() if owned else end))
    return names
