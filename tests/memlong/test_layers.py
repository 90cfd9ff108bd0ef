"""Layers as people write them."""

from __future__ import annotations

import pytest

from memlong.errors import ConfigError
from memlong.layers import layers_text, parse_layers


@pytest.mark.parametrize(
    ("text", "layers", "short"),
    [("", (), ""), ("8, 18 28", (8, 18, 28), "8,18,28"), ("3-5,9", (3, 4, 5, 9), "3-5,9"), ("2,1,2", (1, 2), "1-2")],
)
def test_layers_are_written_short(text: str, layers: tuple[int, ...], short: str) -> None:
    assert parse_layers(text) == layers
    assert layers_text(layers) == short


@pytest.mark.parametrize("text", ["5-3", "0-99999999999", "-1", "a", "9" * 5_000])
def test_layers_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_layers(text)
