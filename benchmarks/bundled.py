"""The bundled model as people use it: reading against the machine's limit, the first token, decoding.

Numbers:
- read_vs_limit: tokens/s of a session reading (tokenising, embedding, searching, storing) over what the machine's
  own matrix products allow for the linear layers of the language model that reading runs; nothing else counts into
  the limit: no attention, no norms, no embedder. The products are timed one by one, in the sizes and the number
  type that reading uses, taking turns with it;
- read_vs_limit_with_embedder: the same with the embedder's linear layers counted into the limit;
- first_token_seconds: from asking to the first token of the answer, CPU seconds of one thread (two cores need no
  more); retrieval, attention mass and evidence included;
- decode_vs_plain: time per further token over the stock model with as many cached tokens.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import nn
from transformers import DynamicCache

from benchmarks import common
from benchmarks.setups import made_up_words
from memlong.model.load import load_model
from memlong.model.wrapper import MemoryModel
from memlong.retriever import make_retriever
from memlong.session.results import AnswerDelta
from memlong.session.session import Session

TARGETS: common.Targets = {
    "read_vs_limit": ("at least", 0.6),
    "first_token_seconds": ("at most", 1.0),
    "decode_vs_plain": ("at most", 1.3),
}
QUESTION = "Who kept the ledger of every ship, and where?"


def main() -> None:
    """Measure and report."""
    parser = common.arguments("bundled", __doc__)
    parser.add_argument("--tokens", type=int, default=8192, help="of the text read in one turn, roughly")
    parser.add_argument("--answer-tokens", type=int, default=24, help="decoded in one turn")
    parser.add_argument("--model", default="bundled", help="bundled, bundled-base, a hub id or a folder")
    options = parser.parse_args()
    common.prepare()
    model = load_model(options.model, device=options.device)
    retriever = make_retriever("minilm", device=options.device)
    found = measure(model, retriever, options)
    common.publish(common.report("bundled", options.device, found, TARGETS), options.json, options.save)


def measure(model: MemoryModel, retriever: Any, options: Namespace) -> dict[str, Any]:
    """Return all numbers."""
    text = prose(options.tokens)
    session = Session(model, retriever)
    session.read(prose(512))
    read: list[tuple[int, float]] = []
    limit: list[float] = []
    embedder: list[float] = []
    for _ in range(options.repeats):
        tokens = 0

        def reading() -> None:
            nonlocal tokens
            tokens = session.read(text).n_tokens

        limit.append(product_seconds(linear_layers(model), model.config.read_batch_tokens, options.device))
        seconds = common.timed(reading, options.device)
        read.append((tokens, seconds))
        inner = getattr(retriever, "_model", None)
        if isinstance(inner, nn.Module):
            embedder.append(product_seconds(linears(inner), 2048, options.device))
    speed = median(tokens / seconds for tokens, seconds in read)
    allowed = 1 / median(limit)
    numbers: dict[str, Any] = {
        "read_vs_limit": speed / allowed,
        "read_tokens_per_second": speed,
        "limit_tokens_per_second": allowed,
        "stored_layers": list(model.layout.stored_layers),
        "preset": model.config.preset,
        "number_type": str(model.dtype).removeprefix("torch."),
    }
    if embedder:
        numbers["read_vs_limit_with_embedder"] = speed * (median(limit) + median(embedder))
    return numbers | answering(session, options)


def answering(session: Session, options: Namespace) -> dict[str, Any]:
    """Return how long the first token takes, and each further one."""
    cached = session.config.top_k * session.config.chunk_tokens + 32
    first: list[float] = []
    seconds: dict[str, list[float]] = {"memory": [], "memory_with_mass": [], "plain": []}
    for turn in range(options.repeats + 1):
        for name, looked in (("memory_with_mass", True), ("memory", False)):
            begin, rest, tokens = answer(session, options, looked)
            if turn and tokens > 1:
                seconds[name].append(rest / (tokens - 1))
            if turn and looked:
                first.append(begin)
        plain = common.timed(lambda: decode_plain(session.model, cached, options.answer_tokens), options.device)
        if turn:
            seconds["plain"].append(plain / options.answer_tokens)
    per_token = {name: median(values) for name, values in seconds.items() if values}
    found: dict[str, Any] = {
        "first_token_seconds": median(first),
        "milliseconds_per_token": {name: 1000 * value for name, value in per_token.items()},
    }
    if "memory" in per_token:
        found["decode_vs_plain"] = per_token["memory"] / per_token["plain"]
        found["decode_with_mass_vs_plain"] = per_token["memory_with_mass"] / per_token["plain"]
    return found


def answer(session: Session, options: Namespace, looked: bool) -> tuple[float, float, int]:
    """Return the seconds to the first token, those of all further tokens, and how many tokens there were."""
    started = common.clock(options.device)
    begin, last, tokens = 0.0, 0.0, 0
    # The history is left out and retrieval kept, so that every turn asks the same.
    stream = session.stream(QUESTION, options=_ask(options.answer_tokens, looked))
    for item in stream:
        if isinstance(item, AnswerDelta):
            last = common.clock(options.device)
            begin = begin or last
            tokens += 1
    return begin - started, last - begin, tokens


def _ask(tokens: int, looked: bool) -> Any:
    from memlong.config import AskOptions

    return AskOptions(max_tokens=tokens, retrieve_every=0, record_attention=looked, temperature=1.0, seed=3)


@torch.no_grad()
def decode_plain(model: MemoryModel, cached: int, steps: int) -> None:
    """Decode with the stock model and cache; the cache is filled with random states."""
    spec, cache = model.spec, DynamicCache()
    for layer in range(spec.layers):
        states = torch.randn(1, spec.kv_heads, cached, spec.head_dim, dtype=model.dtype, device=model.device)
        cache.update(states, states.clone(), layer)
    token = torch.full((1, 1), 7, device=model.device)
    for step in range(steps):
        position = torch.tensor([[cached + step]], device=model.device)
        out = model.base(input_ids=token, position_ids=position, past_key_values=cache, use_cache=True)
        token = out.logits[:, -1:].argmax(dim=-1)


def linear_layers(model: MemoryModel) -> list[nn.Linear]:
    """Return the linear layers that reading runs: all below the highest stored layer, and its K and V."""
    highest = model.layout.stored_layers[-1]
    found = []
    for name, module in model.base.named_modules():
        parts = name.split(".")
        layer = next((int(part) for part in parts if part.isdigit()), None)
        if not isinstance(module, nn.Linear) or layer is None or layer > highest:
            continue
        if layer < highest or parts[-1] in ("k_proj", "v_proj"):
            found.append(module)
    return found


def linears(model: nn.Module) -> list[nn.Linear]:
    """Return all linear layers of a model."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@torch.no_grad()
def product_seconds(layers: Sequence[nn.Linear], tokens: int, device: str) -> float:
    """Return the seconds per token of the layers' matrix products alone, each size timed once (median of five)."""
    counts: dict[tuple[int, int], int] = {}
    samples: dict[tuple[int, int], nn.Linear] = {}
    for layer in layers:
        size = (layer.out_features, layer.in_features)
        counts[size] = counts.get(size, 0) + 1
        samples[size] = layer
    total = 0.0
    for size, count in counts.items():
        states = torch.randn(tokens, size[1], dtype=samples[size].weight.dtype, device=samples[size].weight.device)
        run = partial(nn.functional.linear, states, samples[size].weight)
        run()
        total += count * median(common.timed(run, device) for _ in range(5))
    return total / tokens


def prose(tokens: int) -> str:
    """Return text of about so many tokens: sentences of common and of made-up words."""
    names = [word.capitalize() for word in made_up_words(500)]
    sentences = []
    for index in range(tokens // 20 + 1):
        one, two, three = (names[(index * step) % len(names)] for step in (7, 11, 13))
        sentences.append(
            f"In the year {index} the master of {one} sold {two} a ship, and it was never seen in {three} again."
        )
    return " ".join(sentences)[: 4 * tokens]


if __name__ == "__main__":
    main()
