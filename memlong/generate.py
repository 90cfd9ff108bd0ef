"""The decode loop: prefill, sample, stream, stop; memory is renewed and local context spilled through hooks.

Our own loop, because transformers' ``generate`` refuses the keyword that carries memory.

Shapes: V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from memlong.attention.context import LastMass, MemoryContext
from memlong.config import AskOptions
from memlong.model.cache import growing_cache
from memlong.model.wrapper import MemoryModel


@dataclass(frozen=True)
class GeneratedToken:
    """One token of an answer.

    Attributes:
        index: from 0. token_id: its id. text: all text of the answer so far, whole characters only.
        logprob: natural logarithm of its probability at temperature 1, as the model has it (before ``Hooks.adjust``).
        mass: attention that its prediction paid to each retrieved chunk; None when nobody looks.
        chunk_ids: which chunks those are.
    """

    index: int
    token_id: int
    text: str
    logprob: float
    mass: LastMass | None
    chunk_ids: tuple[int, ...]


@dataclass(frozen=True)
class Retrieved:
    """Memory for the next tokens: the context and the chunks in its order."""

    context: MemoryContext
    chunk_ids: tuple[int, ...]


@dataclass
class Hooks:
    """What the loop asks of its owner.

    Attributes:
        retrieve: newest text of the answer -> memory for the next tokens, or None for none. Called before the first
            token with "" and then every ``retrieve_every`` tokens.
        spill: takes the token ids that leave the local context, oldest first.
        cancelled: asked once per token.
        adjust: the next token's logits [V], the answer's text and its tokens so far -> the logits it is chosen by.
    """

    retrieve: Callable[[str], Retrieved | None]
    spill: Callable[[list[int]], None]
    cancelled: Callable[[], bool] = lambda: False
    adjust: Callable[[Tensor, str, Sequence[int]], Tensor] = lambda logits_V, text, tokens: logits_V


@dataclass
class Generation:
    """State and outcome of one answer; iterate :meth:`tokens`.

    Attributes:
        room: tokens of local context; None takes the memory's setting.
        stop_reason: "end", "stop text", "length", "cancelled", or "" while running.
        seconds: wall time spent in "prefill" and "decode".
    """

    model: MemoryModel
    prompt: Sequence[int]
    options: AskOptions
    hooks: Hooks
    room: int | None = None
    stop_reason: str = ""
    text: str = ""
    generated: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"prefill": 0.0, "decode": 0.0})

    def tokens(self) -> Iterator[GeneratedToken]:
        """Yield tokens until a stop rule fires; the end token itself is not yielded."""
        local = _Local(self.model, list(self.prompt), self.room or self.model.local_tokens, self.hooks.spill)
        random = torch.Generator().manual_seed(self.options.seed % 2**63)
        ends = end_tokens(self.model)
        every = self.model.config.retrieve_every if self.options.retrieve_every is None else self.options.retrieve_every
        retrieved = self.hooks.retrieve("")
        logits, mass = self._timed("prefill", local.prefill, retrieved)
        for index in range(self.options.max_tokens):
            token = _sample(self.hooks.adjust(logits, self.text, self.generated), self.options, random)
            logprob = float(logits.log_softmax(dim=-1)[token])
            if token in ends:
                self.stop_reason = "end"
                return
            self.generated.append(token)
            if self._update_text():
                self.stop_reason = "stop text"
                return
            yield GeneratedToken(index, token, self.text, logprob, mass, retrieved.chunk_ids if retrieved else ())
            if self.hooks.cancelled():
                self.stop_reason = "cancelled"
                return
            if index + 1 == self.options.max_tokens:
                break
            if every and (index + 1) % every == 0:
                retrieved = self.hooks.retrieve(self.text)
            logits, mass = self._timed("decode", local.append, retrieved, token)
        self.stop_reason = "length"

    def _timed(self, what: str, run: Callable[..., Any], *arguments: Any) -> Any:
        started = time.perf_counter()
        result = run(*arguments)
        self.seconds[what] += time.perf_counter() - started
        return result

    def _update_text(self) -> bool:
        """Refresh ``text`` and say whether a stop text ended the answer (it is cut off)."""
        text = str(self.model.tokenizer.decode(self.generated, skip_special_tokens=True))
        # The bytes of one character may come in several tokens; half a character is not shown.
        self.text = text.removesuffix("\ufffd")
        for stop in self.options.stop or _default_stops(self.model):
            at = self.text.find(stop)
            if at >= 0:
                self.text = self.text[:at]
                return True
        return False


class _Local:
    """The local context: token ids, their cache, and the rule that its oldest chunk leaves when it is full."""

    def __init__(self, model: MemoryModel, ids: list[int], room: int, spill: Callable[[list[int]], None]) -> None:
        self.model, self.ids, self.room, self.spill = model, ids, room, spill
        self.cache = growing_cache()

    def prefill(self, retrieved: Retrieved | None) -> tuple[Tensor, LastMass | None]:
        """Run all ids and return the last token's logits [V] and attention mass."""
        size, room = self.model.config.chunk_tokens, self.room
        while len(self.ids) > room and len(self.ids) > size:
            self.spill(self.ids[:size])
            del self.ids[:size]
        self.cache = growing_cache()
        return self._run(self.ids, retrieved, 0)

    def append(self, retrieved: Retrieved | None, token: int) -> tuple[Tensor, LastMass | None]:
        """Add one token; when that overfills the context, spill its oldest chunk and run what is left anew."""
        self.ids.append(token)
        if len(self.ids) > self.room and len(self.ids) > self.model.config.chunk_tokens:
            # Positions start at 1 again for what stays, so the cache is rebuilt once per chunk, not per token.
            return self.prefill(retrieved)
        return self._run([token], retrieved, len(self.ids) - 1)

    def _run(self, ids: list[int], retrieved: Retrieved | None, start: int) -> tuple[Tensor, LastMass | None]:
        context = retrieved.context if retrieved else None
        with torch.no_grad():
            out = self.model.forward(
                torch.tensor([ids], device=self.model.device),
                context,
                past_key_values=self.cache,
                start=start,
                logits_to_keep=1,
            )
        mass = context.observer.take_last() if context is not None and context.observer is not None else None
        return out.logits[0, -1].float().cpu(), mass


def _sample(logits_V: Tensor, options: AskOptions, random: torch.Generator) -> int:
    """Return a token; temperature 0 takes the most likely one."""
    if options.temperature == 0:
        return int(logits_V.argmax())
    probabilities = (logits_V / options.temperature).softmax(dim=-1)
    if options.top_p < 1:
        # Nucleus sampling (Holtzman et al., arXiv 1904.09751): the smallest set of tokens that reaches top_p.
        ordered, order = probabilities.sort(descending=True)
        ordered[ordered.cumsum(dim=0) - ordered >= options.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(0, order, ordered)
    return int(torch.multinomial(probabilities, 1, generator=random))


def end_tokens(model: MemoryModel) -> set[int]:
    """Return the tokens with which a model ends its answer."""
    configured = getattr(model.base.generation_config, "eos_token_id", None)
    ends = set(configured if isinstance(configured, list) else [configured])
    ends.add(model.tokenizer.eos_token_id)
    return {int(token) for token in ends if token is not None}


def _default_stops(model: MemoryModel) -> tuple[str, ...]:
    """A model without a chat template never ends its turn by itself: a question of its own does."""
    return () if getattr(model.tokenizer, "chat_template", None) else ("\nQuestion:",)
