"""Training runs: started as processes of their own, followed by their files, stopped by a signal. No gradio, no torch.

A run is a folder with ``run.json`` (what was started), ``log.txt``, and what the training itself writes there:
``metrics.jsonl``, checkpoints, ``export``. So runs outlive the page and the app. Only a process that is still the one
that was started here (same id, same start time, same command) is ever sent a signal.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import psutil

from app.recipes import ROOT, TRAINING
from app.rows.training import Step, parse
from app.text import shorten
from memlong.errors import ConfigError, MemLongError
from memlong.paths import ENVIRONMENT_VARIABLE

RECORD, LOG, METRICS, EXPORT = "run.json", "log.txt", "metrics.jsonl", "export"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SAME_START = 2.0  # seconds that two readings of a process's start may differ: clocks are adjusted
_LOG_BYTES = 20_000
# An app that was started in the background ignores interrupts, and its children inherit that: a run asked to stop
# before it listens would never hear of it. The program of the command takes this one's place, number and all.
_LISTENING = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)


@dataclass(frozen=True)
class Record:
    """What was started.

    Attributes:
        name: of the run's folder. recipe: its recipe. overrides: key=value items. command: what was run.
        pid, created: of the newest process, and when that began (seconds since 1970).
        stopping: whether it was asked to stop.
    """

    name: str
    recipe: str
    overrides: tuple[str, ...]
    command: tuple[str, ...]
    pid: int = 0
    created: float = 0.0
    stopping: bool = False


@dataclass(frozen=True)
class Run:
    """A run as it is now.

    Attributes:
        record: what was started. folder: where. state: "starting", "running", "stopping", "done", "stopped" or
            "failed". steps: what it told so far. log: the end of what it printed. export: the folder to load into the
            app; None before there is one.
    """

    record: Record
    folder: Path
    state: str
    steps: tuple[Step, ...]
    log: str
    export: Path | None

    @property
    def alive(self) -> bool:
        """Whether its process is at work."""
        return self.state in ("starting", "running", "stopping")


class Runs:
    """All runs of one folder.

    Args:
        folder: holds a folder a run; its parent is the data folder.
        program: starts the training command line; tests give their own.
    """

    def __init__(self, folder: Path, program: Sequence[str] = TRAINING) -> None:
        self.folder, self.program = folder, tuple(program)
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all runs, the newest first."""
        records = self.folder.glob(f"*/{RECORD}") if self.folder.is_dir() else []
        return [path.parent.name for path in sorted(records, key=lambda path: -path.stat().st_mtime)]

    def free_name(self, recipe: str) -> str:
        """Return a name that no run has."""
        number = 1
        while (self.folder / f"{recipe}-{number}").exists():
            number += 1
        return f"{recipe}-{number}"

    def command(self, recipe: str, overrides: Sequence[str], name: str) -> tuple[str, ...]:
        """Return the command that trains; the same one goes on with a run that was stopped."""
        return (*self.program, "run", recipe, *overrides, "--out", str(self.folder / name))

    def start(self, recipe: str, overrides: Sequence[str], name: str) -> Run:
        """Start a run.

        Raises:
            ConfigError: for a name that cannot be, or that another run has, and while a run of the same settings is at
                work: two would only halve each other's speed.
        """
        require_name(name)
        with self._lock:
            if (self.folder / name).exists():
                raise ConfigError(f"A run called {name!r} exists", "A new name", "Choose another, or resume that run")
            if (twin := self._at_work(recipe, overrides)) is not None:
                given = f"{twin} is running with these very settings"
                raise ConfigError(given, "One run of a kind at a time", "Follow that one, or stop it first")
            (self.folder / name).mkdir(parents=True)
            record = Record(name, recipe, tuple(overrides), self.command(recipe, overrides, name))
            self._launch(record)
        return self.get(name)

    def resume(self, name: str) -> Run:
        """Start a run's command again: training goes on from its last checkpoint.

        Raises:
            ConfigError: when there is no such run, or it is at work.
        """
        with self._lock:
            record = self._record(name)
            if self._alive(record):
                raise ConfigError(f"{name} is running", "A run that was stopped", "Wait for it, or stop it first")
            self._launch(record)
        return self.get(name)

    def stop(self, name: str) -> Run:
        """Ask a run to stop after the step at hand; it writes a checkpoint and an export first.

        Raises:
            ConfigError: when there is no such run, or it is not at work.
        """
        with self._lock:
            record = self._record(name)
            if not self._alive(record):
                raise ConfigError(f"{name} is not running", "A run that is at work", "Look at its log")
            self._write(replace(record, stopping=True))
            _interrupt(record.pid)
        return self.get(name)

    def get(self, name: str) -> Run:
        """Return a run as it is now. Raises ConfigError when there is none of this name."""
        record, folder = self._record(name), self.folder / name
        alive = self._alive(record)  # asked first: what a run wrote when it ended is read after it
        steps = parse(_read(folder / METRICS))
        export = folder / EXPORT if (folder / EXPORT).is_dir() else None
        log = _read(folder / LOG, _LOG_BYTES)
        if alive and record.stopping:
            # Asked again at every look: an interrupt that came before the command listened is lost.
            _interrupt(record.pid)
        if alive:
            begun = folder.joinpath(METRICS).is_file() and folder.joinpath(METRICS).stat().st_mtime >= record.created
            state = "stopping" if record.stopping else "running" if begun else "starting"
        elif steps and steps[-1].step >= steps[-1].steps and export:
            state = "done"
        else:
            state = "stopped" if record.stopping or "\nstopped at step" in log[-300:] else "failed"
        return Run(record, folder, state, steps, log, export)

    def _at_work(self, recipe: str, overrides: Sequence[str]) -> str | None:
        """Return the name of a run of these settings that is at work; None without one."""
        for name in self.names():
            try:
                record = self._record(name)
            except ConfigError:  # what cannot be read cannot be told apart
                continue
            if (record.recipe, record.overrides) == (recipe, tuple(overrides)) and self._alive(record):
                return name
        return None

    def _launch(self, record: Record) -> None:
        """Start the command in a session of its own: closing the app or its terminal does not reach it."""
        folder = self.folder / record.name
        listening = (sys.executable, "-c", _LISTENING) if os.name == "posix" else ()
        environment = {**os.environ, ENVIRONMENT_VARIABLE: str(self.folder.parent), "PYTHONUNBUFFERED": "1"}
        with (folder / LOG).open("ab") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
            log.flush()
            child = subprocess.Popen(
                [*listening, *record.command], cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._children[child.pid] = child
        try:
            created = psutil.Process(child.pid).create_time()
        except psutil.Error:  # gone already
            created = time.time()
        self._write(replace(record, pid=child.pid, created=created, stopping=False))

    def _alive(self, record: Record) -> bool:
        """Whether the process that was started is at work: not another one that got its number since."""
        child = self._children.get(record.pid)
        if child is not None:
            # Nobody else can have the number of a child that was not waited for.
            return child.poll() is None
        try:
            process = psutil.Process(record.pid)
            same = abs(process.create_time() - record.created) < _SAME_START
            # The first word may differ: some systems start Python by a program of another name.
            return (
                same and process.status() != psutil.STATUS_ZOMBIE and tuple(process.cmdline()[1:]) == record.command[1:]
            )
        except (psutil.Error, ValueError):
            return False

    def _record(self, name: str) -> Record:
        path = self.folder / name / RECORD
        if not _NAME.fullmatch(name) or not path.is_file():
            raise ConfigError(f"There is no run {name!r}", "A run of the list", "Start one")
        try:
            values = json.loads(path.read_text("utf-8"))
            kept = {each.name: values[each.name] for each in fields(Record)}
        except (ValueError, KeyError, TypeError) as error:
            raise MemLongError(
                f"{RECORD} of {name} is damaged ({error})", "A file written here", "Start anew"
            ) from None
        return Record(**kept | {"overrides": tuple(kept["overrides"]), "command": tuple(kept["command"])})

    def _write(self, record: Record) -> None:
        path = self.folder / record.name / RECORD
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(record), indent=1) + "\n", "utf-8")
        fresh.replace(path)


def require_name(name: str) -> None:
    """Raise ConfigError for what no run can be called."""
    if not _NAME.fullmatch(name):
        allowed = "Letters, digits, dots, dashes; a letter or digit first; 64 at most"
        raise ConfigError(f"The name {shorten(repr(name), 80)}", allowed, "Choose another name")


def _interrupt(pid: int) -> None:
    with suppress(ProcessLookupError):  # it ended a moment ago
        os.kill(pid, signal.SIGINT)


def _read(path: Path, last_bytes: int | None = None) -> str:
    """Return a text file, or its end; "" when there is none."""
    try:
        with path.open("rb") as file:
            if last_bytes is not None:
                file.seek(max(0, path.stat().st_size - last_bytes))
            return file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
