"""HTML to blocks of text, for HTML pages and for the chapters of an EPUB. Nothing is run, loaded or
rendered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from app.documents import refusals
from app.documents.limits import Limits

_SKIPPED = frozenset(
    "script style noscript template nav head svg math iframe object embed audio video canvas button select "
    "textarea rt rp title map".split()
)
_PAGE_FRAME = frozenset({"header", "footer"})
_BLOCK = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu ol p pre "
    "section summary "
    "table tbody tfoot thead tr ul".split()
)
_TIGHT = frozenset({"li", "tr", "dt", "dd"})
_LISTS = frozenset({"ul", "ol", "dl"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_CELLS = frozenset({"td", "th"})
_LAYOUT = "h1,h2,h3,h4,table,ul,ol,blockquote,p+p,div+div"
_NOTE_MARK = re.compile(r"[\[(]?(?:\d{1,4}|[*†‡§¶]{1,3}|[a-z]|[ivxlc]{1,6})[\])]?")
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9:]{0,30})")
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
# Elements whose end tag may be left out, and old pages' unclosed formatting: the parser closes them, so many
# open ones are no depth.
_IMPLIED = frozenset(
    "p li dt dd td th tr thead tbody tfoot option optgroup colgroup rt rp body html head "
    "a b big code em font i nobr s small strike strong tt u".split()
)
_SELF_CLOSED = re.compile(r"<([A-Za-z][A-Za-z0-9:]{0,30})((?:\s[^<>]*)?)/>")
_OWN_NAMES = re.compile(
    r"(\A.{0,2000}?<!DOCTYPE[^<>\[]{0,500})\[[^\]]{0,20000}\]\s{0,100}(?=>)", re.IGNORECASE | re.DOTALL
)
_CHARSET = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]{2,40})""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph (level 0) or heading (1 to 6) with what goes before it, or an anchor met on the way
    (``anchor``)."""

    text: str
    level: int = 0
    glue: str = "\n\n"
    anchor: str = ""


def declared_encoding(raw: bytes) -> str | None:
    """Return the encoding that the first lines of an HTML or XML file name, if any."""
    match = _CHARSET.search(raw[:2048])
    return match[1].decode("ascii", "replace") if match else None


def open_tags(text: str) -> str:
    """Return XHTML with ``<title/>`` as ``<title></title>``: read as HTML the former swallows all that
    follows. Declarations inside the document type go: HTML has none, and would show their end as text."""

    def opened(match: re.Match[str]) -> str:
        return match[0] if match[1].lower() in _VOID else f"<{match[1]}{match[2]}></{match[1]}>"

    return _SELF_CLOSED.sub(opened, _OWN_NAMES.sub(r"\1", text))


def check_nesting(text: str, limits: Limits) -> None:
    """Refuse markup nested too deeply, in linear time: the parser itself needs quadratic time for it.

    Raises:
        DocumentError: more open elements than ``limits.nesting``.
    """
    depth = deepest = 0
    for closing, name in _TAG.findall(text):
        if name.lower() not in _VOID and name.lower() not in _IMPLIED:
            depth = max(depth - 1, 0) if closing else depth + 1
            deepest = max(deepest, depth)
    if deepest > limits.nesting:
        raise refusals.nested(limits)


def parse_html(text: str, limits: Limits) -> LexborHTMLParser:
    """Return the tree of an HTML text. Raises DocumentError when it is nested too deeply."""
    check_nesting(text, limits)
    return LexborHTMLParser(text)


def blocks(tree: LexborHTMLParser, anchors: Mapping[str, str] | None = None) -> Iterator[Block]:
    """Yield the text of the body in reading order; ids that are keys of ``anchors`` come as blocks of their
    own."""
    if tree.body is not None:
        yield from _Walker(anchors or {}).walk(tree.body)


class _Walker:
    """Depth-first without recursion: hostile trees are deeper than Python's stack."""

    def __init__(self, anchors: Mapping[str, str]) -> None:
        self.anchors = anchors
        self.pieces: list[str] = []
        self.level = 0
        self.glue = "\n\n"
        self.preformatted = 0
        self.lists: list[int | None] = []  # next number of each open list, None for bullets
        self.prefix = ""
        self.cells = 0  # open cells of data tables: blocks inside them stay on the row's line
        self.row_started = False
        self.fresh = False  # a list or table has begun and has no line yet

    def walk(self, root: Any) -> Iterator[Block]:
        stack: list[tuple[Any, bool]] = [(root, False)]
        while stack:
            node, closing = stack.pop()
            if closing:
                yield from self.close(node.tag, node)
                if node.tag in _CELLS and self.cells:
                    self.cells -= 1
                continue
            if node.is_text_node:
                self.text(node.text_content or "")
            elif node.is_element_node and not _skipped(node):
                yield from self.open(node)
                stack.append((node, True))
                child = node.last_child
                while child is not None:
                    stack.append((child, False))
                    child = child.prev
        yield from self.flush()

    def text(self, text: str) -> None:
        self.pieces.append(text if self.preformatted else re.sub(r"\s+", " ", text))

    def open(self, node: Any) -> Iterator[Block]:
        tag = node.tag
        attributes = node.attributes if self.anchors else {}
        anchor = attributes.get("id") or (attributes.get("name") if tag == "a" else None)
        if anchor in self.anchors and anchor:
            yield from self.flush()
            yield Block("", anchor=anchor)
        if tag == "br":
            self.pieces.append(" " if self.cells else "\n")
        elif tag in _CELLS:
            yield from self.open_cell(node)
        elif tag in _BLOCK:
            yield from self.open_block(tag, node)
        elif tag == "sup":
            self.pieces.append("^" if self.pieces and self.pieces[-1][-1:].isdigit() else "")

    def open_cell(self, node: Any) -> Iterator[Block]:
        if self.cells == 0 and node.css_first(_LAYOUT) is not None:
            yield from self.flush()  # a table for layout: its cells are ordinary text
            return
        self.cells += 1
        if self.row_started:
            self.pieces.append(" | ")
        self.row_started = True

    def open_block(self, tag: str, node: Any) -> Iterator[Block]:
        if self.cells:
            self.pieces.append(" ")
            return
        yield from self.flush()
        self.level = _HEADINGS.get(tag, 0)
        if tag in _TIGHT:
            self.glue = "\n\n" if self.fresh else "\n"
        elif tag == "table" or (tag in _LISTS and not self.lists):
            self.fresh = True
        if tag == "pre":
            self.preformatted += 1
        elif tag in ("ul", "ol"):
            self.lists.append(1 if tag == "ol" else None)
        elif tag == "tr":
            self.row_started = False
        elif tag == "li":
            self.prefix = self.bullet()

    def bullet(self) -> str:
        if not self.lists or (number := self.lists[-1]) is None:
            return "- "
        self.lists[-1] = number + 1
        return f"{number}. "

    def close(self, tag: str, node: Any) -> Iterator[Block]:
        if tag not in _BLOCK:
            return
        if self.cells:
            self.pieces.append(" ")
            return
        yield from self.flush()
        if tag == "pre":
            self.preformatted = max(self.preformatted - 1, 0)
        elif tag in ("ul", "ol") and self.lists:
            self.lists.pop()

    def flush(self) -> Iterator[Block]:
        text = "".join(self.pieces).strip()
        self.pieces = []
        if text:
            yield Block(self.prefix + text, self.level, self.glue)
            self.level, self.glue, self.prefix, self.fresh = 0, "\n\n", "", False


def _skipped(node: Any) -> bool:
    """Return whether an element holds nothing to read: code, page frame, hidden parts, marks of footnotes."""
    tag = node.tag
    if tag in _SKIPPED:
        return True
    if tag in _PAGE_FRAME:
        parent = node.parent
        return parent is not None and parent.tag == "body" and node.css_first("h1,h2,h3") is None
    if tag == "sup":
        linked = node.css_first("a") is not None or (node.parent is not None and node.parent.tag == "a")
        return linked and bool(_NOTE_MARK.fullmatch(node.text(deep=True).strip()))
    if tag == "a" and "noteref" in (node.attributes.get("epub:type") or node.attributes.get("role") or ""):
        return len(node.text(deep=True).strip()) <= 6
    return "hidden" in node.attributes
