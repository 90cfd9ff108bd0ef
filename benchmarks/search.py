"""The vector index and the ledger: add, search and evict at 1k, 32k and 1M chunks.

Times are microseconds per chunk or query. ``search`` asks one query at a time, ``search_batch`` sixteen, as
reading does. Evicting is measured on the ledger and its policy together with the index, without K-V (which cost
the same at any size: benchmarks.reading, growth).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import common
from memlong.bank.capacity import Capacity
from memlong.bank.eviction import make_policy
from memlong.bank.ledger import ChunkPlace, Ledger
from memlong.index.faiss import FlatIndex

SIZES = (1_000, 32_000, 1_000_000)
_CHUNK = 256


def main() -> None:
    """Measure and report."""
    parser = common.arguments("search", __doc__)
    parser.add_argument("--dim", type=int, default=384, help="embedding size (MiniLM 384, BGE-M3 1024)")
    parser.add_argument("--chunks", type=int, nargs="+", default=SIZES)
    options = parser.parse_args()
    common.prepare()
    gpu = options.device == "cuda"
    numbers: dict[str, Any] = {"dim": options.dim, "unit": "microseconds"}
    for chunks in options.chunks:
        numbers[str(chunks)] = measure(chunks, options.dim, options.repeats, gpu)
    common.publish(common.report("search", options.device, numbers, {}), options.json, options.save)


def measure(chunks: int, dim: int, repeats: int, gpu: bool = False) -> dict[str, float]:
    """Return microseconds of every operation on an index that holds ``chunks`` vectors."""
    rng = np.random.default_rng(0)
    index, ledger = FlatIndex(dim, gpu=gpu), Ledger()
    for start in range(0, chunks, 8192):
        ids = [_enter(ledger) for _ in range(min(8192, chunks - start))]
        index.add(ids, _unit(rng, len(ids), dim))
    device = "cuda" if gpu else "cpu"
    policy, capacity = make_policy("trigger_count"), Capacity(chunks * _CHUNK, chunks)
    batch, extra = _unit(rng, 16, dim), _unit(rng, 64, dim)
    fresh: list[int] = []

    def add() -> None:
        fresh.clear()
        for vector in extra:
            fresh.append(_enter(ledger))
            index.add([fresh[-1]], vector[None])

    def evict() -> None:
        for victim in policy.choose(ledger, capacity):
            ledger.remove(victim.chunk_id)
            index.remove([victim.chunk_id])

    def search() -> None:
        for row in range(len(batch)):
            index.search(batch[row : row + 1], 8)

    runs = {
        "search": (search, len(batch)),
        "search_batch": (lambda: index.search(batch, 8), len(batch)),
        "trigger": (lambda: ledger.trigger(list(range(chunks // 2, chunks // 2 + 8)), ledger.clock), 8),
        "add": (add, 64),
        "evict": (evict, 64),
    }
    found = common.take_turns({name: run for name, (run, _) in runs.items()}, max(3, repeats), device)
    return {name: 1e6 * found[name] / count for name, (_, count) in runs.items()}


def _enter(ledger: Ledger) -> int:
    order = ledger.clock
    return ledger.write(ChunkPlace(0, order, (order, order + 1), _CHUNK), order, order).chunk_id


def _unit(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    vectors = rng.standard_normal((count, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


if __name__ == "__main__":
    main()
