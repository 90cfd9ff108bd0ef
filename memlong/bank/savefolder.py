"""A folder that is replaced in one step: a kill at any moment leaves the old content or the new, never a mixture.

Layout: ``manifest.json`` names a data folder beside it and the size and checksum of every file in there. A save fills
a new data folder, then puts a new manifest over the old one by a rename, which is the one moment that counts; the data
folders that no manifest names are cleared away by the next save. One process at a time may save to a folder.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BufferedWriter, RawIOBase
from pathlib import Path
from typing import Any, BinaryIO, cast

from memlong.errors import PersistError
from memlong.files import sync

VERSION = 1
MANIFEST = "manifest.json"
_DATA = "data-"
_BLOCK = 1 << 20  # bytes read at a time for a checksum


class Saving:
    """A save in progress.

    Args:
        folder: the new data folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, dict[str, int]] = {}

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a new file for writing; it is on the disk when the block ends.

        Raises:
            PersistError: for a name that is a path, or was used before.
        """
        if name in self.files or not _is_plain(name):
            raise PersistError(f"A file named {name!r}", "Plain file names, each once", "Choose another name")
        path = self.folder / name
        with open(path, "xb", buffering=0) as raw:
            counted = _Counted(raw)
            with BufferedWriter(counted, _BLOCK) as file:
                yield cast(BinaryIO, file)
        sync(path)
        self.files[name] = {"bytes": counted.size, "crc32": counted.crc}

    def write(self, name: str, content: bytes) -> None:
        """Write a whole file."""
        with self.open(name) as file:
            file.write(content)


class SavedFolder:
    """A saved folder, opened for reading.

    Args:
        folder: where it was saved.

    Attributes:
        about: what the saver wrote into the manifest.

    Raises:
        PersistError: when nothing is there, or it is damaged or of another version.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        manifest = _read_manifest(self.folder)
        self._files: dict[str, dict[str, int]] = manifest["files"]
        self._data = self.folder / manifest["data"]
        self.about: dict[str, Any] = manifest["about"]
        for name, known in self._files.items():
            path = self._data / name
            size = path.stat().st_size if path.is_file() else None
            if size != known["bytes"]:
                found = "is missing" if size is None else f"has {size:,} bytes instead of {known['bytes']:,}"
                raise damaged(self.folder, f"{name} {found}")

    @property
    def names(self) -> list[str]:
        """Names of all files."""
        return list(self._files)

    def checked(self, name: str) -> Path:
        """Return the path of a file whose content is what was saved.

        Raises:
            PersistError: when it is not, or no such file was saved.
        """
        if name not in self._files:
            raise damaged(self.folder, f"{name} was not saved")
        path = self._data / name
        if _checksum(path) != self._files[name]["crc32"]:
            raise damaged(self.folder, f"the content of {name} was changed")
        return path

    def read(self, name: str) -> bytes:
        """Return the content of a file, checked."""
        return self.checked(name).read_bytes()

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file, checked."""
        return json.loads(self.read(name))


@contextmanager
def saving(folder: Path | str, about: Mapping[str, Any]) -> Iterator[Saving]:
    """Give a :class:`Saving` to write files with; they replace the folder's content when the block ends well.

    Args:
        about: JSON-safe values for the manifest.

    Raises:
        PersistError: when the folder cannot be written; what was saved there before stays.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / f"{_DATA}{uuid.uuid4().hex[:12]}"
        data.mkdir()
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        save = Saving(data)
        yield save
        sync(data)
        manifest = {"version": VERSION, "data": data.name, "files": save.files, "about": dict(about)}
        _replace(folder / MANIFEST, json.dumps(manifest, indent=1).encode())
    except BaseException as error:
        if not _is_current(folder, data):
            shutil.rmtree(data, ignore_errors=True)
        if isinstance(error, OSError):
            raise _unwritable(folder, error) from error
        raise
    _clear(folder, data)


def require_writable(folder: Path) -> None:
    """Make the folder if there is none, and try it: for work that takes long before its result is saved.

    Raises:
        PersistError: when it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def damaged(folder: Path, what: str) -> PersistError:
    """Return the error for a saved folder that cannot be trusted."""
    return PersistError(
        f"The saved session in {folder} is damaged: {what}",
        "All files exactly as they were saved",
        "Take it from a backup, or read the documents again",
    )


def _unwritable(folder: Path, error: OSError) -> PersistError:
    return PersistError(
        f"Nothing can be saved in {folder} ({error.strerror or type(error).__name__})",
        "A folder that can be made and written, on a disk with room",
        "Choose another folder, or make room; an earlier save in it is unharmed",
    )


class _Counted(RawIOBase):
    """Passes bytes on to a file, and keeps their number and checksum."""

    def __init__(self, file: Any) -> None:
        self.size, self.crc, self._file = 0, 0, file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        count = int(self._file.write(data))
        self.size, self.crc = self.size + count, zlib.crc32(memoryview(data)[:count], self.crc)
        return count


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise PersistError(f"Nothing is saved in {folder}", f"A folder with {MANIFEST}", "Save a session there first")
    try:
        manifest = json.loads(path.read_bytes())
        version, known = manifest["version"], manifest["files"].values()
        whole = isinstance(manifest["about"], dict) and all({"bytes", "crc32"} == set(file) for file in known)
        whole &= all(map(_is_plain, [manifest["data"], *manifest["files"]]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise damaged(folder, f"{MANIFEST} cannot be read ({error!r})") from error
    if version != VERSION:
        raise PersistError(
            f"The session in {folder} was saved in format {version}",
            f"This program reads format {VERSION}",
            "Use the program that saved it, or read the documents again",
        )
    if not whole:
        raise damaged(folder, f"{MANIFEST} names what no save has written")
    return cast(dict[str, Any], manifest)


def _replace(path: Path, content: bytes) -> None:
    """Put new content in a file's place at once."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def _is_current(folder: Path, data: Path) -> bool:
    try:
        return bool(_read_manifest(folder)["data"] == data.name)
    except PersistError:
        return False


def _clear(folder: Path, current: Path) -> None:
    for path in folder.glob(f"{_DATA}*"):
        if path != current:
            shutil.rmtree(path, ignore_errors=True)


def _checksum(path: Path) -> int:
    crc = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
    return crc


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")
