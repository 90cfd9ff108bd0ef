"""JSON lines, plain or in zstd frames: the format of every data file here."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import zstandard

from memlong.errors import DocumentError

MAX_WINDOW = 2**27
"""Largest zstd window accepted, in bytes. The data files use 64 MiB, more than zstd takes without being
told.
"""

_BLOCK = 1 << 20


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a ``.jsonl`` or ``.jsonl.zst`` file, line by line; blank lines are passed over.

    Raises:
        DocumentError: the file is missing, has another extension, is damaged or cut off, is not UTF-8, or a
        line is
            not a JSON object. The message names the line.
    """
    path = Path(path)
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _bad(f"Line {number} of {path} is not JSON ({error.msg} at column {error.colno})") from error
        if not isinstance(row, dict):
            raise _bad(f"Line {number} of {path} is a {type(row).__name__}, not an object")
        yield row


def write_jsonl(path: str | Path, rows: Iterable[Mapping[str, Any]], level: int = 19) -> int:
    """Write the rows to a ``.jsonl`` or ``.jsonl.zst`` file (zstd ``level`` 1 to 22) and return their number.

    Raises:
        DocumentError: the name has another extension.
    """
    path = Path(path)
    _check_extension(path)
    count = 0
    parts: list[str] = []
    for row in rows:
        parts.append(json.dumps(row, ensure_ascii=False) + "\n")
        count += 1
    data = "".join(parts).encode("utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zstandard.ZstdCompressor(level=level).compress(data) if path.suffix == ".zst" else data)
    return count


def _lines(path: Path) -> Iterator[str]:
    """Yield lines cut at ``\\n`` only: JSON strings may hold other line separators, such as U+2028."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    try:
        for block in _blocks(path):
            *lines, rest = (rest + decoder.decode(block)).split("\n")
            yield from lines
        rest += decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _bad(f"{path} is not UTF-8 text ({error.reason})") from error
    if rest:
        yield rest


def _blocks(path: Path) -> Iterator[bytes]:
    _check_extension(path)
    if not path.is_file():
        raise DocumentError(
            f"There is no file {path}",
            "The path of an existing .jsonl or .jsonl.zst file is allowed",
            "Check the path",
        )
    with path.open("rb") as file:
        if path.suffix != ".zst":
            while block := file.read(_BLOCK):
                yield block
            return
        yield from _decompressed(path, iter(lambda: file.read(_BLOCK), b""))


def _decompressed(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    # Not stream_reader: it ends without a word in the middle of a file that was cut off.
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame = decompressor.decompressobj()
    open_frame = False
    try:
        for block in blocks:
            while block:
                if frame.eof:
                    frame = decompressor.decompressobj()
                yield frame.decompress(block)
                open_frame = not frame.eof
                block = frame.unused_data if frame.eof else b""
    except zstandard.ZstdError as error:
        raise _bad(f"{path} is not valid zstd data ({error})") from error
    if open_frame:
        raise _bad(f"{path} is cut off: its last zstd frame is not complete")


def _check_extension(path: Path) -> None:
    if not path.name.endswith((".jsonl", ".jsonl.zst")):
        raise DocumentError(
            f"{path.name} is not a JSON lines file",
            "Names ending in .jsonl or .jsonl.zst are allowed",
            "Convert the file, or rename it if it holds JSON lines",
        )


def _bad(given: str) -> DocumentError:
    return DocumentError(
        given,
        "One JSON object per line, UTF-8, plain or compressed with zstd, is allowed",
        "Copy or make the file again",
    )
