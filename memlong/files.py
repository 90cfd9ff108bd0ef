"""Folders that appear whole or not at all, and file hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

MANIFEST = "complete.json"  # written last; names every file and its size
_STALE_SECONDS = 6 * 3600.0  # a partial folder this old belongs to a process that was killed


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; remembered while size and change time stay."""
    status = path.stat()
    return _sha256(str(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_hash(paths: Sequence[Path]) -> str:
    """Return one SHA-256 for several files, which changes with any of them, their names or their order."""
    if len(paths) == 1:
        return sha256(paths[0])
    return hashlib.sha256("".join(f"{path.name}:{sha256(path)};" for path in paths).encode()).hexdigest()


def is_whole(folder: Path) -> bool:
    """Say whether :func:`whole_folder` finished ``folder`` and every file still has its size."""
    try:
        sizes = json.loads((folder / MANIFEST).read_text("utf-8"))["files"]
        return bool(sizes) and all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


@contextmanager
def whole_folder(target: Path, **about: str) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well it becomes ``target`` in one rename.

    A kill at any moment leaves either no ``target`` or a whole one. Two processes may do this at once: the
    first to finish wins, the other's work is dropped. ``about`` is kept in the manifest.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    partial = target.parent / f".{target.name}.partial-{uuid.uuid4().hex[:12]}"
    partial.mkdir()
    try:
        yield partial
        paths = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        files = {path.relative_to(partial).as_posix(): path.stat().st_size for path in paths}
        manifest = json.dumps({**about, "files": files}, indent=2)
        (partial / MANIFEST).write_text(manifest + "\n", "utf-8")
        usual = (partial / MANIFEST).stat().st_mode
        for path in paths:
            path.chmod(usual)  # safetensors lets nobody but the owner read what it writes
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
