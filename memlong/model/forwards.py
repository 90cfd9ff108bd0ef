"""Other forward passes for some modules of a model, for as long as somebody is inside, and then their own again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from memlong.nesting import nested

Forward = Callable[..., Any]


@contextmanager
def other_forwards(model: nn.Module, name: str, other: Callable[[nn.Module], Forward | None]) -> Iterator[None]:
    """Run modules of ``model`` by what ``other`` makes of them; undone afterwards, whatever happened inside.

    Re-entrant, and safe for threads that share a model: the first one in replaces, the last one out restores.

    Args:
        name: of the attribute that counts who is inside.
        other: a module -> its other forward pass, or None for one to be left as it is. Modules whose forward pass is
            replaced already, by another library say, are not asked about.
    """

    def switch() -> Callable[[], None]:
        free = [module for module in model.modules() if "forward" not in module.__dict__]
        replaced = [(module, forward) for module in free if (forward := other(module)) is not None]
        for module, forward in replaced:
            module.__dict__["forward"] = forward

        def restore() -> None:
            for module, _ in replaced:
                del module.__dict__["forward"]

        return restore

    with nested(model, name, switch):
        yield
