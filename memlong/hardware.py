"""What this machine computes on, and in which number type it multiplies fastest: measured, never assumed.

A processor without bfloat16 instructions multiplies bfloat16 some five times slower than float32, one with
them twice as fast; the name of the processor does not tell.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from time import perf_counter, thread_time

import torch
from torch import Tensor
from torch.nn import functional

from memlong.errors import ModelError, unknown_name

DEVICES = ("auto", "cpu", "cuda", "mps")
_SIDE = 384  # 0.1 GFLOP a product: some milliseconds on one core
_FASTER_KERNEL = 0.98
_CLEARLY_FASTER = 0.8  # below this share of float32's time the smaller type is worth its rounding


def resolve_device(device: str = "auto") -> torch.device:
    """Return the device for a name: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ModelError: for an unknown name or a device that this machine does not have.
    """
    kind = device.partition(":")[0]
    if kind not in DEVICES:
        raise unknown_name("device", device, DEVICES, ModelError)
    if kind == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not here[kind]:
        usable = ", ".join(name for name, available in here.items() if available)
        raise ModelError(f"No device {device!r} on this machine", f"Usable: {usable}", "Choose 'auto'")
    number = device.partition(":")[2]
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        usable = ", ".join(f"cuda:{index}" for index in range(torch.cuda.device_count()))
        raise ModelError(f"No device {device!r} on this machine", f"Usable: cpu, {usable}", "Choose 'auto'")
    return torch.device(device)


@lru_cache(maxsize=16)
def product_seconds(device: torch.device, *dtypes: torch.dtype) -> tuple[float, ...]:
    """Return the seconds of one [384, 384] x [384, 384] product in each type, the best of 15 after a warm-up.

    The types take turns, so that whatever slows the machine meanwhile slows all of them; ``inf`` is for one that the
    device cannot multiply.
    """
    best = dict.fromkeys(dtypes, float("inf"))
    for turn in range(16):
        for dtype in dtypes:
            try:
                left = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
                started = perf_counter()
                # Reading one number back waits for a GPU.
                torch.mm(left, left)[0, 0].item()
                if turn:
                    best[dtype] = min(best[dtype], perf_counter() - started)
            except (RuntimeError, TypeError):
                continue
    return tuple(best.values())


@lru_cache(maxsize=1)
def onednn_is_faster() -> bool:
    """Whether oneDNN multiplies float32 clearly faster than torch's own choice; a tenth of a second, once."""
    if not torch.backends.mkldnn.is_available():
        return False
    with torch.no_grad():
        left, right = torch.ones(1024, 512), torch.ones(256, 512)
        times: dict[Callable[[Tensor, Tensor], Tensor], float] = {}
        try:
            for _ in range(12):  # in turns, so that whatever slows the machine slows both
                for multiply in (functional.linear, onednn_linear):
                    started = thread_time()  # not of the wall: other work may hold the core meanwhile
                    multiply(left, right)
                    times[multiply] = min(times.get(multiply, float("inf")), thread_time() - started)
        except (AttributeError, RuntimeError, TypeError):
            return False
    return times[onednn_linear] < _FASTER_KERNEL * times[functional.linear]


def onednn_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return what ``functional.linear`` does, by oneDNN; float32 on a CPU, no gradient."""
    out: Tensor = torch.ops.mkldnn._linear_pointwise(input, weight, bias, "none", [], "")
    return out


def fastest_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """Return bfloat16, float16 or float32 for matrix products on ``device``, and the reason in words."""
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return torch.bfloat16, "the GPU has bfloat16 units"
        return torch.float16, "the GPU is older than bfloat16 units"
    if device.type == "mps":
        return torch.float16, "Apple GPUs are fastest in float16"
    half, single = product_seconds(device, torch.bfloat16, torch.float32)
    ratio = half / single
    measured = f"a bfloat16 product took {ratio:.1f} times the time of a float32 one"
    return (torch.bfloat16 if ratio < _CLEARLY_FASTER else torch.float32), measured
