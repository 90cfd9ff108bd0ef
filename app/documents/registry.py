"""The formats that can be read: one module and one line here for each. The modules are imported when they are
needed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from app.documents.builder import Parsed
from app.documents.limits import Limits


class Parser(Protocol):
    """What a format module offers as ``parse``."""

    def __call__(self, path: Path, stem: str, limits: Limits) -> Parsed:
        """Return the text of the file; ``stem`` is the title of last resort. Raises DocumentError."""
        ...


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of document: short name, name for people, usual extensions (lower case, with the dot) and
    module."""

    kind: str
    words: str
    extensions: tuple[str, ...]
    module: str

    @property
    def a_file(self) -> str:
        """The name with its article: "a PDF", "an EPUB"."""
        return f"{'an' if self.words[0] in 'EH' else 'a'} {self.words}"

    def parser(self) -> Parser:
        """Import the module and return its ``parse``."""
        parser: Parser = import_module(self.module).parse
        return parser


FORMATS: dict[str, Format] = {
    entry.kind: entry
    for entry in (
        Format("txt", "text file", (".txt", ".text"), "app.documents.text"),
        Format("md", "Markdown file", (".md", ".markdown"), "app.documents.markdown"),
        Format("pdf", "PDF", (".pdf",), "app.documents.pdf"),
        Format("epub", "EPUB", (".epub",), "app.documents.epub"),
        Format("docx", "Word document", (".docx",), "app.documents.docx"),
        Format("html", "HTML page", (".html", ".htm", ".xhtml"), "app.documents.html"),
    )
}

EXTENSIONS: tuple[str, ...] = tuple(extension for entry in FORMATS.values() for extension in entry.extensions)
