"""Hosted Spaces: defaults that fit their machines, and reading on a GPU that is lent by the call (ZeroGPU).

On ZeroGPU a GPU exists only inside a function marked for it, which runs in a forked worker: arguments and results are
pickled, and nothing else comes back. So what runs there is pure: tokens in, K-V of the stored layers out. The bank, the
retriever and answering stay on the processor side. Anywhere else nothing of this is used.

Shapes: B windows, T tokens, S stored layers, G key/value heads, D head size.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

    from memlong.model.wrapper import MemoryModel, StoredKV

F = TypeVar("F", bound=Callable[..., Any])
# Bytes, shape, and name of the number type: what survives any way of sending it.
Packed = tuple[bytes, tuple[int, ...], str]

SECONDS = 30  # that one call may hold the GPU: short ones come first in the queue
READ_TOKENS = 8192  # of one call: below that, being lent the GPU takes longer than reading
PERSISTENT = Path("/data")  # where Spaces mount storage unless told otherwise

_log = logging.getLogger(__name__)
# Models that read here, by fingerprint; a worker inherits them when it is forked.
_MODELS: dict[str, MemoryModel] = {}
# Inside a worker only: copies on the GPU.
_ON_GPU: dict[str, MemoryModel] = {}


def defaults(environment: Mapping[str, str], persistent: Path = PERSISTENT) -> dict[str, Any]:
    """Return settings that fit the Space we run on; {} anywhere else.

    A Space is reached from outside its container, shares some 16 GB between its visitors, and forgets its disk at
    every restart unless storage is mounted.
    """
    if not environment.get("SPACE_ID"):
        return {}
    found: dict[str, Any] = {"host": "0.0.0.0", "sessions": 6, "capacity": 65_536, "upload_mb": 50}
    if persistent.is_dir() and os.access(persistent, os.W_OK):
        found["data_dir"] = persistent / "memlong"
    if on_zero(environment):
        # The GPU looks available there even where it is not.
        found["device"] = "cpu"
    return found


def on_zero(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether GPUs are lent by the call here."""
    return environment.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def gpu(function: F, seconds: int = SECONDS) -> F:
    """Return ``function`` as one that is lent a GPU while it runs; the function itself anywhere but on ZeroGPU."""
    if not on_zero():
        return function
    import spaces  # type: ignore[import-not-found]  # the Space brings it

    marked: F = spaces.GPU(duration=seconds)(function)
    return marked


_read_windows: Callable[..., Any] | None = None


def prepare() -> None:
    """Mark what runs on a lent GPU. To be called before the page is served: Spaces look for it then."""
    global _read_windows
    _read_windows = gpu(read_windows)


def offloaded(model: MemoryModel) -> MemoryModel:
    """Return the model, reading on a lent GPU where there is such a thing; answers are computed where it lies."""
    if _read_windows is None or not on_zero():
        return model
    key = model.fingerprint()
    _MODELS[key] = model
    model.config = model.config.replace(read_batch_tokens=max(READ_TOKENS, model.config.read_batch_tokens))
    itself = model.read

    def read(ids_BT: Tensor, attention_mask: Tensor | None = None) -> StoredKV:
        packed = _lent(key, ids_BT.tolist(), None if attention_mask is None else attention_mask.tolist())
        return itself(ids_BT, attention_mask) if packed is None else unpack(packed, model)

    model.read = read  # type: ignore[method-assign]  # views of the model with other settings inherit it
    return model


def _lent(key: str, ids: list[list[int]], mask: list[list[int]] | None) -> tuple[Packed, Packed] | None:
    """Read on a lent GPU; None when there is none now, or nobody's time is left: reading is slower then, not over."""
    assert _read_windows is not None
    try:
        packed: tuple[Packed, Packed] | None = _read_windows(key, ids, mask)
        return packed
    except Exception as error:  # quota, queue, time limit: each has its own class, and none is known off Spaces
        _log.warning("No GPU was lent (%s: %s); reading on the processor", type(error).__name__, error)
        return None


def read_windows(
    key: str, ids: Sequence[Sequence[int]], mask: Sequence[Sequence[int]] | None
) -> tuple[Packed, Packed] | None:
    """Return keys and values [S, B, G, T, D] of windows: what runs in the worker.

    Args:
        key: fingerprint of the model. ids: token ids [B, T], right-padded. mask: 1 for tokens, 0 for padding.

    Returns:
        None when the worker was made before this model was loaded.
    """
    import torch

    # A forked process hangs when it uses more threads than one after its parent did.
    torch.set_num_threads(1)
    if key not in _MODELS:
        return None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if key not in _ON_GPU:
        _ON_GPU.clear()
        _ON_GPU[key] = _copy(_MODELS[key], device)
    made = _ON_GPU[key].read(
        torch.tensor(ids, device=device), None if mask is None else torch.tensor(mask, device=device)
    )
    return _pack(made.keys_SBGTD), _pack(made.values_SBGTD)


def unpack(packed: tuple[Packed, Packed], model: MemoryModel) -> StoredKV:
    """Return K-V that :func:`read_windows` packed, beside the model's weights."""
    import torch

    from memlong.model.wrapper import StoredKV

    states = []
    for data, shape, name in packed:
        flat = torch.frombuffer(bytearray(data), dtype=getattr(torch, name))
        states.append(flat.reshape(shape).to(model.device))
    return StoredKV(*states)


def _copy(model: MemoryModel, device: Any) -> MemoryModel:
    """Return a model that only reads: the original weights, on the device."""
    from copy import deepcopy

    from memlong.model.wrapper import MemoryModel

    with model.original_weights():
        return MemoryModel(deepcopy(model.model).to(device), model.tokenizer, model.config)


def _pack(states: Tensor) -> Packed:
    import torch

    states = states.detach().cpu().contiguous()
    name = str(states.dtype).removeprefix("torch.")
    return states.view(torch.uint8).numpy().tobytes(), tuple(states.shape), name
