"""What a run told of its steps: one JSON line each in ``metrics.jsonl``."""

from __future__ import annotations

import json
import os
from pathlib import Path

METRICS = "metrics.jsonl"


def forget_after(folder: Path, step: int) -> None:
    """Leave out the steps after ``step`` and a line cut off by a kill: a resumed run takes and tells them again."""
    path = folder / METRICS
    if not path.is_file():
        return
    kept = [
        line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n") and _step(line) <= step
    ]
    fresh = path.with_name(METRICS + ".new")
    fresh.write_bytes(b"".join(kept))
    os.replace(fresh, path)


def _step(line: bytes) -> int:
    return int(json.loads(line)["step"])
