"""The bundled model as people use it: reading against the machine's limit, the first token, decoding.

Numbers:
- read_vs_limit: speed of a session reading (embedding, searching, storing) over what the machine's own matrix
  products allow for the linear layers of the language model that reading runs; nothing else counts into the limit:
  no attention, no norms, no embedder. The products are those of the layers' own weights, for as many tokens, in
  the batches and the number type of reading, and they take turns with it;
- read_vs_limit_with_embedder: the same with the embedder's linear layers counted into the limit;
- read_shares: where the time of reading goes: the language model's linear layers, what else it does (attention,
  norms, activations), the embedder, and the rest (tokenising, quantising, searching, storing);
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
from memlong.chunking import chunk_text
from memlong.config import AskOptions
from memlong.model.cache import growing_cache
from memlong.model.load import load_model
from memlong.model.wrapper import MemoryModel
from memlong.retriever import make_retriever
from memlong.session.reading import read_windows
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
    parser.add_argument("--tokens", type=int, default=4096, help="of the text read in one turn, roughly")
    parser.add_argument("--answer-tokens", type=int, default=24, help="decoded in one turn")
    parser.add_argument("--model", default="bundled", help="bundled, bundled-base, a hub id or a folder")
    parser.add_argument("--retriever", default="auto", help="as the app's; auto takes MiniLM and words on a CPU")
    options = parser.parse_args()
    common.prepare()
    model = load_model(options.model, device=options.device)
    retriever = make_retriever(options.retriever, device=options.device)
    found = measure(model, retriever, options)
    common.publish(common.report("bundled", options.device, found, TARGETS), options.json, options.save)


def measure(model: MemoryModel, retriever: Any, options: Namespace) -> dict[str, Any]:
    """Return all numbers."""
    session = Session(model, retriever)
    numbers: dict[str, Any] = {
        "model": options.model,
        "retriever": retriever.name,
        "adapter": model.adapts,
        "preset": model.config.preset,
        "stored_layers": list(model.layout.stored_layers),
        "store_dtype": model.config.store_dtype,
        "number_type": str(model.dtype).removeprefix("torch."),
    }
    return numbers | reading(session, options) | answering(session, options)


def reading(session: Session, options: Namespace) -> dict[str, Any]:
    """Return how fast a text is read, what the matrix products alone would take, and where the time goes."""
    model, retriever = session.model, session.retriever
    text, size = prose(options.tokens), session.config.chunk_tokens
    chunks = chunk_text(model.tokenizer, text, size)
    tokens = sum(chunk.n_tokens for chunk in chunks)
    texts = [text[slice(*chunk.span)] for chunk in chunks]
    per_window = session.config.window_tokens // size
    windows = [chunks[at : at + per_window] for at in range(0, len(chunks), per_window)]
    per_batch = max(1, session.config.read_batch_tokens // session.config.window_tokens)
    inner = getattr(getattr(retriever, "dense", retriever), "_model", None)
    own = linears(inner) if isinstance(inner, nn.Module) else []

    def model_alone() -> None:
        for at in range(0, len(windows), per_batch):
            read_windows(session.model, windows[at : at + per_batch])

    session.read(prose(512))
    seconds = common.take_turns(
        {
            "all": lambda: session.read(text),
            "model": model_alone,
            "embedder": lambda: retriever.embed_documents(texts),
            "limit": lambda: multiply(linear_layers(model), tokens, session.config.read_batch_tokens),
            "embedder_limit": lambda: multiply(own, tokens, 8 * size),
        },
        options.repeats,
        options.device,
    )
    shares = {
        "linear_layers": seconds["limit"],
        "model_beside_them": seconds["model"] - seconds["limit"],
        "embedder": seconds["embedder"],
        "rest": seconds["all"] - seconds["model"] - seconds["embedder"],
    }
    return {
        "read_vs_limit": seconds["limit"] / seconds["all"],
        "read_vs_limit_with_embedder": (seconds["limit"] + seconds["embedder_limit"]) / seconds["all"],
        "read_tokens_per_second": tokens / seconds["all"],
        "limit_tokens_per_second": tokens / seconds["limit"],
        "read_shares": {name: value / seconds["all"] for name, value in shares.items()},
    }


def answering(session: Session, options: Namespace) -> dict[str, Any]:
    """Return how long the first token takes, and each further one; the first turn is not counted."""
    cached = session.config.top_k * session.config.chunk_tokens + 32
    first: list[float] = []
    seconds: dict[str, list[float]] = {}
    for turn in range(options.repeats + 1):
        for name, looked in (("memory_with_mass", True), ("memory", False)):
            begin, each = answer(session, options, looked)
            if turn:
                seconds.setdefault(name, []).append(each)
            if turn and looked:
                first.append(begin)
        for name, made in (("plain", DynamicCache), ("plain_own_cache", growing_cache)):
            cache = fill(session.model, made(), cached)
            whole = common.timed(partial(decode_plain, session.model, cache, options.answer_tokens), options.device)
            if turn:
                seconds.setdefault(name, []).append(whole / options.answer_tokens)
    each_token = {name: median(values) for name, values in seconds.items()}
    return {
        "first_token_seconds": median(first),
        "decode_vs_plain": each_token["memory"] / each_token["plain"],
        "decode_vs_plain_own_cache": each_token["memory"] / each_token["plain_own_cache"],
        "decode_with_mass_vs_plain": each_token["memory_with_mass"] / each_token["plain"],
        "milliseconds_per_token": {name: 1000 * value for name, value in each_token.items()},
        "cached_or_retrieved_tokens": cached,
    }


def answer(session: Session, options: Namespace, looked: bool) -> tuple[float, float]:
    """Return the seconds to the first token, and those of each further one."""
    # So hot that hardly any token is likelier than another: the answer does not end early, and costs what any costs.
    asked = AskOptions(
        max_tokens=options.answer_tokens, retrieve_every=0, record_attention=looked, temperature=50.0, history=0
    )
    started = common.clock(options.device)
    times = [
        common.clock(options.device) - started
        for item in session.stream(QUESTION, asked)
        if isinstance(item, AnswerDelta)
    ]
    return times[0], (times[-1] - times[0]) / max(1, len(times) - 1)


def fill(model: MemoryModel, cache: Any, tokens: int) -> Any:
    """Put random states of ``tokens`` tokens into every layer of a cache."""
    spec = model.spec
    for layer in range(spec.layers):
        states = torch.randn(1, spec.kv_heads, tokens, spec.head_dim, dtype=model.dtype, device=model.device)
        cache.update(states, states.clone(), layer)
    return cache


@torch.no_grad()
def decode_plain(model: MemoryModel, cache: Any, steps: int) -> None:
    """Decode with the stock model, taking the likeliest token."""
    token = torch.full((1, 1), 7, device=model.device)
    for _ in range(steps):
        position = torch.tensor([[cache.get_seq_length() + 1]], device=model.device)
        out = model.base(input_ids=token, position_ids=position, past_key_values=cache, use_cache=True)
        token = out.logits[:, -1:].argmax(dim=-1)


def linear_layers(model: MemoryModel) -> list[nn.Linear]:
    """Return the linear layers that reading runs: all below the highest stored layer, and its K and V."""
    highest = model.layout.stored_layers[-1]
    found = []
    for name, module in model.base.named_modules():
        parts = name.split(".")
        layer = next((int(part) for part in parts if part.isdigit()), None)
        # The original weights read: an adapter that is not merged is off meanwhile.
        if not isinstance(module, nn.Linear) or layer is None or layer > highest or "lora_" in name:
            continue
        if layer < highest or {"k_proj", "v_proj"} & set(parts):
            found.append(module)
    return found


def linears(model: nn.Module) -> list[nn.Linear]:
    """Return all linear layers of a model."""
    return [module for module in model.modules() if isinstance(module, nn.Linear)]


@torch.no_grad()
def multiply(layers: Sequence[nn.Linear], tokens: int, at_once: int) -> None:
    """Do the matrix products of ``layers`` for so many tokens, ``at_once`` a batch, and nothing else."""
    states = {layer.in_features: torch.ones(at_once, layer.in_features).to(layer.weight) for layer in layers}
    while tokens > 0:
        batch, tokens = min(at_once, tokens), tokens - at_once
        for layer in layers:
            nn.functional.linear(states[layer.in_features][:batch], layer.weight)


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
