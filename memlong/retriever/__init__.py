"""Retrievers by name. Adding one is a file and a line in ``RETRIEVERS``."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, cast

from memlong.errors import RetrieverError, unknown_name
from memlong.retriever.base import Retriever, TooLong

__all__ = ["RETRIEVERS", "Retriever", "TooLong", "make_retriever"]

# name -> where its class is; imported when asked for, so that naming retrievers costs nothing.
RETRIEVERS: dict[str, str] = {
    "hybrid": "memlong.retriever.hybrid:HybridRetriever",
    "minilm": "memlong.retriever.minilm:MiniLMRetriever",
    "bge-m3": "memlong.retriever.bge:BGERetriever",
    "sentence": "memlong.retriever.sentence:SentenceRetriever",
    "hashing": "memlong.retriever.hashing:HashingRetriever",
}


def make_retriever(name: str = "auto", **options: Any) -> Retriever:
    """Return the retriever called ``name``; ``auto`` takes the best one that can be had (see ``auto.py``).

    Args:
        name: ``auto`` or a key of ``RETRIEVERS``.
        options: arguments of that retriever's class.

    Raises:
        RetrieverError: for an unknown name or option, or when weights are missing.
    """
    if name == "auto":
        from memlong.retriever.auto import choose

        return choose(**options)
    if name not in RETRIEVERS:
        raise unknown_name("retriever", name, ["auto", *RETRIEVERS], RetrieverError)
    module, _, attribute = RETRIEVERS[name].partition(":")
    made = getattr(import_module(module), attribute)
    known = inspect.signature(made).parameters
    for option in options:
        if option not in known:
            raise unknown_name(f"option of the retriever {name!r}", option, known, RetrieverError)
    missing = [key for key, value in known.items() if value.default is value.empty and key not in options]
    if missing:
        raise RetrieverError(
            f"The retriever {name!r} without {', '.join(missing)}",
            f"It takes: {', '.join(known)}",
            f"Give {missing[0]}, such as make_retriever({name!r}, {missing[0]}=...)",
        )
    return cast(Retriever, made(**options))
