"""A small phrase grammar: templates with choices and symbols, expanded by a seeded generator.

``<rain|sleet|hail>`` picks one alternative; ``{sky}`` expands the symbol ``sky``; ``{sky.a}`` puts
"a" or "an" before it.
Symbols bound by the caller (a name, a pronoun) win over the word lists.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

from training.data.chronicle.words import phrases

_CHOICE = re.compile(r"<([^<>]*)>")
_SYMBOL = re.compile(r"\{(\w+)(\.a)?\}")


class Grammar:
    """Expands templates. Each list is drawn like a shuffled pack of cards: nothing returns early."""

    def __init__(self, lists: Mapping[str, Sequence[str]], rng: random.Random) -> None:
        self._lists = lists
        self._rng = rng
        self._packs: dict[str, list[str]] = {}

    def draw(self, name: str) -> str:
        """Return the next template of the list ``name``, not expanded."""
        pack = self._packs.get(name)
        if not pack:
            pack = list(self._lists[name])
            self._rng.shuffle(pack)
            self._packs[name] = pack
        return pack.pop()

    def expand(self, template: str, bound: Mapping[str, str] | None = None) -> str:
        """Return the template with every choice and symbol replaced."""
        bound = bound or {}
        while found := _CHOICE.search(template):
            picked = self._rng.choice(found.group(1).split("|"))
            template = template[: found.start()] + picked + template[found.end() :]

        def symbol(match: re.Match[str]) -> str:
            name, article = match.group(1), match.group(2)
            value = bound[name] if name in bound else self.expand(self.draw(name), bound)
            return with_article(value) if article else value

        return _SYMBOL.sub(symbol, template)

    def sentence(self, template: str, bound: Mapping[str, str] | None = None) -> str:
        """Return the expanded template with a capital at its start and single blanks."""
        text = " ".join(self.expand(template, bound).split()).replace(" ,", ",").replace(" .", ".")
        return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """Return the noun phrase with "a" or "an" before it, by its first letter."""
    return ("an " if noun[:1].lower() in "aeiou" else "a ") + noun


_ONES = phrases(
    "zero;one;two;three;four;five;six;seven;eight;nine;ten;eleven;twelve;thirteen;fourteen;fifteen;"
    "sixteen;seventeen;eighteen;nineteen"
)
_TENS = phrases("twenty;thirty;forty;fifty;sixty;seventy;eighty;ninety")


def number_words(n: int) -> str:
    """Return ``n``, 0 to 9,999, in English words: "three hundred and forty-two"."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        rest = n % 10
        return _TENS[n // 10 - 2] + (f"-{_ONES[rest]}" if rest else "")
    if n < 1000:
        rest = n % 100
        return f"{_ONES[n // 100]} hundred" + (f" and {number_words(rest)}" if rest else "")
    rest = n % 1000
    joint = " and " if rest < 100 else " "
    return f"{number_words(n // 1000)} thousand" + (joint + number_words(rest) if rest else "")
