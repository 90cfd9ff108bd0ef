"""A visitor's documents: what was dropped, pasted or taken, and what became of each. No gradio, no torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from app.documents import Document, Limits
from app.documents.parse import parse_file
from app.samples import Sample
from app.text import normalise, one_line, plural, shorten
from memlong.chunking import PageSpan
from memlong.errors import DocumentError, MemLongError

if TYPE_CHECKING:
    from memlong.session.results import ReadEstimate, ReadProgress, ReadReport

OPENING = "opening"  # the label of what stands before the first chapter
State = Literal["opening", "waiting", "reading", "stopped", "done", "failed", "removed"]


@dataclass
class Item:
    """One document on its way into memory.

    Attributes:
        item_id: counts up from 0. name: the file's name, or the title. state: where it is on its way.
        document: its text; None while it is being opened, or when that failed. error: why it failed.
        estimate, progress, report: what reading will take, how far it is, and what came of it.
        doc_ids: ids in the session, the newest last; reading it anew gives it another one.
        questions: worth asking about it (samples have some). wanted: whether somebody asked for it alone to be read.
    """

    item_id: int
    name: str
    state: State = "opening"
    document: Document | None = None
    error: MemLongError | None = None
    estimate: ReadEstimate | None = None
    progress: ReadProgress | None = None
    report: ReadReport | None = None
    doc_ids: list[int] = field(default_factory=list)
    questions: tuple[str, ...] = ()
    wanted: bool = False

    @property
    def title(self) -> str:
        """The document's own title, or the file's name."""
        return self.document.title if self.document else self.name

    @property
    def doc_id(self) -> int | None:
        """Its id in the session, None before it is read."""
        return self.doc_ids[-1] if self.doc_ids else None

    @property
    def parts(self) -> str:
        """Its pages or chapters in words, "" when it has none."""
        return part_words(self.document.spans) if self.document else ""

    def start_over(self) -> None:
        """Forget what was read of it: the memory it was read into is gone."""
        self.doc_ids, self.estimate, self.progress, self.report = [], None, None, None
        if self.document is not None and self.state != "removed":
            self.state, self.error = "waiting", None

    def fail(self, error: MemLongError) -> None:
        """Note that it cannot be read, and why."""
        self.state, self.error = "failed", error


@dataclass
class Shelf:
    """All documents of one visitor, in the order they came."""

    items: list[Item] = field(default_factory=list)
    _count: int = 0

    def __iter__(self) -> Iterator[Item]:
        return iter(list(self.items))

    def __len__(self) -> int:
        return len(self.items)

    def add(self, name: str, document: Document | None = None, questions: tuple[str, ...] = ()) -> Item:
        """Shelve a document, or the name of one that is about to be opened."""
        item = Item(self._count, one_line(name, 80), "waiting" if document else "opening", document)
        item.questions = questions
        self._count += 1
        self.items.append(item)
        return item

    def get(self, item_id: int) -> Item:
        """Return a document of this visitor. Raises DocumentError when there is none of this number."""
        for item in self.items:
            if item.item_id == item_id:
                return item
        raise DocumentError(f"Document {item_id} is not here", "Documents of this page", "Add it again")

    def remove(self, item: Item) -> None:
        """Forget a document; removing it twice is fine."""
        self.items = [other for other in self.items if other is not item]

    def next_unread(self, every: bool = True) -> Item | None:
        """Return the document to go on with: one that was stopped, else the oldest that waits.

        ``every``: whether all are wanted; else only such as somebody asked for.
        """
        for state in ("stopped", "waiting"):
            for item in self.items:
                if item.state == state and (every or item.wanted):
                    return item
        return None

    def of_doc(self, doc_id: int) -> Item | None:
        """Return the document that has or had this id in the session."""
        return next((item for item in self.items if doc_id in item.doc_ids), None)

    @property
    def questions(self) -> tuple[str, ...]:
        """Questions worth asking about what was read, at least in part; those about the newest text come first."""
        read = [item for item in reversed(self.items) if item.state in ("reading", "stopped", "done")]
        return tuple(dict.fromkeys(question for item in read for question in item.questions))


def from_text(text: str, title: str, limits: Limits) -> Document:
    """Return pasted text as a document; its first line is the title when none is given.

    Raises:
        DocumentError: for text that is empty or longer than allowed.
    """
    clean = normalise(text)
    if not clean:
        raise DocumentError("The text is empty", "At least one word", "Paste some text first")
    if len(clean) > limits.characters:
        raise DocumentError(
            f"The text has {plural(len(clean), 'character')}",
            f"At most {plural(limits.characters, 'character')}",
            "Paste it in parts",
        )
    first = clean.split("\n", 1)[0]
    return Document(one_line(title, 80) or shorten(first, 60), clean, (), "txt")


def from_sample(sample: Sample) -> Document:
    """Return a sample that ships with the app as a document."""
    parsed = parse_file(Path(sample.path), sample.path.name, Limits())
    spans = tuple(PageSpan(start, end, label) for start, end, label in parsed.spans)
    return Document(sample.title, parsed.text, spans, parsed.kind)


def part_words(spans: tuple[PageSpan, ...]) -> str:
    """Return "412 pages" or "24 chapters"; "" for a text without pages whose only part is itself."""
    named = [span.label for span in spans if span.label and span.label != OPENING]
    paged = all(label.lower().startswith("page ") for label in named)
    if not named or (len(named) == 1 and not paged):
        return ""
    return plural(len(named), "page" if paged else "chapter")
