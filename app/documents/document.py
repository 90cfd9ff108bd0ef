"""What the app gets from an uploaded file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from app.documents import refusals
from app.documents.limits import Limits
from app.documents.sandbox import parse_in_child
from app.text import one_line
from memlong.chunking import PageSpan
from memlong.errors import DocumentError

_NAME_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class Document:
    """Text of a file with its places.

    ``spans`` are pages or chapters in order: the first starts at 0, each starts where the one before ends,
    the last ends at ``len(text)``. ``kind`` is a key of :data:`app.documents.FORMATS`. ``warnings`` are
    sentences for the reader.
    """

    title: str
    text: str
    spans: tuple[PageSpan, ...]
    kind: str
    warnings: tuple[str, ...] = ()


def read_document(
    path: Path, name: str, limits: Limits | None = None, cancel: Callable[[], bool] | None = None
) -> Document:
    """Read an uploaded file in a process of its own.

    Args:
        path: where the upload lies.
        name: the name it was uploaded under; the title of last resort, and in messages, never a path.
        limits: what it may cost; the defaults of :class:`Limits` if None.
        cancel: asked about every 50 ms; True stops the work.

    Raises:
        DocumentError: with the file's name in front, for everything that can be wrong with it.
        memlong.errors.Cancelled: when ``cancel`` said so.
    """
    limits = limits or Limits()
    name = one_line(PureWindowsPath(name).name, _NAME_CHARACTERS) or "upload"  # knows both kinds of slashes
    try:
        _check_file(path, limits)
        parsed = parse_in_child(path, name, limits, cancel)
    except DocumentError as error:
        raise DocumentError(f"{name}: {error.given}", error.allowed, error.do) from error
    spans = tuple(PageSpan(start, end, label) for start, end, label in parsed.spans)
    return Document(parsed.title, parsed.text, spans, parsed.kind, parsed.warnings)


def _check_file(path: Path, limits: Limits) -> None:
    try:
        size = path.stat().st_size if path.is_file() else -1
    except OSError:
        size = -1
    if size < 0:
        raise refusals.missing()
    if size == 0:
        raise refusals.empty()
    if size > limits.file_bytes:
        raise refusals.too_large(size, limits)
