"""Number types: as asked for, else as measured, else as they fit."""

from __future__ import annotations

import pytest
import torch

from memlong.errors import ModelError
from memlong.model import dtypes
from memlong.model.dtypes import choose_types, named_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bf16", torch.bfloat16),
        ("float16", torch.float16),
        (torch.float32, torch.float32),
        ("auto", None),
    ],
)
def test_names(name, expected):
    assert named_dtype(name) == expected


def test_unknown_names_are_refused():
    with pytest.raises(ModelError, match="Did you mean 'bf16'"):
        choose_types("bf61", None, CPU)
    with pytest.raises(ModelError, match="Known: 4bit, 8bit"):
        choose_types("auto", "2bit", CPU)


def test_asked_for_is_taken():
    types = choose_types("fp16", None, CPU)
    assert (types.weights, types.arithmetic, types.bank) == ("float16", torch.float16, "float16")


def test_auto_follows_the_measurement(monkeypatch):
    for measured in (torch.bfloat16, torch.float32):
        monkeypatch.setattr(dtypes, "fastest_dtype", lambda device, d=measured: (d, "measured"))
        types = choose_types("auto", None, CPU)
        assert (types.arithmetic, types.bank, types.reason) == (measured, "bfloat16", "measured")


def test_float32_gives_way_where_it_would_not_fit(monkeypatch):
    monkeypatch.setattr(dtypes, "fastest_dtype", lambda device: (torch.float32, "measured"))
    assert choose_types("auto", None, CPU, parameters=10**6).arithmetic == torch.float32
    large = choose_types("auto", None, CPU, parameters=10**15)
    assert large.arithmetic == torch.bfloat16
    assert "not fit" in large.reason
    assert choose_types("fp32", None, CPU, parameters=10**15).arithmetic == torch.float32


def test_quantised_weights_have_their_own_arithmetic(monkeypatch):
    monkeypatch.setattr(dtypes, "fastest_dtype", lambda device: (torch.float32, "measured"))
    assert choose_types("auto", "8bit", CPU).arithmetic == torch.bfloat16
    four = choose_types("auto", "4bit", CPU, parameters=10**15)
    assert (four.weights, four.arithmetic) == ("4bit", torch.float32)
    with pytest.raises(ModelError, match="8-bit weights"):
        choose_types("fp32", "8bit", CPU)
