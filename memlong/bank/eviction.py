"""Who leaves a bank that is full. A policy is a class with one method and a line in ``POLICIES``.

Policies see the ledger alone, so a recorded reading can be replayed against each of them without a model.
Pinned chunks never leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log2
from typing import ClassVar, Protocol

from memlong.bank.capacity import Capacity
from memlong.bank.ledger import ChunkRecord, Ledger
from memlong.bank.queue import Key
from memlong.errors import BankError, unknown_name


@dataclass(frozen=True, slots=True)
class Victim:
    """A chunk that shall leave, and why, in words for people."""

    chunk_id: int
    rule: str


class Policy(Protocol):
    """Chooses which chunks leave."""

    name: ClassVar[str]

    def choose(self, ledger: Ledger, capacity: Capacity) -> list[Victim]:
        """Return the chunks to evict so that the rest fits ``capacity``, in the order they leave.

        Changes nothing in the ledger; the empty list when everything fits.

        Raises:
            BankError: when it cannot fit because too much is pinned.
        """
        ...


class TriggerCount:
    """Fewest triggers first, oldest first among equals: what was never useful goes before what was."""

    name: ClassVar[str] = "trigger_count"

    def choose(self, ledger: Ledger, capacity: Capacity) -> list[Victim]:
        """See :class:`Policy`."""
        lowest = _lowest(ledger, capacity, fewest_triggers)
        return _victims(lowest, lambda r: f"fewest triggers ({r.trigger_count}), oldest first")


class Fifo:
    """Oldest first, whatever was retrieved: a sliding window over the text."""

    name: ClassVar[str] = "fifo"

    def choose(self, ledger: Ledger, capacity: Capacity) -> list[Victim]:
        """See :class:`Policy`."""
        return _victims(_lowest(ledger, capacity, oldest), lambda record: "oldest first")


class Lru:
    """The chunk whose last trigger, or writing if it had none, is longest ago."""

    name: ClassVar[str] = "lru"

    def choose(self, ledger: Ledger, capacity: Capacity) -> list[Victim]:
        """See :class:`Policy`."""

        def rule(record: ChunkRecord) -> str:
            if record.last_trigger < 0:
                age = ledger.clock - record.written_order
                return f"longest unused (never triggered, written {age} chunks ago)"
            return f"longest unused (last triggered {ledger.clock - record.last_trigger} chunks ago)"

        return _victims(_lowest(ledger, capacity, longest_unused), rule)


class DecayedCount:
    """Fewest triggers first, each counting half for every half-life since: an early celebrity can leave."""

    name: ClassVar[str] = "decayed_count"

    def choose(self, ledger: Ledger, capacity: Capacity) -> list[Victim]:
        """See :class:`Policy`."""
        lowest = _lowest(ledger, capacity, CoolestFirst(ledger.half_life))
        half_life = ledger.half_life

        def rule(record: ChunkRecord) -> str:
            count = ledger.decayed_count(record)
            return f"fewest triggers ({count:.2f}, halved every {half_life} chunks), oldest first"

        return _victims(lowest, rule)


class TriggerBands:
    """The paper's numbers: newest 10 % stay, oldest 10 % go, then fewest triggers, until half is free.

    The bands are shares of all chunks held, by age. Evicting half at once makes one choice pay for thousands
    of chunks, so looking at all of them costs little. The newest leave only when all others cannot make
    enough room.
    """

    name: ClassVar[str] = "trigger_bands"
    share: ClassVar[float] = 0.1

    def choose(self, ledger: Ledger, capacity: Capacity) -> list[Victim]:
        """See :class:`Policy`."""
        if capacity.fits(ledger.tokens, len(ledger)):
            return []
        capacity.refuse_pinned(ledger)
        by_age = sorted(ledger.records(), key=oldest)
        band = int(len(by_age) * self.share)
        old, middle, new = by_age[:band], by_age[band : len(by_age) - band], by_age[len(by_age) - band :]
        middle.sort(key=fewest_triggers)

        room = _Room(ledger.tokens, len(ledger))
        goal, percent = capacity.half(), f"{self.share:.0%}"
        victims = room.make(old, goal, lambda record: f"among the oldest {percent}")
        victims += room.make(middle, goal, lambda r: f"fewest triggers ({r.trigger_count}), of middle age")
        last_resort = f"among the newest {percent}, but all others are pinned or gone"
        return victims + room.make(new, capacity, lambda record: last_resort)


POLICIES: dict[str, type[Policy]] = {
    policy.name: policy for policy in (TriggerCount, TriggerBands, Fifo, Lru, DecayedCount)
}


def make_policy(name: str) -> Policy:
    """Return the policy of that name.

    Raises:
        BankError: for an unknown name, with the nearest known one.
    """
    if name not in POLICIES:
        raise unknown_name("policy", name, POLICIES, BankError)
    return POLICIES[name]()


def oldest(record: ChunkRecord) -> tuple[float, ...]:
    """Order by age."""
    return (record.written_order,)


def fewest_triggers(record: ChunkRecord) -> tuple[float, ...]:
    """Order by trigger count, then age."""
    return record.trigger_count, record.written_order


def longest_unused(record: ChunkRecord) -> tuple[float, ...]:
    """Order by last trigger or writing. A trigger at clock c comes before the writing of chunk c."""
    used = max((record.last_trigger, 0), (record.written_order, 1))
    return *used, record.written_order


@dataclass(frozen=True)
class CoolestFirst:
    """Orders by decayed count. Two chunks cool at one rate, so their order only changes with a trigger.

    The count at time t is ``decayed * 2 ** ((last - t) / half_life)``; its logarithm without the common t is
    the key.
    """

    half_life: int

    def __call__(self, record: ChunkRecord) -> tuple[float, ...]:
        """Return (log2 of the count at time 0, age); minus infinity for a chunk never triggered."""
        if record.decayed == 0.0:
            return float("-inf"), record.written_order
        return log2(record.decayed) + record.last_trigger / self.half_life, record.written_order


@dataclass(slots=True)
class _Room:
    """What is held while a policy makes up its mind."""

    tokens: int
    chunks: int

    def make(self, records: Iterable[ChunkRecord], goal: Capacity, rule: Callable[[ChunkRecord], str]) -> list[Victim]:
        """Let unpinned chunks go, in the given order, until the rest fits the goal."""
        gone = []
        for record in records:
            if goal.fits(self.tokens, self.chunks):
                break
            if not record.pinned:
                self.tokens, self.chunks = self.tokens - record.n_tokens, self.chunks - 1
                gone.append(record)
        return _victims(gone, rule)


def _lowest(ledger: Ledger, capacity: Capacity, key: Key) -> list[ChunkRecord]:
    tokens, chunks = ledger.tokens - capacity.tokens, len(ledger) - capacity.slots
    if tokens <= 0 and chunks <= 0:
        return []
    capacity.refuse_pinned(ledger)
    return ledger.lowest_first(key).take(tokens, chunks)


def _victims(records: Iterable[ChunkRecord], rule: Callable[[ChunkRecord], str]) -> list[Victim]:
    return [Victim(record.chunk_id, rule(record)) for record in records]
