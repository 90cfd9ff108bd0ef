"""A setup as form, link and file: the same names everywhere, refusals with advice, and what is left to the model."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from app.settings import Settings
from app.setup import MEMORY, SETUPS, Setup, changed, parse_memory
from memlong.config import MemoryConfig
from memlong.errors import ConfigError, MemLongError

FULL = Setup(
    model="Qwen/Qwen2.5-0.5B-Instruct", precision="4bit", retriever="hashing", preset="own", stored_layers=(8, 9, 14),
    retrieval_layers=(8, 10), chunk_tokens=128, window_tokens=256, top_k=8, capacity=4096, policy="lru",
    store_dtype="int8", retrieve_every=0, memory_positions="before", relevance_strength=2.5, spelling_strength=1.5,
    question_steps=2, recency_strength=3.5, abstention_strength=1.0,
    rerank_candidates=24, chunk_ends="sentences",
)  # fmt: skip


@pytest.mark.parametrize("setup", [Setup(), FULL, *(setup for _, setup in SETUPS.values())])
def test_link_file_and_settings_bring_a_setup_back(setup: Setup) -> None:
    assert Setup.from_json(setup.to_json()) == setup
    assert Setup.from_query(dict(parse_qsl(setup.to_query()))) == setup
    assert Setup.from_settings(setup.to_settings(Settings(port=9))) == setup
    assert setup.to_settings(Settings(port=9)).port == 9


def test_what_is_left_to_the_model_is_left_out() -> None:
    assert Setup().memory() == {}
    assert set(Setup().to_dict()) == {"model", "precision", "retriever", "capacity", "policy"}
    assert FULL.memory()["retrieve_every"] == 0
    assert set(MEMORY) <= {each.name for each in fields(MemoryConfig)}


def test_the_paper_is_as_in_the_paper() -> None:
    paper = SETUPS["paper"][1]
    assert (paper.stored_layers, paper.retrieval_layers, paper.policy) == ((13,), (13, 17, 21, 25), "trigger_bands")


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ({"modle": "bundled"}, "'model'"),
        ({"precision": "4bits"}, "'4bit'"),
        ({"policy": "fifoo"}, "'fifo'"),
        ({"preset": "papr"}, "'paper'"),
        ({"top_k": 0}, "Raise top_k"),
        ({"top_k": 33}, "Lower top_k"),
        ({"rerank_candidates": 513}, "Lower rerank_candidates"),
        ({"chunk_tokens": "many"}, "chunk_tokens=256"),
        ({"chunk_tokens": 64, "window_tokens": 100}, "a multiple of 64"),
        ({"chunk_tokens": 64, "capacity": 32}, "64 or more"),
        ({"stored_layers": "eight"}, "Write them so"),
        ({"stored_layers": [1.5]}, "[8, 18, 28]"),
        ({"retriever": "minilmm"}, "'minilm'"),
        ({"retriever": "sentence"}, "'sentence:MODEL'"),
        ({"model": "  "}, "Name one"),
        ({"model": 3}, "quotes"),
        ({"relevance_strength": -1}, "Try 4"),
        ({"spelling_strength": -1}, "Try 4"),
        ({"question_steps": 0}, "Raise question_steps"),
        ({"question_steps": 9}, "Lower question_steps"),
        ({"spelling_strength": "firm"}, "spelling_strength=4"),
        ({"rerank_candidates": -1}, "Raise rerank_candidates"),
        ({"chunk_ends": "sentence"}, "sentences"),
        ({"relevance_strength": "nan"}, "Try 4"),
        ({"relevance_strength": "much"}, "relevance_strength=4"),
        ({"top_k": 2.5}, "top_k=4"),
    ],
)
def test_wrong_values_are_refused_with_the_nearest_right_one(values: dict[str, Any], advice: str) -> None:
    with pytest.raises(MemLongError) as refused:
        Setup.from_dict(values)
    assert advice in refused.value.do


def test_files_that_are_none_are_refused() -> None:
    for text in ("no json", "[1]", '{"a": ', "[" * 100_000, '{"capacity": ' + "9" * 5_000 + "}"):
        with pytest.raises(ConfigError):
            Setup.from_json(text)


def test_an_address_without_settings_fills_in_nothing() -> None:
    assert Setup.from_query({"__theme": "dark", "view": "api", "utm_source": "x"}) is None
    found = Setup.from_query({"__theme": "dark", "top_k": "8"})
    assert found is not None
    assert found.top_k == 8
    with pytest.raises(ConfigError, match="'policy'"):
        Setup.from_query({"top_k": "8", "polcy": "lru"})


def test_memory_of_the_command_line() -> None:
    assert parse_memory("top_k=8 stored_layers=8-9") == {"top_k": 8, "stored_layers": (8, 9)}
    for text in ("top_k", "topk=8", "top_k=x"):
        with pytest.raises(MemLongError):
            parse_memory(text)


def test_a_new_preset_brings_its_layers_and_a_new_chunk_size_its_window() -> None:
    base = MemoryConfig(preset="interpolated", stored_layers=(8, 18, 28), chunk_tokens=256, window_tokens=512)
    assert changed(base, {"preset": "own"}).stored_layers == ()
    assert changed(base, {"preset": "own", "stored_layers": (3,)}).stored_layers == (3,)
    assert changed(base, {"top_k": 9}).stored_layers == (8, 18, 28)
    assert changed(base, {"chunk_tokens": 128}).window_tokens == 512
    assert changed(base, {"chunk_tokens": 384}).window_tokens == 384
    assert changed(base, {"chunk_tokens": 1024}).window_tokens == 1024
    with pytest.raises(ConfigError, match="from 1"):
        changed(base, {"chunk_tokens": 0})


@pytest.mark.parametrize(
    ("name", "config", "most"),
    [
        (
            "4bit",
            {
                "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584,
                "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
            },
            7.2e9,
        ),
        (
            "paper",
            {
                "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 3200,
                "intermediate_size": 8640, "num_hidden_layers": 26, "num_attention_heads": 32, "vocab_size": 32000,
            },
            9e9,
        ),
    ],
)  # fmt: skip
def test_ready_made_setups_take_what_they_promise(
    name: str, config: dict[str, Any], most: float, tmp_path: Path
) -> None:
    from dataclasses import replace

    from app.switching import needs

    (tmp_path / "config.json").write_text(json.dumps(config))
    setup = replace(SETUPS[name][1], model=str(tmp_path), precision="4bit" if name == "4bit" else "bfloat16")
    found = needs(setup, Settings(device="cpu"))
    assert 0.3 * most < found.total < most
    assert found.total == found.weights + found.bank
    # Room for 32 chunks that may be written between two evictions is set aside too.
    assert found.bank == found.per_token * (setup.capacity + 32 * 256)


def test_a_bank_of_less_than_a_chunk_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    from app.switching import needs

    config = {"model_type": "llama", "num_hidden_layers": 4, "hidden_size": 32, "intermediate_size": 64}
    config |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 97}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="capacity_tokens=255 with chunk_tokens=256"):
        needs(Setup(model=str(tmp_path), capacity=255), Settings(device="cpu"))
    with pytest.raises(ConfigError, match="capacity_tokens=5120 with chunk_tokens=8192"):
        needs(Setup(model=str(tmp_path), capacity=5120, chunk_tokens=8192), Settings(device="cpu"))
