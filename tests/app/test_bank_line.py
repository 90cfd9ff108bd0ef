"""The one line about memory that every tab shows."""

from __future__ import annotations

from types import SimpleNamespace

from app.tabs.pieces import bank_line


class Held(list):
    tokens = 512
    capacity = SimpleNamespace(tokens=1024)


def visit(held: int, read: int, status: str = "done"):
    state = SimpleNamespace(status=status, chunks_read=read)
    session = SimpleNamespace(bank=Held(range(held)), chunks_read=read, documents={0: state})
    return SimpleNamespace(emptied=False, session=session)


def test_what_is_held_is_told_of_what_was_read():
    words = bank_line(visit(2, 3))
    assert "<strong>2</strong>" in words and "3 chunks" in words and "50%" in words


def test_a_memory_without_chunks_is_empty_whatever_was_read_before():
    for nothing in (None, SimpleNamespace(emptied=False, session=None), visit(0, 0), visit(0, 3, "removed")):
        assert "Memory is empty" in bank_line(nothing)
        assert "empty. Read &lt;it&gt;.<" in bank_line(nothing, "Read <it>.")
    assert "Read" not in bank_line(visit(2, 3), "Read <it>.")
