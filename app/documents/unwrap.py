"""Turns hard-wrapped plain text into one line per paragraph, and leaves verse, lists and tables as they are.

The width W of a document is what 95 % of its lines stay within. A line end is *forced* when the next line's
first word would not have fitted into W: in prose nearly all are, in verse hardly any.
"""

from __future__ import annotations

import itertools
import re

_ITEM = re.compile(r"\s*(?:[-*+\u2022]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+\S")
_TABLE = re.compile(r"\S(?:\t| {3,})\S|^\s*\||^\s*[-=+_*~]{3,}\s*$")
_NARROWEST = 40
_LONG = 110  # nobody wraps by hand wider than this
_FORCED_SHARE = 0.7
_SLACK = 0.92  # hand-wrapped lines end a little early


def unwrap(text: str) -> str:
    """Return ``text`` (LF line ends) with the line ends inside prose paragraphs replaced by blanks."""
    lines = [line.rstrip() for line in text.split("\n")]
    width = _wrap_width(lines)
    if width is None:
        return "\n".join(lines)
    blocks = _blocks(lines)
    verse = _starts_upper(blocks) > 0.8
    return "\n\n".join(_unwrap_block(block, width, verse) for block in blocks)


def _wrap_width(lines: list[str]) -> int | None:
    """Return the width in characters, or None where lines are not wrapped: a line is a paragraph there."""
    lengths = sorted(len(line) for line in lines if line)
    if not lengths or sum(n for n in lengths if n > _LONG) * 4 > sum(lengths):
        return None
    within = [n for n in lengths if n <= _LONG]
    return max(within[int(len(within) * 0.95)] if len(within) > 20 else within[-1], _NARROWEST)


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line:
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _starts_upper(blocks: list[list[str]]) -> float:
    """Return the share of lines after a block's first that start with a capital letter: most in verse, few in
    prose."""
    rest = [line for block in blocks for line in block[1:]]
    return sum(map(_upper, rest)) / len(rest) if len(rest) > 3 else 0.0


def _upper(line: str) -> bool:
    stripped = line.lstrip(" \t\"'([_*\u201c\u2018-")
    return stripped[:1].isupper()


def _unwrap_block(block: list[str], width: int, verse_document: bool) -> str:
    if len(block) == 1:
        return block[0]
    if all(map(_upper, block[1:])) and (verse_document or max(map(len, block)) < 0.85 * width):
        return "\n".join(block)
    paragraphs = _split_at_indents(block)
    return "\n\n".join(_join(paragraph, width) for paragraph in paragraphs)


def _split_at_indents(block: list[str]) -> list[list[str]]:
    """Split a block whose paragraphs are marked by an indented first line instead of a blank line."""
    indents = [len(line) - len(line.lstrip()) for line in block]
    base = min(indents)
    starts = [
        i
        for i in range(1, len(block))
        if indents[i] >= base + 2 and indents[i - 1] == base and not _ITEM.match(block[i - 1])
    ]
    followed = all(i + 1 == len(block) or indents[i + 1] == base for i in starts)
    if not starts or not followed or len(starts) * 2 > len(block):
        return [block]
    bounds = [0, *starts, len(block)]
    return [block[a:b] for a, b in itertools.pairwise(bounds)]


def _join(lines: list[str], width: int) -> str:
    """Join the lines of one paragraph; list items begin a line of their own, tables and verse keep theirs."""
    if len(lines) > 1 and not _is_prose(lines, width):
        return "\n".join(lines)
    out = lines[0]
    for before, line in itertools.pairwise(lines):
        text = line.strip()
        if _ITEM.match(line) or _TABLE.search(line) or _TABLE.search(before):
            out += "\n" + text
        elif out.endswith("--") or (out.endswith("-") and out[-2:-1].isalpha() and text[:1].islower()):
            out += text  # a dash or a hyphen at the line end: nothing between
        else:
            out += " " + text
    return out


def _is_prose(lines: list[str], width: int) -> bool:
    indent = min(len(line) - len(line.lstrip()) for line in lines)
    # An indented block (a letter, a quotation) was wrapped to a width of its own.
    limit = (max(map(len, lines)) if indent >= 3 else width) * _SLACK
    pairs = [
        (before, line)
        for before, line in itertools.pairwise(lines)
        if not (_ITEM.match(line) or _TABLE.search(line) or _TABLE.search(before))
    ]
    if not pairs:
        return True
    forced = sum(len(before) + 1 + len(line.split(maxsplit=1)[0]) >= limit for before, line in pairs)
    return forced >= _FORCED_SHARE * len(pairs)
