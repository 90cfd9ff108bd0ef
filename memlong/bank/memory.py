"""How much memory is free, a refusal that says what would fit, and how to have more of it."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import torch

from memlong.errors import BankError

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def available_bytes(device: torch.device | str = "cpu") -> int | None:
    """Return the bytes that can still be taken on a device; None when this system does not say.

    On the CPU: what the system has free, or what the container's limit leaves when that is less.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    limits = [size for size in (_system_bytes(), _container_bytes()) if size is not None]
    return min(limits) if limits else None


def require_memory(needed: int, tokens: int, device: torch.device | str = "cpu") -> None:
    """Refuse a bank of ``tokens`` tokens and ``needed`` bytes that does not fit into what is free.

    Raises:
        BankError: naming the need, what is free, and the largest capacity that fits.
    """
    free = available_bytes(device)
    if free is None or needed <= free:
        return
    raise BankError(
        f"A bank of {tokens:,} tokens needs {in_words(needed)}",
        f"{in_words(free)} of memory are free on {device}",
        f"Lower the capacity to {int(tokens * free / needed):,} tokens or fewer, store fewer layers, "
        "or keep the bank in int8 or k8v4",
    )


def in_words(size: int) -> str:
    """Return a number of bytes as people write it."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _system_bytes() -> int | None:
    try:
        import psutil
    except ImportError:
        return _meminfo_bytes()
    return int(psutil.virtual_memory().available)


def _meminfo_bytes() -> int | None:
    try:
        lines = _MEMINFO.read_text("ascii").splitlines()
    except OSError:
        return None
    kilobytes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(kilobytes[0]) * 1024 if kilobytes else None


def _container_bytes() -> int | None:
    """Return what a control group's limit leaves; cached files count as free, for they are given up first."""
    try:
        limit = (_CGROUP / "memory.max").read_text("ascii").strip()
        used = int((_CGROUP / "memory.current").read_text("ascii"))
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text("ascii").splitlines())
    except (OSError, ValueError):
        return None
    cached = int(stat.get("active_file", 0)) + int(stat.get("inactive_file", 0))
    return None if limit == "max" else max(0, int(limit) - used + cached)


def give_back() -> None:
    """Free what nobody can reach any more, and return to the system what the C library keeps of it for later."""
    gc.collect()  # a session and those who listen to it know each other
    with suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)
