"""Signals that stop a run after the step at hand."""

from __future__ import annotations

import signal

from training.interrupts import remember_interrupts


def test_signals_are_remembered_and_not_obeyed():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        received = remember_interrupts()
        assert received == []
        for number in before:
            signal.raise_signal(number)
        assert received == [signal.SIGINT, signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
