"""``evaluate icl``: classification by examples in the window, in memory, or both."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from memlong.errors import DocumentError
from training.data.jsonl import read_jsonl
from training.data.readers import HUB
from training.evaluate import common

SENTIMENT = "Review: {text}\nSentiment: {label}"
# By the first word of the data set's name; all others take the generic one.
TEMPLATES = {
    "sst2": SENTIMENT,
    "sst5": SENTIMENT,
    "mr": SENTIMENT,
    "cr": SENTIMENT,
    "mpqa": SENTIMENT,
    "proscons": SENTIMENT,
    "subj": "Input: {text}\nType: {label}",
}
TEXT_FIELDS = ("text", "sentence", "content")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    common.add_model_arguments(parser)
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        help="JSONL files with text, label_text (or label) and split (train or test), named after the data set; or "
        "hub:NAME[:CONFIG], whose labels are named by the data set itself",
    )
    parser.add_argument("--window", type=common.numbers, default="4,20", help="examples in the window, several numbers")
    parser.add_argument("--memory-examples", type=common.numbers, default="200", help="examples in memory")
    parser.add_argument("--seeds", type=int, default=3, help="other examples for each")
    parser.add_argument("--texts", type=int, default=200, help="texts classified, the same for all seeds (0: all)")
    parser.add_argument(
        "--template", help=r'holds {text} and ends with {label}, such as "Review: {text}\nGood? {label}"'
    )


def run(chosen: argparse.Namespace) -> int:
    """Evaluate and print.

    Raises:
        MemLongError: for unreadable data sets, or a template without text and label.
    """
    from memlong.evaluation.icl import Arm, ICLResult, evaluate_icl

    tasks = [task_of(source, chosen.texts, chosen.template) for source in chosen.data]
    shown = sorted({0, *chosen.window})
    arms = [Arm(window, memory) for memory in sorted({0, *chosen.memory_examples}) for window in shown]
    model, retriever = common.load(chosen)
    result = ICLResult()
    with common.Watch() as watch:
        for task in tasks:
            if not watch.stopped:
                evaluate_icl((model, retriever), task, arms, range(chosen.seeds), result, watch)
    table = result.table()
    return common.publish(chosen, (model, retriever), table, _lines(table), watch.stopped)


def task_of(source: str, texts: int, template: str | None) -> Any:
    """Return the data set of a file or of the hub, with ``texts`` (0: all) of its test texts.

    Raises:
        DocumentError: for rows without a text or label.
    """
    from memlong.evaluation.icl import GENERIC, Example, Task

    name = source.split(":")[-1].split("/")[-1] if source.startswith(HUB) else Path(source).name.split(".")[0]
    parts: dict[bool, list[Example]] = {False: [], True: []}
    for row in _hub(source) if source.startswith(HUB) else read_jsonl(source):
        text = next((row[key] for key in TEXT_FIELDS if isinstance(row.get(key), str)), None)
        label = row.get("label_text", row.get("label"))
        if text is None or label is None:
            raise DocumentError(
                f"A row of {source} has the fields {', '.join(row)}",
                f"A text ({', '.join(TEXT_FIELDS)}) and label_text or label",
                "Rename the fields",
            )
        parts[row.get("split", "train") != "train"].append(Example(" ".join(text.split()), str(label).strip()))
    test = parts[True]
    random.Random(name).shuffle(test)
    form = template.replace("\\n", "\n") if template else TEMPLATES.get(name.lower().replace("-", ""), GENERIC)
    return Task(name, tuple(parts[False]), tuple(test[: texts or None]), form)


def _hub(source: str) -> Iterator[Mapping[str, Any]]:
    """Yield rows of a data set of the hub: its training part, and its test part, or validation without labels there."""
    try:
        from datasets import load_dataset
    except ImportError:
        raise DocumentError(
            f"{source} without the package datasets", "Hub data sets are read by it", "Run `pip install datasets`"
        ) from None
    name, _, config = source.removeprefix(HUB).partition(":")
    parts = load_dataset(name, config or None)
    test = next((part for part in ("test", "validation") if part in parts and _labelled(parts[part])), None)
    if "train" not in parts or test is None:
        given = f"{source} has the parts {', '.join(parts)}"
        raise DocumentError(given, "train, and test or validation with labels", "Make a JSONL file with a field split")
    for part, split in (("train", "train"), (test, "test")):
        names = getattr(parts[part].features.get("label"), "names", None)
        for row in parts[part]:
            label = row.get("label_text", row.get("label"))
            words = names[label] if names and isinstance(label, int) else label
            yield {**row, "label_text": words, "split": split}


def _labelled(rows: Any) -> bool:
    """Say whether a part has labels: GLUE hides those of its test part behind -1."""
    return len(rows) > 0 and rows[0].get("label", rows[0].get("label_text")) != -1


def _lines(table: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    lines = [f"{'task':14}{'examples':28}{'accuracy':>10}{'deviation':>11}{'seeds':>7}"]
    for task, arms in table.items():
        for arm, row in arms.items():
            lines.append(f"{task:14}{arm:28}{row['accuracy']:10.3f}{row['deviation']:11.3f}{len(row['seeds']):7}")
        lines.append(f"{task:14}{'always the commonest label':28}{row['commonest_label']:10.3f}")
    return lines
