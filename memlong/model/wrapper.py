"""A transformers decoder that can read text into K-V and attend to retrieved K-V.

Shapes: B batch rows, T tokens, S stored layers, N chunks, G key/value heads, C chunk tokens, D head size, V vocabulary.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from memlong.attention.context import LayerMemory, MassObserver, MemoryContext, ReadCapture
from memlong.attention.register import bound, is_switched, switched
from memlong.config import MemoryConfig
from memlong.errors import ConfigError, ModelError
from memlong.layers import layers_text
from memlong.model.architecture import base_model, inspect, refuse_positions
from memlong.model.capture import capturing, evaluating, stacked
from memlong.model.gates import gates_in_place
from memlong.model.layout import resolve_layout
from memlong.model.placing import Placing, places_before
from memlong.model.products import fast_products
from memlong.model.sources import KVMaps, expand, read_alike, stack_rows


@dataclass(frozen=True)
class StoredKV:
    """Un-rotated K-V of the stored layers for a batch of windows.

    Attributes:
        keys_SBGTD: keys at position 0. values_SBGTD: values.
    """

    keys_SBGTD: Tensor
    values_SBGTD: Tensor

    def piece(self, row: int, start: int, end: int) -> tuple[Tensor, Tensor]:
        """Return keys and values [S, G, t, D] of tokens ``start`` to ``end`` of one window."""
        return self.keys_SBGTD[:, row, :, start:end], self.values_SBGTD[:, row, :, start:end]


class MemoryModel:
    """Any decoder-only model with a memory in its upper layers; no model file is copied or changed.

    Args:
        model: a transformers causal language model, or a PEFT model around one.
        tokenizer: its tokenizer.
        config: the memory's settings.
        maps: affine maps for the retrieval layers that need them (see ``model/sources.py``).
        bias: retrieval layer -> learned memory bias b_h [H]; None is zero.
        adapted: parameter name -> adapted value. While answering these stand in for the originals, by pointer:
            text is read by the original weights and answered by the adapted ones at full speed.

    Raises:
        ModelError: for an architecture that cannot be given a memory.
        ConfigError: for layers that the model does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        config: MemoryConfig | None = None,
        maps: KVMaps | None = None,
        bias: Mapping[int, Tensor] | None = None,
        adapted: Mapping[str, Tensor] | None = None,
    ) -> None:
        self.model, self.tokenizer, self.maps, self.bias = model, tokenizer, maps, bias
        self.base = base_model(model)
        self.spec = inspect(model)
        self.config = config or MemoryConfig()
        self.layout = resolve_layout(self.config, self.spec.layers)
        self._placing = self._find_placing()
        self.name = str(getattr(self.base.config, "_name_or_path", "") or self.base.config.model_type)
        self._adapted = _pair(self.base, adapted) if adapted else []
        self._weights = threading.RLock()  # held while weights are in use that another thread could exchange
        self._fingerprint: str | None = None
        self._set_adapted(True)

    @property
    def device(self) -> torch.device:
        """Where the embedding lies, and so where token ids go."""
        return self.base.get_input_embeddings().weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic type of hidden states and keys."""
        return self.base.dtype

    @property
    def local_tokens(self) -> int:
        """Tokens of local context: as configured, and never more than the model has positions for."""
        return min(self.config.local_tokens, self.spec.max_positions or self.config.local_tokens)

    @property
    def adapts(self) -> bool:
        """Whether other weights answer than those that read."""
        return bool(self._adapted) or hasattr(self.model, "disable_adapter")

    def parameters_bytes(self) -> int:
        """Return the bytes of all weights, adapted copies included."""
        own = sum(p.numel() * p.element_size() for p in self.base.parameters())
        return own + sum(new.numel() * new.element_size() for _, _, new in self._adapted)

    def fingerprint(self) -> str:
        """Return a name of the original weights: a hash of the architecture and of a sample of every parameter.

        Banks of two fingerprints must not be mixed; adapters do not count, since they never write K-V.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(type(self.base).__name__.encode())
            with torch.no_grad(), self.original_weights():
                for name, parameter in self.base.named_parameters():
                    if "lora_" in name:
                        continue
                    flat = parameter.detach().flatten()
                    step = max(1, flat.numel() // 64)
                    digest.update(f"{name}{tuple(parameter.shape)}".replace(".base_layer", "").encode())
                    digest.update(flat[::step][:64].float().cpu().numpy().tobytes())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def forward(
        self,
        ids_BT: Tensor,
        memory: MemoryContext | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        start: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Run the decoder on local tokens, with memory or without.

        Args:
            ids_BT: token ids. memory: retrieved K-V; None runs the plain model.
            attention_mask: [B, cached + T], 1 for tokens and 0 for (left) padding; None when there is none.
            past_key_values: a transformers cache of the earlier local tokens.
            start: number of earlier local tokens, in the cache. Local tokens are numbered from 1, memory is at 0.
            kwargs: passed on (``logits_to_keep``, ``use_cache`` ...).

        Returns:
            The model's own output, ``logits`` [B, T, V] among it.
        """
        if memory is not None and memory.strength == float("-inf"):
            memory = None
        positions = self._positions(ids_BT, attention_mask, start)
        kwargs.setdefault("use_cache", past_key_values is not None)
        if memory is not None and torch.is_grad_enabled() and _checkpointing(self.base):
            if not is_switched(self.base):
                raise ModelError(
                    "Activations that are computed again during the backward pass, without memory",
                    "Forward and backward pass within `with model.attending():`",
                    "Put both into it, or switch gradient checkpointing off",
                )
            kwargs["memory"] = memory  # nothing is bound during the backward pass, but keywords are kept
        ours = nullcontext() if memory is None else switched(self.base)
        with self._weights if self.adapts else nullcontext(), ours, bound(memory) if memory else nullcontext():
            return self.model(
                input_ids=ids_BT,
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=past_key_values,
                **kwargs,
            )

    def read(self, ids_BT: Tensor, attention_mask: Tensor | None = None) -> StoredKV:
        """Return the stored layers' un-rotated K-V of every window, by the original weights.

        Runs no layer above the highest stored one. Windows are rows: each depends on its own tokens alone.

        Args:
            ids_BT: windows, right-padded. attention_mask: [B, T]; None when nothing is padded.
        """
        return self._read(ids_BT, attention_mask, ReadCapture(self.layout.stored_layers))

    def read_to_end(self, ids_BT: Tensor, attention_mask: Tensor | None = None) -> StoredKV:
        """As :meth:`read`, through all layers: weights sharded over processes are given back at the end of a pass."""
        return self._read(ids_BT, attention_mask, ReadCapture(self.layout.stored_layers, memory=lambda: None))

    def _read(self, ids_BT: Tensor, attention_mask: Tensor | None, capture: ReadCapture) -> StoredKV:
        with torch.no_grad(), evaluating(self.model), self.original_weights(), switched(self.base):
            with fast_products(self.base), gates_in_place(self.base), capturing(self.spec, capture):
                self.model(
                    input_ids=ids_BT,
                    attention_mask=attention_mask,
                    position_ids=self._positions(ids_BT, attention_mask, 0),
                    use_cache=False,
                    logits_to_keep=1,
                )
        return StoredKV(*stacked(capture))

    def forward_reading(
        self,
        ids_BT: Tensor,
        memory: Callable[[StoredKV], MemoryContext | None],
        attention_mask: Tensor | None = None,
    ) -> Any:
        """Run windows through all layers in one pass that also reads them: :meth:`read` and :meth:`forward` in one.

        Args:
            ids_BT, attention_mask: as for :meth:`read`.
            memory: makes each window's memory out of what was just read; called before the first retrieval layer.

        Raises:
            ModelError: when a layer above the lowest retrieval layer is stored, whose K-V would depend on the memory,
                or when adapted weights would write them.
        """
        if self.layout.stored_layers[-1] > self.layout.retrieval_layers[0] or self.adapts:
            raise ModelError(
                f"Stored layers {layers_text(self.layout.stored_layers)}, retrieval layers from "
                f"{self.layout.retrieval_layers[0]}{', and adapted weights' if self.adapts else ''}",
                "One pass serves where the original weights run and nothing above the lowest retrieval layer is stored",
                "Call read, and then forward",
            )
        capture = ReadCapture(self.layout.stored_layers, retrieval_layers=frozenset(self.layout.retrieval_layers))

        def made() -> MemoryContext | None:
            context = memory(StoredKV(*stacked(capture)))
            return None if context is None or context.strength == float("-inf") else context

        capture.memory = made
        with torch.no_grad(), evaluating(self.model), switched(self.base):
            with fast_products(self.base), gates_in_place(self.base), capturing(self.spec, capture):
                return self.model(
                    input_ids=ids_BT,
                    attention_mask=attention_mask,
                    position_ids=self._positions(ids_BT, attention_mask, 0),
                    use_cache=False,
                )

    def memory(
        self,
        keys_SNGCD: Tensor,
        values_SNGCD: Tensor,
        lengths: Sequence[int],
        strength: float = 0.0,
        observer: MassObserver | None = None,
    ) -> MemoryContext:
        """Return the context for one batch row that reads these chunks, in the given order.

        Args:
            keys_SNGCD, values_SNGCD: gathered K-V of the stored layers. lengths: tokens of each chunk (<= C).
            strength: added to the configured memory strength. observer: collects attention mass; None computes none.
        """
        return self.stack_memory([(keys_SNGCD, values_SNGCD, lengths)], strength, observer)

    def stack_memory(
        self,
        rows: Sequence[tuple[Tensor, Tensor, Sequence[int]]],
        strength: float = 0.0,
        observer: MassObserver | None = None,
    ) -> MemoryContext:
        """Return the context of a batch whose rows read different chunks: a (keys, values, lengths) triple a row.

        Rows with fewer chunks are padded; padding is masked.
        """
        size = rows[0][0].shape[3]
        chunks = max(len(lengths) for _, _, lengths in rows)
        padding = torch.ones(len(rows), chunks, size, dtype=torch.bool)
        alike = read_alike(self.layout)
        parts: dict[int, tuple[list[Tensor], list[Tensor]]] = {layer: ([], []) for layer in alike.values()}
        for row, (keys, values, lengths) in enumerate(rows):
            for index, length in enumerate(lengths):
                padding[row, index, :length] = False
            turn = self._turning(lengths, size)
            expanded = expand(self.layout, self.maps, keys, values)
            for layer, (all_keys, all_values) in parts.items():
                key_NGCD, value_NGCD = expanded[layer]
                all_keys.append(turn(key_NGCD))
                all_values.append(value_NGCD)
        padded = padding.flatten(1)
        stacked_rows = {
            layer: LayerMemory(*(stack_rows(part, chunks) for part in both)) for layer, both in parts.items()
        }
        return MemoryContext(
            layers={layer: stacked_rows[first] for layer, first in alike.items()},
            chunk_tokens=size,
            padding_BM=padded.to(self.device) if bool(padded.any()) else None,
            bias=self.bias,
            strength=self.config.memory_strength + strength,
            observer=observer,
        )

    def attending(self) -> AbstractContextManager[None]:
        """Keep our attention switched on; needed around forward *and* backward pass with gradient checkpointing."""
        return switched(self.base)

    def with_config(self, config: MemoryConfig, maps: KVMaps | None = None) -> MemoryModel:
        """Return a second view of the same weights with other memory settings."""
        other = MemoryModel.__new__(MemoryModel)
        other.__dict__.update(self.__dict__)
        other.config, other.layout = config, resolve_layout(config, self.spec.layers)
        other._placing = other._find_placing()
        other.maps = maps if maps is not None else self.maps
        return other

    @contextmanager
    def original_weights(self) -> Iterator[None]:
        """Run the frozen original weights: adapters are off, and back on afterwards; other threads wait meanwhile."""
        disabled: Any = getattr(self.model, "disable_adapter", nullcontext)
        with self._weights:
            self._set_adapted(False)
            try:
                with disabled():
                    yield
            finally:
                self._set_adapted(True)

    def _find_placing(self) -> Placing | None:
        if self.config.memory_positions == "zero":
            return None
        if not self.spec.rotary:
            raise ConfigError(
                "memory_positions='before' on a model with learned positions, whose keys are stored as they are",
                "'before' moves rotary keys; learned positions are part of what is stored",
                "Use memory_positions=zero",
            )
        return Placing(self.base, self.spec, self.layout.retrieval_layers)

    def _turning(self, lengths: Sequence[int], chunk_tokens: int) -> Callable[[Tensor], Tensor]:
        """Return what puts a row's keys [N, G, C, D] in their places."""
        placing = self._placing
        if placing is None or not lengths:
            return lambda keys_NGCD: keys_NGCD
        rotation = placing.rotation(places_before(lengths, chunk_tokens))
        return lambda keys_NGCD: placing.turn(keys_NGCD, rotation)

    def _set_adapted(self, on: bool) -> None:
        for parameter, original, adapted in self._adapted:
            parameter.data = adapted if on else original

    def _positions(self, ids_BT: Tensor, attention_mask: Tensor | None, start: int) -> Tensor:
        """Return [B or 1, T]: local tokens count from 1 (rotary) or 0 (learned positions), padding not counted."""
        first = 1 if self.spec.rotary else 0
        tokens = ids_BT.shape[1]
        refuse_positions(self.spec, start + tokens, attention_mask)
        if attention_mask is None:
            return torch.arange(start + first, start + first + tokens, device=ids_BT.device)[None]
        counted = attention_mask.long().cumsum(dim=1) - 1 + first
        return counted.clamp(min=0)[:, -tokens:]


def off(memory: MemoryContext) -> MemoryContext:
    """Return the same context with memory switched off (bias minus infinity)."""
    return replace(memory, strength=float("-inf"))


def _checkpointing(base: PreTrainedModel) -> bool:
    """Whether activations are computed again during the backward pass."""
    return any(getattr(module, "gradient_checkpointing", False) for module in base.modules())


def _pair(base: nn.Module, adapted: Mapping[str, Tensor]) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
    named = dict(base.named_parameters())
    pairs = []
    for name, value in adapted.items():
        parameter = named.get(name)
        if parameter is None or parameter.shape != value.shape:
            raise ModelError(
                f"Adapted weight {name!r} {tuple(value.shape)} has no counterpart in {type(base).__name__}",
                "Adapted weights of the same model",
                "Load the base model that the adapter was trained on",
            )
        pairs.append((parameter, parameter.data, value.to(parameter.device, parameter.dtype)))
    return pairs
