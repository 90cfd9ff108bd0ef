"""Invented names, made of syllables; those of training and of evaluation share no word, by construction.

A word belongs to one split for good: the parity of a hash of its letters decides which (:func:`split_of`).
Whoever asks for names of a split gets only words of that split, so no seed, length or order of asking can
make the two overlap.
"""

from __future__ import annotations

import hashlib
import random
from typing import Literal, get_args

from memlong.errors import unknown_name

Split = Literal["train", "eval"]
SPLITS: tuple[str, ...] = get_args(Split)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Single letters stand several times: names of nothing but clusters are hard to read.
_ONSETS = _words("b c d f g h j k l m n p r s t v w b d h l m p r t v br cl cr dr fl gr gl pr sh st th tr qu y z")
_VOWELS = _words("a e i o u a e o a e ai ou")
_MIDS = _words("b d g l m n r s t v l m n r d v l n r ld lm ln nd nt rb rd rl rm rn rt rv st th ll nn rr ss tt mb lv")

ENDINGS: dict[str, tuple[str, ...]] = {
    "woman": ("a", "wen", "eth", "ine", "issa", "ora", "elle", "ia", "une"),
    "man": ("an", "or", "ric", "ek", "o", "us", "ard", "im", "oth"),
    "surname": ("ock", "ander", "wick", "mere", "olt", "ersby", "augh", "intar", "elden", "usk", "orrow"),
    "street": ("el", "ane", "ow", "ind", "ars", "om"),
    "building": ("iver", "ole", "ast", "umber", "enne", "ell"),
    "work": ("ave", "idge", "orne", "uck", "aver", "omb"),
    "village": ("stow", "by", "thorpe", "combe", "wyn", "ness", "garth", "holm"),
    "far": ("esh", "ond", "aya", "oor", "ium", "ezza", "aris", "undi"),
    "beast": ("kin", "y", "ip", "ob", "um", "ix"),
    "object": ("ath", "iel", "orn", "ys", "ulf", "imar"),
    "boat": ("ette", "ara", "ilda", "ona", "ance", "ett"),
    "song": ("ilee", "aroon", "ador", "ennet", "isande"),
    "field": ("acre", "lea", "croft", "mead", "holt"),
    "town": ("mark", "haven", "mont", "gate", "burgh", "ford"),
}
"""Endings by kind of name, so that a reader hears at once whether a word is a woman, a village or a bell."""


def split_of(word: str) -> Split:
    """Return the one split that the word belongs to."""
    return "train" if hashlib.sha256(word.lower().encode("utf-8")).digest()[0] % 2 else "eval"


class NameMaker:
    """Makes words of one split, none of them twice.

    Raises:
        MemLongError: the split is not one of :data:`SPLITS`.
    """

    def __init__(self, rng: random.Random, split: str) -> None:
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        self._rng = rng
        self._split = split
        self._used: set[str] = set()

    def word(self, kind: str) -> str:
        """Return a new capitalised word with an ending of ``kind``, a key of :data:`ENDINGS`."""
        tries = 0
        while True:
            # Longer words after many collisions: the supply never ends, however long the chronicle is.
            word = self._candidate(kind, middles=1 + tries // 25)
            tries += 1
            if len(word) > 4 and split_of(word) == self._split and word not in self._used:
                self._used.add(word)
                return word

    def _candidate(self, kind: str, middles: int) -> str:
        choice = self._rng.choice
        body = "".join(choice(_VOWELS) + choice(_MIDS) for i in range(middles))
        return (choice(_ONSETS) + body + choice(ENDINGS[kind])).capitalize()
