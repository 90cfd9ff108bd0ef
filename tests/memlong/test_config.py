"""Settings from forms, links and files: whatever is sent, they are right or refused with the field's name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from memlong.config import AskOptions, MemoryConfig
from memlong.errors import ConfigError

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("chunk_tokens", "256", "whole number"),
        ("top_k", 2.5, "whole number"),
        ("top_k", True, "whole number"),
        ("capacity_tokens", None, "whole number"),
        ("memory_strength", NAN, "below infinity"),
        ("memory_strength", INF, "below infinity"),
        ("low_score", "high", "number below infinity or nothing"),
        ("bank_device", 3, "Text"),
        ("stored_layers", "10", "list"),
        ("retrieval_layers", [1, "a"], "list"),
        ("preset", ["own"], "Text"),
    ],
)
def test_a_memory_setting_of_another_type_is_refused(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError, match=name) as refused:
        MemoryConfig.from_dict({name: value})
    assert allowed in refused.value.allowed


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": NAN},
        {"temperature": INF},
        {"memory_strength": NAN},
        {"top_k": "3"},
        {"top_k": 0},
        {"max_tokens": 2.5},
        {"stop": "word"},
        {"stop": ("word", "")},
        {"documents": ["0"]},
        {"record_attention": 1},
        {"retrieve_every": -1},
        {"history": -1},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        AskOptions(**options)


def test_a_memory_that_is_off_is_strict_json():
    off = MemoryConfig(memory_strength=float("-inf"))
    assert MemoryConfig.from_dict(json.loads(json.dumps(off.to_dict(), allow_nan=False))) == off


def test_lists_become_tuples_and_minus_infinity_is_a_strength() -> None:
    config = MemoryConfig(stored_layers=[1, 2], memory_strength=-INF, low_score=1)
    assert config.stored_layers == (1, 2) and MemoryConfig.from_dict(config.to_dict()) == config
    assert AskOptions(documents=[0], stop=["."]).documents == (0,)
    assert hash(AskOptions(masked=range(3))) == hash(AskOptions(masked=(0, 1, 2)))


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match="capacity_tokens"):
        MemoryConfig.from_dict({"capacity_token": 5})


@pytest.mark.parametrize("kind", [AskOptions, MemoryConfig])
def test_unknown_names_are_refused_with_the_nearest_one_however_they_come(kind: type) -> None:
    for build in (kind, kind().replace):
        with pytest.raises(ConfigError, match="Did you mean 'top_k'"):
            build(topk=3)


def test_chunks_looked_at_twice_are_none_or_some_and_none_by_default() -> None:
    with pytest.raises(ConfigError) as refused:
        MemoryConfig(rerank_candidates=-1)
    parts = (refused.value.given, refused.value.allowed, refused.value.do)
    assert parts == ("rerank_candidates=-1.", "0 (off) or more.", "Try four times top_k.")
    for value in (2.5, True, None, "12"):
        with pytest.raises(ConfigError, match="rerank_candidates"):
            MemoryConfig(rerank_candidates=value)  # type: ignore[arg-type]
    assert MemoryConfig().rerank_candidates == 0 and MemoryConfig(rerank_candidates=12).rerank_candidates == 12
