"""Decoding with retrieved memory, per token, against the plain model.

Numbers (ratios of time per token; below 1 means we are faster):
- vs_plain, vs_plain_every_token: with 8 x 128 retrieved tokens (4 x 256 on a GPU) beside ``--local`` cached
  ones, memory kept or retrieved anew for every token, over the stock model with as many tokens in its cache;
- vs_plain_local_only: memory kept, over the stock model with the local tokens alone (what memory costs);
- mass_overhead: memory kept with attention mass recorded, over without;
- memory_off_overhead: our forward pass without memory over the stock one.
The stock model decodes with transformers' DynamicCache, which copies itself at every token; the local cache of
ours does not (memlong.generate). ``vs_plain_own_cache`` gives the stock model our cache as well.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from benchmarks import common
from benchmarks.reading import full_session
from benchmarks.setups import Setup, make_setup
from memlong.attention.context import MassObserver, MemoryContext
from memlong.model.cache import growing_cache
from memlong.session.relevance import Query, memory_of
from memlong.session.session import Session

TARGETS: common.Targets = {
    "vs_plain": ("at most", 1.1),
    "vs_plain_every_token": ("at most", 1.3),
    "mass_overhead": ("at most", 1.1),
    "memory_off_overhead": ("at most", 1.02),
}


def main() -> None:
    """Measure and report."""
    parser = common.arguments("decoding", __doc__)
    parser.add_argument("--local", type=int, default=1024, help="cached local tokens")
    parser.add_argument("--stored", type=int, default=32_768, help="tokens in the bank")
    parser.add_argument("--steps", type=int, default=24, help="tokens decoded in one turn")
    parser.set_defaults(repeats=15)  # turns are short
    options = parser.parse_args()
    common.prepare()
    found = measure(make_setup(options.device, options.seed), options)
    common.publish(common.report("decoding", options.device, found, TARGETS), options.json, options.save)


def measure(setup: Setup, options: Namespace) -> dict[str, Any]:
    """Return all numbers."""
    session = full_session(setup, options.stored)
    runs = contenders(setup, session, options.local, options.steps)
    for run in runs.values():
        run()
    seconds = common.take_turns(runs, options.repeats, options.device)
    return {
        "vs_plain": seconds["kept"] / seconds["plain_as_many"],
        "vs_plain_every_token": seconds["every_token"] / seconds["plain_as_many"],
        "vs_plain_own_cache": seconds["kept"] / seconds["plain_as_many_own_cache"],
        "vs_plain_local_only": seconds["kept"] / seconds["plain_local"],
        "mass_overhead": seconds["kept_with_mass"] / seconds["kept"],
        "memory_off_overhead": seconds["memory_off"] / seconds["plain_local"],
        "milliseconds_per_token": {name: 1000 * value / options.steps for name, value in seconds.items()},
        "local_tokens": options.local,
        "retrieved_tokens": setup.sizes.top_k * setup.sizes.chunk_tokens,
    }


def contenders(setup: Setup, session: Session, local: int, steps: int) -> dict[str, Callable[[], Any]]:
    """Return what takes turns; every run starts from a fresh cache of random states."""
    retrieved = setup.sizes.top_k * setup.sizes.chunk_tokens
    token = torch.full((1, 1), 7, device=setup.device)

    def plain(cache: Any, cached: int) -> None:
        for step in range(steps):
            position = torch.tensor([[cached + step + 1]], device=setup.device)
            setup.llama(input_ids=token, position_ids=position, past_key_values=cache, use_cache=True, logits_to_keep=1)

    def ours(context: Callable[[], MemoryContext | None], cache: Any = None) -> None:
        cache = cache or fill(setup, growing_cache(), local)
        for step in range(steps):
            memory = context()
            session.model.forward(token, memory, past_key_values=cache, start=local + step, logits_to_keep=1)
            if memory is not None and memory.observer is not None:
                memory.observer.take_last()

    kept = retrieve(session)
    watched = retrieve(session, MassObserver())
    runs: dict[str, Callable[[], Any]] = {
        "plain_local": lambda: plain(fill(setup, DynamicCache(), local), local),
        "plain_as_many": lambda: plain(fill(setup, DynamicCache(), local + retrieved), local + retrieved),
        "plain_as_many_own_cache": lambda: plain(fill(setup, growing_cache(), local + retrieved), local + retrieved),
        "memory_off": lambda: ours(lambda: None, fill(setup, DynamicCache(), local)),
        "kept": lambda: ours(lambda: kept),
        "kept_with_mass": lambda: ours(lambda: watched),
        "every_token": lambda: ours(lambda: retrieve(session)),
    }
    return {name: torch.no_grad()(run) for name, run in runs.items()}


def retrieve(session: Session, observer: MassObserver | None = None) -> MemoryContext:
    """Embed a question, search, trigger, fetch and make ready: all that a retrieval costs."""
    question = "gota mifu sel balo pirun, kes tado?"
    embedding = session.embed_query(question)
    hits = session.search(embedding, session.config.top_k, question=question)
    session.trigger(hits)
    ids = sorted(hit.chunk_id for hit in hits)
    context = memory_of(session, Query(embedding, question), ids, observer=observer)
    assert context is not None, "a full bank finds something"
    return context


def fill(setup: Setup, cache: Any, tokens: int) -> Any:
    """Put random states of ``tokens`` tokens into every layer of a cache."""
    sizes = setup.sizes
    shape = (1, sizes.heads, tokens, sizes.hidden // sizes.heads)
    for layer in range(sizes.layers):
        states: Tensor = torch.randn(shape, dtype=sizes.dtype, device=setup.device)
        cache.update(states, states.clone(), layer)
    return cache


if __name__ == "__main__":
    main()
