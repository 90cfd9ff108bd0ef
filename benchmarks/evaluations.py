"""results/evaluation/README.md: the tables that ``python -m training evaluate ... --save`` left there.

``python -m benchmarks.evaluations`` writes the page anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.common import RESULTS

FOLDER = RESULTS / "evaluation"
_HEAD = """# Evaluation

Every table was printed by the command above it; `docs/evaluation.md` says what its columns mean. Paths are those of the
data that the command was given. This file is made by `python -m benchmarks.evaluations`.
"""


def load(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """Return the saved evaluations of a folder by name, in order."""
    return {path.stem: json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))}


def page(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the page: a heading, the command and the table of each."""
    return "\n".join([_HEAD, *(line for name, record in records.items() for line in _section(name, record))])


def _section(name: str, record: Mapping[str, Any]) -> Iterable[str]:
    memory = record["memory"]
    adapter = "with" if record["adapter"] else "without"
    yield f"## {name.replace('-', ' ')}\n"
    yield f"```sh\n{record['command']}\n```\n"
    yield (
        f"{record['date']}, {record['model']} {adapter} adapter, {record['number_type']}, "
        f"retriever {record['retriever']}, top_k {memory['top_k']}, chunks of {memory['chunk_tokens']} tokens"
        f"{'' if record['complete'] else '; stopped before its end'}.\n"
    )
    yield "```text"
    yield from record["table"]
    yield "```\n"


def main() -> None:
    """Write the page."""
    (FOLDER / "README.md").write_text(page(load()), "utf-8")


if __name__ == "__main__":
    main()
