"""Plain text: hard-wrapped lines joined, chapters found by their headings, Project Gutenberg's licence left
out."""

from __future__ import annotations

import re
from pathlib import Path

from app.documents.builder import Builder, Parsed
from app.documents.decode import decode
from app.documents.limits import Limits
from app.documents.unwrap import unwrap
from app.text import normalise, number_words

_NUMBER = (
    r"(?:[ivxlcdm]{1,8}|\d{1,3}|the|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|"
    r"fifteen|sixteen|seventeen|eighteen|nineteen|twent\w{1,10}|thirt\w{1,10}|fort\w{1,10}|fift\w{1,10}|first|second|"
    r"third|fourth|sixth|seventh|eighth|ninth|tenth|last)"
)
CHAPTER = re.compile(
    rf"(?:(?:chapter|book|part|volume|vol\.|act|scene|canto|letter|section|stave|chap\.)\s+{_NUMBER}\b(?P<rest>.*)"
    r"|(?:preface|prologue|epilogue|introduction|foreword|afterword|conclusion|appendix(?:\s+\w{1,5})?)\b(?P<rest2>.{0,60}))$",
    re.IGNORECASE,
)
_MARK = re.compile(r"^\s*\*{3} ?(START|END) OF (?:THE|THIS) PROJECT GUTENBERG.*$", re.IGNORECASE | re.MULTILINE)
_TITLE = re.compile(r"^\s*Title:[ \t]*(\S.{0,200})$", re.MULTILINE)
_ILLUSTRATION = re.compile(r"\[Illustration(?::[^\[\]]{0,2000})?\]")
_NUMERAL = re.compile(r"(?:[IVXLC]{1,8}|[0-9]{1,3})\.?")
_ROMAN = re.compile(r"C{0,3}(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
_NO_TITLE = re.compile(
    r"(?:translated |edited |written |produced )?by\b.*|[IVXLC\d.\W]*|contents|preface", re.IGNORECASE
)
_HEADING_CHARACTERS = 120


def parse(path: Path, stem: str, limits: Limits) -> Parsed:
    """Read a plain text file; see :class:`app.documents.registry.Parser`."""
    text, encoding = decode(path.read_bytes())
    builder = Builder(limits)
    if encoding not in ("utf-8", "utf-8-sig", "ascii"):
        builder.warn(f"The letters were read as {encoding}; if some look wrong, save the file as UTF-8.")
    text = _without_licence(text, builder)
    add_plain(builder, text)
    builder.title = builder.title or _first_line(text) or stem
    return builder.result("txt", stem)


def add_plain(builder: Builder, text: str) -> None:
    """Add hard-wrapped or free plain text to ``builder``, with a part for every chapter heading."""
    blocks = [block for block in normalise(unwrap(_ILLUSTRATION.sub("", text))).split("\n\n") if block]
    numerals = _numeral_headings(blocks)
    skip = False
    for i, (block, following) in enumerate(zip(blocks, [*blocks, ""][1:], strict=True)):
        if skip:
            skip = False
            builder.add(block, clean=False)
        elif i in numerals:
            builder.heading(block, label=f"chapter {block.rstrip('.')}")
        elif is_chapter_heading(block):
            lines = block.split("\n")
            rest = following if len(lines) == 1 and _is_name(lines[0], following) else ""
            builder.heading(block, label=f"{lines[0]}: {rest}" if rest else " ".join(lines))
            skip = bool(rest)
        else:
            builder.add(block, clean=False)


def is_chapter_heading(block: str) -> bool:
    """Return whether a paragraph is a heading like ``CHAPTER I`` or ``Part Two. The Return``."""
    lines = block.split("\n")
    if len(block) > _HEADING_CHARACTERS or len(lines) > 3:
        return False
    match = CHAPTER.match(lines[0])
    if not match or not lines[0][:1].isupper() or any(CHAPTER.match(line) for line in lines[1:]):
        return False  # several such lines together are a table of contents
    rest = match["rest"] or match["rest2"] or ""
    # "Chapter two was the better one, he thought." is a sentence.
    sentence = rest[:1] == " " and rest[1:2].islower() and rest.rstrip()[-1:] in ".,;!?\"'"
    return not sentence and rest[:1] not in ("'", ",") and rest.rstrip()[-1:] not in (",", ";")


def _numeral_headings(blocks: list[str]) -> set[int]:
    """Return the places of chapters headed by a number alone: I, II, III (or 1, 2, 3), three at least.

    The count may start again, as it does in a book of several parts.
    """
    found: set[int] = set()
    run: list[int] = []
    for i, block in enumerate(blocks):
        if not _NUMERAL.fullmatch(block):
            continue
        value = _value(block.rstrip("."))
        if run and value == len(run) + 1:
            run.append(i)
        elif value == 1:
            run = [i]
        if len(run) >= 3:
            found.update(run)
    return found


def _value(numeral: str) -> int:
    """Return the number that a Roman or Arabic numeral stands for, 0 for none."""
    if numeral.isdigit():
        return int(numeral)
    if not _ROMAN.fullmatch(numeral):
        return 0
    digits = [_DIGITS[letter] for letter in numeral]
    return sum(-digit if digit < after else digit for digit, after in zip(digits, [*digits[1:], 0], strict=True))


def _is_name(heading: str, following: str) -> bool:
    """Return whether the paragraph after a bare ``CHAPTER I`` is the chapter's name."""
    match = CHAPTER.match(heading)
    bare = match is not None and not (match["rest"] or match["rest2"] or "").strip(" .:-")
    short = 0 < len(following) <= 60 and "\n" not in following and following[-1] not in ",;:.\"'"
    return bare and short and following[0].isupper() and not is_chapter_heading(following)


def _without_licence(text: str, builder: Builder) -> str:
    """Return the book between Project Gutenberg's marks, whole if there are none."""
    marks = {match[1].upper(): match for match in reversed(list(_MARK.finditer(text)))}
    start, end = marks.get("START"), marks.get("END")
    if start is None or (end is not None and end.start() < start.end()):
        return text
    if title := _TITLE.search(text, 0, start.start()):
        builder.title = title[1]
    book = text[start.end() : end.start() if end else len(text)]
    left_out = number_words(len(text) - len(book))
    builder.warn(f"Project Gutenberg's header and licence were left out ({left_out} characters).")
    return book


def _first_line(text: str) -> str:
    """Return the first line where it can be a title: short, alone, no sentence, no chapter heading."""
    first, _, rest = text.lstrip("\n \ufeff").partition("\n")
    words = first.strip()
    alone = not rest.split("\n", 1)[0].strip()
    if not alone or not rest.strip() or len(words) > 80 or words[-1:] in ".,;:" or is_chapter_heading(words):
        return ""
    if _NO_TITLE.fullmatch(words):
        return ""
    return words
