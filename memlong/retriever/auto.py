"""Choose an embedder when nobody did, and say why."""

from __future__ import annotations

from pathlib import Path

import torch

from memlong.errors import RetrieverError
from memlong.hardware import resolve_device
from memlong.retriever import make_retriever
from memlong.retriever.base import Retriever


def choose(device: str = "auto", data_dir: Path | None = None) -> Retriever:
    """Return BGE-M3 on a GPU, else MiniLM and words, else hashing; the retriever's ``notice`` gives the reason.

    BGE-M3 is 25 times as large as MiniLM: on a CPU it would take longer than the language model itself.
    """
    reasons: list[str] = []
    place = resolve_device(device)
    if place.type == "cuda":
        found = _try("bge-m3", reasons, device=device, data_dir=data_dir)
        if found is not None:
            found.notice = f"bge-m3, because {torch.cuda.get_device_name(place)} is fast enough for it"
            return found
    else:
        reasons.append("there is no NVIDIA GPU for bge-m3")
    found = _try("hybrid", reasons, device=device, data_dir=data_dir)
    if found is not None:
        parts = "MiniLM, words and a cross-encoder" if getattr(found, "reads", False) else "MiniLM and words"
        found.notice = "; ".join([f"hybrid ({parts}), because {reasons[0]}", *filter(None, [found.notice])])
        return found
    found = make_retriever("hashing")
    found.notice = f"hashing, which matches words only, because {'; '.join(reasons)}"
    return found


def _try(name: str, reasons: list[str], **options: object) -> Retriever | None:
    try:
        return make_retriever(name, **options)
    except RetrieverError as error:
        reasons.append(f"{name} is not to be had: {error.given.rstrip('.')} ({error.do.rstrip('.')})")
        return None
