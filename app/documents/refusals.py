"""Every reason not to read a file, as an error with three parts. The caller puts the file's name in front."""

from __future__ import annotations

from app.documents.limits import Limits
from app.text import number_words, size_words
from memlong.errors import DocumentError

READABLE = "Text, Markdown, PDF, EPUB, DOCX and HTML files can be read"


def missing() -> DocumentError:
    """The path is no readable file."""
    return DocumentError("There is no such file, or it cannot be opened", "A file is needed", "Upload it again")


def too_large(n_bytes: int, limits: Limits) -> DocumentError:
    """The file itself is over the size limit."""
    return DocumentError(
        f"The file has {size_words(n_bytes)}",
        f"Files up to {size_words(limits.file_bytes)} can be read",
        "Split it, or take the pictures out of it",
    )


def empty() -> DocumentError:
    """No bytes, or only blanks."""
    return DocumentError(
        "The file is empty", "A file with text is needed", "Check that it was copied as a whole and try again"
    )


def no_text(kind: str) -> DocumentError:
    """Parsed without an error, but nothing to read in it."""
    return DocumentError(f"There is no text in this {kind}", "A document with text is needed", "Choose another file")


def scanned(pages: int) -> DocumentError:
    """A PDF whose pages are pictures."""
    given = "The only page of this PDF holds" if pages == 1 else f"The {number_words(pages)} pages of this PDF hold"
    return DocumentError(
        f"{given} no text: it was probably scanned",
        "Only PDFs with a text layer can be read; text in pictures is not recognised",
        "Run it through text recognition (OCR) first, for example with ocrmypdf",
    )


def encrypted(kind: str) -> DocumentError:
    """Locked by a password."""
    return DocumentError(
        f"This {kind} is protected by a password",
        "Only documents that open without a password can be read",
        "Open it with the password, save a copy without one and take that",
    )


def rights_managed() -> DocumentError:
    """An e-book with copy protection."""
    return DocumentError(
        "The text of this EPUB is encrypted (copy protection, DRM)",
        "Only e-books without copy protection can be read",
        "Use an edition without it",
    )


def broken(kind: str, detail: str = "") -> DocumentError:
    """Cut off, damaged, or not what it says it is."""
    return DocumentError(
        f"This {kind} is damaged" + (f" ({detail})" if detail else ""),
        "The file must be complete and valid",
        "Download or export it again, check that it opens elsewhere, and try once more",
    )


def failed(kind: str, error: Exception) -> DocumentError:
    """The parser raised something that nobody foresaw."""
    return DocumentError(
        f"This {kind} could not be parsed ({type(error).__name__})",
        "The file must be complete and valid",
        "Convert it to plain text or PDF and take that",
    )


def not_installed(kind: str, package: str) -> DocumentError:
    """The library that reads this kind of file is missing."""
    return DocumentError(
        f"To read {'an' if kind[0] in 'EH' else 'a'} {kind}, Python needs the module {package}",
        "What the app needs has to be installed: requirements.txt names it",
        'Run: pip install -e ".[app]"',
    )


def bomb(detail: str) -> DocumentError:
    """An archive that unpacks to far more than it should."""
    return DocumentError(
        f"The archive is not unpacked: {detail}",
        "Archives that grow without measure when unpacked are refused",
        "If the document is honest, export it again without its pictures or as plain text",
    )


def nested(limits: Limits) -> DocumentError:
    """Markup nested so deeply that parsing would take forever."""
    return DocumentError(
        "The elements of this document are nested too deeply",
        f"{number_words(limits.nesting)} levels are allowed",
        "Save it as plain text and take that",
    )


def entities(kind: str) -> DocumentError:
    """XML that declares entities: only attacks do."""
    return DocumentError(
        f"This {kind} declares XML entities",
        "Entity declarations are refused: they are used for attacks",
        "Export it again",
    )


def too_long(limits: Limits) -> DocumentError:
    """More text than a document may have."""
    return DocumentError(
        "There is too much text in this file",
        f"{number_words(limits.characters)} characters per document are allowed",
        "Split it into parts and take the part you need",
    )


def too_many_pages(pages: int, limits: Limits) -> DocumentError:
    """A PDF with an absurd page count."""
    return DocumentError(
        f"This PDF has {number_words(pages)} pages",
        f"{number_words(limits.pages)} pages are allowed",
        "Split it into parts",
    )


def wrong_kind(what: str, do: str = "Convert it to one of these and take that") -> DocumentError:
    """A known kind of file that has no text for us, or junk."""
    return DocumentError(f"This is {what}", READABLE, do)


def took_too_long(seconds: float) -> DocumentError:
    """Over the processor or the wall limit."""
    return DocumentError(
        "Reading the file took too long and was stopped",
        f"{number_words(seconds)} seconds are allowed",
        "Convert it to plain text, or split it, and try again",
    )


def out_of_memory(limits: Limits) -> DocumentError:
    """Over the memory limit."""
    return DocumentError(
        "Reading the file needed too much memory and was stopped",
        f"{size_words(limits.memory_bytes)} are allowed",
        "Convert it to plain text, or split it, and try again",
    )


def crashed(how: str, limits: Limits) -> DocumentError:
    """The parsing process died; nothing else did."""
    return DocumentError(
        f"The parser crashed on this file ({how}): it is damaged, or made to need too much memory",
        f"The file must be valid and need at most {size_words(limits.memory_bytes)} to parse",
        "Convert it to plain text, or print it to a new PDF, and take that",
    )
