"""Stands in for ``python -m training``: the same command line, files and signals, without learning anything.

``run`` takes steps until it has taken ``steps`` of them or is interrupted; ``steps=0`` is a run
that fails, ``steps=-1`` one that is still loading, and does not listen to signals itself.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path

KNOWN = {"steps": "3", "memory.top_k": "4"}


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["list"]:
        print(json.dumps({"long": "Takes its time.", "tiny": "Over <at> once."}))
        return 0
    recipe, items = arguments[1], [item for item in arguments[2:] if "=" in item and not item.startswith("/")]
    values = KNOWN | dict(item.split("=", 1) for item in items)
    unknown = sorted(set(values) - set(KNOWN))
    if unknown or recipe not in ("long", "tiny"):
        print(
            f"Unknown setting {unknown or recipe}. Known: memory.top_k, steps. Did you mean 'steps'?", file=sys.stderr
        )
        return 2
    if arguments[0] == "show":
        print(json.dumps({"recipe": recipe, "steps": int(values["steps"]), "memory": {"top_k": 4}, "sources": ["a"]}))
        return 0
    return run(int(values["steps"]), Path(arguments[arguments.index("--out") + 1]))


def run(steps: int, folder: Path) -> int:
    if steps < 0:
        print("loading", flush=True)
        while True:
            time.sleep(0.01)
    stop: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: stop.append(number))
    if steps == 0:
        raise RuntimeError("no such data")
    metrics = folder / "metrics.jsonl"
    step = len(metrics.read_text().splitlines()) if metrics.is_file() else 0
    print(f"resumed at step {step}" if step else "started", flush=True)
    while step < steps and not stop:
        step += 1
        judged = {"loss": 2.0, "recall": 0.5} if step % 2 == 0 else None
        row = {
            "step": step, "steps": steps, "loss": 3.0 / step, "learning_rate": 0.001, "documents": 1, "seconds": 0.5,
            "evaluation": judged,
        }  # fmt: skip
        with metrics.open("a") as file:
            file.write(json.dumps(row) + "\n")
        time.sleep(0.01)
    (folder / "export").mkdir(exist_ok=True)
    print(f"{'stopped' if stop else 'done'} at step {step}; exported to {folder / 'export'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
