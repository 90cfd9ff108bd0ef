"""MemLong: a retrievable memory for decoder-only language models.

    from memlong import Session, load_model, make_retriever

    session = Session(load_model("bundled"), make_retriever("auto"))
    session.read(open("book.txt").read(), title="book")
    print(session.ask("Who found the key?").text)

Names are loaded when they are first used: importing the package loads neither torch nor any model.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "AskOptions": "memlong.config",
    "MemLongError": "memlong.errors",
    "MemoryConfig": "memlong.config",
    "MemoryModel": "memlong.model.wrapper",
    "Recorder": "memlong.trace.recorder",
    "Session": "memlong.session",
    "load_model": "memlong.model.load",
    "make_retriever": "memlong.retriever",
}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'memlong' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
