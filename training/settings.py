"""What every recipe's configuration can do: JSON in and out, ``key=value`` texts, unknown keys refused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any, Self

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, unknown_name
from memlong.layers import parse_layers


class Settings:
    """Base of the frozen dataclasses of runs; a field ``memory``, where there is one, is a :class:`MemoryConfig`."""

    recipe: str
    memory: MemoryConfig

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-safe values that :meth:`from_dict` takes back."""
        values = asdict(self)  # type: ignore[call-overload]
        if "memory" in values:
            values["memory"] = self.memory.to_dict()
        return dict(json.loads(json.dumps(values)))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from plain values.

        Raises:
            ConfigError: for unknown keys, with the nearest known name.
        """
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
        result = {}
        for key, value in values.items():
            if key not in known:
                raise unknown_name("setting", key, known)
            if key == "memory" and not isinstance(value, MemoryConfig):
                value = MemoryConfig.from_dict(value)
            result[key] = tuple(value) if isinstance(value, list) else value
        return cls(**result)

    def override(self, items: Mapping[str, str]) -> Self:
        """Return a copy with ``key=value`` texts applied; ``memory.key`` reaches the memory's settings.

        Raises:
            ConfigError: for unknown keys or values of the wrong type.
        """
        values = self.to_dict()
        memory = values.get("memory", {})
        for key, text in items.items():
            target, name = (memory, key[7:]) if key.startswith("memory.") else (values, key)
            if name not in target or name == "memory":
                known = [*(k for k in values if k != "memory"), *(f"memory.{k}" for k in memory)]
                raise unknown_name("setting", key, known)
            target[name] = _parse(key, text, target[name])
        return self.from_dict(values)


def at_least_one(settings: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigError for a count below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name}={getattr(settings, name)}", "A whole number from 1", f"Raise {name}")


def above_zero(settings: Any, names: tuple[str, ...]) -> None:
    """Raise ConfigError for a number that is not above 0."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise ConfigError(f"{name}={getattr(settings, name)}", "A number above 0", f"Leave {name} out")


def assignments(items: Iterable[str]) -> dict[str, str]:
    """Return ``key=value`` texts as key -> value.

    Raises:
        ConfigError: for a text of another form.
    """
    texts = list(items)
    for item in texts:
        if "=" not in item:
            raise ConfigError(f"Setting {item!r}", "key=value", "Write for example steps=100")
    return dict(item.split("=", 1) for item in texts)


def _parse(key: str, text: str, now: Any) -> Any:
    try:
        if key.endswith("_layers"):
            return list(parse_layers(text))
        if isinstance(now, list):
            parts = [part for part in text.split(",") if part]
            if any(isinstance(each, float) for each in now):
                return [float(part) for part in parts]
            return [int(part) for part in parts] if all(part.isdigit() for part in parts) else parts
        if isinstance(now, bool):
            return {"true": True, "false": False}[text.lower()]
        return type(now)(text) if now is not None else float(text)
    except (KeyError, ValueError):
        raise ConfigError(f"{key}={text}", f"A value like {now!r}", f"Write {key}={now}") from None
