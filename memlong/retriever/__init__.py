"""Retrievers by name. Adding one is a file and a line in ``RETRIEVERS``."""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any, cast

from memlong.errors import RetrieverError, unknown_name
from memlong.retriever.base import Retriever, TooLong

__all__ = ["RETRIEVERS", "Retriever", "TooLong", "make_retriever", "split_name"]

# name -> where its class is; imported when asked for, so that naming retrievers costs nothing.
RETRIEVERS: dict[str, str] = {
    "hybrid": "memlong.retriever.hybrid:HybridRetriever",
    "minilm": "memlong.retriever.minilm:MiniLMRetriever",
    "bge-m3": "memlong.retriever.bge:BGERetriever",
    "sentence": "memlong.retriever.sentence:SentenceRetriever",
    "hashing": "memlong.retriever.hashing:HashingRetriever",
}

_AUTO = "memlong.retriever.auto:choose"


def split_name(name: str) -> tuple[str, str]:
    """Return the kind and the model of a retriever as people name it; the model of ``sentence:MODEL``, else "".

    Raises:
        RetrieverError: for an unknown name, or for ``sentence`` without its model.
    """
    kind, colon, model = name.partition(":")
    known = ["auto", *(each for each in RETRIEVERS if each != "sentence"), "sentence:MODEL"]
    if not (model.strip() if kind == "sentence" else kind in known and not colon):
        raise unknown_name("retriever", name, known, RetrieverError)
    return kind, model.strip()


def make_retriever(name: str = "auto", **options: Any) -> Retriever:
    """Return the retriever called ``name``; ``auto`` takes the best one that can be had (see ``auto.py``).

    Args:
        name: ``auto``, a key of ``RETRIEVERS``, or ``sentence:MODEL``.
        options: arguments of that retriever's class; of ``auto`` device and data_dir.

    Raises:
        RetrieverError: for an unknown name or option, or when weights are missing.
    """
    if name != "sentence":  # whose model may be among the options
        name, model = split_name(str(name))
        options = {"model": model, **options} if model else options
    module, _, attribute = RETRIEVERS.get(name, _AUTO).partition(":")
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
