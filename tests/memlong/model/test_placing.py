"""Keys before the local context: one chunk in every layer is the model reading chunk and question as one text."""

from __future__ import annotations

import copy

import pytest
import torch

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, MemLongError, ModelError
from memlong.model.placing import places_before
from memlong.model.wrapper import MemoryModel
from tests.memlong.model.families import FAMILIES, build, eager_logits, layer_types, random_ids
from tests.memlong.model.test_families import rows_of

T, C = 11, 6
LEARNED = {"gpt2", "gpt2-scaled", "opt"}
# Interleaved or halved pairs, layers without positions, two rotary modules, frequencies that depend on the length.
REFUSED = {"cohere", "cohere2", "glm", "smollm3", "gemma3", "llama4", "gpt_oss"}


def placed(family: str, chunk: int = C) -> MemoryModel:
    model = build(family)
    layers = tuple(range(model.config.num_hidden_layers))
    return MemoryModel(
        model,
        None,
        MemoryConfig(
            stored_layers=layers,
            retrieval_layers=layers,
            chunk_tokens=chunk,
            window_tokens=chunk,
            memory_positions="before",
        ),
    )


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - LEARNED - REFUSED))
def test_one_chunk_is_the_text_before_the_question(family: str) -> None:
    if "sliding_attention" in layer_types(family, 3):
        # Memory is seen beyond the window, plain text is not: it is enough that its layers are taken.
        assert placed(family).config.memory_positions == "before"
        return
    model = placed(family)
    text = random_ids(1, C + T)
    rows = rows_of(model.read(text[:, :C]), [[C]])
    with torch.no_grad():
        ours = model.forward(text[:, C:], model.stack_memory(rows)).logits
        at_zero = model.with_config(model.config.replace(memory_positions="zero"))
        other = at_zero.forward(text[:, C:], at_zero.stack_memory(rows)).logits
    truth = eager_logits(model.base, text)[:, C:]
    assert torch.allclose(ours, truth, atol=5e-5, rtol=5e-5)
    assert not torch.allclose(other, truth, atol=1e-3)


@pytest.mark.parametrize("family", sorted(LEARNED | REFUSED))
def test_models_whose_keys_we_cannot_turn_are_refused(family: str) -> None:
    with pytest.raises(ConfigError if family in LEARNED else ModelError, match="memory_positions"):
        placed(family)


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3", "glm", "cohere"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_changes_no_verdict(family: str, dtype: torch.dtype) -> None:
    model = copy.deepcopy(build(family)).to(dtype)
    config = MemoryConfig(memory_positions="before", chunk_tokens=C, window_tokens=C)
    if family in REFUSED:
        with pytest.raises(ModelError, match="memory_positions"):
            MemoryModel(model, None, config)
    else:
        assert MemoryModel(model, None, config).config == config


def test_shorter_chunks_leave_no_gap() -> None:
    places = places_before([3, 4], 4)
    assert places[0, :3].tolist() == [-6, -5, -4]
    assert places[1].tolist() == [-3, -2, -1, 0]


def test_padding_changes_nothing() -> None:
    model = placed("llama")
    text = random_ids(2, C)
    kv = model.read(text)
    question = random_ids(1, T)
    with torch.no_grad():
        alone = model.forward(question, model.stack_memory(rows_of(kv, [[C]]))).logits
        batch = model.stack_memory(rows_of(kv, [[C], [4]]))
        beside = model.forward(question.expand(2, -1), batch).logits
    assert torch.allclose(alone[0], beside[0], atol=1e-5)


def test_an_unknown_place_is_named() -> None:
    with pytest.raises(MemLongError, match="before"):
        MemoryConfig(memory_positions="befor")
