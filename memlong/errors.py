"""Errors with three parts: what was given, what is allowed, what to do.

Every error that can reach a person derives from :class:`MemLongError`, so one handler can show it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MemLongError(ValueError):
    """A refusal that a person can act on.

    Args:
        given: what was given, as a statement.
        allowed: what is allowed.
        do: what to do now.
    """

    def __init__(self, given: str, allowed: str, do: str) -> None:
        self.given, self.allowed, self.do = (_sentence(part) for part in (given, allowed, do))
        super().__init__(" ".join(part for part in (self.given, self.allowed, self.do) if part))

    def __reduce__(self) -> tuple[type, tuple[str, str, str]]:
        # The default reduction passes str(self) as the only argument, which breaks errors sent between processes.
        return type(self), (self.given, self.allowed, self.do)


class ConfigError(MemLongError):
    """A setting that does not exist or does not fit."""


class BankError(MemLongError):
    """A request that the bank cannot serve."""


class ModelError(MemLongError):
    """A model that cannot be loaded, or cannot be given a memory."""


class RetrieverError(MemLongError):
    """An embedder that cannot be loaded or cannot embed a text."""


class DocumentError(MemLongError):
    """A document that cannot be read."""


class PersistError(MemLongError):
    """A saved session that is damaged or belongs to another set-up."""


class Cancelled(RuntimeError):
    """A person stopped the work; what was done until then is kept."""


def unknown_name(
    kind: str, name: object, known: Iterable[str], error: type[MemLongError] = ConfigError
) -> MemLongError:
    """Return an error for a name that is not in ``known``, with the nearest known name as advice."""
    names = sorted(known)
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    advice = f"Did you mean {near[0]!r}?" if near else "Choose one of them"
    return error(f"Unknown {kind} {name!r}", f"Known: {', '.join(names)}", advice)


def _sentence(part: str) -> str:
    part = part.strip()
    return part if not part or part.endswith((".", "?", "!")) else part + "."
