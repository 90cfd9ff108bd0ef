"""Near copies among documents: MinHash over runs of words, with bands to find who may be alike.

The share of equal numbers in two signatures estimates how much two sets of runs have in common (Broder 1997, On the
resemblance and containment of documents; runs of words and this use of it as in Lee et al., arXiv 2107.06499). No
torch.
"""

from __future__ import annotations

import hashlib
import re

import numpy as np

WORDS = 8  # of a run
SIGNATURE, BANDS = 128, 16
"""Numbers of a signature, and groups of them; two documents are compared when one group is equal, which 70 % in common
make likely (1 - (1 - 0.7 ** 8) ** 16 = 0.61, at 80 % 0.95)."""

SIGNATURE_BYTES = 4 * SIGNATURE
_WORD = re.compile(r"\w+")
_draw = np.random.default_rng(20240816)
_FACTORS = _draw.integers(1, 2**63, size=SIGNATURE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_TERMS = _draw.integers(0, 2**63, size=SIGNATURE, dtype=np.uint64)
_PLACES = _draw.integers(1, 2**63, size=WORDS, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_AT_ONCE = 4096  # runs


class NearCopies:
    """The signatures of the documents kept so far.

    Args:
        share: of runs in common (Jaccard) from which a document is a near copy; 0 switches this off.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._signatures: list[np.ndarray] = []
        self._bands: dict[bytes, list[int]] = {}
        self._words: dict[str, int] = {}

    def signature(self, text: str) -> np.ndarray:
        """Return a text's signature (uint32); case, spacing and punctuation do not count."""
        hashes = np.array([self._hash(word) for word in _WORD.findall(text.lower())] or [0], dtype=np.uint64)
        runs = np.zeros(max(1, len(hashes) - WORDS + 1), dtype=np.uint64)
        for place in range(min(WORDS, len(hashes))):
            runs += hashes[place : place + len(runs)] * _PLACES[place]
        runs = np.unique(runs)
        least = np.full(SIGNATURE, 2**64 - 1, dtype=np.uint64)
        for start in range(0, len(runs), _AT_ONCE):
            mixed = runs[None, start : start + _AT_ONCE] * _FACTORS[:, None] + _TERMS[:, None]
            least = np.minimum(least, (mixed ^ (mixed >> np.uint64(29))).min(axis=1))
        return (least >> np.uint64(32)).astype(np.uint32)

    def holds(self, signature: np.ndarray) -> bool:
        """Say whether a document that was added is nearly the same."""
        if not self.share:
            return False
        candidates = {index for key in _keys(signature) for index in self._bands.get(key, ())}
        return any(float((self._signatures[index] == signature).mean()) >= self.share for index in candidates)

    def add(self, signature: np.ndarray) -> None:
        """Remember a document; some 3 kB each."""
        for key in _keys(signature):
            self._bands.setdefault(key, []).append(len(self._signatures))
        self._signatures.append(signature)

    def _hash(self, word: str) -> int:
        known = self._words.get(word)
        if known is None:
            known = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            self._words[word] = known
        return known


def _keys(signature: np.ndarray) -> list[bytes]:
    return [bytes([band]) + part.tobytes() for band, part in enumerate(np.split(signature, BANDS))]
