"""What all measures share: the model and its memory, progress that can be stopped, and where results go."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from memlong.bank.eviction import POLICIES
from memlong.bank.savefolder import require_writable
from memlong.config import MemoryConfig
from memlong.errors import ConfigError, unknown_name
from memlong.retriever import split_name

STOPPED = 130
"""Exit status after Ctrl-C, as shells have it."""

_SECONDS_BETWEEN_LINES = 15.0


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every measure takes."""
    parser.add_argument(
        "model", help='"bundled", "bundled-base" (its weights without our adapter), a folder or a hub id'
    )
    parser.add_argument("--adapter", help="folder of an adapter or of an export; none: without the model's own")
    parser.add_argument("--retriever", default="auto", help="auto, hybrid, minilm, bge-m3, hashing or sentence:MODEL")
    parser.add_argument("--top-k", type=int, help="chunks fetched (default: the model's)")
    parser.add_argument(
        "--memory",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="other settings of the memory, such as window_tokens=1024 preset=paper",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0: torch's choice)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of a table")
    parser.add_argument("--save", type=Path, help="write command, date, machine, settings and result into this file")


# Options of the measures that have them, by what one of them is at least.
_LEAST = {
    0: ("questions", "limit", "documents", "texts", "threads", "newest"),
    1: ("top_k", "passages", "seeds", "scored", "answer_tokens", "tries", "key_short", "slide_tokens", "full_tokens",
        "capacity_tokens", "at", "lengths", "contexts"),
}  # fmt: skip


def refuse_early(chosen: argparse.Namespace) -> None:
    """Refuse what would come to light only when all was measured, or after a model was loaded.

    Raises:
        MemLongError: for counts that are too small, unknown names, or files that cannot be written.
    """
    for least, names in _LEAST.items():
        for name in names:
            _refuse_small(name, getattr(chosen, name, None), least)
    split_name(chosen.retriever)
    changes = settings(chosen.memory)
    _refuse_memory(changes)
    for policy in (getattr(chosen, "policy", None), changes.get("policy")):
        if policy is not None and policy not in POLICIES:
            raise unknown_name("eviction policy", policy, POLICIES)
    for name in ("save", "rows"):
        path: Path | None = getattr(chosen, name, None)
        if path is not None:
            if path.is_dir():
                raise ConfigError(f"--{name} {path} is a folder", "A file", "Name one in it")
            _try_folder(path.absolute().parent)


def _refuse_small(name: str, given: object, least: int) -> None:
    """Refuse a count, or the smallest of a list of them; other values, such as files of the same name, may be any."""
    counts = [each for each in (given if isinstance(given, list) else [given]) if isinstance(each, int)]
    if counts and min(counts) < least:
        option = "--" + name.replace("_", "-")
        raise ConfigError(f"{option} {min(counts)}", f"A whole number from {least}", f"Raise it, or leave {option} out")


def _refuse_memory(changes: dict[str, Any]) -> None:
    """Refuse settings of the memory that are not known, or that no memory has."""
    known = MemoryConfig().to_dict()
    for key in changes:
        if key not in known:
            raise unknown_name("setting of the memory", key, known)
    MemoryConfig.refuse(changes)


def _try_folder(folder: Path) -> None:
    """Refuse a folder that cannot be written, and leave none behind: what is measured may still be refused."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        require_writable(folder)
    finally:
        for each in made:
            with suppress(OSError):  # never made, or somebody else's files are in it by now
                each.rmdir()


def load(chosen: argparse.Namespace) -> tuple[Any, Any]:
    """Return model and retriever of the command line, the memory's settings changed as it says.

    Raises:
        MemLongError: for what cannot be loaded or set.
    """
    import torch

    from memlong.model.load import load_model
    from memlong.retriever import make_retriever

    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    changes = settings(chosen.memory)
    if chosen.top_k is not None:
        changes["top_k"] = chosen.top_k
    model = load_model(chosen.model, adapter=chosen.adapter, device=chosen.device)
    return model.with_config(model.config.replace(**changes)), make_retriever(chosen.retriever)


def settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the values of KEY=VALUE pairs: JSON where it is, text elsewhere.

    Raises:
        ConfigError: for a pair without "=".
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"--memory {pair}", "KEY=VALUE", "Write for example window_tokens=1024")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}


def numbers(text: str) -> list[int]:
    """Return whole numbers separated by commas, ascending; "4k" is 4,096.

    Raises:
        argparse.ArgumentTypeError: for anything else.
    """
    try:
        found = {int(part[:-1]) * 1024 if part.endswith("k") else int(part) for part in text.lower().split(",")}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 1024,4k,16k") from None
    if min(found) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} holds a negative number")
    return sorted(found)


def one_of(given: str, known: Sequence[str], option: str) -> list[str]:
    """Return the names of a comma-separated list.

    Raises:
        ConfigError: for a name that is not known.
    """
    names = [name for name in given.split(",") if name]
    if not names or not set(names) <= set(known):
        raise ConfigError(f"{option} {given}", ", ".join(known), "Name some of these, separated by commas")
    return names


class Watch:
    """Shows progress on stderr and turns the first Ctrl-C into "stop after this step"; a second one breaks off.

    A context manager, called with words; returns whether to stop.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._said = 0.0

    def __call__(self, words: str) -> bool:
        now = time.monotonic()
        if sys.stderr.isatty():
            print(f"\r{words}\x1b[K", end="", file=sys.stderr, flush=True)
        elif now - self._said > _SECONDS_BETWEEN_LINES:
            self._said = now
            print(words, file=sys.stderr, flush=True)
        return self.stopped

    def __enter__(self) -> Watch:
        self._before = signal.signal(signal.SIGINT, self._interrupt)
        return self

    def __exit__(self, *failure: object) -> None:
        signal.signal(signal.SIGINT, self._before)
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True
        print("\nStopping after this step; Ctrl-C again breaks off.", file=sys.stderr, flush=True)


def publish(
    chosen: argparse.Namespace, reader: tuple[Any, Any], result: Any, lines: Sequence[str], stopped: bool
) -> int:
    """Print the result (JSON or the lines of its table), save it where asked, and return the exit status.

    Args:
        reader: model and retriever. result: JSON-safe.
        stopped: whether a person broke it off, so that it is only what was done until then.
    """
    if stopped:
        print("Stopped: this is what was done until then.", file=sys.stderr)
    print(json.dumps(result, indent=1) if chosen.json else "\n".join(lines))
    if chosen.save:
        chosen.save.parent.mkdir(parents=True, exist_ok=True)
        record = _record(chosen, reader, result, stopped) | {"table": list(lines)}
        chosen.save.write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    return STOPPED if stopped else 0


def write_rows(chosen: argparse.Namespace, rows: Sequence[Any]) -> None:
    """Write dataclasses into the JSONL file of ``--rows``, a line each, where one was asked for."""
    if chosen.rows:
        chosen.rows.parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)
        chosen.rows.write_text("".join(lines), "utf-8")


def _record(chosen: argparse.Namespace, reader: tuple[Any, Any], result: Any, stopped: bool) -> dict[str, Any]:
    import torch

    model, retriever = reader
    return {
        "command": " ".join(["python -m training", *_told(sys.argv[1:])]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "device": str(model.device),
            "threads": torch.get_num_threads(),
        },
        "model": chosen.model,
        "adapter": model.adapts,
        "fingerprint": model.fingerprint(),
        "number_type": str(model.dtype).removeprefix("torch."),
        "retriever": retriever.name,
        "memory": model.config.to_dict(),
        "complete": not stopped,
        "result": result,
    }


def _told(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that numbers depend on: where they are written to is not one."""
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument not in ("--save", "--rows") and not argument.startswith(("--save=", "--rows=")):
            kept.append(argument)
        skip = not skip and argument in ("--save", "--rows")
    return kept
