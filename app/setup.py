"""What may be changed while the app runs: the model and its memory. A form, a link and a file carry the same names.

Empty values mean "as the model has it": a model exported by training knows its own layers and chunk size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from app.settings import PRECISIONS, Settings
from app.text import shorten
from memlong.bank.eviction import POLICIES
from memlong.config import CHUNK_ENDS, MEMORY_POSITIONS, PRESETS, STORE_DTYPES, STRENGTHS, MemoryConfig
from memlong.errors import ConfigError, unknown_name
from memlong.layers import layers_text, parse_layers
from memlong.retriever import split_name

MOST_CHUNKS, MOST_CANDIDATES = 32, 512  # retrieved for a question, and looked at twice: all of them at once
MOST_STEPS = 8  # of a question, each an answer of its own

# Values of these names go to the memory; the others are settings of the app.
MEMORY = (
    "preset", "stored_layers", "retrieval_layers", "chunk_tokens", "window_tokens", "top_k", "store_dtype",
    "retrieve_every", "memory_positions", "relevance_strength", "recency_strength", "rerank_candidates", "chunk_ends",
    "spelling_strength", "abstention_strength", "pointing_strength", "question_steps",
)  # fmt: skip
LAYERS = ("stored_layers", "retrieval_layers")
_COUNTS = (
    "chunk_tokens", "window_tokens", "top_k", "capacity", "retrieve_every", "rerank_candidates", "question_steps",
)  # fmt: skip
_CHOICES: dict[str, tuple[str, ...]] = {
    "precision": PRECISIONS, "preset": PRESETS, "store_dtype": STORE_DTYPES,
    "policy": tuple(POLICIES), "memory_positions": MEMORY_POSITIONS,
    "chunk_ends": CHUNK_ENDS,
}  # fmt: skip
_GRADIO = ("view", "deep_link", "logs")  # names in the address that are not ours; so are those with "__"


@dataclass(frozen=True)
class Setup:
    """A model, how it is loaded, and its memory; None, "" and () leave a value to the model.

    Raises:
        ConfigError: for a value that is not allowed. RetrieverError: for a retriever that is not known.
    """

    model: str = "bundled"
    precision: str = "auto"
    retriever: str = "auto"
    preset: str = ""
    stored_layers: tuple[int, ...] = ()
    retrieval_layers: tuple[int, ...] = ()
    chunk_tokens: int | None = None
    window_tokens: int | None = None
    top_k: int | None = None
    capacity: int = 131_072
    policy: str = "trigger_count"
    store_dtype: str = ""
    retrieve_every: int | None = None
    memory_positions: str = ""
    relevance_strength: float | None = None
    recency_strength: float | None = None
    rerank_candidates: int | None = None
    spelling_strength: float | None = None
    abstention_strength: float | None = None
    pointing_strength: float | None = None
    question_steps: int | None = None
    chunk_ends: str = ""

    def __post_init__(self) -> None:
        if not self.model.strip():
            raise ConfigError("No model", "'bundled', a Hugging Face id or a folder", "Name one")
        split_name(self.retriever)
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known and not (value == "" and name in MEMORY):
                raise unknown_name(name, value, known)
        for name in _COUNTS:
            value, least = getattr(self, name), 0 if name in ("retrieve_every", "rerank_candidates") else 1
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}", f"A whole number from {least}", f"Raise {name}")
        for name, most in (
            ("top_k", MOST_CHUNKS), ("rerank_candidates", MOST_CANDIDATES), ("question_steps", MOST_STEPS),
        ):  # fmt: skip
            if (getattr(self, name) or 0) > most:
                raise ConfigError(f"{name}={getattr(self, name)}", f"At most {most}", f"Lower {name}")
        for name in STRENGTHS:
            if (value := getattr(self, name)) is not None and not 0 <= value < inf:
                raise ConfigError(f"{name}={value}", "0 (off) or more", "Try 4")
        MemoryConfig.refuse(self.memory() | {"capacity_tokens": self.capacity})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Setup:
        """Build from plain values: of a file, a link or a form. Numbers and layers may be text.

        Raises:
            ConfigError: for an unknown name, with the nearest known one, or a value that does not fit.
        """
        known = [each.name for each in fields(cls)]
        for key in values:
            if key not in known:
                raise unknown_name("setting", key, known)
        return cls(**{key: _value(key, value) for key, value in values.items() if value is not None})

    @classmethod
    def from_json(cls, text: str) -> Setup:
        """Build from a file's text. Raises ConfigError for what is no such file."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            given = f"The file is not JSON ({shorten(str(error), 120)})"
            raise ConfigError(given, "A file that 'Download' of this tab wrote", "Choose another file") from None
        if not isinstance(values, dict):
            raise ConfigError("The file holds no settings", "One JSON object of names and values", "Choose another")
        return cls.from_dict(values)

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Setup | None:
        """Build from the part of an address behind "?"; None when it has no setting of ours.

        Raises:
            ConfigError: for misspelt or unfitting settings beside known ones.
        """
        ours = {key: text for key, text in query.items() if not key.startswith("__") and key not in _GRADIO}
        if not {each.name for each in fields(cls)} & set(ours):
            return None
        return cls.from_dict(ours)

    @classmethod
    def from_settings(cls, settings: Settings) -> Setup:
        """Return what an app that was started with ``settings`` runs."""
        own = {name: getattr(settings, name) for name in ("model", "precision", "retriever", "capacity", "policy")}
        return cls.from_dict(own | parse_memory(settings.memory))

    def to_settings(self, settings: Settings) -> Settings:
        """Return the same settings of an app with this model and memory."""
        own = {name: getattr(self, name) for name in ("model", "precision", "retriever", "capacity", "policy")}
        memory = " ".join(f"{name}={_text(value)}" for name, value in self.memory().items())
        return replace(settings, memory=memory, **own)

    def memory(self) -> dict[str, Any]:
        """Return what is asked of the memory, without what is left to the model."""
        return {name: getattr(self, name) for name in MEMORY if getattr(self, name) not in (None, "", ())}

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-safe values that :meth:`from_dict` takes back; what is left to the model is left out."""
        values = {name: value for name, value in asdict(self).items() if value not in (None, "", ())}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def to_json(self) -> str:
        """Return the text of a file that :meth:`from_json` takes back."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_query(self) -> str:
        """Return the part of an address behind "?"."""
        return urlencode({name: _text(value) for name, value in self.to_dict().items()}, safe="/,-")


_EXAMPLES = {
    "top_k": 4, "retrieve_every": 32, "rerank_candidates": 12, "relevance_strength": 4, "spelling_strength": 4,
    "recency_strength": 8, "abstention_strength": 6, "pointing_strength": 4, "question_steps": 3, "capacity": 131_072,
}  # fmt: skip


def parse_memory(text: str) -> dict[str, Any]:
    """Return the values of ``preset=paper stored_layers=13``.

    Raises:
        ConfigError: for an unknown name, with the nearest known one, or a value that does not fit.
    """
    values: dict[str, Any] = {}
    for item in text.split():
        name, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"Memory setting {item!r}", "name=value, with blanks between them", "Write top_k=8")
        if name not in MEMORY:
            raise unknown_name("memory setting", name, MEMORY)
        values[name] = _value(name, value)
    return values


def changed(base: MemoryConfig, values: Mapping[str, Any]) -> MemoryConfig:
    """Return a model's memory settings with ``values`` put in; what cannot stay beside them gives way.

    A new preset brings its own layers, and a new chunk size a window of at least one chunk.
    """
    values = dict(values)
    if values.get("preset", base.preset) != base.preset:
        values = dict.fromkeys(LAYERS, ()) | values
    if "chunk_tokens" in values:
        values = {"window_tokens": base.window_for(values["chunk_tokens"])} | values
    return base.replace(**values)


def _value(name: str, value: Any) -> Any:
    """Return a value of the type that the field has; text is taken apart."""
    if name in LAYERS:
        return parse_layers(value) if isinstance(value, str) else _layers(name, value)
    if name in ("model", "precision", "retriever", "preset", "policy", "store_dtype", "memory_positions", "chunk_ends"):
        if not isinstance(value, str):
            raise ConfigError(f"{name}={value!r}", "Text", f"Write {name} in quotes")
        return value.strip()
    if isinstance(value, str) and not value.strip():
        return 131_072 if name == "capacity" else None
    kind, words = (float, "A number") if name in STRENGTHS else (int, "A whole number")
    try:
        number = kind(str(value).strip().replace("_", ""))
    except ValueError:
        raise ConfigError(
            f"{name}={shorten(repr(value), 60)}", words, f"Write {name}={_EXAMPLES.get(name, 256)}, say"
        ) from None
    return number


def _layers(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(layer) is int for layer in value):
        raise ConfigError(f"{name}={value!r}", "A list of whole numbers", f"Write {name}: [8, 18, 28]")
    return tuple(value)


def _text(value: Any) -> str:
    return layers_text(tuple(value)) if isinstance(value, tuple | list) else str(value)


PAPER = Setup(
    model="openlm-research/open_llama_3b_v2", preset="paper", stored_layers=(13,), retrieval_layers=(13, 17, 21, 25),
    policy="trigger_bands",
)  # fmt: skip
SETUPS: Mapping[str, tuple[str, Setup]] = MappingProxyType(
    {
        "bundled": ("Bundled model, its own settings", Setup()),
        "paper": ("OpenLLaMA-3B as in the paper (memory layer 13; retrieval layers 13, 17, 21, 25)", PAPER),
        "instruct": (
            "Small instruct model (Qwen2.5-0.5B-Instruct), memory in all upper layers",
            Setup(model="Qwen/Qwen2.5-0.5B-Instruct", preset="own", store_dtype="int8"),
        ),
        "4bit": (
            "4-bit on an 8 GB GPU (Qwen2.5-7B-Instruct)",
            Setup(
                model="Qwen/Qwen2.5-7B-Instruct", precision="4bit", retriever="hybrid", preset="own", capacity=32_768,
                store_dtype="int8",
            ),
        ),
    }
)  # fmt: skip
"""Ready-made setups by name: words for a menu, and the setup."""
