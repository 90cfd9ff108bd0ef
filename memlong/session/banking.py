"""What a session does with its bank as a whole: make it, and bring back a chunk that left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from memlong.bank.bank import Bank, Eviction
from memlong.bank.capacity import Capacity
from memlong.bank.store import KVShape
from memlong.config import MemoryConfig
from memlong.errors import BankError
from memlong.hardware import resolve_device
from memlong.model.architecture import refuse_long_windows
from memlong.model.sources import refuse_without_maps
from memlong.model.wrapper import MemoryModel
from memlong.session.reading import read_windows
from memlong.trace import events

if TYPE_CHECKING:
    from memlong.session.session import Session


def make_bank(model: MemoryModel, dim: int, config: MemoryConfig) -> Bank:
    """Return an empty bank of the right shape.

    Raises:
        BankError: when it does not fit into memory. ConfigError: for windows that the model has no positions for.
        ModelError: for a device that this machine does not have, and layers that read K-V through maps without any:
            nothing could be answered from what is read.
    """
    refuse_without_maps(model.layout, model.maps)
    refuse_long_windows(model.spec, config.window_tokens)
    shape = KVShape(len(model.layout.stored_layers), model.spec.kv_heads, config.chunk_tokens, model.spec.head_dim)
    device = bank_device(model, config)
    capacity = Capacity.of(config.capacity_tokens, config.chunk_tokens, config.whole_sentences)
    return Bank.create(shape, dim, capacity, config.policy, config.store_dtype, device)


def bank_device(model: MemoryModel, config: MemoryConfig) -> torch.device:
    """Return where stored K-V lie. Raises ModelError for a device that this machine does not have."""
    return model.device if config.bank_device == "model" else resolve_device(config.bank_device)


def bring_back(session: Session, chunk_id: int) -> None:
    """Read a chunk's window again and store the chunk under its old id, with its old counts.

    Raises:
        BankError: when it never was here, is still here, or its document was removed.
    """
    gone = session.gone.get(chunk_id)
    if gone is None or chunk_id in session.bank:
        raise BankError(
            f"Chunk {chunk_id}",
            "Chunks that were evicted or deleted",
            "Choose one from the list of evicted chunks",
        )
    document = session.documents.get(gone.doc_id)
    if document is None or document.status == "removed":
        raise BankError(
            f"The document of chunk {chunk_id} is not here any more",
            "Chunks of documents of this session",
            "Read the document again",
        )
    if gone.doc_id not in session.readings:
        raise BankError(
            f"Chunk {chunk_id} was part of the conversation, which is not read again",
            "Chunks of documents of this session",
            "Ask again what it was about",
        )
    chunks = session.readings[gone.doc_id].chunks
    per_window = session.config.window_tokens // session.config.chunk_tokens
    first = gone.index_in_doc // per_window * per_window
    window, chunk = chunks[first : first + per_window], chunks[gone.index_in_doc]
    kv = read_windows(session.model, [window])
    start = sum(other.n_tokens for other in window[: gone.index_in_doc - first])
    embedding = session.retriever.embed_documents([document.text[slice(*chunk.span)]])[0]
    session.bank.restore(gone, embedding, *kv.piece(0, start, start + chunk.n_tokens))
    del session.gone[chunk_id]
    session.recorder.append(
        events.Restored(
            chunk_id=chunk_id,
            doc_id=gone.doc_id,
            index_in_doc=gone.index_in_doc,
            span=gone.span,
            n_tokens=gone.n_tokens,
            trigger_count=gone.trigger_count,
        )
    )


def note_evictions(session: Session, evictions: Sequence[Eviction]) -> list[int]:
    """Put evictions into the trace, remember their records for a return, and return their chunk ids."""
    for item in evictions:
        session.gone[item.record.chunk_id] = item.record
        session.recorder.append(
            events.Evicted(
                chunk_id=item.record.chunk_id,
                doc_id=item.record.doc_id,
                policy=item.policy,
                rule=item.rule,
                trigger_count=item.record.trigger_count,
                age_chunks=item.age_chunks,
                occupancy_tokens=item.occupancy_tokens,
                capacity_tokens=item.capacity_tokens,
            )
        )
    return [item.record.chunk_id for item in evictions]
