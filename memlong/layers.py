"""Layers as people write them: ``8, 18, 28`` or ``8-29``."""

from __future__ import annotations

import re

from memlong.errors import ConfigError

_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_MOST_LAYERS = 1000  # of a range in a link, so that nobody makes us count to a billion


def parse_layers(text: str) -> tuple[int, ...]:
    """Return layers written as ``8, 18, 28`` or ``8-29``, ascending.

    Raises:
        ConfigError: for anything else.
    """
    found: set[int] = set()
    for part in re.split(r"[,\s]+", text.strip()):
        span = _RANGE.fullmatch(part)
        if span and int(span[1]) <= int(span[2]) < _MOST_LAYERS:
            found.update(range(int(span[1]), int(span[2]) + 1))
        elif part.isdecimal() and len(part) < 10:
            found.add(int(part))
        elif part:
            raise ConfigError(f"Layers {text[:60]!r}", "Numbers from 0, as in 8, 18, 28 or 8-29", "Write them so")
    return tuple(sorted(found))


def layers_text(layers: tuple[int, ...]) -> str:
    """Return layers as :func:`parse_layers` takes them; neighbours are drawn together."""
    parts: list[str] = []
    start = previous = None
    for layer in [*layers, None]:
        if previous is not None and layer == previous + 1:
            previous = layer
            continue
        if start is not None:
            parts.append(str(start) if start == previous else f"{start}-{previous}")
        start = previous = layer
    return ",".join(parts)
