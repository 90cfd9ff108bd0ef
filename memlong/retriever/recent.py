"""What was worked out for texts of late, kept by digest: no text of a reader who left stays here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Generic, TypeVar

V = TypeVar("V")


class Recent(Generic[V]):
    """Values by text, at most ``most`` of them; when there is no room, all go but those just asked for.

    When all go, others take their place as a whole, so that threads lose values at worst.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: dict[bytes, V] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, texts: Sequence[str], work: Callable[[list[str]], Iterable[V]], about: str = "") -> list[V]:
        """Return the value of each text; ``work`` is given those that are not kept, each once.

        Args:
            about: what else the values depend on.
        """
        kept, keys = self._kept, [digest(f"{about}\0{text}") for text in texts]
        mine = {key: kept[key] for key in keys if key in kept}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in mine}
        if new:
            fresh = dict(zip(new, work([*new.values()]), strict=True))
            mine |= fresh
            room = len(kept) + len(fresh) <= self.most
            if room:
                kept.update(fresh)
            elif len(mine) <= self.most:
                self._kept = mine
        return [mine[key] for key in keys]


def digest(text: str, size: int = 16) -> bytes:
    """Return ``size`` bytes that tell a text from others, in every process the same."""
    # Not Python's hash(): that one is salted anew in every process.
    return blake2b(text.encode("utf-8", "replace"), digest_size=size).digest()
