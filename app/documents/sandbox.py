"""Runs the parser in a process of its own, with limits on memory, processor and wall time. The app stays up
whatever the file does: PDFium, for one, aborts its process when a small file makes it ask for too much
memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from app.documents import refusals
from app.documents.builder import Parsed
from app.documents.limits import Limits
from memlong.books import PARSER, parser_environment
from memlong.errors import Cancelled, DocumentError

_ROOT = Path(__file__).resolve().parents[2]
_POLL_SECONDS = 0.05
_STEP = 1 << 16
# Parsing is short and may take gigabytes: more at once would let a few uploads fill the machine.
_SLOTS = threading.BoundedSemaphore(2)

Cancel = Callable[[], bool]


def parse_in_child(path: Path, name: str, limits: Limits, cancel: Cancel | None = None) -> Parsed:
    """Return what :func:`app.documents.parse.parse_file` makes of the file, computed in a child process.

    Raises:
        DocumentError: the file cannot be read, or a limit was hit, or the parser crashed.
        Cancelled: ``cancel`` returned True; the child is gone by then.
    """
    while not _SLOTS.acquire(timeout=_POLL_SECONDS):
        _check(cancel)
    try:
        _check(cancel)
        return _run(path, name, limits, cancel)
    finally:
        _SLOTS.release()


def _check(cancel: Cancel | None) -> None:
    if cancel is not None and cancel():
        raise Cancelled("The document was not read: stopped on request")


def _run(path: Path, name: str, limits: Limits, cancel: Cancel | None) -> Parsed:
    request = json.dumps({"path": str(path.resolve()), "name": name, "limits": asdict(limits)}).encode()
    process = subprocess.Popen(
        [sys.executable, "-m", PARSER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=_ROOT,
        env=parser_environment(),
        start_new_session=True,  # Ctrl-C in the terminal belongs to the app, which then ends the child itself
    )
    assert process.stdin is not None and process.stdout is not None
    # JSON writes a character in at most six bytes.
    answer = _Answer(process.stdout, 6 * limits.characters + (1 << 20))
    try:
        _send(process.stdin, request)
        deadline = time.monotonic() + limits.wall_seconds
        answer.start()
        while not answer.wait(_POLL_SECONDS):
            _check(cancel)
            if time.monotonic() > deadline:
                raise refusals.took_too_long(limits.wall_seconds)
        code = _exit_code(process, answer)
    finally:
        process.kill()  # does nothing if it has ended
        process.wait()
        answer.wait(None)
        process.stdout.close()
    return _understand(bytes(answer.data), code, limits)


def _exit_code(process: subprocess.Popen[bytes], answer: _Answer) -> int:
    """Return the exit code of a child that has closed its end of the pipe, 0 if it does not end by itself."""
    try:
        return 0 if answer.flooded else process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return 0


def _send(pipe: IO[bytes], request: bytes) -> None:
    try:
        pipe.write(request)
        pipe.close()
    except OSError:  # it died at once: the exit code tells
        return


class _Answer:
    """Reads the child's answer in a thread of its own, so that waiting works the same on every platform."""

    def __init__(self, pipe: IO[bytes], limit: int) -> None:
        self.data = bytearray()
        self.flooded = False
        self._pipe, self._limit = pipe, limit
        self._thread = threading.Thread(target=self._read, name="document-parser", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wait(self, seconds: float | None) -> bool:
        """Wait for the end of the answer; return whether it was reached."""
        if self._thread.ident is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _read(self) -> None:
        while piece := os.read(self._pipe.fileno(), _STEP):
            self.data += piece
            if len(self.data) > self._limit:  # an honest parser stops long before
                self.data.clear()
                self.flooded = True
                return


def _understand(data: bytes, code: int, limits: Limits) -> Parsed:
    if code < 0:
        raise _died(-code, limits)
    try:
        answer: dict[str, Any] = json.loads(data)
        if "error" in answer:
            given, allowed, do = answer["error"]
            raise DocumentError(given, allowed, do)
        if "memory" in answer:
            raise refusals.out_of_memory(limits)
        parsed = answer["parsed"]
        spans = tuple((int(start), int(end), str(label)) for start, end, label in parsed["spans"])
        return Parsed(parsed["title"], parsed["text"], spans, parsed["kind"], tuple(parsed["warnings"]))
    except DocumentError:
        raise
    except (ValueError, KeyError, TypeError):  # a file that took the parser over may write anything
        raise refusals.crashed(f"exit code {code}", limits) from None


def _died(number: int, limits: Limits) -> DocumentError:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    if name == "SIGXCPU":
        return refusals.took_too_long(limits.cpu_seconds)
    if name == "SIGKILL":  # not by us: the system was out of memory, or the hard processor limit was reached
        return refusals.out_of_memory(limits)
    return refusals.crashed(name, limits)
