"""Question sources by name: each yields (doc_id, text, questions) documents for training.

A source is one function and one registry line.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from memlong.errors import ConfigError, DocumentError, unknown_name
from training.data.chronicle import make_chronicle
from training.data.continuations import continuations, excerpt
from training.data.passages import group, pack
from training.data.questions import Document, Question, load_questions, load_with_documents, read_documents
from training.data.swapped import name_pool, swap

SWAPS = 3
CHRONICLES, CHRONICLE_TOKENS = 200, 8_000
LONG_CHRONICLES, LONG_CHRONICLE_TOKENS = 20, 32_000
BOOK_CHARACTERS, BOOK_PASSAGES = 24_000, 24


def squad(data: Path) -> Iterator[Document]:
    """Whole SQuAD articles of the training side, with the questions asked of them, answerable and not."""
    without = [q for q in load_questions(data / "qa/train-squad.jsonl.zst") if not q.answerable]
    yield from _whole(data / "longqa/train-squad.jsonl.zst", data / "longqa/docs-squad.jsonl.zst", without)


def swapped(data: Path) -> Iterator[Document]:
    """The articles of ``squad`` with names and numbers exchanged, three times over: nobody knows them by heart."""
    articles = list(squad(data))
    pool = name_pool(articles)
    for seed in range(SWAPS):
        yield from (swap(article, pool, seed) for article in articles)


def squad_eval(data: Path) -> Iterator[Document]:
    """Whole held-out SQuAD articles; for measuring only."""
    yield from _whole(data / "longqa/eval-squad.jsonl.zst", data / "longqa/docs-squad.jsonl.zst")


def fairytale(data: Path) -> Iterator[Document]:
    """Fairy tales, with questions about characters, actions and places whose answers stand in the story."""
    yield from _whole(data / "longqa/train-fairytale.jsonl.zst", data / "longqa/docs-fairytale-train.jsonl.zst")


def qamr(data: Path) -> Iterator[Document]:
    """Single sentences, many unrelated ones to a pack."""
    yield from pack(load_questions(data / "qa/train-qamr.jsonl.zst"), seed=1)


def nq(data: Path) -> Iterator[Document]:
    """One paragraph a question, so short packs: every one is read for a dozen questions only."""
    yield from pack(load_questions(data / "qa/train-nq.jsonl.zst"), seed=2, characters=6_000)


def chronicle(data: Path) -> Iterator[Document]:
    """Generated chronicles of the training side, some 8,000 tokens each, with questions that they answer or do not."""
    for seed in range(1000, 1000 + CHRONICLES):
        made = make_chronicle(seed, CHRONICLE_TOKENS, "train")
        yield made.doc_id, made.text, list(made.questions)


def long_chronicle(data: Path) -> Iterator[Document]:
    """As ``chronicle``, some 32,000 tokens each: what else is retrieved is more like evidence than in short ones."""
    for seed in range(3000, 3000 + LONG_CHRONICLES):
        made = make_chronicle(seed, LONG_CHRONICLE_TOKENS, "train")
        yield made.doc_id, made.text, list(made.questions)


def books(data: Path) -> Iterator[Document]:
    """Excerpts of training books, some 6,000 tokens each, with passages to continue.

    Raises:
        DocumentError: when there is no book.
    """
    paths = sorted((data / "books").glob("train-*.jsonl.zst"))
    if not paths:
        raise DocumentError(
            f"There is no file {data / 'books' / 'train-*.jsonl.zst'}",
            "Training books as JSON lines with doc_id and text",
            "Put some there, or leave the source 'books' out",
        )
    for path in paths:
        for book in read_documents(path):
            text = excerpt(book.text, BOOK_CHARACTERS)
            yield book.doc_id, text, continuations(book.doc_id, text, BOOK_PASSAGES, seed=0)


def local(data: Path) -> Iterator[Document]:
    """Your own questions and conversations on your own documents: ``questions.jsonl`` and ``documents.jsonl``."""
    yield from _local(data, held_out=False)


def local_eval(data: Path) -> Iterator[Document]:
    """The documents of ``local`` that are held out: a tenth of them, or the last of few; for measuring only."""
    yield from _local(data, held_out=True)


SOURCES: dict[str, Callable[[Path], Iterator[Document]]] = {
    "squad": squad,
    "swapped": swapped,
    "squad-eval": squad_eval,
    "fairytale": fairytale,
    "qamr": qamr,
    "nq": nq,
    "chronicle": chronicle,
    "long-chronicle": long_chronicle,
    "books": books,
    "local": local,
    "local-eval": local_eval,
}

_GENERATED = ("chronicle", "long-chronicle")  # made on the spot, from no file


def open_source(name: str, data: Path) -> Iterator[Document]:
    """Return the documents of a source, which are read as they are asked for.

    Raises:
        ConfigError: for an unknown name, or, while reading, a folder that is not there. DocumentError: while reading,
            for missing files.
    """
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    return _read(name, data)


def _read(name: str, data: Path) -> Iterator[Document]:
    try:
        yield from SOURCES[name](data)
    except DocumentError:
        # Only now, since a source may read nothing from the folder.
        require_folder((name,), data)
        raise


def require_folder(names: Iterable[str], data: Path) -> None:
    """Refuse a folder that is not there, unless all of these sources are made on the spot.

    Raises:
        ConfigError: when one of them reads files.
    """
    reading = [name for name in names if name not in _GENERATED]
    if reading and not data.is_dir():
        raise ConfigError(
            f"data={data}, which is no folder",
            f"The folder that holds the files of the source {reading[0]!r} (docs/training.md names them)",
            f"Set data=FOLDER, or choose sources that need none: {', '.join(_GENERATED)}",
        )


def counted(name: str) -> tuple[str, int | None]:
    """Return a source's name and how many of its documents "NAME:20" uses at most; None: all.

    Raises:
        ConfigError: for an unknown name or a number that is none.
    """
    name, colon, count = name.partition(":")
    if name not in SOURCES:
        raise unknown_name("source", name, SOURCES)
    if colon and not (count.isdecimal() and int(count)):
        raise ConfigError(
            f"The source {name}:{count}", "NAME, or NAME:20 for 20 documents of it", "Give a whole number from 1"
        )
    return name, int(count) if colon else None


def interleave(names: tuple[str, ...], data: Path) -> Iterator[Document]:
    """Yield one document of each source in turn until all are used up; "NAME:20" uses 20 of a source at most.

    Raises:
        ConfigError: for an unknown name or a number that is none. DocumentError: for missing files.
    """
    streams = [islice(open_source(name, data), count) for name, count in map(counted, names)]
    while streams:
        for stream in list(streams):
            document = next(stream, None)
            if document is None:
                streams.remove(stream)
            else:
                yield document


def _whole(questions: Path, documents: Path, more: Sequence[Question] = ()) -> Iterator[Document]:
    asked, texts = load_with_documents(questions, documents)
    for doc_id, mine in group([*asked, *more]).items():
        yield doc_id, texts[doc_id].text, mine


def _local(data: Path, held_out: bool) -> Iterator[Document]:
    documents = list(_whole(_either(data, "questions"), _either(data, "documents")))
    chosen = {d[0] for d in documents if hashlib.sha256(d[0].encode()).digest()[0] % 10 == 0}
    if documents and not 0 < len(chosen) < len(documents):
        # A single document is on both sides: better than nothing to watch.
        chosen = {documents[-1][0]}
    yield from (d for d in documents if (d[0] in chosen) == held_out or len(documents) == 1)


def _either(data: Path, name: str) -> Path:
    """Return ``name.jsonl.zst`` if it is there, else ``name.jsonl``."""
    packed = data / f"{name}.jsonl.zst"
    return packed if packed.is_file() else data / f"{name}.jsonl"
