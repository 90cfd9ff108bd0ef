"""The first one in switches, the last one out restores."""

from __future__ import annotations

import threading

import pytest
from torch import nn

from memlong.nesting import is_inside, nested

NAME = "_lamp"


class Lamp(nn.Module):
    """Counts how often it was switched on and off."""

    def __init__(self) -> None:
        super().__init__()
        self.on, self.off = 0, 0

    def switch(self):
        self.on += 1

        def restore() -> None:
            self.off += 1

        return restore


def test_only_the_outermost_switches_and_restores():
    lamp = Lamp()
    assert not is_inside(lamp, NAME)
    for times in (1, 2):
        with nested(lamp, NAME, lamp.switch):
            with nested(lamp, NAME, lamp.switch):
                assert (lamp.on, lamp.off) == (times, times - 1)
            assert (lamp.on, lamp.off) == (times, times - 1) and is_inside(lamp, NAME)
        assert (lamp.on, lamp.off) == (times, times) and not is_inside(lamp, NAME)
    assert not list(lamp.state_dict()) and not list(lamp.named_modules())[1:]


def test_names_and_owners_are_counted_apart():
    one, other = Lamp(), Lamp()
    with nested(one, NAME, one.switch), nested(one, "_other", one.switch):
        assert one.on == 2 and not is_inside(other, NAME)
        with nested(other, NAME, other.switch):
            assert other.on == 1
    assert (one.off, other.off) == (2, 1)


def test_an_error_inside_restores_and_one_while_switching_counts_nobody():
    lamp = Lamp()
    with pytest.raises(KeyError), nested(lamp, NAME, lamp.switch), nested(lamp, NAME, lamp.switch):
        raise KeyError
    assert (lamp.on, lamp.off) == (1, 1)

    def broken():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), nested(lamp, NAME, broken):
        raise AssertionError("it was not switched on")
    assert not is_inside(lamp, NAME)
    with nested(lamp, NAME, lamp.switch):
        assert lamp.on == 2


def test_the_last_of_many_threads_restores():
    lamp, together, leave = Lamp(), threading.Barrier(4), threading.Event()

    def stay() -> None:
        with nested(lamp, NAME, lamp.switch):
            together.wait()
            leave.wait()

    threads = [threading.Thread(target=stay) for _ in range(3)]
    for thread in threads:
        thread.start()
    together.wait()
    with nested(lamp, NAME, lamp.switch):
        leave.set()
        for thread in threads:
            thread.join()
        assert (lamp.on, lamp.off) == (1, 0)
    assert (lamp.on, lamp.off) == (1, 1)
