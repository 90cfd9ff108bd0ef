"""``python -m training prepare``: clean, tell apart, tokenise and pack documents; go on where it was interrupted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Any

import numpy as np

from memlong.chunking import iter_tokens
from memlong.errors import ConfigError, DocumentError
from training.data.jsonl import read_jsonl, write_jsonl
from training.data.near import SIGNATURE, SIGNATURE_BYTES, NearCopies
from training.data.packed import DOCUMENTS, MANIFEST, TOKENS
from training.data.readers import READERS, RawText, documents_of, parts_of
from training.data.upsample import LengthUpsampler

STATE, SIGNATURES = "state.json", "signatures.bin"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ufeff\u200b\ud800-\udfff]")
_SPACES, _LINES = re.compile(r"[ \t\u00a0]+"), re.compile(r"\n{3,}")


@dataclass(frozen=True)
class PrepareOptions:
    """How text is prepared.

    Attributes:
        sources: files, folders or hub data sets, in order. tokenizer: name of the model that it belongs to.
        min_tokens: shorter documents are left out.
        near_copies: share of runs of words in common with an earlier document from which one is left out; 0: none is.
        held_out: share of documents kept for evaluation.
        limit_tokens: stop after so many; 0 takes everything.
        long_tokens: documents from this length on are "long"; 0 switches length-upsampling off.
        long_share: share of tokens that long documents make up in every part of a source.
        licence: of sources that name none.
    """

    sources: tuple[str, ...]
    tokenizer: str = "bundled-base"
    min_tokens: int = 64
    near_copies: float = 0.8
    held_out: float = 0.02
    limit_tokens: int = 0
    long_tokens: int = 0
    long_share: float = 0.7
    licence: str = "not given"

    def __post_init__(self) -> None:
        shares = 0 <= self.held_out < 1 and 0 < self.long_share <= 1 and 0 <= self.near_copies <= 1
        if not shares or self.min_tokens < 2:
            raise ConfigError(
                f"held_out={self.held_out}, long_share={self.long_share}, near_copies={self.near_copies}, "
                f"min_tokens={self.min_tokens}",
                "held_out in [0, 1), long_share in (0, 1], near_copies in [0, 1], min_tokens from 2",
                "Choose values in these ranges",
            )


def clean(text: str) -> str:
    """Return text in one Unicode form, without control characters, runs of blanks and runs of empty lines."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _SPACES.sub(" ", _CONTROL.sub("", text))
    return _LINES.sub("\n\n", "\n".join(line.rstrip() for line in text.split("\n"))).strip()


def digest(text: str) -> str:
    """Return what two copies of a document share: a hash of its words, without case and spacing."""
    return hashlib.sha256(" ".join(text.lower().split()).encode()).hexdigest()[:32]


def prepare(
    options: PrepareOptions,
    tokenizer: Any,
    folder: Path,
    progress: Callable[[str], None] = lambda words: None,
    save_every: int = 64,
    save_seconds: float = 5.0,
) -> dict[str, Any]:
    """Write a folder for :class:`~training.data.packed.PackedText` and return its manifest.

    An interrupted call is gone on with by the same call: documents that were packed are passed over. A file that cannot
    be read is left out, from where it is damaged on, and told under "unread" with the reason; if it is mended before an
    interrupted call is gone on with, it is taken in after all.

    Args:
        progress: called with words after each save. save_every, save_seconds: documents and seconds of work that a kill
            may cost, whichever come first.

    Raises:
        ConfigError: when the folder was begun with other options. DocumentError: for sources that are not there, or
            of which nothing can be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).is_file():
        manifest = dict(json.loads((folder / MANIFEST).read_text("utf-8")))
        _refuse_others(manifest["options"], options, folder)
        return manifest
    reading = _Reading(options.sources)
    packer = _Packer(options, folder)
    saved = monotonic()
    for source, raw in reading.after(packer.state["read"], packer.state["torn"]):
        packer.take(source, raw, tokenizer)
        if packer.state["read"] % save_every == 0 or monotonic() - saved >= save_seconds:
            packer.save()
            saved = monotonic()
            progress(f"{packer.state['tokens']:,} tokens of {packer.state['documents']:,} documents")
        if options.limit_tokens and packer.state["tokens"] >= options.limit_tokens:
            break
    if not packer.state["read"]:
        raise reading.refusal()
    return packer.finish(reading.unread)


class _Reading:
    """The documents of all sources with the source of each; ``unread`` tells what could not be read: path -> why.

    Raises:
        DocumentError: for a source that is not there.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        self.unread: dict[str, str] = {}
        self._sources = sources
        self._parts = [(source, part) for source in sources for part in parts_of(source)]

    def after(self, read: int, torn: dict[str, int]) -> Iterator[tuple[str, RawText]]:
        """Yield what was not read before.

        Args:
            read: documents that were. torn: how many of them came of each part that could not be read to its end, which
                may have been mended since; kept up to date.
        """
        left = read - sum(torn.values())
        for source, part in self._parts:
            given, before = 0, torn.get(part)
            try:
                for given, raw in enumerate(documents_of(part), 1):
                    if before is None and left:
                        left -= 1
                    elif before is None:
                        yield source, raw
                    elif given > before:
                        torn[part] = given
                        yield source, raw
            except DocumentError as error:
                self.unread[part] = str(error)
                torn[part] = max(given, before or 0)

    def refusal(self) -> DocumentError:
        """Return the error for sources that gave no document, with the first reason."""
        why = next(iter(self.unread.values()), "There is no file of a known kind")
        given = f"Nothing could be read of {', '.join(self._sources)}. {why}"
        return DocumentError(given, f"At least one document ({', '.join(READERS)})", "Check what is there")


class _Packer:
    """Appends documents to the two files; ``state.json`` says how much of them counts."""

    def __init__(self, options: PrepareOptions, folder: Path) -> None:
        self.options, self.folder = options, folder
        path = folder / STATE
        fresh: dict[str, Any] = {"read": 0, "documents": 0, "tokens": 0, "bytes": 0}
        fresh |= {"dropped": {}, "sources": {}, "torn": {}}
        self.state: dict[str, Any] = fresh | (json.loads(path.read_text("utf-8")) if path.is_file() else {})
        if path.is_file():
            _refuse_others(self.state["options"], options, folder)
        self.state["options"] = json.loads(json.dumps(asdict(options)))
        # What was written after the last save does not count: it is cut off and done again.
        self._tokens = _opened(folder / TOKENS, self.state["tokens"] * 4)
        self._documents = _opened(folder / DOCUMENTS, self.state["bytes"])
        self._seen = {row["digest"] for row in read_jsonl(folder / DOCUMENTS)}
        self._near = NearCopies(options.near_copies)
        # One a document; only while the folder is being prepared.
        self._signatures = _opened(folder / SIGNATURES, self.state["documents"] * SIGNATURE_BYTES)
        for signature in np.fromfile(folder / SIGNATURES, dtype=np.uint32).reshape(-1, SIGNATURE):
            self._near.add(signature)
        self._upsampler = LengthUpsampler(options.long_tokens, options.long_share)
        self._upsampler.counts = self.state.get("upsampling", {})

    def take(self, source: str, raw: RawText, tokenizer: Any) -> None:
        """Pack one document, or count why it is left out."""
        self.state["read"] += 1
        text = clean(raw.text)
        mark = digest(text)
        if mark in self._seen:
            return self._drop("duplicate")
        ids = np.fromiter((token for token, _, _ in iter_tokens(tokenizer, text)), dtype=np.uint32)
        if len(ids) < self.options.min_tokens:
            return self._drop("short")
        signature = self._near.signature(text)
        if self._near.holds(signature):
            return self._drop("near copy")
        if not self._upsampler.takes(f"{source}|{raw.domain}", len(ids)):
            return self._drop("length-upsampling")
        self._seen.add(mark)
        self._near.add(signature)
        self._signatures.write(signature.tobytes())
        # By content, so that the same text is on the same side in every preparation.
        split = "eval" if int(mark[:8], 16) / 2**32 < self.options.held_out else "train"
        row = {"start": self.state["tokens"], "tokens": len(ids), "split": split, "digest": mark}
        row |= {"name": raw.name, "source": source, "domain": raw.domain}
        line = (json.dumps(row, ensure_ascii=False) + "\n").encode()
        self._tokens.write(ids.tobytes())
        self._documents.write(line)
        self.state["documents"] += 1
        self.state["tokens"] += len(ids)
        self.state["bytes"] += len(line)
        licence = raw.licence or self.options.licence
        kept = self.state["sources"].setdefault(source, {"documents": 0, "tokens": 0, "licences": []})
        kept["documents"] += 1
        kept["tokens"] += len(ids)
        kept["licences"] = sorted({*kept["licences"], licence})

    def save(self) -> None:
        """Make everything so far count."""
        for file in (self._tokens, self._documents, self._signatures):
            file.flush()
            os.fsync(file.fileno())
        self.state["upsampling"] = self._upsampler.counts
        fresh = self.folder / (STATE + ".new")
        fresh.write_text(json.dumps(self.state), "utf-8")
        os.replace(fresh, self.folder / STATE)

    def finish(self, unread: dict[str, str]) -> dict[str, Any]:
        """Write and return the manifest; ``unread`` says which files are left out, and why."""
        self.save()
        self._tokens.close()
        self._documents.close()
        self._signatures.close()
        self._hold_one_out()
        names = ("documents", "tokens", "dropped", "sources", "options")
        manifest = {name: self.state[name] for name in names} | {"read": self.state["read"], "unread": unread}
        manifest["sha256"] = {name: _checksum(self.folder / name) for name in (TOKENS, DOCUMENTS)}
        (self.folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
        (self.folder / SIGNATURES).unlink(missing_ok=True)
        return manifest

    def _hold_one_out(self) -> None:
        """Keep the last of few documents for evaluation, when chance kept none."""
        rows = list(read_jsonl(self.folder / DOCUMENTS))
        if len(rows) < 2 or not self.options.held_out or any(row["split"] == "eval" for row in rows):
            return
        rows[-1]["split"] = "eval"
        write_jsonl(self.folder / DOCUMENTS, rows)

    def _drop(self, why: str) -> None:
        self.state["dropped"][why] = self.state["dropped"].get(why, 0) + 1


def _opened(path: Path, size: int) -> IO[bytes]:
    path.touch()
    os.truncate(path, size)
    return path.open("ab")


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_others(known: dict[str, Any], options: PrepareOptions, folder: Path) -> None:
    given = json.loads(json.dumps(asdict(options)))
    other = sorted(name for name in given if given[name] != known.get(name))
    if other:
        raise ConfigError(
            f"{folder} was prepared with another {other[0]} ({known.get(other[0])!r})",
            "The same options go on with it",
            "Choose another folder",
        )
