"""Documents of the sources, and which of them are kept out of training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from memlong.errors import unknown_name
from training.data.chronicle import make_chronicle
from training.data.questions import Document
from training.data.sources import SOURCES, interleave
from training.rank.config import CHRONICLE, Source

_FIRST_SEED, _LONG_CHRONICLES = 2000, 10  # the source "chronicle" has the seeds from 1000 on


def require_known(sources: Iterable[Source]) -> None:
    """Refuse sources that are not there, before anything is loaded.

    Raises:
        ConfigError: for an unknown name, with the nearest known one.
    """
    for source in sources:
        if source.name not in SOURCES and not _length(source):
            raise unknown_name("source", source.name, (*SOURCES, f"{CHRONICLE}-TOKENS"))


def read_source(source: Source, data: Path) -> list[Document]:
    """Return the documents of a source.

    Raises:
        ConfigError: for an unknown name. DocumentError: for missing files.
    """
    if tokens := _length(source):
        return list(_chronicles(source.documents or _LONG_CHRONICLES, tokens))
    counted = source.name if source.documents is None else f"{source.name}:{source.documents}"
    return list(interleave((counted,), data))


def held_out_origins(documents: Mapping[str, Sequence[Document]], count: int) -> set[str]:
    """Return the origins of the last ``count`` documents of each source, of a fifth of them at most."""
    lasts = (each[len(each) - min(count, len(each) // 5) :] for each in documents.values())
    return {origin(doc_id) for last in lasts for doc_id, _, _ in last}


def origin(doc_id: str) -> str:
    """Return the article that a document is, or was made of: names exchanged in it (``swapped``) hide no question."""
    return doc_id.partition("~")[0]


def _length(source: Source) -> int:
    """Return the tokens of each chronicle of a source named chronicle-TOKENS; 0 for other sources."""
    family, _, tokens = source.name.rpartition("-")
    return int(tokens) if family == CHRONICLE and tokens.isdecimal() else 0


def _chronicles(count: int, tokens: int) -> Iterator[Document]:
    for seed in range(_FIRST_SEED, _FIRST_SEED + count):
        made = make_chronicle(seed, tokens, "train")
        yield made.doc_id, made.text, list(made.questions)
