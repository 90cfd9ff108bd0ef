"""What every benchmark shares: arguments, clocks, fair turns, and a report that says where it was measured.

Times on a CPU are CPU seconds of one thread (``time.process_time``): on a shared machine wall time of the same job
varies many-fold. On a GPU they are wall seconds after waiting for the device. Contenders take turns in one
process, so that whatever slows the machine slows all of them; medians of the turns are compared.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "faiss-cpu", "faiss-gpu", "numpy")
# Sets that change the speed of matrix products; a processor's list of flags is ten times as long.
_INSTRUCTION_SETS = (
    "avx",
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "sve",
)


def arguments(name: str, describe: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=describe)
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="cuda takes OpenLLaMA-3B sizes")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every contender (medians are taken)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and text")
    parser.add_argument("--save", action="store_true", help=f"write the report to benchmarks/results/{name}.json")
    return parser


def prepare() -> None:
    """Use one thread, and be quiet: to be called before anything is measured."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def clock(device: str) -> float:
    """Return seconds: of the CPU's work, or of the wall once the GPU has finished."""
    if device == "cpu":
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


def timed(run: Callable[[], Any], device: str) -> float:
    """Return the seconds of one call; the garbage of the one before is collected first."""
    gc.collect()
    started = clock(device)
    run()
    return clock(device) - started


def take_turns(contenders: Mapping[str, Callable[[], Any]], repeats: int, device: str) -> dict[str, float]:
    """Return each contender's median seconds; they run one after the other, ``repeats`` times round."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, run in contenders.items():
            seconds[name].append(timed(run, device))
    return {name: median(values) for name, values in seconds.items()}


Targets = Mapping[str, tuple[str, float]]


def report(name: str, device: str, numbers: Mapping[str, Any], targets: Targets) -> dict[str, Any]:
    """Return numbers, targets and where they were measured, ready for JSON.

    Args:
        targets: name of a number -> ("at least" or "at most", bound).
    """
    checked = {}
    for key, (relation, bound) in targets.items():
        value = numbers.get(key)
        if value is not None:
            met = value >= bound if relation == "at least" else value <= bound
            checked[key] = {"value": round(value, 4), "target": f"{relation} {bound:g}", "met": met}
    return {
        "benchmark": name,
        "command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(device),
        "versions": versions(),
        "targets": checked,
        "numbers": _rounded(numbers),
    }


def publish(found: Mapping[str, Any], as_json: bool, save: bool) -> None:
    """Print a report, as JSON or as lines for people, and write it when asked to."""
    if save:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{found['benchmark']}.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if as_json:
        print(json.dumps(found, indent=1))
        return
    for key, row in found["targets"].items():
        print(f"{key:32} {row['value']:>10}   {row['target']:>14}   {'met' if row['met'] else 'not met'}")
    print(json.dumps(found["numbers"], indent=1))


def machine(device: str) -> dict[str, Any]:
    """Return processor, cores, instruction sets, load and GPU: what speed depends on, and no names."""
    facts, flags = _cpu_facts()
    found: dict[str, Any] = {
        "processor": facts or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "threads_used": 1,
    }
    if hasattr(os, "getloadavg"):
        found["load"] = round(os.getloadavg()[2], 1)  # processes that wanted a core, this one among them, 15 minutes
    if device == "cuda":
        import torch

        total = torch.cuda.mem_get_info()[1]
        found |= {"gpu": torch.cuda.get_device_name(), "gpu_memory_gb": round(total / 1e9, 1)}
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that do the work."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu_facts() -> tuple[str, Sequence[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return "", ()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return facts.get("model name", ""), facts.get("flags", facts.get("Features", "")).split()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, Mapping):
        return {str(key): _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
