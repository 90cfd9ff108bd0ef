"""Keep other libraries' progress bars and log lines, broken pipes and unknown letters off a person's screen."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper

# Loggers of the libraries we load weights with. What matters in their messages reaches people as our own
# errors.
NOISY = ("transformers", "huggingface_hub", "bitsandbytes", "FlagEmbedding", "sentence_transformers", "peft")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the loading noise of transformers and its relatives; everything is as before afterwards."""
    from transformers.utils import logging as hf_logging

    bars = hf_logging.is_progress_bar_enabled()
    levels = {name: logging.getLogger(name).level for name in NOISY}
    try:
        hf_logging.disable_progress_bar()
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if bars:
            hf_logging.enable_progress_bar()


def to_the_reader(command: Callable[[], int]) -> int:
    """Run a command line and return its exit status.

    Whoever reads its output may stop early, as ``head`` does, and what a terminal has no letters for is written as its
    number: a title with a strange letter must not cost the answer below it.
    """
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = command()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # 128 + SIGPIPE, as for programs that the signal ends
