"""What is free, whatever system it is asked of."""

from __future__ import annotations

import sys
import weakref
from pathlib import Path

import pytest

from memlong.bank import memory
from memlong.bank.bank import Bank
from memlong.bank.memory import available_bytes, give_back, in_words, require_memory
from memlong.bank.store import KVShape
from memlong.errors import BankError


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A made-up system without psutil: 8 GB free, no container; its files can be changed."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemFree: 1 kB\nMemAvailable:  8000000 kB\n")
    return tmp_path


def test_psutil_is_asked_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("", (), {"available": 123})())
    assert available_bytes() == 123


def test_the_kernel_is_asked_where_psutil_is_not(system: Path) -> None:
    assert available_bytes() == 8_000_000 * 1024


def test_a_container_may_leave_less(system: Path) -> None:
    (system / "memory.max").write_text("1000\n")
    (system / "memory.current").write_text("900\n")
    (system / "memory.stat").write_text("anon 500\nactive_file 100\ninactive_file 50\n")
    assert available_bytes() == 250
    (system / "memory.max").write_text("max\n")
    assert available_bytes() == 8_000_000 * 1024


def test_a_system_that_does_not_say_refuses_nothing(system: Path) -> None:
    (system / "meminfo").unlink()
    assert available_bytes() is None
    require_memory(10**18, 10**9)


def test_the_refusal_says_what_would_fit(system: Path) -> None:
    with pytest.raises(BankError) as caught:
        require_memory(16_384_000_000, 1_000_000)
    assert str(caught.value) == (
        "A bank of 1,000,000 tokens needs 16.4 GB. 8.2 GB of memory are free on cpu. "
        "Lower the capacity to 500,000 tokens or fewer, store fewer layers, or keep the bank in int8 or k8v4."
    )


def test_a_bank_that_does_not_fit_is_refused_before_it_is_made(system: Path) -> None:
    shape = KVShape(30, 8, 256, 128)
    assert Bank.estimate_bytes(shape, 1024, 10**7) > 10**12
    with pytest.raises(BankError, match="needs 1,2"):
        Bank.create(shape, 1024, 10**7)


@pytest.mark.parametrize(
    "size, words", [(5_000_000, "5.0 MB"), (12_800_000_000, "12.8 GB"), (10**15, "1,000,000.0 GB")]
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words


def test_giving_back_frees_what_only_knows_itself() -> None:
    class Listener:
        pass

    one, other = Listener(), Listener()
    one.other, other.one = other, one  # type: ignore[attr-defined]
    gone = weakref.ref(one)
    del one, other
    give_back()
    assert gone() is None
