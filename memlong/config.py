"""Settings of a memory: frozen, checked once, refused with the nearest known name when misspelt.

No torch here: the app and the training configuration read these classes without loading a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache, wraps
from math import inf, isnan
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from memlong.errors import ConfigError, unknown_name

PRESETS: tuple[str, ...] = ("own", "interpolated", "projected", "paper")
STORE_DTYPES: tuple[str, ...] = ("bfloat16", "float16", "float32", "int8", "k8v4")
MEMORY_POSITIONS: tuple[str, ...] = ("zero", "before")
CHUNK_ENDS: tuple[str, ...] = ("tokens", "sentences")
ANSWER_FROM: tuple[str, ...] = ("memory", "passages", "both", "nothing")
STRENGTHS: tuple[str, ...] = (
    "relevance_strength", "recency_strength", "spelling_strength", "abstention_strength", "pointing_strength",
)  # fmt: skip
SHORT_CHUNK_ROOM = 1.125  # slots for each of full chunks; prose takes 1.02 to 1.11 with 256 tokens, up to 1.24 with 64
T = TypeVar("T")


def _known_names_only(kind: type[T]) -> type[T]:
    """Have a dataclass refuse unknown names with the nearest known one, where Python's own refusal names none."""
    build = kind.__init__

    @wraps(build)
    def checked(self: T, *values: Any, **named: Any) -> None:
        known = _hints(cast(type, kind))
        for name in named:
            if name not in known:
                raise unknown_name("setting", name, known)
        build(self, *values, **named)

    setattr(kind, "__init__", checked)  # noqa: B010  (types know no other way)
    return kind


@_known_names_only
@dataclass(frozen=True)
class MemoryConfig:
    """What is stored, who reads it, how much is kept and what leaves first.

    Attributes:
        preset: how retrieval layers come by their K-V when the two lists below are empty (see ``model/layout.py``).
        stored_layers: layers whose un-rotated K-V the bank holds, ascending; empty means "as the preset says".
        retrieval_layers: layers that attend to retrieved K-V, ascending; empty means "as the preset says".
        chunk_tokens: tokens of one chunk, the unit that is embedded, stored, retrieved, counted and evicted.
        chunk_ends: where chunks are cut: after ``chunk_tokens`` "tokens" each, as in the paper, or at the end of
            "sentences" and lines, up to half a chunk earlier.
        window_tokens: tokens run through the decoder together while reading; a multiple of ``chunk_tokens``.
        top_k: chunks fetched per query.
        capacity_tokens: tokens the bank may hold before it evicts.
        policy: name of the eviction policy.
        store_dtype: number type of stored K-V; ``k8v4`` keeps keys in int8 and values in four bits.
        retrieve_every: generated tokens between two retrievals; 0 keeps the first retrieval for the whole answer.
        local_tokens: local context (question and answer) before its oldest chunk is spilled into the bank.
        memory_strength: added to the per-head memory bias before the softmax; 0 is neutral, -inf switches memory off.
        memory_positions: where retrieved keys stand: "zero" (all at position 0, the paper) or "before" (in document
            order right before the local context; see ``model/placing.py``).
        relevance_strength: how much less a retrieved token is attended to when what stands around it answers the
            question less: its memory logits are lowered by so many times the difference in score to the best part of
            all that was retrieved, and by so many times the retriever's doubt whether its chunk answers (see
            ``retriever/parts.py``); 0 treats all alike, as the paper does.
        recency_strength: how much a chunk's memory logits are lowered for each later chunk of its document that answers
            the question as surely, so that of what changes the last telling counts (see ``Retriever.rivals``); 0 treats
            early and late alike, as the paper does.
        rerank_candidates: chunks that a question finds before the best parts of each decide, together with the chunk's
            own score, which ``top_k`` are fetched; 0 fetches what was found first, as the paper does.
        spelling_strength: logits that a token loses when it goes on with a word of an answer as no word of question and
            retrieved text does, though one of them begins so (see ``spelling.py``); 0 leaves words to the model.
        abstention: words by which the model says that the text does not tell; "" for one that has none.
        abstention_strength: logits that these words gain where the retriever holds it to be most likely that no
            chunk fetched answers, and lose where one surely does (see ``abstaining.py``); 0 leaves it to the model.
            Where words are pointed at, they gain as many, or ``pointing_strength``, where what points at words and the
            model together hold that none of them answers.
        pointing_strength: logits that the tokens of an answer gain which the retriever surely points at in the chunks
            fetched, and those of less sure ones less (see ``pointing.py``); 0 leaves the answer to the model.
        question_steps: answers that a question takes at most: what it needs to have found first is asked for before it
            where the retriever can tell (see ``retriever/decomposer.py``); 1 asks every question as it stands.
        bank_device: where stored K-V lie: "model" (beside the weights), "cpu" (host memory: only retrieved chunks
            travel), or a device.
        read_batch_tokens: tokens of all windows read in one forward pass.
        low_score: retrieval score under which the app says that the text may not hold the answer; None takes the
            retriever's own, and says it too where the retriever doubts every chunk.
        low_mass: share of attention under which it says the same.
    """

    preset: str = "own"
    stored_layers: tuple[int, ...] = ()
    retrieval_layers: tuple[int, ...] = ()
    chunk_tokens: int = 256
    chunk_ends: str = "tokens"
    window_tokens: int = 256
    top_k: int = 4
    capacity_tokens: int = 131_072
    policy: str = "trigger_count"
    store_dtype: str = "bfloat16"
    retrieve_every: int = 32
    local_tokens: int = 2048
    memory_strength: float = 0.0
    memory_positions: str = "zero"
    relevance_strength: float = 0.0
    recency_strength: float = 0.0
    rerank_candidates: int = 0
    spelling_strength: float = 0.0
    abstention: str = ""
    abstention_strength: float = 0.0
    pointing_strength: float = 0.0
    question_steps: int = 1
    bank_device: str = "model"
    read_batch_tokens: int = 768
    low_score: float | None = None
    low_mass: float = 0.02

    def __post_init__(self) -> None:
        _refuse_types(self)
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)
        if self.store_dtype not in STORE_DTYPES:
            raise unknown_name("store_dtype", self.store_dtype, STORE_DTYPES)
        if self.memory_positions not in MEMORY_POSITIONS:
            raise unknown_name("memory_positions", self.memory_positions, MEMORY_POSITIONS)
        if self.chunk_ends not in CHUNK_ENDS:
            raise unknown_name("chunk_ends", self.chunk_ends, CHUNK_ENDS)
        for name in ("chunk_tokens", "top_k", "capacity_tokens", "local_tokens", "read_batch_tokens", "question_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}", "A whole number from 1", f"Raise {name}")
        if self.window_tokens < self.chunk_tokens or self.window_tokens % self.chunk_tokens:
            raise ConfigError(
                f"window_tokens={self.window_tokens} with chunk_tokens={self.chunk_tokens}",
                "A window holds whole chunks",
                f"Set window_tokens to a multiple of {self.chunk_tokens}",
            )
        if self.capacity_tokens < self.chunk_tokens:
            raise ConfigError(
                f"capacity_tokens={self.capacity_tokens} with chunk_tokens={self.chunk_tokens}",
                "The bank holds at least one chunk",
                f"Set capacity_tokens to {self.chunk_tokens} or more",
            )
        if self.retrieve_every < 0:
            raise ConfigError(f"retrieve_every={self.retrieve_every}", "0 (once) or more", "Raise retrieve_every")
        for name in STRENGTHS:
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"{name}={getattr(self, name)}", "0 (off) or more", "Try 4")
        if self.rerank_candidates < 0:
            given = f"rerank_candidates={self.rerank_candidates}"
            raise ConfigError(given, "0 (off) or more", "Try four times top_k")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MemoryConfig:
        """Build from a mapping (JSON, a link, a form).

        Raises:
            ConfigError: for an unknown key, with the nearest known name, or a value that does not fit.
        """
        plain: dict[str, Any] = {key: -inf if value == "-inf" else value for key, value in values.items()}
        return cls(**plain)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that :meth:`from_dict` takes back; JSON knows no infinity, so that is written as text."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: "-inf" if value == -inf else value for key, value in plain.items()}

    def replace(self, **changes: Any) -> MemoryConfig:
        """Return a checked copy with ``changes``; unknown names are refused as in :meth:`from_dict`."""
        return replace(self, **changes)

    @classmethod
    def refuse(cls, changes: Mapping[str, Any]) -> None:
        """Refuse changes that fit no settings at all, before those of a model are known.

        Raises:
            ConfigError: as :meth:`from_dict` does.
        """
        chunk = changes.get("chunk_tokens", 1)
        # Sizes that are not given never stand in the way of those that are.
        cls.from_dict({"chunk_tokens": chunk, "window_tokens": chunk, "capacity_tokens": chunk} | dict(changes))

    @property
    def whole_sentences(self) -> bool:
        """Whether chunks end with a sentence, and are mostly not full."""
        return self.chunk_ends == "sentences"

    def window_for(self, chunk_tokens: int) -> int:
        """Return the window in tokens that is whole chunks of another size and nearest to this one."""
        if chunk_tokens < 1:
            return self.window_tokens  # no window fits; the size itself is refused
        return chunk_tokens * max(1, round(self.window_tokens / chunk_tokens))


@_known_names_only
@dataclass(frozen=True)
class AskOptions:
    """How one question is answered.

    Attributes:
        answer_from: ``memory`` (retrieved K-V), ``passages`` (their text in the prompt), ``both``, or ``nothing``.
        top_k: chunks fetched; None takes the memory's setting.
        memory_strength: added to the memory's own strength for this answer.
        documents: ids of the documents to ask; None asks all.
        masked: chunk ids that retrieval must not return (counterfactuals).
        forced: chunk ids that it returns whatever their score, in place of the worst others; no doubt weakens them, and
            steps go without.
        temperature: 0 decodes greedily; above 0 samples.
        top_p: nucleus of the sampling distribution, in (0, 1].
        max_tokens: tokens of the answer at most; its steps have a limit of their own.
        seed: seed of the sampling.
        retrieve_every: generated tokens between retrievals; None takes the memory's setting.
        record_attention: whether attention mass is computed (evidence shows it; the Attention view needs it).
        stop: texts that end the answer; none is empty.
        history: earlier turns of the conversation put before the question.
        follow_ups: whether a question that leans on those before it ("And when was she born?") is asked with the name
            that they are about (see ``session/follow_up.py``).
    """

    answer_from: str = "memory"
    top_k: int | None = None
    memory_strength: float = 0.0
    documents: tuple[int, ...] | None = None
    masked: tuple[int, ...] = ()
    forced: tuple[int, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    max_tokens: int = 64
    seed: int = 0
    retrieve_every: int | None = None
    record_attention: bool = True
    stop: tuple[str, ...] = ()
    history: int = 0
    follow_ups: bool = False

    def __post_init__(self) -> None:
        _refuse_types(self)
        if self.answer_from not in ANSWER_FROM:
            raise unknown_name("answer_from", self.answer_from, ANSWER_FROM)
        if not 0 <= self.temperature < inf:
            raise ConfigError(f"temperature={self.temperature}", "0 (greedy) or more", "Use 0 for exact repeats")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p={self.top_p}", "More than 0, at most 1", "Use 1 to keep every token")
        for name, least in (("max_tokens", 1), ("top_k", 1), ("history", 0), ("retrieve_every", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name}={value}", f"A whole number from {least}", f"Raise {name}")
        if "" in self.stop:
            raise ConfigError("stop with an empty text", "Texts of one character or more", "Leave it out")

    def replace(self, **changes: Any) -> AskOptions:
        """Return a checked copy with ``changes``. Raises ConfigError for unknown names, with the nearest known one."""
        return replace(self, **changes)


def _refuse_types(settings: Any) -> None:
    """Make tuples of sequences, and refuse values of another type than a field's: forms and links send anything.

    Raises:
        ConfigError: naming the field.
    """
    for name, hint in _hints(settings.__class__).items():
        value = getattr(settings, name)
        if isinstance(value, list | range | set | frozenset):
            object.__setattr__(settings, name, value := tuple(value))
        if not any(_fits(value, kind) for kind in (get_args(hint) if isinstance(hint, UnionType) else (hint,))):
            raise ConfigError(f"{name}={value!r}", _words(hint), f"Give {name} such a value")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _words(hint: Any) -> str:
    if isinstance(hint, UnionType):
        return " or ".join(_words(kind).lower() for kind in get_args(hint)).capitalize()
    if get_origin(hint) is tuple:
        return f"A list, each of it {_words(get_args(hint)[0]).lower()}"
    words = {int: "A whole number", float: "A number below infinity", str: "Text", bool: "True or false"}
    return words.get(hint, "nothing")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(each, get_args(kind)[0]) for each in value)
    if kind in (int, float):
        number = isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
        return number and not isnan(value) and value != inf
    return value is None if kind is NoneType else isinstance(value, kind)
