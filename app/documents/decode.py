"""Bytes to text: byte order marks, UTF-8, and a guess for everything older."""

from __future__ import annotations

import codecs
import re
from collections import Counter

from app.documents import refusals

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_CONTROL = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f\ufffd]")
_COMMON = frozenset(
    "àâäáãåæçèéêëìíîïñòóôöõøœùúûüÿßÀÂÄÁÅÆÇÈÉÊËÍÎÑÓÔÖØŒÙÚÜ"
    "\u2018\u2019\u201a\u201c\u201d\u201e\u2013\u2014\u2026\u2022«»‹›¡¿°§£€©®\xa0\xad"
)
_SAMPLE = 200_000
_JUNK_SHARE = 0.01
_ACCENTED_SHARE = 0.3  # of western text at most; other alphabets have no plain letters


def decode(raw: bytes, declared: str | None = None) -> tuple[str, str]:
    """Return the text and the name of its encoding; ``declared`` is what the file says of itself.

    Raises:
        DocumentError: if this is not text.
    """
    text, encoding = _decode(raw, declared)
    sample = text[:_SAMPLE]
    if len(_CONTROL.findall(sample)) > _JUNK_SHARE * len(sample):
        raise refusals.wrong_kind("binary data, not text")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def as_utf8(head: bytes) -> bytes:
    """Return the beginning of a file in UTF-8 if it is UTF-16, else as it is: for looking at what it is."""
    marked = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if marked else _wide(head)
    return head.decode(encoding, "ignore").encode() if encoding else head


def _decode(raw: bytes, declared: str | None) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding, "replace"), encoding
    # UTF-16 first: with plain letters alone it is UTF-8 too, every other one of them a zero.
    for candidate in (_wide(raw), "utf-8", declared):
        if candidate:
            try:
                return raw.decode(candidate), candidate
            except (UnicodeError, LookupError, ValueError):
                continue
    if raw[:_SAMPLE].count(0) > _JUNK_SHARE * len(raw[:_SAMPLE]):
        raise refusals.wrong_kind("binary data, not text")
    bad = raw.decode("utf-8", "replace")
    if bad.count("\ufffd") <= len(raw) / 10_000:  # UTF-8 with a damaged spot, or cut off inside a letter
        return bad, "utf-8"
    return _guess(raw)


def _wide(raw: bytes) -> str | None:
    """Return the name of UTF-16 without a mark: every other byte names the alphabet, or is zero as in blanks."""
    halves = {"utf-16-be": raw[:2000:2], "utf-16-le": raw[1:2000:2]}
    for name, other in (("utf-16-be", "utf-16-le"), ("utf-16-le", "utf-16-be")):
        few = Counter(halves[name]).most_common(3)
        most = len(raw) >= 8 and sum(count for _, count in few) >= 0.9 * len(halves[name])
        if most and 0 in dict(few) and halves[other].count(0) <= 0.05 * len(halves[other]):
            return name
    return None


def _western(raw: bytes) -> str | None:
    """Return the text if it is Windows-1252 with nothing but common western letters and signs in it.

    Statistics cannot tell short French from Lithuanian; but Polish, Czech or Lithuanian read as western shows
    signs such as the superscript three, which no western text has in its words.
    """
    try:
        text = raw.decode("cp1252")
    except UnicodeDecodeError:
        return None
    high = [char for char in text[:_SAMPLE] if char > "\x7f"]
    return text if len(high) < _ACCENTED_SHARE * len(text[:_SAMPLE]) and _COMMON.issuperset(high) else None


def _guess(raw: bytes) -> tuple[str, str]:
    if western := _western(raw):
        return western, "cp1252"
    from charset_normalizer import from_bytes  # 30 ms to import, rarely needed

    best = from_bytes(raw[:_SAMPLE]).best()
    for candidate in (best.encoding if best else None, "cp1252"):
        if candidate:
            text = raw.decode(candidate, "replace")
            if text.count("\ufffd") <= len(text) / 1000:
                return text, candidate
    return raw.decode("latin-1"), "latin-1"
