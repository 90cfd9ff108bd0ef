"""``evaluate perplexity``: the same tokens of books under several systems and lengths of context."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from memlong.errors import ConfigError
from memlong.evaluation.ngrams import WEIGHT
from training.data.readers import parts_of, read_source
from training.evaluate import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    common.add_model_arguments(parser)
    parser.add_argument("--books", required=True, nargs="+", help="files, folders or hub:NAME[:CONFIG[:SPLIT]]")
    parser.add_argument("--documents", type=int, default=10, help="documents that are long enough (0: all)")
    parser.add_argument("--passages", type=int, default=1, help="scored passages a document, evenly spread")
    parser.add_argument("--contexts", type=common.numbers, default="1k,2k,4k,16k,64k", help="tokens before a passage")
    parser.add_argument("--scored", type=int, default=1024, help="tokens of a passage that are scored")
    parser.add_argument(
        "--systems", help="some of memory, ngrams, nothing, window, full, original, separated by commas (default: all)"
    )
    parser.add_argument(
        "--query",
        choices=("previous", "current"),
        default="previous",
        help="what a window searches with: the chunk before it (causal), or itself, which looks at the tokens it is "
        "about to predict, as the published implementation does",
    )
    parser.add_argument(
        "--newest",
        type=int,
        default=0,
        help="of the chunks fetched, how many are those right before the window; the others are found among older ones",
    )
    parser.add_argument(
        "--ngrams",
        type=float,
        default=WEIGHT,
        help='share of the n-gram cache in what the system "ngrams" predicts (%(default)s)',
    )
    parser.add_argument("--capacity-tokens", type=int, help="size of the bank (default: the longest context)")
    parser.add_argument("--slide-tokens", type=int, help='tokens of "window" (default: window and top-k chunks)')
    parser.add_argument("--full-tokens", type=int, help="most for full attention (default: the model's positions)")
    parser.add_argument("--key-model", help="chooses key tokens (default: the model's original weights)")
    parser.add_argument("--key-short", type=int, default=1024, help="short context of key tokens")


def run(chosen: argparse.Namespace) -> int:
    """Evaluate and print.

    Raises:
        MemLongError: for unreadable books, unknown names, or lengths that are no whole windows.
    """
    from memlong.evaluation.contexts import SYSTEMS, Plan, compare
    from memlong.model.load import load_model

    systems = common.one_of(chosen.systems or ",".join(SYSTEMS), SYSTEMS, "--systems")
    for source in chosen.books:
        parts_of(source)  # refuses what is not there
    model, retriever = common.load(chosen)
    capacity = chosen.capacity_tokens or max(chosen.contexts) + chosen.scored
    model = model.with_config(model.config.replace(capacity_tokens=capacity))
    plan = Plan(
        contexts=tuple(chosen.contexts),
        systems=tuple(systems),
        query=chosen.query,
        newest=chosen.newest,
        ngrams=chosen.ngrams,
        slide_tokens=chosen.slide_tokens,
        full_tokens=chosen.full_tokens,
        judge=load_model(chosen.key_model, device=chosen.device) if chosen.key_model else None,
        key_short=chosen.key_short,
    )
    with common.Watch() as watch:
        found = compare(model, retriever, _passages(chosen, model), plan, watch)
    if not found.passages and not watch.stopped:
        raise ConfigError(
            f"No document has {max(plan.contexts) + chosen.scored:,} tokens",
            "Documents as long as the longest context and what is scored behind it",
            "Give longer books, or shorter --contexts",
        )
    result = {
        "query": chosen.query,
        "newest": chosen.newest,
        "ngrams": chosen.ngrams,
        "passages": found.passages,
        "systems": found.table(),
    }
    return common.publish(chosen, (model, retriever), result, _lines(result), watch.stopped)


def _passages(chosen: argparse.Namespace, model: Any) -> Iterator[Any]:
    from memlong.evaluation.contexts import cut_passages

    documents = 0
    for source in chosen.books:
        for document in read_source(source):
            if chosen.documents and documents == chosen.documents:
                return
            cut = list(
                cut_passages(model, document.name, document.text, max(chosen.contexts), chosen.scored, chosen.passages)
            )
            documents += bool(cut)
            yield from cut


def _lines(result: dict[str, Any]) -> list[str]:
    """Return the table: a system a row, a length a column, perplexity and beside it that of key tokens."""
    systems = result["systems"]
    contexts = sorted({int(context) for cells in systems.values() for context in cells})
    query = "previous (causal)" if result["query"] == "previous" else "current (sees what it predicts)"
    counts = {
        f"{cell['tokens']:,} tokens scored, {cell['key_tokens']:,} of them key tokens"
        for cells in systems.values()
        for cell in cells.values()
        if "tokens" in cell
    }
    lines = [
        f"{result['passages']} passages, query={query}; {'; '.join(counts)}",
        "perplexity / perplexity of key tokens, by tokens of context",
        f"{'system':12}" + "".join(f"{context:>18,}" for context in contexts),
    ]
    notes = []
    for system, cells in systems.items():
        texts = []
        for context in contexts:
            cell = cells.get(str(context), {})
            if "left_out" in cell:
                notes.append(f"{system} at {context:,}: {cell['left_out']}")
            texts.append(_text(cell) if "perplexity" in cell else "-")
        lines.append(f"{system:12}" + "".join(f"{text:>18}" for text in texts))
    return lines + notes


def _text(cell: dict[str, Any]) -> str:
    key = cell["key_perplexity"]
    return f"{cell['perplexity']:.3f} / " + ("-" if key is None else f"{key:.2f}")
