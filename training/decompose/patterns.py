"""Questions of many kinds whose subject is named only by something else, and others that look like them.

Placeholders: ``{p}`` a person's name, ``{t}`` a thing's or a place's, ``{h}`` the words that stand for somebody or
something. They say nothing of any text: what is learned from them is which words to look up first.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from training.data.chronicle.names import ENDINGS, NameMaker
from training.data.chronicle.words import sentences

Range = tuple[int, int]


class Example(NamedTuple):
    """A question; ``inner``: characters of what must be found first, None where nothing must; ``person``: somebody."""

    question: str
    inner: Range | None
    person: bool = True


_PEOPLE = sentences("""
    the author of {t}
    the captain of {t}
    the founder of {t}
    the owner of {t}
    the composer of {t}
    the inventor of {t}
    the mayor of {t}
    the painter of {t}
    the architect of {t}
    the discoverer of {t}
    the editor of {t}
    the last keeper of {t}
    the first director of {t}
    the wife of {p}
    the husband of {p}
    the mother of {p}
    the father of {p}
    the younger brother of {p}
    the doctor of {p}
    the employer of {p}
    the best friend of {p}
    the partner of {p}
    {p}'s mother
    {p}'s sister
    {p}'s lawyer
    {p}'s neighbour
    the person who found {t}
    the person that repaired {t}
    the person who owns {t}
    the man who sold {t}
    the man who designed {t}
    the woman who painted {t}
    the woman who bought {t}
    the woman who wrote {t}
    the scientist who discovered {t}
    the engineer who built {t}
    the king who ruled {t}
    the officer who commanded {t}
    the boy who stole {t}
    the girl to whom {p} gave the ring
    the man {p} married
    the woman {p} loved
    the person {p} met at {t}
    the person from whom {p} bought {t}
    the person who hired {p}
    the person who taught {p} to read
    the one who lost {t}""")

_THINGS = sentences("""
    the town where {p} was born
    the city in which {p} lived
    the village in which {t} stands
    the country that {p} came from
    the house that {p} bought
    the street where {p} lives
    the ship that carried {p}
    the book that {p} wrote
    the first novel of {p}
    the company that {p} founded
    the school that {p} attended
    the river on which {t} lies
    the mountain {p} climbed
    the building that {p} designed
    the bridge near {t}
    the newspaper that {p} worked for
    the island {p} sailed to
    the play in which {p} appeared
    the regiment in which {p} served""")

_OF_PEOPLE = sentences("""
    Where was {h} born?
    In which town was {h} born?
    When was {h} born?
    When did {h} die?
    Where did {h} die?
    How old was {h}?
    Where does {h} live?
    In which street does {h} live?
    What is {h} afraid of?
    What does {h} do for a living?
    What was the profession of {h}?
    Who is {h} married to?
    Whom did {h} marry?
    Who is the brother of {h}?
    Who taught {h}?
    Who was the father of {h}?
    What is the name of the dog of {h}?
    What is {h}'s favourite dish?
    Which city did {h} travel to?
    To which country did {h} move?
    How much money did {h} owe?
    How much does {h} earn?
    What colour are the eyes of {h}?
    What did {h} keep in the drawer?
    Why did {h} leave the town?
    In which year was {h} elected?
    Which prize did {h} win?
    What instrument did {h} play?
    Where did {h} go to school?
    What is {h} known for?
    By whom was {h} raised?
    How many children did {h} have?
    Which language does {h} speak?
    What nationality is {h}?""")

_OF_THINGS = sentences("""
    When was {h} built?
    When was {h} founded?
    Who owns {h}?
    Who built {h}?
    Where is {h}?
    In which country is {h}?
    How many people live in {h}?
    Who is the mayor of {h}?
    What colour is {h}?
    How old is {h}?
    How long is {h}?
    How high is {h}?
    What is {h} known for?
    What is the name of the owner of {h}?
    Who was the first director of {h}?
    Which river flows through {h}?
    How much did {h} cost?
    Who paid for {h}?
    What happened to {h} in the end?
    When did {h} close?""")

_ENOUGH = sentences("""
    Who is {h}?
    Who was {h}?
    What is the name of {h}?
    What was the name of {h}?
    Do you know the name of {h}?
    Tell me about {h}.
    What does the text say about {h}?
    Which chapter mentions {h}?
    Describe {h}.""")

_PLAIN = sentences("""
    {h}
    What is {p} afraid of?
    Where is {t}?
    Who was {p}?
    Who kept {t} in the end?
    What did {p} tell {q}?
    What did {p} give to {q} at {t}?
    Who owes more, {p} or {q}?
    Which is older, {t} or {u}?
    How often did {p} visit {t}?
    How many letters did {p} send to {q}?
    Why did {p} sell {t}?
    When did {p} come to {t}?
    Did {p} ever see {q} again?
    What is the connection between {p} and {t}?
    Summarise what happens to {p}.
    What did the mayor of the town say about {p}?
    What happened after {p} left {t}?""")

_KINDS = ("bell", "clock", "mill", "boat", "bridge", "church", "garden", "painting", "ring", "map", "horse", "inn")
_TITLES = ("", "", "", "", "Mr ", "Mrs ", "Dr ", "Captain ", "King ", "Lady ")
_ENOUGH_SHARE = 0.15


class Maker:
    """Makes examples of invented names; those of training and of evaluation share none."""

    def __init__(self, rng: random.Random, split: str) -> None:
        self._rng, self._names = rng, NameMaker(rng, split)

    def two_steps(self) -> Example:
        """Return a question that takes two steps, or, at times, the same words asked so that one is enough."""
        person = self._rng.random() < 0.7
        words = self._filled(self._rng.choice(_PEOPLE if person else _THINGS))
        if self._rng.random() < _ENOUGH_SHARE:
            return Example(_began(self._rng.choice(_ENOUGH).replace("{h}", words)), None)
        frame = self._filled(self._rng.choice(_OF_PEOPLE if person else _OF_THINGS))
        start = frame.index("{h}")
        return Example(_began(frame.replace("{h}", words)), (start, start + len(words)), person)

    def one_step(self) -> Example:
        """Return a question that names what it is about."""
        frame = self._rng.choice(_PLAIN)
        if frame == "{h}":
            named = self._rng.random() < 0.7
            asked = self._rng.choice(_OF_PEOPLE if named else _OF_THINGS)
            frame = asked.replace("{h}", "{p}" if named else "{t}")
        return Example(_began(self._filled(frame)), None)

    def _filled(self, text: str) -> str:
        for mark, name in (("{p}", self._person), ("{q}", self._person), ("{t}", self._thing), ("{u}", self._thing)):
            if mark in text:
                text = text.replace(mark, name())
        return text

    def _person(self) -> str:
        first = self._names.word(self._rng.choice(("woman", "man")))
        last = self._names.word("surname")
        return self._rng.choice(_TITLES) + self._rng.choice((first, last, f"{first} {last}", f"{first} {last}"))

    def _thing(self) -> str:
        name = self._names.word(self._rng.choice(sorted(ENDINGS)))
        kind = self._rng.choice(_KINDS)
        forms = (
            name,
            name,
            f"the {kind} {name}",
            f"the {name} {kind.capitalize()}",
            f"the {kind} of {name}",
            f"{kind}s",
        )
        return self._rng.choice((*forms, f"the old {kind}", f"“{name}”", f"the {kind}"))


def _began(text: str) -> str:
    return text[:1].upper() + text[1:]
