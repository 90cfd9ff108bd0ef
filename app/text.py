"""Text helpers without any dependency: one normalisation for all text that reaches the model, and words for
numbers.

The normalisation is the one the training texts went through, so that uploaded text looks to the model like
what it was trained on: Unicode NFC, UTF-8 that was read as Latin-1 repaired, straight quotes, ``--`` for the
em dash (without blanks), ``...`` for the ellipsis, plain single blanks, LF, at most one blank line in a row,
no control characters.
"""

from __future__ import annotations

import html
import re
import unicodedata
from pathlib import Path

_REPLACED = {
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u201f": '"', "\u2033": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2212": "-",
    "\u2014": "--", "\u2015": "--", "\u2026": "...",
    "\u2028": "\n", "\u2029": "\n\n", "\r": "\n", "\v": "\n", "\f": "\n\n", "\x85": "\n", "\t": " ",
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi",
    "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st",
    "\uf0b7": "\u2022",  # the bullet of the Symbol font, common in PDF
}  # fmt: skip
_BLANKS = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
# Control characters, soft hyphen, zero-width and bidirectional marks, surrogates, non-characters. The
# zero-width joiner and non-joiner stay: Persian and emoji need them.
_DROPPED = [
    *range(0x09), *range(0x0E, 0x20), *range(0x7F, 0x85), *range(0x86, 0xA0), 0xAD, 0x61C, 0x180E, 0x200B,
    0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF, *range(0xFFF0, 0xFFFD), 0xFFFE,
    0xFFFF, *range(0xD800, 0xE000),
]  # fmt: skip
_TABLE: dict[int, str | None] = {ord(key): value for key, value in _REPLACED.items()}
_TABLE |= {ord(blank): " " for blank in _BLANKS}
_TABLE |= dict.fromkeys(_DROPPED)

# One byte 0x80-0xBF of a UTF-8 sequence, as it looks when read as Latin-1 or as Windows-1252.
_TAIL = "\x80-\xbf" + "".join(char for byte in range(0x80, 0xA0) if (char := bytes([byte]).decode("cp1252", "ignore")))
_MOJIBAKE = re.compile(f"[\xc2-\xdf][{_TAIL}]|[\xe0-\xef][{_TAIL}]{{2}}")
_CERTAIN = re.compile(f"[\xc2\xc3][{_TAIL}]|\xe2[\x80\u20ac][{_TAIL}]")
_HIGH = re.compile("[\xc0-\u024f]")


def normalise(text: str) -> str:
    """Return ``text`` in the form the model was trained on; applying it twice changes nothing more."""
    text = _repair_encoding(text).replace("\r\n", "\n").translate(_TABLE)
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"(?<=\d)\u2013(?=\d)", "-", text)
    text = re.sub(r" +\u2013 +", "--", text).replace("\u2013", "-")
    text = re.sub(r"(?<!\.)\. \. \.(?: \.)?(?!\.)", "...", text)
    text = re.sub(r"  +", " ", text)
    text = re.sub(r"(?<=[^\s-]) ?--(?!-) ?(?=[^\s-])", "--", text)
    text = re.sub(r" ?\n ?", "\n", text).strip(" \n")
    text = re.sub(r"^[\u2022\u25cf\u25aa\u2023] ?(?=\S)", "- ", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text)


def one_line(text: str, limit: int = 200) -> str:
    """Return ``text`` normalised, on one line, cut to ``limit`` characters: for titles and labels."""
    return shorten(" ".join(normalise(text).split()), limit)


def shorten(text: str, limit: int) -> str:
    """Return ``text`` cut at a blank to at most ``limit`` characters, with ``...`` where something is
    missing."""
    if len(text) <= limit:
        return text
    cut = text[: max(limit - 3, 0)]
    return (cut.rsplit(" ", 1)[0] if " " in cut[limit // 2 :] else cut).rstrip() + "..."


def escape(text: object) -> str:
    """Return ``text`` for HTML, quotes included: everything a document contains passes through here before it
    is shown."""
    return html.escape(str(text), quote=True)


def escape_lines(text: object) -> str:
    """Return ``text`` for HTML with its line ends kept visible."""
    return escape(text).replace("\n", "<br>")


def at_home(text: object) -> str:
    """Return text with ``~`` for the person's own folder in paths: a page is shown to others."""
    home = str(Path.home())
    return str(text) if home == "/" else re.sub(rf"(?<![\w./~-]){re.escape(home)}(?=/)", "~", str(text))


def number_words(value: float) -> str:
    """Return a number with thousands separators: ``12,345``, ``0.25``."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def plural(count: int, noun: str, nouns: str | None = None) -> str:
    """Return ``1 chunk``, ``2,000 chunks``."""
    return f"{number_words(count)} {noun if count == 1 else nouns or noun + 's'}"


def chunk_number(chunk_id: int) -> int:
    """Return the number of a chunk on the page, where the first that was read is 1; programs get its id, from 0."""
    return chunk_id + 1


def size_words(n_bytes: float) -> str:
    """Return bytes in decimal units: ``512 bytes``, ``1.5 kB``, ``100 MB``."""
    if n_bytes < 1000:
        return plural(int(n_bytes), "byte")
    for unit in ("kB", "MB", "GB", "TB"):
        n_bytes /= 1000
        # 999.5 would round to "1000 kB".
        if n_bytes < 999.5 or unit == "TB":
            break
    return f"{n_bytes:.1f} {unit}" if n_bytes < 9.95 else f"{n_bytes:,.0f} {unit}"


def duration_words(seconds: float) -> str:
    """Return seconds as a person says them: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    seconds = max(float(seconds), 0.0)
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def wait_words(seconds: float) -> str:
    """Return how long something will take: like :func:`duration_words`, but no part of a second is foretold."""
    return "less than a second" if seconds < 1 else duration_words(seconds)


def _repair_encoding(text: str) -> str:
    """Return ``text`` with UTF-8 sequences that were read as Latin-1 decoded, if that is what happened.

    A right text can contain such a pair by accident, but then its other accented letters are single
    characters; a text decoded wrongly has none. So nothing is repaired where a letter from the accented
    ranges would be left over.
    """
    for _ in range(3):  # texts decoded wrongly twice exist
        if not _CERTAIN.search(text) or _HIGH.search(_MOJIBAKE.sub("", text)):
            return text
        text = _MOJIBAKE.sub(_decode_again, text)
    return text


def _decode_again(match: re.Match[str]) -> str:
    raw = bytearray()
    for char in match[0]:
        raw += char.encode("latin-1") if ord(char) < 256 else char.encode("cp1252")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return match[0]
