"""From a source to its documents: text, Markdown, PDF, EPUB, JSON lines, Parquet, or a data set of the hub.

A format is one function and one registry line. Libraries are imported when their format is met.
"""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from memlong.errors import DocumentError
from training.data.jsonl import read_jsonl

HUB = "hub:"
_EPUB_BYTES = 200 << 20  # of all text in a book, unpacked
TEXT_FIELDS = ("text", "content", "document", "story")


@dataclass(frozen=True)
class RawText:
    """One document as its source has it.

    Attributes:
        name: of the file, or of the row in it. text: whole. domain: the part of its source that it belongs to.
        licence: if the source says so.
    """

    name: str
    text: str
    domain: str = ""
    licence: str = ""


def read_source(source: str) -> Iterator[RawText]:
    """Yield the documents of a file, of the known files below a folder, or of ``hub:NAME[:CONFIG[:SPLIT]]``.

    What is hidden in a folder is not read.

    Raises:
        DocumentError: for what is missing, damaged, or of an unknown format.
    """
    for file in parts_of(source):
        yield from documents_of(file)


def parts_of(source: str) -> list[str]:
    """Return what a source is read in: its known files that are not hidden, or itself if it is no folder.

    Raises:
        DocumentError: for what is missing, or of an unknown format.
    """
    path = Path(source)
    if source.startswith(HUB):
        return [source]
    if path.is_dir():
        return [str(file) for file in _files(path) if _reader(file) is not None]
    if _reader(path) is None or not path.is_file():
        raise DocumentError(
            f"Source {source!r}",
            f"An existing folder, a file ending in {', '.join(READERS)}, or hub:NAME",
            "Check the path, or convert the file to text",
        )
    return [source]


def documents_of(part: str) -> Iterator[RawText]:
    """Yield the documents of what :func:`parts_of` names.

    Raises:
        DocumentError: for a damaged file, or a package that its format needs; some of its documents may have come.
    """
    if part.startswith(HUB):
        yield from _hub(*part.removeprefix(HUB).split(":"))
        return
    path = Path(part)
    reader = _reader(path)
    assert reader is not None, part
    try:
        yield from reader(path)
    except DocumentError:
        raise
    except ImportError as error:
        given = f"{path.name} without the package {error.name}"
        raise DocumentError(given, "Its format is read by it", f"Run `pip install {error.name}`") from error
    except Exception as error:  # the libraries behind the formats have dozens of their own
        given = f"{path.name} cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:160]})"
        raise DocumentError(given, "A whole file of the kind that its name says", "Mend it, or leave it out") from error


def passed_over(source: str) -> list[Path]:
    """Return the files below a folder that no reader takes, hidden ones aside."""
    path = Path(source)
    if source.startswith(HUB) or not path.is_dir():
        return []
    return [file for file in _files(path) if _reader(file) is None]


def _files(folder: Path) -> list[Path]:
    """Return the files below a folder in order, without those that are hidden or in a hidden folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _reader(path: Path) -> Callable[[Path], Iterator[RawText]] | None:
    return next((reader for end, reader in READERS.items() if path.name.lower().endswith(end)), None)


def _text(path: Path) -> Iterator[RawText]:
    data = path.read_bytes()
    try:
        yield RawText(path.name, data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        yield RawText(path.name, data.decode("cp1252", errors="replace"))


def _pdf(path: Path) -> Iterator[RawText]:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
        pages = [page.get_textpage().get_text_bounded() for page in document]
    except pypdfium2.PdfiumError as error:
        raise DocumentError(f"{path.name} is no readable PDF ({error})", "PDF with text", "Leave it out") from error
    # pdfium marks a hyphen at a line's end by U+FFFE.
    yield RawText(path.name, "\n".join(pages).replace("\r\n", "\n").replace("\ufffe\n", "").replace("\ufffe", ""))


def _epub(path: Path) -> Iterator[RawText]:
    """Chapters in the order of the spine; marks and scripts are left out."""
    from defusedxml.ElementTree import fromstring
    from selectolax.lexbor import LexborHTMLParser

    try:
        with zipfile.ZipFile(path) as book:
            if sum(info.file_size for info in book.infolist()) > _EPUB_BYTES:
                raise DocumentError(f"{path.name} unpacks to over 200 MB", "A book", "Leave it out")
            container = fromstring(book.read("META-INF/container.xml"))
            package = next(e.attrib["full-path"] for e in container.iter() if e.tag.endswith("rootfile"))
            tree = fromstring(book.read(package))
            items = {e.attrib["id"]: e.attrib["href"] for e in tree.iter() if e.tag.endswith("}item")}
            order = [items[e.attrib["idref"]] for e in tree.iter() if e.tag.endswith("}itemref")]
            parts = []
            for href in order:
                page = LexborHTMLParser(book.read(posixpath.join(posixpath.dirname(package), unquote(href))))
                page.strip_tags(["script", "style"])
                parts.append(page.body.text(separator="\n", strip=True) if page.body else "")
    except (zipfile.BadZipFile, KeyError, StopIteration, SyntaxError, ValueError) as error:
        if isinstance(error, DocumentError):
            raise
        raise DocumentError(f"{path.name} is no readable EPUB ({error!r})", "EPUB 2 or 3", "Leave it out") from error
    yield RawText(path.name, "\n\n".join(parts))


def _jsonl(path: Path) -> Iterator[RawText]:
    for number, row in enumerate(read_jsonl(path)):
        yield from _row(f"{path.name}#{number}", row)


def _parquet(path: Path) -> Iterator[RawText]:
    from pyarrow.parquet import ParquetFile

    number = 0
    for batch in ParquetFile(path).iter_batches(batch_size=64):
        for row in batch.to_pylist():
            yield from _row(f"{path.name}#{number}", row)
            number += 1


def _hub(name: str, config: str = "", split: str = "train") -> Iterator[RawText]:
    try:
        from datasets import load_dataset
    except ImportError:
        given = f"Source {HUB}{name} without the package datasets"
        raise DocumentError(given, "Hub data sets are read by it", "Run `pip install datasets`") from None
    for number, row in enumerate(load_dataset(name, config or None, split=split, streaming=True)):
        yield from _row(f"{name}#{number}", row)


def _row(name: str, row: Mapping[str, Any]) -> Iterator[RawText]:
    """Yield a row's text; SlimPajama names a row's part of the collection in ``meta``."""
    text = next((row[field] for field in TEXT_FIELDS if isinstance(row.get(field), str)), None)
    if text is None:
        raise DocumentError(
            f"{name} has the fields {', '.join(row)}", f"Text in {', '.join(TEXT_FIELDS)}", "Rename the field"
        )
    meta = row.get("meta") if isinstance(row.get("meta"), Mapping) else {}
    domain = (meta or {}).get("redpajama_set_name") or row.get("domain") or row.get("source") or ""
    yield RawText(
        str(row.get("doc_id") or name), text, str(domain), str(row.get("license") or row.get("licence") or "")
    )


READERS: dict[str, Callable[[Path], Iterator[RawText]]] = {
    ".txt": _text,
    ".md": _text,
    ".markdown": _text,
    ".pdf": _pdf,
    ".epub": _epub,
    ".jsonl": _jsonl,
    ".jsonl.zst": _jsonl,
    ".parquet": _parquet,
}
