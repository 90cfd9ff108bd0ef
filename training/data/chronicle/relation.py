"""What can be told of people, objects and works, how it is worded, and how it is asked.

In statements ``{X}`` is the subject, ``{V}`` the value, ``{O}`` the value before, ``{D}`` a detail of the
fact and
``{when}`` a phrase of time; in questions ``{x}`` is the subject, or a phrase for it ("the maker of the bell
Orlath").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "object", "work"]


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that can be told of a kind of subject.

    ``value``: where values come from: a kind of name, "person", "number", "year", or a list of ``VALUES``.
    ``share``: how many of the subjects it is told of. ``change``: wordings for a later value; empty when it
    never changes.
    ``head``: wordings for the value, a person, by way of the subject; they begin two-hop questions.
    ``compare``: wordings of a question which of ``{a}`` and ``{b}`` has more; for years, which was first.
    ``event``: each statement is one more event, to be counted; the value names the event.
    """

    name: str
    subject: Kind
    value: str
    share: float
    first: tuple[str, ...]
    questions: tuple[str, ...]
    change: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    event: bool = False
