"""Folders that appear whole or not at all, and file hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

MANIFEST = "complete.json"  # written last; names every file and its size
_STALE_SECONDS = 6 * 3600.0  # a partial folder this old belongs to a process that was killed


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; remembered while its size and change time stay the same."""
    status = path.stat()
    return _sha256(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_whole(folder: Path) -> bool:
    """Say whether ``folder`` was finished by :func:`whole_folder` and still has every file at its full size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def whole_folder(target: Path, **about: str) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well it becomes ``target`` in one rename.

    A kill at any moment leaves either no ``target`` or a whole one. Two processes may do this at once: the first to
    finish wins, the other's work is dropped. ``about`` is kept in the manifest.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    partial = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:12]}"
    partial.mkdir()
    try:
        yield partial
        files = {str(p.relative_to(partial)): p.stat().st_size for p in sorted(partial.rglob("*")) if p.is_file()}
        manifest = json.dumps({**about, "files": files}, indent=2)
        (partial / MANIFEST).write_text(manifest + "\n", "utf-8")
        _sync_tree(partial)
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(partial: Path, target: Path) -> None:
    if is_whole(target):
        return
    if target.exists():
        # Damaged or foreign: out of the way under a name that the next clean-up knows.
        aside = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:12]}"
        os.rename(target, aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        os.rename(partial, target)
    except OSError:
        if not is_whole(target):  # else another process was first, which is just as good
            raise
    sync(target.parent)


def _remove_stale(target: Path) -> None:
    for leftover in target.parent.glob(f".{target.name}.partial-*"):
        try:
            old = time.time() - leftover.stat().st_mtime > _STALE_SECONDS
        except OSError:
            continue  # its owner has just renamed it
        if old:
            shutil.rmtree(leftover, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or folder."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders; its rename is journalled
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
