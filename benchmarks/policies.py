"""Eviction policies replayed on a book of 100,000 tokens, without the language model.

The book is a chronicle of invented places with its own questions. Numbers, in CPU seconds of one thread:
- embed_seconds: embedding its chunks, which the app does once, while it reads, and keeps;
- replay_seconds: every policy at an eighth, a quarter and a half of the book, from kept embeddings;
- replay_one_seconds: one policy at one capacity;
- wanted_seconds: finding out for every chunk and question what it would have fetched from an unlimited bank.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np

from benchmarks import common
from memlong.bank.eviction import POLICIES
from memlong.evaluation.policies import replay, wanted_by
from memlong.evaluation.recording import Recording, record
from memlong.retriever import make_retriever
from memlong.trace.events import ChunkWritten, QuestionAsked
from training.data.chronicle import make_chronicle

TARGETS: common.Targets = {"replay_seconds": ("at most", 5.0), "replay_one_seconds": ("at most", 1.0)}
CHUNK_TOKENS, CHUNK_CHARACTERS = 256, 998  # 3.9 characters a token, as the chronicle counts them
QUESTIONS, TOP_K = 20, 4
SHARES = (0.125, 0.25, 0.5)


def main() -> None:
    """Measure and report."""
    parser = common.arguments("policies", __doc__)
    parser.add_argument("--tokens", type=int, default=100_000, help="of the book")
    parser.add_argument("--retriever", default="auto", help="as the app's; auto takes MiniLM and words on a CPU")
    options = parser.parse_args()
    common.prepare()
    found = measure(make_retriever(options.retriever, device=options.device), options)
    common.publish(common.report("policies", options.device, found, TARGETS), options.json, options.save)


def measure(retriever: Any, options: Namespace) -> dict[str, Any]:
    """Return all numbers."""
    made, texts = book(options.tokens, options.seed)
    embedded: list[np.ndarray] = []
    embed = common.timed(lambda: embedded.append(retriever.embed_documents(texts)), options.device)
    chunks_nE = embedded[0]
    plain_QE = np.stack([retriever.embed_query(text) for _, text in made.questions])
    questions_QE = retriever.weigh_query(plain_QE, np.square(chunks_nE).mean(axis=0), len(chunks_nE))
    queries = np.concatenate([chunks_nE, questions_QE])
    capacities = [round(share * made.tokens / CHUNK_TOKENS) * CHUNK_TOKENS for share in SHARES]
    runs = {
        "replay_seconds": lambda: replay(made, chunks_nE, questions_QE, list(POLICIES), capacities),
        "replay_one_seconds": lambda: replay(made, chunks_nE, questions_QE, ["trigger_count"], capacities[1:2]),
        "wanted_seconds": lambda: wanted_by(queries, made.ends, chunks_nE, made.top_k),
    }
    return {
        "tokens": made.tokens,
        "chunks": len(made.chunks),
        "questions": len(made.questions),
        "replays": len(POLICIES) * len(capacities),
        "retriever": retriever.name,
        "embed_seconds": embed,
        **common.take_turns(runs, options.repeats, options.device),
    }


def book(tokens: int, seed: int) -> tuple[Recording, list[str]]:
    """Return what reading a chronicle and asking about it would record, and its chunks' texts."""
    chronicle = make_chronicle(seed, tokens)
    text = chronicle.text
    spans = [(at, min(at + CHUNK_CHARACTERS, len(text))) for at in range(0, len(text), CHUNK_CHARACTERS)]
    events: list[Any] = [
        ChunkWritten(at, 0, at, span, max(1, round(CHUNK_TOKENS * (span[1] - span[0]) / CHUNK_CHARACTERS)), at)
        for at, span in enumerate(spans)
    ]
    events += [QuestionAsked(0, each.question, "memory", TOP_K, None) for each in chronicle.questions[:QUESTIONS]]
    return record(events, CHUNK_TOKENS, TOP_K), [text[start:end] for start, end in spans]


if __name__ == "__main__":
    main()
