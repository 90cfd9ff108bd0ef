"""Each policy's rule, and all of them against a plain model of themselves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memlong.bank.capacity import Capacity
from memlong.bank.eviction import POLICIES, make_policy
from memlong.bank.ledger import ChunkPlace, ChunkRecord, Ledger
from memlong.errors import BankError


def ledger_of(*triggers: int, n_tokens: int = 10, half_life: int = 4) -> Ledger:
    """Return a ledger whose n-th chunk was triggered so often, all of them at the end."""
    ledger = Ledger(half_life)
    for _ in triggers:
        ledger.write(ChunkPlace(0, ledger.clock, (0, 1), n_tokens), ledger.clock, 0)
    for chunk_id, count in enumerate(triggers):
        for _ in range(count):
            ledger.trigger([chunk_id])
    return ledger


def chosen(name: str, ledger: Ledger, slots: int, tokens: int = 10**9) -> list[int]:
    return [victim.chunk_id for victim in make_policy(name).choose(ledger, Capacity(tokens, slots))]


def test_trigger_count_takes_the_fewest_then_the_oldest() -> None:
    ledger = ledger_of(2, 0, 1, 0, 3)
    assert chosen("trigger_count", ledger, slots=2) == [1, 3, 2]
    victims = make_policy("trigger_count").choose(ledger, Capacity(10**9, 2))
    assert [victim.rule for victim in victims] == [
        "fewest triggers (0), oldest first",
        "fewest triggers (0), oldest first",
        "fewest triggers (1), oldest first",
    ]


def test_fifo_takes_the_oldest() -> None:
    assert chosen("fifo", ledger_of(9, 0, 9, 0), slots=2) == [0, 1]


def test_lru_takes_the_longest_unused_and_counts_writing_as_use() -> None:
    ledger = ledger_of(0, 0, 0)
    ledger.trigger([0])
    ledger.write(ChunkPlace(0, 3, (0, 1), 10), 3, 0)
    ledger.trigger([1])
    assert chosen("lru", ledger, slots=1) == [2, 0, 3]
    rules = [victim.rule for victim in make_policy("lru").choose(ledger, Capacity(10**9, 2))]
    assert rules == [
        "longest unused (never triggered, written 2 chunks ago)",
        "longest unused (last triggered 1 chunks ago)",
    ]


def test_decayed_count_lets_an_early_celebrity_leave() -> None:
    ledger = ledger_of(3, 0, half_life=2)
    for _ in range(6):
        ledger.write(ChunkPlace(0, 0, (0, 1), 10), 0, 0)
    ledger.trigger(range(1, 8))
    # Three triggers, three half-lives ago, weigh 3/8: less than the one trigger of all others.
    assert chosen("decayed_count", ledger, slots=7) == [0]
    assert chosen("trigger_count", ledger, slots=7) == [1]
    rule = make_policy("decayed_count").choose(ledger, Capacity(10**9, 7))[0].rule
    assert rule == "fewest triggers (0.38, halved every 2 chunks), oldest first"


def test_bands_take_the_oldest_then_the_fewest_triggers_until_half_is_free() -> None:
    # 20 chunks, capacity 19: down to 9, so 11 leave. Oldest two first though triggered, newest two stay.
    ledger = ledger_of(9, 9, 1, *[0] * 8, *[2] * 7, 0, 0)
    victims = make_policy("trigger_bands").choose(ledger, Capacity(10**9, 19))
    assert [victim.chunk_id for victim in victims] == [0, 1, *range(3, 11), 2]
    assert [victims[at].rule for at in (0, 2, -1)] == [
        "among the oldest 10%",
        "fewest triggers (0), of middle age",
        "fewest triggers (1), of middle age",
    ]


def test_bands_free_half_of_the_tokens_too() -> None:
    ledger = ledger_of(*[0] * 20)
    assert len(chosen("trigger_bands", ledger, slots=100, tokens=199)) == 11  # 200 -> 90 <= 99


def test_bands_take_the_newest_only_to_fit() -> None:
    ledger = ledger_of(*[0] * 20)
    for chunk_id in range(18):
        ledger.pin(chunk_id)
    victims = make_policy("trigger_bands").choose(ledger, Capacity(10**9, 19))
    assert [victim.chunk_id for victim in victims] == [18]
    assert "newest 10%" in victims[0].rule


@pytest.mark.parametrize("name", POLICIES)
class TestEveryPolicy:
    def test_nothing_leaves_a_bank_that_fits(self, name: str) -> None:
        ledger = ledger_of(0, 0, 0)
        assert chosen(name, ledger, slots=3, tokens=30) == []

    def test_choosing_changes_nothing(self, name: str) -> None:
        ledger = ledger_of(1, 0, 2, 0, 0, 3)
        first = chosen(name, ledger, slots=3)
        assert first
        assert chosen(name, ledger, slots=3) == first
        assert len(ledger) == 6

    def test_pinned_chunks_stay(self, name: str) -> None:
        ledger = ledger_of(*[0] * 8)
        for chunk_id in (0, 1, 2):
            ledger.pin(chunk_id)
        assert not set(chosen(name, ledger, slots=4)) & {0, 1, 2}

    def test_too_many_pinned_chunks_are_an_error(self, name: str) -> None:
        ledger = ledger_of(0, 0, 0, 0)
        for chunk_id in (0, 1, 2):
            ledger.pin(chunk_id)
        with pytest.raises(BankError, match=r"3 chunks .* are pinned.*Unpin some"):
            make_policy(name).choose(ledger, Capacity(25, 10))

    def test_a_token_limit_counts_short_chunks_as_short(self, name: str) -> None:
        ledger = ledger_of(0, 0)
        ledger.write(ChunkPlace(0, 2, (0, 1), 1), 2, 0)
        gone = chosen(name, ledger, slots=10, tokens=20)
        assert sum(ledger.get(chunk_id).n_tokens for chunk_id in gone) >= 1

    def test_has_its_own_name(self, name: str) -> None:
        assert make_policy(name).name == name


def test_a_policy_may_change_in_mid_stream() -> None:
    ledger = ledger_of(0, 1, 0, 1)
    assert chosen("trigger_count", ledger, slots=3) == [0]
    ledger.trigger([0, 0])
    assert chosen("fifo", ledger, slots=3) == [0]
    assert chosen("trigger_count", ledger, slots=3) == [2]


def test_an_unknown_policy_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(BankError, match="Did you mean 'trigger_count'"):
        make_policy("triger_count")


def test_a_capacity_holds_something() -> None:
    with pytest.raises(BankError, match="0 tokens"):
        Capacity(0, 1)
    with pytest.raises(BankError, match="at least one chunk, 8 tokens"):
        Capacity.of(7, chunk_tokens=8)
    assert Capacity.of(17, chunk_tokens=8) == Capacity(17, 3)


# The same rules by sorting everything anew: what the queue's short cuts must come to.
Order = Callable[[Ledger, ChunkRecord], tuple[float, ...]]
PLAIN: dict[str, Order] = {
    "trigger_count": lambda ledger, r: (r.trigger_count, r.chunk_id),
    "fifo": lambda ledger, r: (r.chunk_id,),
    "lru": lambda ledger, r: (max(r.last_trigger - 0.5, r.written_order), r.chunk_id),
    "decayed_count": lambda ledger, r: (round(ledger.decayed_count(r), 9), r.chunk_id),
}
MOVES = ["write"] * 4 + ["trigger"] * 4 + ["pin", "unpin", "delete", "restore", "evict", "evict"]


def sorted_victims(name: str, ledger: Ledger, capacity: Capacity) -> list[int]:
    """Return who leaves by the plain rules."""
    free = [record for record in ledger.records() if not record.pinned]
    free.sort(key=lambda record: PLAIN[name](ledger, record))
    victims, tokens, chunks = [], ledger.tokens, len(ledger)
    while not capacity.fits(tokens, chunks):
        record = free[len(victims)]
        victims.append(record.chunk_id)
        tokens, chunks = tokens - record.n_tokens, chunks - 1
    return victims


@pytest.mark.parametrize("name", PLAIN)
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_the_queue_chooses_what_sorting_would(name: str, seed: int) -> None:
    chance = Random(seed)
    ledger, gone, policy = Ledger(half_life=5), {}, make_policy(name)
    for _ in range(250):
        move = chance.choice(MOVES)
        if move == "write":
            ledger.write(ChunkPlace(0, 0, (0, 1), chance.randint(1, 9)), 0, 0)
        elif move == "evict":
            tokens, slots = chance.randint(20, 60), chance.randint(6, 12)
            capacity = Capacity(max(tokens, ledger.pinned_tokens), max(slots, ledger.pinned_chunks))
            victims = [victim.chunk_id for victim in policy.choose(ledger, capacity)]
            assert victims == sorted_victims(name, ledger, capacity)
            gone |= {chunk_id: ledger.remove(chunk_id) for chunk_id in victims}
        elif move == "restore" and gone:
            ledger.add(gone.pop(chance.choice(sorted(gone))))
        elif move != "restore" and len(ledger):
            chunk_id = chance.choice(ledger.records()).chunk_id
            if move == "delete":
                gone[chunk_id] = ledger.remove(chunk_id)
                gone[chunk_id].pinned = False
            else:
                {"trigger": lambda id: ledger.trigger([id]), "pin": ledger.pin, "unpin": ledger.unpin}[move](chunk_id)


def test_the_queue_does_not_keep_chunks_that_left_by_another_way() -> None:
    ledger = ledger_of(0)
    queue = ledger.lowest_first(lambda record: (record.written_order,))
    for _ in range(5000):
        ledger.remove(ledger.write(ChunkPlace(0, 0, (0, 1), 1), 0, 0).chunk_id)
    assert len(queue._heap) < 100


def test_ledger_and_policies_do_without_torch() -> None:
    code = (
        "import sys, memlong.bank.eviction, memlong.bank.results, memlong.trace.replay\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'faiss')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
