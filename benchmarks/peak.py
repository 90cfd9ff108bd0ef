"""Peak memory: while a text is read (CPU), and with 80k, 1M and 10M tokens stored (GPU).

On a CPU a process of its own does the reading, because a peak can only be told of a whole process. What it holds
after importing everything and before the model is made does not count.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
STORED_ON_GPU = (80_000, 1_000_000, 10_000_000)
_BEYOND_GPU = 4_000_000  # tokens: a bank of more than this goes to host memory


def while_reading(device: str, tokens: int, seed: int) -> dict[str, Any]:
    """Return ``peak_over_model_plus_bank`` and the bytes behind it; on a GPU also the peaks of large banks."""
    if device == "cuda":
        return on_gpu(tokens, seed)
    if not _STATUS.exists():
        return {"peak_note": "this system does not tell the peak memory of a process"}
    command = [sys.executable, "-m", "benchmarks.peak", "--tokens", str(tokens), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def on_cpu(tokens: int, seed: int) -> dict[str, Any]:
    """Read a text in this process and return its peak."""
    from benchmarks.setups import TINY, make_setup
    from memlong.session.session import Session

    def read(sizes: Any, length: int) -> int:
        setup = make_setup("cpu", seed, sizes)
        model = setup.model(capacity_tokens=length)
        session = Session(model, setup.retriever)
        session.read(setup.text(length))
        return model.parameters_bytes() + session.bank.nbytes

    read(TINY, 256)  # libraries make room for themselves at their first use
    before = _resident("VmRSS")
    held = read(None, tokens)
    peak = _resident("VmHWM") - before
    return {
        "peak_over_model_plus_bank": peak / held,
        "peak_megabytes": peak / 1e6,
        "model_plus_bank_megabytes": held / 1e6,
    }


def on_gpu(tokens: int, seed: int) -> dict[str, Any]:
    """Return peaks of the GPU's memory: while reading, and with large banks while reading and answering a little."""
    import torch

    from benchmarks.reading import full_session
    from benchmarks.setups import make_setup
    from memlong.errors import BankError
    from memlong.session.session import Session

    setup = make_setup("cuda", seed)
    model = setup.model(capacity_tokens=tokens)
    torch.cuda.reset_peak_memory_stats()
    session = Session(model, setup.retriever)
    session.read(setup.text(tokens))
    held = model.parameters_bytes() + session.bank.nbytes
    found: dict[str, Any] = {"peak_over_model_plus_bank": torch.cuda.max_memory_allocated() / held}
    del session
    large: dict[str, Any] = {}
    for stored in STORED_ON_GPU:
        place = "model" if stored < _BEYOND_GPU else "cpu"
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            session = full_session(setup, stored, bank_device=place)
        except BankError as error:
            large[str(stored)] = {"bank": place, "refused": str(error)}
            continue
        session.read(setup.text(4096, seed=seed + 1))
        session.ask("what stands here", max_tokens=4)
        large[str(stored)] = {
            "bank": "gpu" if place == "model" else "host memory",
            "gpu_peak_gb": torch.cuda.max_memory_allocated() / 1e9,
            "bank_gb": session.bank.nbytes / 1e9,
        }
        del session
    return found | {"stored_tokens": large}


def _resident(field: str) -> int:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process in bytes."""
    line = next(line for line in _STATUS.read_text("ascii").splitlines() if line.startswith(field + ":"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Print the peak of this process as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peak", description=__doc__)
    parser.add_argument("--tokens", type=int, default=65_536)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    from benchmarks import common

    common.prepare()
    print(json.dumps(on_cpu(options.tokens, options.seed)))


if __name__ == "__main__":
    main()
