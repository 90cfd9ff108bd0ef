"""What this machine computes on, and in which number type it multiplies fastest: measured, never assumed.

A processor without bfloat16 instructions multiplies bfloat16 some five times slower than float32, one with
them twice as fast; the name of the processor does not tell.
"""

from __future__ import annotations

from functools import lru_cache
from time import perf_counter

import torch

from memlong.errors import ModelError, unknown_name

DEVICES = ("auto", "cpu", "cuda", "mps")
_SIDE = 384  # 0.1 GFLOP a product: some milliseconds on one core
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
    return torch.device(device)


@lru_cache(maxsize=16)
def product_seconds(dtype: torch.dtype, device: torch.device) -> float:
    """Return the seconds of one [384, 384] x [384, 384] product, the best of four after a warm-up.

    ``inf`` where the device cannot multiply this type.
    """
    try:
        left = torch.ones(_SIDE, _SIDE, dtype=dtype, device=device)
        times = []
        for _ in range(5):
            started = perf_counter()
            # Reading one number back waits for a GPU.
            torch.mm(left, left)[0, 0].item()
            times.append(perf_counter() - started)
    except (RuntimeError, TypeError):
        return float("inf")
    return min(times[1:])


def fastest_dtype(device: torch.device) -> tuple[torch.dtype, str]:
    """Return bfloat16, float16 or float32 for matrix products on ``device``, and the reason in words."""
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return torch.bfloat16, "the GPU has bfloat16 units"
        return torch.float16, "the GPU is older than bfloat16 units"
    if device.type == "mps":
        return torch.float16, "Apple GPUs are fastest in float16"
    ratio = product_seconds(torch.bfloat16, device) / product_seconds(torch.float32, device)
    measured = f"a bfloat16 product took {ratio:.1f} times the time of a float32 one"
    return (torch.bfloat16 if ratio < _CLEARLY_FASTER else torch.float32), measured
