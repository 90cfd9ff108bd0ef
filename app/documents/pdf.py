"""PDF through PDFium: one part per page, lines joined to paragraphs across lines and pages.

PDFium gives a page's text line by line as it is set. It marks a hyphen at a line end by U+FFFE, which the
normalisation removes, so that the halves of the word meet.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pypdfium2
from pypdfium2 import PdfiumError

from app.documents import refusals
from app.documents.builder import Builder, Parsed
from app.documents.limits import Limits
from app.documents.text import is_chapter_heading
from app.text import normalise, number_words

_ROMAN = r"(?=[ivxl])(?:xl|l?x{0,3})(?:ix|iv|v?i{0,3})"
_PAGE_NUMBER = re.compile(rf"[-\[( ]*(?:[Pp]age )?(?:\d{{1,5}}|{_ROMAN})(?: ?(?:/|of) ?\d{{1,5}})?[-\]) ]*")
_LEADER = re.compile(r"(?: ?\.){6,}")  # the dots between a name and its page number
_NUMBERED = re.compile(r"\d{1,2}(?:\.\d{1,2}){0,3}\.? [A-Z].{0,70}[^.,;:]")
_ITEM = re.compile(r"(?:- |\(?\d{1,3}[.)] |\(?[a-z]\) )")
_SENTENCE_END = (".", "!", "?", '."', '!"', '?"', ".'", ".)", ":", "?)", "!)")
_JUNK_TITLE = re.compile(
    r"(?:untitled|microsoft (?:word|powerpoint)\b.*|document\d*|title|.*\."
    r"(?:docx?|tex|dvi|indd|qxd|rtf|pdf))",
    re.IGNORECASE,
)
_SHORT = 0.75  # of the usual line length
_NEIGHBOURS = 2  # running heads of left and right pages differ


def parse(path: Path, stem: str, limits: Limits) -> Parsed:
    """Read a PDF; see :class:`app.documents.registry.Parser`."""
    try:
        document = pypdfium2.PdfDocument(path)
    except PdfiumError as error:
        if "assword" in str(error) or "security" in str(error).lower():
            raise refusals.encrypted("PDF") from error
        raise refusals.broken("PDF") from error
    builder = Builder(limits)
    try:
        pages = _pages(document, builder)
        builder.title = _title(document)
        if not any(pages):
            raise refusals.scanned(len(pages)) if _shows_anything(document) else refusals.no_text("PDF")
    finally:
        document.close()
    _without_running_heads(pages)
    _add_pages(builder, pages)
    empty = sum(not lines for lines in pages)
    if empty:
        builder.warn(
            f"{number_words(empty)} of {number_words(len(pages))} pages have no text: "
            "they are empty, or pictures, which are not read."
        )
    return builder.result("pdf", stem)


def _pages(document: pypdfium2.PdfDocument, builder: Builder) -> list[list[str]]:
    """Return the lines of every page; pages that PDFium cannot load are empty and reported."""
    count, limits = len(document), builder.limits
    if count > limits.pages:
        raise refusals.too_many_pages(count, limits)
    if count == 0:
        raise refusals.broken("PDF", "it has no pages")
    pages, characters, unreadable = [], 0, 0
    for number in range(count):
        text = ""
        try:
            page = document[number]
            text_page = page.get_textpage()
            text = text_page.get_text_range()
            text_page.close()
            page.close()
        except PdfiumError:
            unreadable += 1
        characters += len(text)
        if characters > limits.characters:
            raise refusals.too_long(limits)
        pages.append([line for line in normalise(_LEADER.sub(" ... ", text)).split("\n") if line.strip()])
    if unreadable == count:
        raise refusals.broken("PDF", "none of its pages can be loaded")
    if unreadable:
        builder.warn(f"{number_words(unreadable)} of {number_words(count)} pages are damaged and were left out.")
    return pages


def _shows_anything(document: pypdfium2.PdfDocument) -> bool:
    """Whether there is a picture, a line or a letter on any page: text recognition finds nothing on a blank one."""
    for number in range(len(document)):
        try:
            page = document[number]
            shown = next(page.get_objects(max_depth=1), None) is not None
            page.close()
        except PdfiumError:
            continue
        if shown:
            return True
    return False


def _title(document: pypdfium2.PdfDocument) -> str:
    try:
        title = normalise(document.get_metadata_value("Title"))
    except (PdfiumError, UnicodeDecodeError):
        return ""
    return "" if _JUNK_TITLE.fullmatch(title) else title


def _without_running_heads(pages: list[list[str]]) -> None:
    """Take page numbers and running heads off the page edges: lines that neighbouring pages share but for
    digits."""
    for edge in (0, -1):
        forms = [_form(lines[edge]) if len(lines) > 2 else None for lines in pages]
        for i, lines in enumerate(pages):
            form = forms[i]
            if form is None:
                continue
            near = forms[max(i - _NEIGHBOURS, 0) : i] + forms[i + 1 : i + 1 + _NEIGHBOURS]
            if _PAGE_NUMBER.fullmatch(lines[edge]) or (form and form in near and not is_chapter_heading(lines[edge])):
                lines.pop(edge)


def _form(line: str) -> str:
    return re.sub(r"\W+", " ", re.sub(r"\d+", "", line)).strip().casefold()


def _add_pages(builder: Builder, pages: list[list[str]]) -> None:
    lengths = sorted(len(line) for lines in pages for line in lines)
    usual = lengths[int(len(lengths) * 0.8)] if lengths else 0
    open_end = False  # the page before ended inside a sentence
    for number, lines in enumerate(pages, 1):
        if not lines:
            continue
        builder.start(f"page {number}")
        text = _paragraphs(lines, usual)
        goes_on = open_end and text[:1].islower()
        builder.add(text, glue=" " if goes_on else "\n\n")
        open_end = not lines[-1].endswith(_SENTENCE_END)


def _paragraphs(lines: list[str], usual: int) -> str:
    """Join set lines; a paragraph ends at a short line that ends a sentence or stands before a new start."""
    out = lines[0]
    for before, line in pairwise(lines):
        fits = len(before) + 1 + len(line.split(maxsplit=1)[0]) < usual * _SHORT
        new_start = line[:1].isupper() or not line[:1].isalnum() or line[:1].isdigit()
        if _NUMBERED.fullmatch(line) or _NUMBERED.fullmatch(before):
            out += "\n\n" + line
        elif _ITEM.match(line):
            out += "\n" + line
        elif fits and before.endswith(_SENTENCE_END) and new_start:
            out += "\n\n" + line
        elif fits and new_start:
            out += "\n" + line if before.endswith((",", ";")) else "\n\n" + line
        else:
            out += line if out.endswith("--") else " " + line
    return out
