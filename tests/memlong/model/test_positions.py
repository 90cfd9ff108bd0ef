"""Models with learned positions have so many and no more: what needs others is refused or kept within them."""

from __future__ import annotations

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, ModelError
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session

POSITIONS = 64


@pytest.fixture
def gpt2(tiny_tokenizer):
    ends = {"eos_token_id": tiny_tokenizer.eos_token_id, "bos_token_id": None}
    config = GPT2Config(vocab_size=len(tiny_tokenizer), n_positions=POSITIONS, n_embd=32, n_head=4, n_layer=4, **ends)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GPT2LMHeadModel(config).eval()


def memory(model, tokenizer, **settings) -> MemoryModel:
    return MemoryModel(model, tokenizer, MemoryConfig(**{"chunk_tokens": 16, "window_tokens": 16} | settings))


def test_a_question_longer_than_the_positions_is_spilled_and_answered(gpt2, tiny_tokenizer):
    model = memory(gpt2, tiny_tokenizer, capacity_tokens=2048)
    assert model.local_tokens == POSITIONS
    session = Session(model, HashingRetriever(64))
    session.read("Every ship had a name, and the harbour master kept the ledger. " * 8)
    before = len(session.bank)
    answer = session.ask("Who kept the ledger? " * 20, max_tokens=POSITIONS)
    assert answer.n_tokens and len(session.bank) > before


def test_windows_without_positions_are_refused(gpt2, tiny_tokenizer):
    model = memory(gpt2, tiny_tokenizer, window_tokens=128)
    with pytest.raises(ConfigError, match="64 learned positions"):
        Session(model, HashingRetriever(64))
    with pytest.raises(ModelError, match="128 tokens"):
        model.read(torch.randint(3, 100, (1, 128)))


def test_a_context_without_positions_is_refused_and_padding_takes_none(gpt2, tiny_tokenizer):
    model = memory(gpt2, tiny_tokenizer)
    ids = torch.randint(3, 100, (1, POSITIONS + 8))
    with pytest.raises(ModelError, match="72 tokens"):
        model.forward(ids)
    with pytest.raises(ModelError, match="65 tokens"):
        model.forward(ids[:, :1], start=POSITIONS)
    mask = torch.ones_like(ids)
    mask[:, :8] = 0
    with torch.no_grad():
        padded = model.forward(ids, attention_mask=mask).logits[:, 8:]
        torch.testing.assert_close(padded, model.forward(ids[:, 8:]).logits, atol=1e-5, rtol=1e-4)


def test_rotary_models_read_on(tiny_llama, tiny_tokenizer):
    model = memory(tiny_llama(max_position_embeddings=POSITIONS), tiny_tokenizer, window_tokens=128)
    assert model.read(torch.randint(3, 100, (1, 128))).keys_SBGTD.shape[3] == 128
