"""A preparation that is broken off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from training.data import prepare as preparing


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[list[str]]]:
    """Return a context in which ``prepare`` is interrupted at its n-th document, and expected to be.

    It yields the names of the documents taken, which goes on counting after it.
    """

    @contextmanager
    def at(document: int) -> Iterator[list[str]]:
        real = preparing._Packer.take
        taken: list[str] = []

        def breaks(self, source, raw, tokenizer):
            taken.append(raw.name)
            if len(taken) == document:
                raise KeyboardInterrupt
            real(self, source, raw, tokenizer)

        monkeypatch.setattr(preparing._Packer, "take", breaks)
        with pytest.raises(KeyboardInterrupt):
            yield taken

    return at
