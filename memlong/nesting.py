"""Something that several users of one object switch on at the same time: the first one in switches, the last one out
restores.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_lock = threading.RLock()


@dataclass
class _Inside:
    depth: int = 0
    restore: Callable[[], None] | None = None


@contextmanager
def nested(owner: object, name: str, switch: Callable[[], Callable[[], None]]) -> Iterator[None]:
    """Have something switched on while the block runs, whoever else has it on; re-entrant, and safe for threads.

    Args:
        owner: what it is switched on in. name: the attribute of ``owner`` that counts who is inside.
        switch: switches it on and returns what puts back what was there. Called by the first one in alone, its result
            by the last one out, whatever happened inside.
    """
    # Past __setattr__: a torch module would take the attribute for one of its own.
    inside = owner.__dict__.setdefault(name, _Inside())
    with _lock:
        if inside.depth == 0:
            inside.restore = switch()
        inside.depth += 1
    try:
        yield
    finally:
        with _lock:
            inside.depth -= 1
            if inside.depth == 0 and inside.restore is not None:
                restore, inside.restore = inside.restore, None
                restore()


def is_inside(owner: object, name: str) -> bool:
    """Whether some thread is inside :func:`nested` with this owner and name."""
    inside = owner.__dict__.get(name)
    return inside is not None and inside.depth > 0
