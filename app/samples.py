"""Texts that ship with the app: one click reads one, without a network.

``assets/samples/index.json`` lists them, the short one first: file, title, a sentence about it, its tokens
(counted with the bundled model's tokenizer), and questions worth asking.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from memlong.errors import DocumentError

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "samples"


@dataclass(frozen=True, slots=True)
class Sample:
    """One text that ships with the app.

    Attributes:
        name: the file's stem. path: where it lies. title, about: for people. tokens: roughly.
        questions: worth asking, the best first.
    """

    name: str
    path: Path
    title: str
    about: str
    tokens: int
    questions: tuple[str, ...]


@lru_cache(maxsize=4)
def samples(folder: Path = FOLDER) -> tuple[Sample, ...]:
    """Return the samples in the order of the index, none when there is no index."""
    index = folder / "index.json"
    if not index.is_file():
        return ()
    entries = json.loads(index.read_text("utf-8"))["samples"]
    return tuple(
        Sample(
            Path(entry["file"]).stem,
            folder / entry["file"],
            entry["title"],
            entry.get("about", ""),
            int(entry.get("tokens", 0)),
            tuple(entry.get("questions", ())),
        )
        for entry in entries
    )


def sample(name: str, folder: Path = FOLDER) -> Sample:
    """Return the sample of this name. Raises DocumentError for an unknown one."""
    for each in samples(folder):
        if each.name == name:
            return each
    known = ", ".join(each.name for each in samples(folder)) or "none"
    raise DocumentError(f"There is no sample {name!r}", f"Samples: {known}", "Choose one of them")
