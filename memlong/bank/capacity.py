"""How much a bank may hold. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from memlong.bank.ledger import Ledger
from memlong.config import SHORT_CHUNK_ROOM
from memlong.errors import BankError


@dataclass(frozen=True, slots=True)
class Capacity:
    """The two limits of a bank; both count.

    Attributes:
        tokens: tokens of all chunks. slots: chunks, short ones included, since each takes a whole slot.
    """

    tokens: int
    slots: int

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.slots < 1:
            given = f"A capacity of {self.tokens} tokens in {self.slots} chunks"
            raise BankError(given, "At least one of each", "Raise the capacity")

    @classmethod
    def of(cls, tokens: int, chunk_tokens: int, short: bool = False) -> Capacity:
        """Return a capacity in tokens with as many slots as full chunks need, rounded up.

        Args:
            short: whether chunks end with a sentence, and are mostly not full: an eighth more slots.

        Raises:
            BankError: when not even one full chunk fits.
        """
        if tokens < chunk_tokens:
            allowed = f"A bank holds at least one chunk, {chunk_tokens} tokens"
            raise BankError(f"A capacity of {tokens} tokens", allowed, "Raise the capacity")
        full = -(-tokens // chunk_tokens)
        return cls(tokens, ceil(full * SHORT_CHUNK_ROOM) if short else full)

    def fits(self, tokens: int, chunks: int) -> bool:
        """Say whether so much may be held."""
        return tokens <= self.tokens and chunks <= self.slots

    def changed(self, tokens: int, chunk_tokens: int) -> Capacity:
        """Return another capacity in tokens, with as much room for chunks that are not full.

        Raises:
            BankError: when not even one full chunk fits.
        """
        return Capacity.of(tokens, chunk_tokens, self.slots > -(-self.tokens // chunk_tokens))

    def half(self) -> Capacity:
        """Return half of it, rounded down, but no less than one chunk of one token."""
        return Capacity(max(1, self.tokens // 2), max(1, self.slots // 2))

    def refuse_pinned(self, ledger: Ledger, tokens: int = 0, chunks: int = 0) -> None:
        """Refuse what would keep more than may be held: the pinned chunks and so much besides.

        Raises:
            BankError: naming what is pinned and what may be held.
        """
        if self.fits(ledger.pinned_tokens + tokens, ledger.pinned_chunks + chunks):
            return
        beside = f", and {tokens:,} tokens more are to be kept" if tokens else ""
        raise BankError(
            f"{ledger.pinned_chunks:,} chunks ({ledger.pinned_tokens:,} tokens) are pinned{beside}",
            f"Pinned chunks never leave, and the bank holds {self.tokens:,} tokens in {self.slots:,} chunks",
            "Unpin some chunks or raise the capacity",
        )
