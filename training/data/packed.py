"""Prepared text: token ids of all documents one after the other in a memory-mapped file, and where each begins.

``tokens.bin`` (uint32), ``documents.jsonl`` (a line a document) and ``manifest.json``; written by ``prepare``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from memlong.errors import DocumentError
from training.data.jsonl import read_jsonl

TOKENS, DOCUMENTS, MANIFEST = "tokens.bin", "documents.jsonl", "manifest.json"


@dataclass(frozen=True)
class PackedDocument:
    """Where a document lies: its first token and their number."""

    start: int
    tokens: int


def require_prepared(folder: Path) -> None:
    """Refuse a folder that ``prepare`` did not make, or did not finish.

    Raises:
        DocumentError: for such a folder.
    """
    if not (folder / MANIFEST).is_file():
        raise DocumentError(
            f"There is no {MANIFEST} in {folder}",
            "A folder of prepared text",
            f"Run `python -m training prepare SOURCE --out {folder}` (again, if it was interrupted)",
        )


class PackedText:
    """The documents of one split of a prepared folder, cut into windows.

    Args:
        folder: made by ``prepare``. split: "train" or "eval". window_tokens: of a window; the last may be shorter.

    Raises:
        DocumentError: when the folder was not prepared, not finished, or holds nothing of that split.
    """

    def __init__(self, folder: Path, split: str, window_tokens: int) -> None:
        require_prepared(folder)
        self.manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        self.window_tokens = window_tokens
        rows = [row for row in read_jsonl(folder / DOCUMENTS) if row["split"] == split and row["tokens"] > 1]
        if not rows:
            raise DocumentError(f"No document of the split {split!r} in {folder}", "At least one", "Prepare more text")
        self.documents = [PackedDocument(row["start"], row["tokens"]) for row in rows]
        self._tokens = np.memmap(folder / TOKENS, dtype=np.uint32, mode="r")

    def windows(self) -> Sequence[int]:
        """Return how many windows each document has; a last one of one token, which predicts nothing, is none."""
        return [-(-max(1, document.tokens - 1) // self.window_tokens) for document in self.documents]

    def window(self, document: int, window: int) -> np.ndarray:
        """Return the token ids of a window (int64)."""
        place, first = self.documents[document], window * self.window_tokens
        last = min(place.tokens, first + self.window_tokens)
        return self._tokens[place.start + first : place.start + last].astype(np.int64)
