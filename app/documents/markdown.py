"""Markdown: headings make the parts, marks of emphasis and links are taken out, code is left as it is."""

from __future__ import annotations

import html
import re
from pathlib import Path

from app.documents.builder import Builder, Parsed
from app.documents.decode import decode
from app.documents.limits import Limits
from app.documents.unwrap import unwrap

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:[ \t]*(.+)$", re.MULTILINE | re.IGNORECASE)
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_RULE = re.compile(r" {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$")
_TABLE_RULE = re.compile(r"[ \t]*\|?[ \t:|-]*-[ \t:|-]*\|[ \t:|-]*$")
_DEFINITION = re.compile(r" {0,3}\[[^\]\n]{1,200}\]:[ \t]+\S+.{0,300}$")
_PART_LEVEL = 3
# Every pattern stops at a line end and at its own closing character, so none is slow on hostile text.
_INLINE = (
    (re.compile(r"!\[([^\]\n]{0,300})\]\([^)\n]{0,1000}\)"), ""),
    (re.compile(r"\[([^\[\]\n]{1,1000})\](?:\([^()\n]{0,1000}\)|\[[^\]\n]{0,200}\])"), r"\1"),
    (re.compile(r"\[\^[^\]\n]{1,50}\](?!:)"), ""),
    (re.compile(r"<(https?://[^<>\s]{1,1000})>"), r"\1"),
    (re.compile(r"</?[A-Za-z][A-Za-z0-9]{0,15}(?:\s[^<>\n]{0,500})?/?>"), ""),
    (re.compile(r"(?<![\\*\w])(\*{1,3})(?=\S)([^*\n]{1,2000}?)(?<=\S)\1(?!\*)"), r"\2"),
    (re.compile(r"(?<![\\_\w])(_{1,3})(?=\S)([^_\n]{1,2000}?)(?<=\S)\1(?![_\w])"), r"\2"),
    (re.compile(r"~~(?=\S)([^~\n]{1,2000})~~"), r"\1"),
    (re.compile(r"`([^`\n]{1,2000})`"), r"\1"),
    (re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])"), r"\1"),
)


def parse(path: Path, stem: str, limits: Limits) -> Parsed:
    """Read a Markdown file; see :class:`app.documents.registry.Parser`."""
    text, _ = decode(path.read_bytes())
    builder = Builder(limits)
    if front := _FRONT.match(text):
        text = text[front.end() :]
        if title := _FRONT_TITLE.search(front[1]):
            builder.title = title[1].strip().strip("\"'")
    _Reader(builder).read(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split("\n"))
    return builder.result("md", stem)


def plain(text: str) -> str:
    """Return inline Markdown without its marks."""
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return html.unescape(text)


class _Reader:
    """Line by line: fences, headings, and paragraphs collected until a blank line."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.pending: list[str] = []

    def read(self, lines: list[str]) -> None:
        fence = ""
        for line in lines:
            opening = _FENCE.match(line)
            if fence:
                if opening and opening[1].startswith(fence) and not line.strip(" `~"):
                    fence = ""
                    self.flush(code=True)
                else:
                    self.pending.append(line)
            elif opening:
                self.flush()
                fence = opening[1]
            else:
                self.line(line)
        self.flush(code=bool(fence))

    def line(self, line: str) -> None:
        if match := _HEADING.match(line):
            self.flush()
            self.heading(len(match[1]), match[2])
        elif self.pending and _UNDERLINE.match(line) and len(self.pending) == 1 and "|" not in self.pending[0]:
            title = self.pending.pop()
            self.heading(1 if "=" in line else 2, title)
        elif not line.strip() or _RULE.match(line):
            self.flush()
        elif not _DEFINITION.match(line) and not _TABLE_RULE.match(line):
            self.pending.append(re.sub(r"^ {0,3}(?:> ?)+", "", line))

    def heading(self, level: int, title: str) -> None:
        if level <= _PART_LEVEL:
            self.builder.heading(plain(title))
        else:
            self.builder.add(plain(title))

    def flush(self, code: bool = False) -> None:
        lines, self.pending = self.pending, []
        if code:
            # Blank lines inside code would fall apart into paragraphs; the model gains nothing from them.
            self.builder.add("\n".join(line for line in lines if line.strip()))
        elif lines:
            # Two blanks or a backslash at the end ask for a line break.
            for i, part in enumerate(re.split(r"(?: {2,}|\\)\n", "\n".join(lines))):
                self.builder.add(plain(unwrap(part)), glue="\n" if i else "\n\n")
