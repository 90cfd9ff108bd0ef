"""One model and one retriever for all visitors: loaded in the background, shared by turns."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from app import spaces
from app.settings import Settings
from app.setup import changed, parse_memory
from app.turns import Kind, Turns
from memlong.errors import Cancelled, MemLongError, ModelError

if TYPE_CHECKING:
    from memlong.config import MemoryConfig
    from memlong.session.session import Session

T = TypeVar("T")
# Takes settings and a progress callback; returns a model with a memory, and a retriever.
Loader = Callable[[Settings, Callable[[float, str], None]], tuple[Any, Any]]


@dataclass(frozen=True)
class LoadState:
    """How far loading is: ``share`` of it done, in words; or ``ready``; or ``error``."""

    share: float = 0.0
    words: str = "Starting"
    ready: bool = False
    error: MemLongError | None = None


@dataclass(frozen=True)
class Loaded:
    """A model that is ready to serve.

    Attributes:
        settings: that it was loaded by. tokens_per_second: how fast it read while warming up; None when unknown.
    """

    settings: Settings
    model: Any
    retriever: Any
    tokens_per_second: float | None


class Engine:
    """Model, retriever and the order in which visitors use them.

    Args:
        settings: which model and retriever; replaced when another model is taken in.
        loader: loads them; tests give their own.
    """

    def __init__(self, settings: Settings, loader: Loader | None = None) -> None:
        self.settings = settings
        self.state = LoadState()
        self.turns = Turns()
        self.model: Any = None
        self.retriever: Any = None
        self.tokens_per_second: float | None = None
        # Frees memory that nobody will miss, and returns whether there was any; the visitors know.
        self.make_room: Callable[[], bool] = lambda: False
        self._loader = loader or load
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> Engine:
        """Begin to load, in the background; a second call does nothing while that goes well."""
        if self._thread is None or (self.state.error and self._finished.is_set()):
            self.state = LoadState()
            self._finished.clear()
            self._thread = threading.Thread(target=self._load, name="load-model", daemon=True)
            self._thread.start()
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until loading ended, well or not; return whether the model is ready."""
        self._finished.wait(timeout)
        return self.state.ready

    def require_ready(self) -> None:
        """Raise ModelError while there is no model, with what to do about it."""
        if self.state.error:
            raise self.state.error
        if not self.state.ready:
            raise ModelError(
                f"The model is still loading ({self.state.share:.0%})", "Reading and asking need it", "Wait a moment"
            )

    def new_session(self) -> Session:
        """Return an empty session with the capacity and policy of the settings.

        Raises:
            ModelError: while the model is loading. BankError: when the bank does not fit into memory.
        """
        from memlong.session.session import Session

        self.require_ready()
        return Session(self.model, self.retriever, session_config(self.model, self.settings))

    def steps(self, steps: Iterator[T], kind: Kind) -> Generator[T, None, None]:
        """Run a generator of the library, each of its steps in a turn of its own."""
        return self.turns.steps(steps, kind)

    def run(self, work: Callable[..., T], *arguments: Any, kind: Kind = "question") -> T:
        """Run one short piece of work in a turn."""
        with self.turns.turn(kind):
            return work(*arguments)

    def note_speed(self, tokens_per_second: float) -> None:
        """Remember how fast reading is here, for estimates."""
        if tokens_per_second > 0:
            self.tokens_per_second = tokens_per_second

    def describe(self) -> str:
        """Return model, retriever and device in words, or ""."""
        if not self.state.ready:
            return ""
        number = str(self.model.dtype).removeprefix("torch.")
        return f"{self.model.name} ({number}, {self.model.device}), retriever {self.retriever.name}"

    def prepare(self, settings: Settings, tell: Callable[[float, str], None]) -> Loaded:
        """Load what ``settings`` name, beside what is in use, and try it out.

        Raises:
            MemLongError: when it cannot be had, or does not fit. Cancelled: when ``tell`` raises it.
        """
        try:
            model, retriever = self._loader(settings, tell)
            tell(0.95, "Warming up")
            return Loaded(settings, model, retriever, warm_up(model, retriever, settings))
        except (MemLongError, Cancelled):
            raise
        except Exception as error:  # whatever it is, the page must be able to say it
            traceback.print_exc()
            given = f"Loading {settings.model!r} failed: {type(error).__name__}: {error}"
            advice = "Look at the terminal, or choose another model"
            raise ModelError(given, "A model that can be loaded", advice) from error

    def take(self, loaded: Loaded) -> None:
        """Use this model from now on. Sessions of another one are the caller's to end."""
        self.settings, self.model, self.retriever = loaded.settings, loaded.model, loaded.retriever
        self.tokens_per_second = loaded.tokens_per_second
        self.state = LoadState(1.0, "Ready", ready=True)
        self._finished.set()

    def _load(self) -> None:
        try:
            loaded = self.prepare(self.settings, self._tell)
            require_room(loaded)
            self.take(loaded)
        except MemLongError as error:
            print(error, file=sys.stderr, flush=True)  # whoever started the app may not look at the page
            self.state = LoadState(self.state.share, "Failed", error=error)
        finally:
            self._finished.set()

    def _tell(self, share: float, words: str) -> None:
        self.state = LoadState(min(max(share, 0.0), 1.0), words)


def session_config(model: Any, settings: Settings) -> Any:
    """Return the model's memory settings with the capacity and policy of the app's."""
    return model.config.replace(capacity_tokens=settings.capacity, policy=settings.policy)


def require_room(loaded: Loaded) -> None:
    """Make a bank as every visitor gets one: when it does not fit, the first of them need not be who is told.

    Raises:
        BankError: when it does not. ConfigError: for a capacity of less than a chunk.
    """
    from memlong.session.session import Session

    Session(loaded.model, loaded.retriever, session_config(loaded.model, loaded.settings))


def warm_up(model: Any, retriever: Any, settings: Settings) -> float | None:
    """Read two windows and answer with one token in a throw-away session; returns the tokens read per second.

    The first visitor does not wait for it, and what a model cannot do shows before anybody relies on it.

    Raises:
        MemLongError: when layers, maps or number types do not fit together.
    """
    from memlong.session.session import Session

    config = session_config(model, settings)
    session = Session(model, retriever, config.replace(capacity_tokens=4 * config.window_tokens))
    speed = None
    doc_id = session.open("A ledger of ships was kept in the harbour. " * (config.window_tokens // 4))
    for progress in session.read_steps(doc_id):
        speed = progress.tokens_per_second or speed
    session.ask("What was kept in the harbour?", max_tokens=1)
    return speed


def load(settings: Settings, tell: Callable[[float, str], None]) -> tuple[Any, Any]:
    """Load the model and the retriever that the settings name.

    Raises:
        ModelError, RetrieverError: when one of them is not to be had.
    """
    tell(0.0, "Starting")
    from memlong.model.load import load_model

    model = load_model(
        settings.model,
        memory_config(settings) if settings.memory else None,
        dtype=settings.dtype,
        quantization=settings.quantization,
        device=settings.device,
        data_dir=settings.data_dir,
        progress=lambda share, words: tell(0.75 * share, words),
    )
    tell(0.75, "Loading the retriever")
    return spaces.offloaded(model), load_retriever(settings)


def load_retriever(settings: Settings) -> Any:
    """Return the retriever that the settings name, on their device. Raises RetrieverError when it is not to be had."""
    from memlong.retriever import make_retriever

    kind, _, name = settings.retriever.partition(":")
    if kind == "hashing":
        return make_retriever(kind)
    if kind == "sentence":
        return make_retriever(kind, model=name, device=settings.device)
    return make_retriever(kind, device=settings.device, data_dir=settings.data_dir)


def memory_config(settings: Settings) -> MemoryConfig:
    """Return the memory settings that a model is loaded with: its own, capacity and ``settings.memory`` changed.

    Raises:
        ModelError: when the model cannot be had. ConfigError: for values that do not fit.
    """
    from memlong.config import MemoryConfig
    from memlong.hardware import resolve_device
    from memlong.model.dtypes import choose_types
    from memlong.model.estimate import parameter_count
    from memlong.model.locate import locate, open_config

    found, values = locate(settings.model, settings.data_dir), parse_memory(settings.memory)
    values["capacity_tokens"] = settings.capacity  # chunks must fit into the bank that is asked for
    if found.part is not None:
        return changed(found.part.config, values)
    device, parameters = resolve_device(settings.device), parameter_count(open_config(found))
    types = choose_types(settings.dtype, settings.quantization, device, parameters)
    return changed(MemoryConfig(store_dtype=types.bank), values)
