"""The text of a book's file: plain text read here, other formats by the parsers of the app where it lies beside us.

The library knows nothing of PDF or EPUB. The app's parsers run in a process of their own anyway, asked and answering
in JSON, so that is started; nothing of the app is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from memlong.chunking import PageSpan
from memlong.errors import DocumentError

PARSER = "app.documents.child"
_ROOT = Path(__file__).resolve().parents[1]
_PARSED = (".pdf", ".epub", ".docx", ".html", ".htm", ".xhtml")  # some of them are text too, but not to read
_SECONDS = 120


@dataclass(frozen=True)
class Book:
    """A book as it is read.

    Attributes:
        title: its own, or the file's name without the ending. text: whole. spans: pages or chapters, none in plain
            text. warnings: sentences about what could not be read.
    """

    title: str
    text: str
    spans: tuple[PageSpan, ...] = ()
    warnings: tuple[str, ...] = ()


def read_book(path: Path) -> Book:
    """Return a book; plain text and Markdown as they stand in a UTF-8 file, all else as the app reads it.

    Raises:
        DocumentError: when it is missing, empty or damaged, or when nothing here can read it.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(0, "Is a directory" if path.is_dir() else "No such file or directory")
        text = None if path.suffix.lower() in _PARSED else path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = None
    except OSError as error:
        raise DocumentError(f"{path}: {error.strerror}", "A file that can be read", "Check the path") from error
    if text is None:
        return _parsed(path)
    if not text.strip():
        raise DocumentError(f"{path} is empty", "At least one word", "Choose another file")
    return Book(path.stem, text)


def _parsed(path: Path) -> Book:
    if not (_ROOT / f"{PARSER.replace('.', '/')}.py").is_file():
        raise DocumentError(
            f"{path} is not UTF-8 text",
            "Plain text or Markdown; other formats are read by the app's parsers, which are not beside the library",
            "Convert it to text, or run this in the project's folder",
        )
    request = {"path": str(path.resolve()), "name": path.name, "limits": {}}
    try:
        ended = subprocess.run(
            [sys.executable, "-m", PARSER],
            input=json.dumps(request).encode(),
            capture_output=True,
            cwd=_ROOT,
            timeout=_SECONDS,
            check=True,
        )
        answer = json.loads(ended.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise _unread(path, type(error).__name__) from error
    if "error" in answer:
        given, allowed, do = answer["error"]
        raise DocumentError(f"{path}: {given}", allowed, do)
    if "parsed" not in answer:
        raise _unread(path, "out of memory")
    found = answer["parsed"]
    spans = tuple(PageSpan(start, end, label) for start, end, label in found["spans"])
    return Book(found["title"] or path.stem, found["text"], spans, tuple(found["warnings"]))


def _unread(path: Path, reason: str) -> DocumentError:
    return DocumentError(
        f"{path} could not be read ({reason})", "A book that its parser can open", "Save it anew, or convert it to text"
    )
