"""Loading another model in place: the present one serves until the new one is ready, and stays when that fails."""

from __future__ import annotations

import gc
import threading
import time
from dataclasses import dataclass
from typing import Any

from app.engine import Engine, Loaded, LoadState, memory_config
from app.sessions import Visits
from app.settings import Settings
from app.setup import Setup
from app.text import plural
from memlong.errors import Cancelled, MemLongError, ModelError

PATIENCE = 20.0  # seconds that work of visitors may take to notice that it is to stop


class Switch:
    """Loads another model for everybody, one at a time.

    Args:
        engine: whose model is replaced. visits: whose memories are emptied, since another model cannot read them.
        patience: seconds to wait for reading and answering to stop at their next step.

    Attributes:
        state: how far loading is, or how it ended; None before the first, and after one that was stopped.
    """

    def __init__(self, engine: Engine, visits: Visits, patience: float = PATIENCE) -> None:
        self.engine, self._visits, self._patience = engine, visits, patience
        self.state: LoadState | None = None
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def loading(self) -> bool:
        """Whether a model is being loaded now."""
        return self.state is not None and not (self.state.ready or self.state.error)

    def start(self, setup: Setup) -> None:
        """Begin to load, in the background.

        Raises:
            MemLongError: while another model is being loaded, or where this app does not allow it.
        """
        refuse_changes(self.engine.settings)
        with self._lock:
            if self.loading or not (self.engine.state.ready or self.engine.state.error):
                raise ModelError("A model is being loaded already", "One at a time", "Wait until it is ready")
            self.state = LoadState()
            self._stopped.clear()
        settings = setup.to_settings(self.engine.settings)
        self._thread = threading.Thread(target=self._run, args=(settings,), name="switch-model", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Give up loading at its next step; the present model goes on serving."""
        self._stopped.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until loading ended, well or not; return whether the new model serves."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self.state is not None and self.state.ready

    def _run(self, settings: Settings) -> None:
        try:
            loaded = self.engine.prepare(settings, self._tell)
            # From here on it is too late to stop.
            self._tell(0.99, "Emptying the memories")
            self._take(loaded)
            del loaded
            free()
            self.state = LoadState(1.0, "Ready", ready=True)
        except Cancelled:
            free()
            self.state = None
        except MemLongError as error:
            free()
            self.state = LoadState(self.state.share if self.state else 0.0, "Failed", error=error)

    def _take(self, loaded: Loaded) -> None:
        """Stop everybody's work, then change model and memories between two steps."""
        for visit in self._visits:
            visit.stop_reading.set()
            visit.stop_answering.set()
        until = time.monotonic() + self._patience
        while any(visit.busy for visit in self._visits) and time.monotonic() < until:
            time.sleep(0.02)
        with self.engine.turns.turn("question"):
            self.engine.take(loaded)
            # After it: a memory that somebody makes in this moment is one of the new model, and empty too.
            for visit in self._visits:
                visit.start_over()

    def _tell(self, share: float, words: str) -> None:
        if self._stopped.is_set():
            raise Cancelled(words)
        self.state = LoadState(min(max(share, 0.0), 1.0), words)


def refuse_changes(settings: Settings) -> None:
    """Raise where visitors may not load models or start training."""
    if not settings.changes_allowed:
        raise MemLongError(
            "This app does not let visitors load other models or start training",
            "Its owner can, or anybody with a copy of their own",
            "Start your own with 'python app.py', or this one with --allow-changes on",
        )


def would_be_lost(visits: Visits) -> str:
    """Return in words what loading another model would empty, of open pages; "" when that is nothing."""
    here = [visit for visit in visits if visit.left is None]
    chunks = sum(len(visit.session.bank) for visit in here if visit.session is not None)
    answers = sum(len(visit.exchanges) for visit in here)
    parts = [plural(chunks, "chunk") + " in memory"] if chunks else []
    parts += [plural(answers, "question") + " with answers"] if answers else []
    return " and ".join(parts)


@dataclass(frozen=True)
class Needs:
    """What a setup takes, and what there is, in bytes.

    Attributes:
        parameters: of the model. weights: of the model. bank: full, of one session. per_token: of the bank.
        free: that can be taken now on the device, beside what is in use; None when the system does not say.
        device: in words.
    """

    parameters: int
    weights: int
    bank: int
    per_token: int
    free: int | None
    device: str

    @property
    def total(self) -> int:
        """Weights and one full bank."""
        return self.weights + self.bank

    @property
    def fits(self) -> bool:
        """Whether that can be had now, as far as is known."""
        return self.free is None or self.total <= self.free


def needs(setup: Setup, settings: Settings) -> Needs:
    """Return what a setup would take. Only the model's configuration is read (for a hub id: fetched).

    Raises:
        MemLongError: when the model cannot be had, or does not have such layers.
    """
    from memlong.bank.bank import SPARE_SLOTS
    from memlong.bank.memory import available_bytes
    from memlong.hardware import resolve_device
    from memlong.model.estimate import estimate

    refuse_changes(settings)
    wanted = setup.to_settings(settings)
    config = memory_config(wanted)
    found = estimate(wanted.model, wanted.quantization, config, wanted.dtype, wanted.device, wanted.data_dir)
    device = resolve_device(wanted.device)
    # A bank is set aside whole, with room for what is written between two evictions.
    bank = found.bank_bytes_per_token * (wanted.capacity + SPARE_SLOTS * config.chunk_tokens)
    return Needs(
        found.parameters,
        found.weights_bytes,
        bank,
        found.bank_bytes_per_token,
        available_bytes(device),
        device_words(device),
    )


def device_words(device: Any) -> str:
    """Return a device's kind, and for an NVIDIA GPU its name."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def free() -> None:
    """Give memory of a model that nobody uses any more back to the device."""
    import torch

    gc.collect()
    if torch.cuda.is_initialized():  # it may look available where it must not be touched
        torch.cuda.empty_cache()
