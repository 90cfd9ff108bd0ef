"""ZIP archives (EPUB, DOCX) from strangers: members are read in memory, never unpacked to disk, and counted
on the way."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO

from app.documents import refusals
from app.documents.limits import Limits
from app.text import number_words, size_words

_STEP = 65_536
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError)


class Archive:
    """A checked archive, for use in a ``with`` statement.

    Declared sizes are checked on opening, real ones while reading. Names are looked up as they are, and mean
    nothing to the file system, so ``../../etc/passwd`` is only a strange name.

    Raises:
        DocumentError: damaged, encrypted, or a bomb (too many members, too much in all, too high a ratio).
    """

    def __init__(self, path: Path, words: str, limits: Limits) -> None:
        self.words = words
        self.limits = limits
        self._read_bytes = 0
        try:
            self._zip = zipfile.ZipFile(path)
        except _DAMAGE as error:
            raise refusals.broken(words, "the archive cannot be opened") from error
        try:
            self._check()
        except BaseException:
            self._zip.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, name: str) -> bool:
        return name in self._zip.NameToInfo

    def names(self) -> list[str]:
        """Return all member names in stored order."""
        return self._zip.namelist()

    def read(self, name: str) -> bytes:
        """Return one member."""
        pieces = []
        member = self.stream(name)
        while piece := member.read():
            pieces.append(piece)
        return b"".join(pieces)

    def stream(self, name: str) -> CountedMember:
        """Return one member as something to read from, which counts on the way."""
        info = self._zip.getinfo(name)
        if info.flag_bits & 1:
            raise refusals.encrypted(self.words)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Neither format allows others, and Python unpacks those without a bound on the step.
            raise refusals.broken(self.words, "a part of the archive is packed in an unknown way")
        try:
            return CountedMember(self, self._zip.open(info), info)
        except _DAMAGE as error:
            raise refusals.broken(self.words, "a part of the archive cannot be unpacked") from error

    def _check(self) -> None:
        infos, limits = self._zip.infolist(), self.limits
        if len(infos) > limits.members:
            raise refusals.bomb(f"it has {number_words(len(infos))} parts, {number_words(limits.members)} are allowed")
        total = sum(info.file_size for info in infos)
        if total > limits.unpacked_bytes:
            raise refusals.bomb(f"it holds {size_words(total)}, {size_words(limits.unpacked_bytes)} are allowed")
        for info in infos:
            self._check_ratio(info.file_size, info)

    def _check_ratio(self, size: int, info: zipfile.ZipInfo) -> None:
        packed = max(info.compress_size, 1)
        if size > self.limits.ratio_floor and size > self.limits.ratio * packed:
            ratio = number_words(size // packed)
            raise refusals.bomb(f"a part of it grows {ratio} times when unpacked, {self.limits.ratio} times is allowed")

    def count(self, piece: bytes, size: int, info: zipfile.ZipInfo) -> None:
        """Take note of a ``piece`` that was read, the last of ``size`` bytes of its member."""
        self._read_bytes += len(piece)
        if self._read_bytes > self.limits.unpacked_bytes:
            raise refusals.bomb(f"it holds more than the {size_words(self.limits.unpacked_bytes)} that are allowed")
        self._check_ratio(size, info)


class CountedMember:
    """The ``read`` side of a member."""

    def __init__(self, archive: Archive, member: IO[bytes], info: zipfile.ZipInfo) -> None:
        self._archive, self._member, self._info, self._size = archive, member, info, 0

    def read(self, size: int = _STEP) -> bytes:
        """Return up to ``size`` bytes, none at the end."""
        try:
            piece = self._member.read(size if 0 < size < _STEP else _STEP)
        except _DAMAGE as error:
            raise refusals.broken(self._archive.words, "a part of the archive cannot be unpacked") from error
        self._size += len(piece)
        self._archive.count(piece, self._size, self._info)
        return piece
