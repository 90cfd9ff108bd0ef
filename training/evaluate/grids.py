"""``evaluate needle`` and ``evaluate kv``: depth, length, capacity and policy, every one with every other."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memlong.bank.eviction import POLICIES
from memlong.books import read_book
from memlong.config import AskOptions
from memlong.errors import ConfigError
from training.data.chronicle import make_chronicle
from training.evaluate import common

if TYPE_CHECKING:
    from memlong.evaluation.grids import Axes

WAYS = ("memory", "passages", "both")


def add_needle_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``needle``."""
    _add_grid(parser)
    parser.add_argument("--text", type=Path, help="book to hide it in (default: a generated chronicle)")
    parser.add_argument("--needle", help="the sentence (default: a town and its number, others for each try)")
    parser.add_argument("--question", help="what is asked about it")
    parser.add_argument("--expected", help="words that a right answer contains")


def add_kv_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line of ``kv``."""
    _add_grid(parser)


def _add_grid(parser: argparse.ArgumentParser) -> None:
    common.add_model_arguments(parser)
    parser.add_argument("--lengths", type=common.numbers, default="4k,16k", help="tokens of text")
    parser.add_argument("--depths", type=_shares, default="0,0.25,0.5,0.75,1", help="0 is the beginning, 1 the end")
    parser.add_argument(
        "--capacities",
        type=_capacities,
        default="1,0.25",
        help="of the bank: up to 1 a share of the text, above it tokens",
    )
    parser.add_argument("--policies", default=",".join(POLICIES), help="of eviction, comma-separated")
    parser.add_argument("--tries", type=int, default=3, help="other texts and keys for every cell")
    parser.add_argument("--seed", type=int, default=7, help="of what is hidden and of made texts")
    parser.add_argument("--way", choices=WAYS, default="memory", help="what is answered from")
    parser.add_argument("--answer-tokens", type=int, default=24, help="of an answer at most")
    parser.add_argument("--rows", type=Path, help="write every answer into this JSONL file")


def run_needle(chosen: argparse.Namespace) -> int:
    """Hide, ask and print.

    Raises:
        MemLongError: for unknown names, a text that is too short, or a needle without question and answer.
    """
    from memlong.evaluation.grids import needles, numbered_needle
    from memlong.evaluation.needle import Needle

    given = [chosen.needle, chosen.question, chosen.expected]
    if any(given) and not all(given):
        raise ConfigError("A needle in part", "--needle, --question and --expected, or none of them", "Give all three")
    if chosen.text:
        text = read_book(chosen.text).text
    else:  # somewhat longer, since the made text counts 3.9 characters a token
        text = make_chronicle(chosen.seed, int(max(chosen.lengths) * 1.3) + 200).text
    own = Needle(*given) if all(given) else None
    needle = (lambda number: own) if own else numbered_needle(chosen.seed)
    return _run(chosen, lambda tokenizer: needles(text, tokenizer, needle, chosen.depths))


def run_kv(chosen: argparse.Namespace) -> int:
    """Ask for values and print.

    Raises:
        MemLongError: for unknown names.
    """
    from memlong.evaluation.grids import pairs

    return _run(chosen, lambda tokenizer: pairs(tokenizer, chosen.depths, chosen.seed))


def _run(chosen: argparse.Namespace, texts: Callable[[Any], Any]) -> int:
    from memlong.evaluation.grids import Axes, run_grid

    policies = common.one_of(chosen.policies, tuple(POLICIES), "--policies")
    axes = Axes(tuple(chosen.lengths), tuple(chosen.capacities), tuple(policies), chosen.tries)
    options = AskOptions(answer_from=chosen.way, max_tokens=chosen.answer_tokens, record_attention=False)
    model, retriever = common.load(chosen)
    _refuse_small(axes, model.config.chunk_tokens)
    with common.Watch() as watch:
        found = run_grid(model, retriever, texts(model.tokenizer), axes, options, watch)
    common.write_rows(chosen, found.rows)
    cells = found.table()
    return common.publish(chosen, (model, retriever), cells, _lines(cells), watch.stopped)


def _refuse_small(axes: Axes, chunk_tokens: int) -> None:
    """Say before anything is read that a bank of the grid would hold no chunk."""
    for capacity in axes.capacities:
        tokens = capacity * min(axes.lengths) if capacity <= 1 else capacity
        if tokens < chunk_tokens:
            raise ConfigError(
                f"--capacities {capacity:g} with --lengths {min(axes.lengths)}: a bank of {tokens:g} tokens",
                f"At least one chunk, {chunk_tokens} tokens",
                "Raise the capacity, or leave the short text out",
            )


def _lines(cells: list[dict[str, Any]]) -> list[str]:
    """Return the table: a length, capacity and policy a row, a depth a column; answered / found / kept in percent."""
    depths = sorted({cell["depth"] for cell in cells})
    rows: dict[tuple[int, float, str], dict[float, str]] = {}
    for cell in cells:
        shares = "/".join(f"{cell[name]:.0%}".removesuffix("%") for name in ("answered", "found", "kept"))
        rows.setdefault((cell["length"], cell["capacity"], cell["policy"]), {})[cell["depth"]] = shares
    lines = ["% of tries answered / found / kept, by depth of what is asked for"]
    lines.append(f"{'length':>8}  {'capacity':>9}  {'policy':15}" + "".join(f"{depth:>13.0%}" for depth in depths))
    for (length, capacity, policy), row in rows.items():
        size = f"{capacity:.0%}" if capacity <= 1 else f"{capacity:,.0f}"
        shown = "".join(f"{row.get(depth, ''):>13}" for depth in depths)
        lines.append(f"{length:>8,}  {size:>9}  {policy:15}{shown}")
    return lines


def _shares(text: str) -> list[float]:
    found = _numbers(text)
    if min(found) < 0 or max(found) > 1:
        raise argparse.ArgumentTypeError(f"{text!r}: depths are between 0 and 1")
    return found


def _capacities(text: str) -> list[float]:
    found = _numbers(text)
    if min(found) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r}: capacities are above 0")
    return found


def _numbers(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,0.5,1") from None
