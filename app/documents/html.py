"""HTML pages: h1 to h3 make the parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from app.documents.builder import Builder, Parsed
from app.documents.decode import decode
from app.documents.limits import Limits
from app.documents.markup import Block, blocks, declared_encoding, open_tags, parse_html

_PART_LEVEL = 3


def parse(path: Path, stem: str, limits: Limits) -> Parsed:
    """Read an HTML or XHTML file; see :class:`app.documents.registry.Parser`."""
    raw = path.read_bytes()
    text, _ = decode(raw, declared_encoding(raw))
    if text.lstrip()[:5] == "<?xml":
        text = open_tags(text)
    tree = parse_html(text, limits)
    builder = Builder(limits)
    add_blocks(builder, blocks(tree))
    title = tree.css_first("title")
    if title is not None:
        builder.title = title.text(deep=True)
    return builder.result("html", stem)


def add_blocks(builder: Builder, stream: Iterable[Block], headings_start_parts: bool = True) -> None:
    """Add blocks to ``builder``; anchors are ignored."""
    for block in stream:
        if block.level and block.level <= _PART_LEVEL and headings_start_parts:
            builder.heading(block.text)
        else:
            builder.add(block.text, glue=block.glue)
