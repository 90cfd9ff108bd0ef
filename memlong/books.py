"""The text of a book's file: plain text read here, other formats by the parsers of the app where it lies beside us.

The library knows nothing of PDF or EPUB. The app's parsers run in a process of their own anyway, asked and answering
in JSON, so that is started; nothing of the app is imported.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memlong.chunking import PageSpan
from memlong.errors import DocumentError

PARSER = "app.documents.child"
_ROOT = Path(__file__).resolve().parents[1]
_PARSED = (".pdf", ".epub", ".docx", ".html", ".htm", ".xhtml")  # some of them are text too, but not to read
# The same under another name; what only may be a page is left to the parsers to tell.
_BEGINNINGS = (b"%pdf-", b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--", b"{\\rtf", b"%!ps")
_INHERITED = (
    "PATH", "LANG", "LC_ALL", "SYSTEMROOT", "TEMP", "TMP", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "VIRTUAL_ENV",
)  # fmt: skip
_BLANK = b"\xef\xbb\xbf \t\r\n"
_HEAD = 4096
_SECONDS = 120
_MOST_BYTES = 1_000_000_000  # the text, its tokens and their chunks stay in memory; this much takes a day to read


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
        _refuse_strange(path)
        text = None if _in_another_format(path) else path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        text = None
    except DocumentError:
        raise
    except (OSError, ValueError) as error:  # a path with a zero in it is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"{path}: {reason}", "A file that can be read", "Check the path") from error
    if text is None:
        return _parsed(path)
    if not text.strip():
        raise DocumentError(f"{path} is empty", "At least one word", "Choose another file")
    return Book(path.stem, text)


def _refuse_strange(path: Path) -> None:
    if path.exists() and not path.is_file():
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise DocumentError(f"{path} is {what}", "A file on a disk", "Name a file, or save to one first")
    size = path.stat().st_size
    if size > _MOST_BYTES:
        given, allowed = f"{path} has {size / 1e9:,.1f} GB", f"Up to {_MOST_BYTES / 1e9:.0f} GB are read"
        raise DocumentError(given, allowed, "Split it, and read the parts you need")


def _in_another_format(path: Path) -> bool:
    """Whether a file is no plain text, by its name or its beginning."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    # UTF-8 of a text has no zeros; in UTF-16 every other byte may be one, and what is no text has many.
    return path.suffix.lower() in _PARSED or b"\0" in head or head.lstrip(_BLANK).lower().startswith(_BEGINNINGS)


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
            env=parser_environment(),
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise _unread(path, f"its parser took more than {_SECONDS} seconds") from error
    except OSError as error:
        raise _unread(path, f"its parser cannot be started: {error.strerror}") from error
    if ended.returncode:
        last = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]  # of a traceback, what it was
        raise _unread(path, ": ".join([f"its parser ended {_how(ended.returncode)}", *last]))
    try:
        answer = json.loads(ended.stdout)
        if "error" in answer:
            given, allowed, do = map(str, answer["error"])
            raise DocumentError(f"{path}: {given}", allowed, do)
        if "memory" in answer:
            raise _unread(path, "its parser needed too much memory")
        return _understood(answer["parsed"], path)
    except DocumentError:
        raise
    except (ValueError, KeyError, TypeError) as error:  # a file that took the parser over may write anything
        raise _unread(path, "its parser gave no answer") from error


def parser_environment() -> dict[str, str]:
    """Return a small environment with the project in its path, for the process that opens strangers' files.

    It gets no tokens and no proxy settings.
    """
    kept = {key: os.environ[key] for key in _INHERITED if key in os.environ}
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUTF8": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _understood(found: dict[str, Any], path: Path) -> Book:
    """Return the book of an answer, and raise ValueError or TypeError where that has other types than it should."""
    text, warnings = found["text"], found["warnings"]
    if not isinstance(text, str) or not isinstance(warnings, list):
        raise TypeError("a text and a list of warnings were to be answered")
    spans = tuple(PageSpan(int(start), int(end), str(label)) for start, end, label in found["spans"])
    return Book(str(found["title"] or path.stem), text, spans, tuple(map(str, warnings)))


def _how(code: int) -> str:
    if code > 0:
        return f"with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    # The parser limits its own processor time, and the system ends who takes the last memory.
    usual = {"SIGXCPU": ", it took too long", "SIGKILL": ", it took too long or too much memory"}
    return f"by {name}{usual.get(name, '')}"


def _unread(path: Path, reason: str) -> DocumentError:
    return DocumentError(
        f"{path} could not be read ({reason})", "A book that its parser can open", "Save it anew, or convert it to text"
    )
