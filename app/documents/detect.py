"""The kind of a file by its content; its extension only decides between plain text and Markdown."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from app.documents import refusals
from app.documents.archive import Archive
from app.documents.decode import as_utf8
from app.documents.limits import Limits
from app.documents.registry import FORMATS

_HEAD = 4096
_HTML = re.compile(
    rb"\A(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--.{0,2000}?-->\s*)*<(?:!doctype\s+html|html|head|body)\b",
    re.IGNORECASE | re.DOTALL,
)
_MARKUP = re.compile(rb"<(?:p|div|h[1-6]|br|table|span|title|body)\b[^<>]{0,500}>", re.IGNORECASE)
_KNOWN = (
    (b"\x89PNG", "a picture (PNG)"), (b"\xff\xd8\xff", "a picture (JPEG)"), (b"GIF8", "a picture (GIF)"),
    (b"II*\x00", "a picture (TIFF)"), (b"MM\x00*", "a picture (TIFF)"), (b"BM", "a picture (BMP)"),
    (b"\x1f\x8b", "a gzip archive"), (b"7z\xbc\xaf", "a 7-Zip archive"), (b"Rar!", "a RAR archive"),
    (b"\xfd7zXZ", "an xz archive"), (b"(\xb5/\xfd", "a Zstandard archive"), (b"BZh", "a bzip2 archive"),
    (b"{\\rtf", "a Rich Text file (RTF)"), (b"ID3", "a sound file"), (b"OggS", "a sound file"),
    (b"RIFF", "a media file"), (b"\x7fELF", "a program"),
    (b"MZ\x90", "a program"), (b"%!PS", "a PostScript file"),
    (b"AT&TFORM", "a DjVu book"), (b"SQLite format 3", "a database"), (b"ITSF", "a compiled help file (CHM)"),
    (b"GGUF", "a language model (GGUF)"),
)  # fmt: skip
_TEXTUAL = frozenset({b"BM", b"ID3", b"RIFF", b"BZh", b"GIF8", b"MZ\x90", b"ITSF", b"GGUF", b"OggS", b"Rar!"})
_OFFICE = (
    ("xl/", "an Excel workbook"),
    ("ppt/", "a PowerPoint presentation"),
    ("content.xml", "an OpenDocument file"),
)
_BLANK = b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"
_UNPACK = "Unpack it and take the documents in it"


def detect(path: Path, name: str, limits: Limits) -> tuple[str, list[str]]:
    """Return (kind, warnings) for the file at ``path`` that was uploaded as ``name``.

    Raises:
        DocumentError: empty, not a document, or an archive that must not be opened.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
        while not head.strip(_BLANK):
            if not (more := file.read(_HEAD)):
                raise refusals.empty()
            head = more  # a text may begin with pages of blank lines
    extension = PurePosixPath(name.lower()).suffix
    kind = _kind(path, head, extension, limits)
    return kind, _warnings(kind, extension)


def _kind(path: Path, head: bytes, extension: str, limits: Limits) -> str:
    if b"%PDF-" in head[:1024]:
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _archive_kind(path, limits)
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        raise refusals.wrong_kind(
            "an old Word file (DOC), or a Word document with a password",
            "Save it as DOCX without a password and take that",
        )
    if head[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        raise refusals.wrong_kind("a Kindle book (MOBI)", "Convert it to EPUB, for example with Calibre")
    for magic, what in _KNOWN:
        # Short magic numbers made of letters also begin honest sentences: those must look binary too.
        if head.startswith(magic) and (magic not in _TEXTUAL or b"\x00" in head):
            raise refusals.wrong_kind(what)
    head = as_utf8(head)
    if _HTML.search(head) or (extension in FORMATS["html"].extensions and _MARKUP.search(head)):
        return "html"
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<?xml"):
        return "html"
    return "md" if extension in FORMATS["md"].extensions else "txt"


def _archive_kind(path: Path, limits: Limits) -> str:
    with Archive(path, "archive", limits) as archive:
        names = archive.names()
        if "mimetype" in archive and archive.read("mimetype").strip() == b"application/epub+zip":
            return "epub"
        if "META-INF/container.xml" in archive and any(name.lower().endswith(".opf") for name in names):
            return "epub"
        if any(name.startswith("word/document") for name in names):
            return "docx"
        if not names:
            raise refusals.empty()
    for prefix, what in _OFFICE:
        if any(name.startswith(prefix) for name in names):
            raise refusals.wrong_kind(what)
    raise refusals.wrong_kind("a ZIP archive", _UNPACK)


def _warnings(kind: str, extension: str) -> list[str]:
    """Return a note where the extension promises something else than the content is."""
    promised = next((entry for entry in FORMATS.values() if extension in entry.extensions), None)
    if promised is None or promised.kind == kind:
        return []
    return [f"The name ends in {extension}, but the content is {FORMATS[kind].a_file}; it was read as that."]
