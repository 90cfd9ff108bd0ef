"""``python -m MODULE`` in forks of one process that has imported the libraries, which takes longer than tiny work.

Arguments, output, exit status and signals are those of a process started afresh; no GPU is seen.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["training.run", "training.stages.build", "training.merging", "peft", "accelerate"])


class Fork:
    """A module that runs as the main program; what it says goes to files in ``folder``, which must be its own."""

    def __init__(self, module: str, words: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True)
        self._said = folder / "said.txt", folder / "wrong.txt"
        self.process = FORKS.Process(target=_run, args=(module, list(words), dict(environment), self._said))
        with pytest.MonkeyPatch.context() as patch:
            # Libraries look for GPUs when they are imported, and what is forked afterwards could use none.
            patch.setenv("CUDA_VISIBLE_DEVICES", "")
            self.process.start()

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; returns the exit status, the output, and what was said of errors."""
        self.process.join()
        said, wrong = (path.read_text(errors="replace") if path.is_file() else "" for path in self._said)
        return self.process.exitcode, said, wrong


def _run(module: str, words: list[str], environment: dict[str, str], said: tuple[Path, Path]) -> None:
    for descriptor, path in zip((1, 2), said):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.environ.update(environment)
    sys.argv = [module, *words]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
