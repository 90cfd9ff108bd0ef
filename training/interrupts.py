"""Ctrl-C and SIGTERM, remembered instead of obeyed: a run ends after the step at hand."""

from __future__ import annotations

import signal


def remember_interrupts() -> list[int]:
    """Return a list that the numbers of signals are put into from now on."""
    received: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    return received
