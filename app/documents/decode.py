"""Bytes to text: byte order marks, UTF-8, and a guess for everything older."""

from __future__ import annotations

import codecs
import re

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


def _decode(raw: bytes, declared: str | None) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding, "replace"), encoding
    for candidate in ("utf-8", _wide(raw), declared):
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
    """Return the name of UTF-16 without a mark: in western text every other byte is zero."""
    sample = raw[:2000]
    zeros_even, zeros_odd = sample[::2].count(0), sample[1::2].count(0)
    half = len(sample) / 2
    if len(sample) < 8 or max(zeros_even, zeros_odd) < 0.7 * half or min(zeros_even, zeros_odd) > 0.05 * half:
        return None
    return "utf-16-le" if zeros_odd > zeros_even else "utf-16-be"


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
    return text if len(high) < 0.15 * len(text[:_SAMPLE]) and _COMMON.issuperset(high) else None


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
