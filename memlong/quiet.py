"""Keep other libraries' progress bars and log lines off a person's screen, for a moment."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

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
