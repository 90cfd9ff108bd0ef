"""One file to text, in this process. Only for trusted callers: uploads go through
:mod:`app.documents.sandbox`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from app.documents import refusals
from app.documents.builder import Parsed
from app.documents.detect import detect
from app.documents.limits import Limits
from app.documents.registry import FORMATS
from app.text import one_line
from memlong.errors import DocumentError


def parse_file(path: Path, name: str, limits: Limits) -> Parsed:
    """Find out what the file is and read it.

    Args:
        path: the file.
        name: the name it was uploaded under: its stem is the title of last resort.

    Raises:
        DocumentError: for everything that is wrong with the file.
        MemoryError: over the memory limit of this process.
    """
    kind, warnings = detect(path, name, limits)
    words = FORMATS[kind].words
    stem = one_line(Path(name).stem.replace("_", " ")) or words
    try:
        parsed = FORMATS[kind].parser()(path, stem, limits)
    except (DocumentError, MemoryError):
        raise
    except ModuleNotFoundError as error:  # the library can be had without the packages of the app
        raise refusals.not_installed(words, error.name or "") from error
    except Exception as error:  # a parser met something nobody foresaw: that is the file's fault, not the app's
        raise refusals.failed(words, error) from error
    if not parsed.text:
        raise refusals.no_text(words)
    return replace(parsed, warnings=(*warnings, *parsed.warnings))
