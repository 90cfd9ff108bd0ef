"""Word documents, read as a stream of XML: paragraphs, tables, text boxes, footnotes; headings make the
parts.

Not through python-docx: it builds the whole tree, which takes twenty times the size of the XML in memory, and
its paragraph list skips tables. Left out: deleted and moved-away text, field codes, and the second copy
(``mc:Fallback``) of every text box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import iterparse

from app.documents import refusals
from app.documents.archive import Archive
from app.documents.builder import Builder, Parsed
from app.documents.limits import Limits

BODY = "word/document.xml"
_WORDS = "Word document"
_PART_LEVEL = 3
_SKIPPED = frozenset({"Fallback", "moveFrom", "instrText", "delText", "delInstrText"})
_SPACES = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "softHyphen": "", "ptab": "\t"}
_TITLE_LEVEL = -1
Event = tuple[str, Any, str]


def parse(path: Path, stem: str, limits: Limits) -> Parsed:
    """Read a Word document; see :class:`app.documents.registry.Parser`."""
    builder = Builder(limits)
    with Archive(path, _WORDS, limits) as archive:
        levels = _heading_levels(archive)
        notes = {kind: _notes(archive, f"word/{kind}s.xml", kind) for kind in ("footnote", "endnote")}
        reader = _Body(builder, levels, notes)
        for event, element, name in _events(archive, _main_part(archive)):
            reader.take(event, element, name)
        builder.title = _core_title(archive) or reader.title
    return builder.result("docx", stem)


def _main_part(archive: Archive) -> str:
    if BODY in archive:
        return BODY
    # Some producers call it document2.xml and name it in the relationships only.
    found = [name for name in archive.names() if name.startswith("word/document") and name.endswith(".xml")]
    if not found:
        raise refusals.broken(_WORDS, "its text is missing")
    return found[0]


def _events(archive: Archive, name: str) -> Iterator[Event]:
    """Yield (start or end, element, local name), forgetting what lies behind; depth is limited.

    Raises:
        DocumentError: entity declarations, damaged XML, too deeply nested.
    """
    depth = 0
    open_elements: list[Any] = []
    try:
        for event, element in iterparse(archive.stream(name), events=("start", "end")):
            local = element.tag.rsplit("}", 1)[-1]
            if event == "start":
                depth += 1
                open_elements.append(element)
                if depth > archive.limits.nesting:
                    raise refusals.nested(archive.limits)
                yield event, element, local
            else:
                depth -= 1
                open_elements.pop()
                yield event, element, local
                element.clear()
                if open_elements and len(open_elements[-1]) > 64:
                    # Emptied elements still hang on their parent: a million of them are a gigabyte.
                    del open_elements[-1][:]
    except DefusedXmlException as error:
        raise refusals.entities(_WORDS) from error
    except (ParseError, LookupError) as error:
        raise refusals.broken(_WORDS, "its XML cannot be parsed") from error


def _attribute(element: Any, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rsplit("}", 1)[-1] == name), "")


def _core_title(archive: Archive) -> str:
    if "docProps/core.xml" in archive:
        for event, element, name in _events(archive, "docProps/core.xml"):
            if event == "end" and name == "title":
                return element.text or ""
    return ""


def _heading_levels(archive: Archive) -> dict[str, int]:
    """Return style id -> heading level (1 to 9), with -1 for the style Title. Ids are translated, names are
    not."""
    levels: dict[str, int] = {}
    based: dict[str, str] = {}
    style = ""
    if "word/styles.xml" not in archive:
        return {f"Heading{level}": level for level in range(1, 10)} | {"Title": _TITLE_LEVEL}
    for event, element, name in _events(archive, "word/styles.xml"):
        if event == "start" and name == "style":
            style = _attribute(element, "styleId")
        elif event == "start" and name == "name" and style:
            words = _attribute(element, "val").lower()
            if words == "title":
                levels[style] = _TITLE_LEVEL
            elif words.startswith("heading ") and words[8:].isdigit():
                levels[style] = int(words[8:])
        elif event == "start" and name == "basedOn" and style:
            based[style] = _attribute(element, "val")
        elif event == "start" and name == "outlineLvl" and style:
            levels.setdefault(style, _outline_level(element))
        elif event == "end" and name == "style":
            style = ""
    for child in based:
        parent, steps = based[child], 0
        while parent and parent not in levels and steps < 10:
            parent, steps = based.get(parent, ""), steps + 1
        if levels.get(parent, 0) > 0:
            levels.setdefault(child, levels[parent])
    return levels


def _outline_level(element: Any) -> int:
    value = _attribute(element, "val")
    return int(value) + 1 if value.isdigit() and int(value) < 9 else 0


def _notes(archive: Archive, part: str, kind: str) -> dict[str, str]:
    """Return the text of every footnote or endnote by its id."""
    notes: dict[str, str] = {}
    if part not in archive:
        return notes
    current, pieces = "", list[str]()
    for event, element, name in _events(archive, part):
        if event == "start" and name == kind:
            # Separator lines are notes too, of a type of their own.
            current, pieces = ("" if _attribute(element, "type") else _attribute(element, "id")), []
        elif event == "end" and name == kind and current:
            notes[current] = " ".join("".join(pieces).split())
        elif event == "end" and name in ("t", "p"):
            pieces.append((element.text or "") if name == "t" else " ")
    return notes


@dataclass
class _Paragraph:
    pieces: list[str] = field(default_factory=list)
    level: int = 0
    item: bool = False
    notes: list[str] = field(default_factory=list)


class _Body:
    """The state between XML events: open paragraphs (text boxes nest them), rows and cells, and what to
    skip."""

    def __init__(self, builder: Builder, levels: dict[str, int], notes: dict[str, dict[str, str]]) -> None:
        self.builder = builder
        self.levels = levels
        self.notes = notes
        self.title = ""
        self.skipping = 0
        self.open: list[_Paragraph] = []
        self.rows: list[list[str]] = []  # one list of cells per open (nested) row
        self.first_row = True
        self.after_item = False

    def take(self, event: str, element: Any, name: str) -> None:
        """Take one XML event."""
        if name in _SKIPPED:
            self.skipping += 1 if event == "start" else -1
        elif not self.skipping:
            if event == "start":
                self._start(element, name)
            else:
                self._end(element, name)

    def _start(self, element: Any, name: str) -> None:
        if name == "p":
            self.open.append(_Paragraph())
        elif name == "tbl" and not self.rows:
            self.first_row = True
        elif name == "tr":
            self.rows.append([])
        elif name == "tc" and self.rows:
            self.rows[-1].append("")
        elif self.open:
            self._inside_paragraph(element, name, self.open[-1])

    def _inside_paragraph(self, element: Any, name: str, paragraph: _Paragraph) -> None:
        if name == "pStyle":
            paragraph.level = self.levels.get(_attribute(element, "val"), 0)
        elif name == "outlineLvl":
            paragraph.level = paragraph.level or _outline_level(element)
        elif name == "numPr":
            paragraph.item = True
        elif name in ("footnoteReference", "endnoteReference"):
            note = self.notes[name.removesuffix("Reference")].get(_attribute(element, "id"))
            if note:
                paragraph.notes.append(note)

    def _end(self, element: Any, name: str) -> None:
        if name == "t" and self.open:
            self.open[-1].pieces.append(element.text or "")
        elif name in _SPACES and self.open:
            self.open[-1].pieces.append(_SPACES[name])
        elif name == "p" and self.open:
            self._paragraph(self.open.pop())
        elif name == "tr" and self.rows:
            self._row(self.rows.pop())

    def _paragraph(self, paragraph: _Paragraph) -> None:
        text = "".join(paragraph.pieces).strip()
        if self.rows and self.rows[-1]:
            words = " ".join([*text.split(), *(f"(Note: {note})" for note in paragraph.notes)])
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {words}".strip()
            return
        if not text:
            return
        if paragraph.level == _TITLE_LEVEL:
            self.title = self.title or text
            self.builder.add(text)
        elif 0 < paragraph.level <= _PART_LEVEL:
            self.builder.heading(text)
        else:
            item = paragraph.item and not paragraph.level
            self.builder.add(f"- {text}" if item else text, glue="\n" if item and self.after_item else "\n\n")
            self.after_item = item
        for note in paragraph.notes:
            self.builder.add(f"Note: {note}")

    def _row(self, cells: list[str]) -> None:
        text = " | ".join(cells) if any(cells) else ""
        if self.rows and self.rows[-1]:  # a table inside a cell
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {text}".strip()
            return
        self.builder.add(text, glue="\n\n" if self.first_row else "\n")
        self.first_row = False
