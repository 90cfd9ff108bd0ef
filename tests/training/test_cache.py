"""Stored K-V of training documents are those that reading a document into a bank would store."""

from __future__ import annotations

import pytest
import torch

from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session
from training.cache import DocumentMemory
from training.data.passages import cut

TEXT = " ".join(f"The lamp {number} was kept by Ottoline of the harbour." for number in range(20))


@pytest.mark.parametrize("window", [16, 48])
def test_chunks_are_written_with_the_window_before_them_in_sight(tiny_llama, tiny_tokenizer, window):
    memory = MemoryConfig(
        preset="own", chunk_tokens=16, window_tokens=window, read_batch_tokens=96, store_dtype="float32"
    )
    model = MemoryModel(tiny_llama(), tiny_tokenizer, memory)
    document = cut(tiny_tokenizer, "d", TEXT, [], 16)
    cached = DocumentMemory(model, [document])
    cached.read("d")
    session = Session(model, HashingRetriever(64))
    session.read(TEXT)
    ids = [record.chunk_id for record in session.bank.records()]
    assert len(ids) == len(document.chunks) > 3

    keys, values, lengths = cached.rows("d", range(len(ids)))
    stored = session.bank.gather(ids)

    assert lengths == [chunk.n_tokens for chunk in document.chunks]
    torch.testing.assert_close(keys, stored.keys_SNGCD)
    torch.testing.assert_close(values, stored.values_SNGCD)


def test_documents_kept_for_another_window_are_read_anew(tiny_llama, tiny_tokenizer, tmp_path):
    document = cut(tiny_tokenizer, "d", TEXT, [], 16)
    for window in (16, 48):
        memory = MemoryConfig(preset="own", chunk_tokens=16, window_tokens=window, store_dtype="float32")
        DocumentMemory(MemoryModel(tiny_llama(), tiny_tokenizer, memory), [document], tmp_path).read("d")
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
