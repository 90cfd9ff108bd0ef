"""Command line of the chronicle generator."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from memlong.errors import DocumentError, MemLongError, PersistError
from training.data.chronicle.build import Chronicle, make_chronicle
from training.data.chronicle.names import SPLITS
from training.data.jsonl import write_jsonl


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one chronicle and its questions; return the exit status, 2 when the arguments do not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m training.data.chronicle",
        description="Write a chronicle of an invented place, with facts that questions can be asked about.",
    )
    parser.add_argument("--tokens", type=int, default=80_000, help="length")
    parser.add_argument(
        "--tokenizer",
        type=Path,
        help="folder with a tokenizer.json to count by; else a token is 3.9 characters",
    )
    parser.add_argument("--seed", type=int, default=7, help="another seed, another chronicle")
    parser.add_argument("--split", choices=SPLITS, default="eval", help="whose names to use")
    parser.add_argument("--out", type=Path, required=True, help="text file to write")
    parser.add_argument("--questions", type=Path, help="questions, .jsonl or .jsonl.zst")
    options = parser.parse_args(arguments)
    try:
        count = _counter(options.tokenizer) if options.tokenizer else None
        made = make_chronicle(options.seed, options.tokens, options.split, count)
        _write(made, options.out, options.questions)
    except MemLongError as error:
        print(error, file=sys.stderr)
        return 2
    counts = Counter(question.type for question in made.questions)
    print(f"{made.title}: {len(made.text):,} characters, {len(made.statements):,} statements")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())))
    return 0


def _write(made: Chronicle, text: Path, questions: Path | None) -> None:
    """Write the text, and the questions where a file is named for them.

    Raises:
        DocumentError: for questions of another ending. PersistError: where nothing can be written.
    """
    try:
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(made.text, encoding="utf-8")
        if questions:
            write_jsonl(questions, (question.to_dict() for question in made.questions))
    except OSError as error:
        raise PersistError(
            f"{error.filename or text} cannot be written ({error.strerror or type(error).__name__})",
            "A file in a folder that can be made and written",
            "Choose another place with --out and --questions",
        ) from error


def _counter(folder: Path) -> Callable[[str], int]:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DocumentError(
            f"There is no tokenizer.json in {folder}",
            "The folder of a model with a fast tokenizer is allowed",
            "Check the folder, or leave --tokenizer out",
        )
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
