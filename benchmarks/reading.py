"""Reading and scoring: against the method as published, against full attention, and against ourselves when fuller.

Numbers (all ratios are of time for the same tokens, above 1 means we are faster):
- read_vs_baseline: the published method reading ``--tokens`` tokens over a session reading them;
- score_vs_baseline: the same text over a Scorer, which also computes the loss of every token;
- read_vs_full_attention: the model without memory filling its cache with 16,384 tokens, over a session;
- growth: time per chunk with 1,000,000 tokens stored over that with 16,000, both banks full and evicting;
- peak_over_model_plus_bank: peak memory while reading over the bytes of weights and bank (CPU; benchmarks.peak).
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import common, peak
from benchmarks.baseline import PublishedMemory
from benchmarks.full_attention import prefill
from benchmarks.setups import Setup, make_setup
from memlong.bank.bank import Bank
from memlong.bank.ledger import ChunkPlace
from memlong.evaluation.perplexity import Scorer
from memlong.model.products import fast_products
from memlong.session.results import DocumentState
from memlong.session.session import Session

SHORT = 16_384
STORED = (16_000, 1_000_000)
_NOTHING = -1  # id of the document that a bank is filled with


def main() -> None:
    """Measure and report."""
    parser = common.arguments("reading", __doc__)
    parser.add_argument("--tokens", type=int, default=65_536, help="of the longest text read")
    parser.add_argument("--stored", type=int, nargs=2, default=STORED, help="tokens stored in the growth comparison")
    options = parser.parse_args()
    common.prepare()
    setup = make_setup(options.device, options.seed)
    common.publish(
        common.report("reading", options.device, measure(setup, options), targets(options.tokens)),
        options.json,
        options.save,
    )


def targets(tokens: int) -> common.Targets:
    """Return what the numbers are to reach; long texts are held to more, since the baseline copies its memory."""
    return {
        "read_vs_baseline": ("at least", 5.0 if tokens > SHORT else 3.5),
        f"read_vs_baseline_{SHORT}": ("at least", 3.5),
        "score_vs_baseline": ("at least", 1.5),
        "read_vs_full_attention": ("at least", 12.0),
        "growth": ("at most", 1.1),
        "peak_over_model_plus_bank": ("at most", 1.2),
    }


def measure(setup: Setup, options: Namespace) -> dict[str, Any]:
    """Return all numbers. Each contender reads a short text first, unmeasured."""
    short = min(SHORT, options.tokens)
    numbers: dict[str, Any] = {"tokens": options.tokens, "short_tokens": short}
    for run in contenders(setup, 4 * setup.sizes.chunk_tokens).values():
        run()
    seconds = common.take_turns(contenders(setup, short), options.repeats, options.device)
    if options.tokens == short:
        long = seconds
    else:
        runs = contenders(setup, options.tokens)
        wanted = {name: runs[name] for name in ("read", "score", "baseline", "baseline_dropping_logits")}
        long = common.take_turns(wanted, options.repeats, options.device)
    numbers |= {
        "read_vs_baseline": long["baseline"] / long["read"],
        f"read_vs_baseline_{short}": seconds["baseline"] / seconds["read"],
        "read_vs_baseline_dropping_logits": long["baseline_dropping_logits"] / long["read"],
        "read_vs_baseline_with_fused_attention": seconds["baseline_fused"] / seconds["read"],
        "score_vs_baseline": long["baseline"] / long["score"],
        f"score_vs_baseline_{short}": seconds["baseline"] / seconds["score"],
        "score_vs_baseline_dropping_logits": long["baseline_dropping_logits"] / long["score"],
        "score_vs_baseline_with_fused_attention": seconds["baseline_fused"] / seconds["score"],
        "read_vs_baseline_with_the_same_products": seconds["baseline_same_products"] / seconds["read"],
        "score_vs_baseline_with_the_same_products": seconds["baseline_same_products"] / seconds["score"],
        "read_vs_full_attention": seconds["full_attention"] / seconds["read"],
        "tokens_per_second": {name: short / value for name, value in seconds.items()},
        "tokens_per_second_long": {name: options.tokens / value for name, value in long.items()},
    }
    numbers |= growth(setup, options.stored, options.repeats)
    numbers |= peak.while_reading(options.device, options.tokens, options.seed)
    return numbers


def contenders(setup: Setup, tokens: int) -> dict[str, Callable[[], Any]]:
    """Return what takes turns on one text of ``tokens`` tokens, each starting from an empty memory."""
    text = setup.text(tokens)
    room = max(tokens, setup.sizes.chunk_tokens)

    def read() -> None:
        Session(setup.model(capacity_tokens=room), setup.retriever).read(text)

    def score() -> None:
        Scorer(setup.model(capacity_tokens=room), setup.retriever).score(text)

    def baseline(eager: bool) -> None:
        PublishedMemory(setup, room, eager).read(text)

    def dropping_logits() -> None:
        PublishedMemory(setup, room).read_dropping(text)

    def same_products() -> None:
        with fast_products(setup.llama):
            baseline(True)

    return {
        "read": read,
        "baseline": lambda: baseline(True),
        "baseline_dropping_logits": dropping_logits,
        "baseline_fused": lambda: baseline(False),
        "baseline_same_products": same_products,
        "score": score,
        "full_attention": lambda: prefill(setup, tokens),
    }


def growth(setup: Setup, stored: tuple[int, int], repeats: int) -> dict[str, Any]:
    """Return the time per chunk of two full banks of different sizes, and their ratio."""
    size = setup.sizes.chunk_tokens
    sessions = [full_session(setup, tokens) for tokens in stored]
    tokens = 16 * size
    texts = iter([setup.text(tokens, seed) for seed in range(1, 2 * (repeats + 3) + 1)])
    for session in sessions:
        session.read(next(texts))
    reading = {str(kept): lambda s=session: s.read(next(texts)) for kept, session in zip(stored, sessions)}
    seconds = common.take_turns(reading, repeats + 2, setup.device)
    per_chunk = {name: 1000 * value * size / tokens for name, value in seconds.items()}
    few, many = (per_chunk[str(kept)] for kept in stored)
    return {"growth": many / few, "milliseconds_per_chunk": per_chunk}


def full_session(setup: Setup, tokens: int, **changes: Any) -> Session:
    """Return a session whose bank is full of ``tokens`` tokens of nothing."""
    size = setup.sizes.chunk_tokens
    session = Session(setup.model(capacity_tokens=tokens // size * size, **changes), setup.retriever)
    fill(session.bank, tokens // size, setup)
    # A question may find these chunks, and shows where each stands: one letter a chunk.
    nothing = "x" * (tokens // size)
    session.documents[_NOTHING] = DocumentState(_NOTHING, "Nothing", nothing, n_tokens=tokens, status="done")
    return session


def fill(bank: Bank, chunks: int, setup: Setup) -> None:
    """Write chunks of random embeddings and one and the same random K-V."""
    shape, device = bank.store.shape, bank.store.device
    states = torch.randn(
        shape.stored_layers, shape.kv_heads, shape.chunk_tokens, shape.head_dim, dtype=setup.sizes.dtype, device=device
    )
    random = torch.Generator().manual_seed(setup.seed)
    for index in range(chunks):
        embedding = torch.nn.functional.normalize(torch.randn(bank.index.dim, generator=random), dim=0).numpy()
        place = ChunkPlace(_NOTHING, index, (index, index + 1), shape.chunk_tokens)
        bank.write(place, embedding, states, states)


if __name__ == "__main__":
    main()
