"""Collects the text of a document while it is parsed, with the place of every part."""

from __future__ import annotations

from dataclasses import dataclass

from app.documents import refusals
from app.documents.limits import Limits
from app.text import normalise, one_line

OPENING = "opening"
_LABEL_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser makes of a file: plain data that crosses the process border as JSON.

    ``spans`` are (start, end, label): they are ordered, start at 0, touch each other and end at
    ``len(text)``. A text without headings or pages has none.
    """

    title: str
    text: str
    spans: tuple[tuple[int, int, str], ...]
    kind: str
    warnings: tuple[str, ...] = ()


class Builder:
    """Text, places, title and warnings of a document in the making.

    Raises (from :meth:`add` and :meth:`heading`):
        DocumentError: as soon as there is more text than ``limits.characters``.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.title = ""
        self.first_heading = ""
        self._warnings: dict[str, None] = {}
        self._parts: list[str] = []
        self._length = 0
        self._marks: list[tuple[int, str]] = []
        self._label: str | None = None
        self._bare = False  # so far the open part has nothing but its heading

    @property
    def length(self) -> int:
        """Characters collected so far."""
        return self._length

    def warn(self, message: str) -> None:
        """Note something the reader should know; the same words once."""
        self._warnings[message] = None

    def start(self, label: str) -> None:
        """Begin a new part (page or chapter) with the next text that is added."""
        self._label = one_line(label, _LABEL_CHARACTERS) or self._label

    def heading(self, text: str, label: str = "") -> None:
        """Add a heading that begins a new part, named ``label`` or else by its own words.

        A heading that directly follows another ("PART ONE", "CHAPTER I") shares a part with it, under both
        names.
        """
        words = one_line(text, _LABEL_CHARACTERS)
        if not words:
            return
        label = label or words
        if self._bare and self._label is None and self._marks:
            start, above = self._marks.pop()
            both = f"{above}, {label}"
            # A list of contents would chain up into one long label: keep two names at most.
            self._mark_again(start, both if "," not in above and len(both) <= _LABEL_CHARACTERS else label)
            self.add(text)
        else:
            self.start(label)
            self.add(text)
        self._bare = True
        self.first_heading = self.first_heading or words

    def add(self, text: str, glue: str = "\n\n", clean: bool = True) -> None:
        """Add a paragraph after ``glue``; ``clean=False`` for text that was normalised before."""
        if self._length + len(text) > 4 * self.limits.characters:
            raise refusals.too_long(self.limits)  # before time is spent on normalising it
        text = normalise(text) if clean else text
        if not text:
            return
        if self._parts:
            self._parts.append(glue)
            self._length += len(glue)
        if self._label is not None:
            self._mark_again(self._length, self._label)
            self._label = None
        self._bare = False
        self._parts.append(text)
        self._length += len(text)
        if self._length > self.limits.characters:
            raise refusals.too_long(self.limits)

    def result(self, kind: str, title: str) -> Parsed:
        """Return everything collected; ``title`` is used where the document has none of its own."""
        text = "".join(self._parts)
        marks = self._marks
        if marks and marks[0][0] > 0:
            marks = [(0, OPENING), *marks]
        ends = [*(start for start, _ in marks[1:]), len(text)] if marks else []
        spans = tuple((start, end, label) for (start, label), end in zip(marks, ends, strict=True))
        return Parsed(one_line(self.title) or self.first_heading or title, text, spans, kind, tuple(self._warnings))

    def _mark_again(self, start: int, label: str) -> None:
        if self._marks and self._marks[-1][0] == start:
            self._marks.pop()
        self._marks.append((start, label))
