"""Recipes of the training package, as its command line tells them: the app imports nothing of it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.text import at_home
from memlong.errors import ConfigError

ROOT = Path(__file__).resolve().parents[1]
TRAINING: tuple[str, ...] = (sys.executable, "-m", "training")
"""How the training package's command line is started, from :data:`ROOT`."""


def recipes(program: Sequence[str] = TRAINING) -> dict[str, str]:
    """Return what each recipe is for, by name. Raises ConfigError when the command line does not answer."""
    return {str(name): str(words) for name, words in _told(program, "list", "--json").items()}


def shown(recipe: str, overrides: Sequence[str] = (), program: Sequence[str] = TRAINING) -> dict[str, Any]:
    """Return every value of a recipe with ``key=value`` overrides; nested names are joined by dots.

    Raises:
        ConfigError: for what the training package refuses, in its words.
    """
    return dict(_flat(_told(program, "show", recipe, *overrides)))


def parse_overrides(text: str) -> tuple[str, ...]:
    """Return ``key=value`` items of a text, one a line or with blanks between them; quotes keep blanks together.

    Raises:
        ConfigError: for anything else.
    """
    try:
        items = tuple(shlex.split(text, comments=True))
    except ValueError as error:
        raise ConfigError(f"Settings that do not parse ({error})", "key=value items", "Close the quotes") from None
    for item in items:
        name, equals, _ = item.partition("=")
        # A leading dash would make an option of it.
        if not equals or not name.replace("_", "").replace(".", "").isalnum():
            raise ConfigError(f"Setting {item!r}", "key=value, with blanks or line ends between", "Write steps=100")
    return items


def command_line(command: Sequence[str]) -> str:
    """Return a command as a person types it into a terminal; their own folder is ``~``, as a shell knows it."""
    words = ["python" if word == sys.executable else at_home(word) if word[:1] == "/" else word for word in command]
    # Quoted or behind another letter, the sign would stand for itself.
    return " ".join("~/" + shlex.quote(word[2:]) if word.startswith("~/") else shlex.quote(word) for word in words)


def _told(program: Sequence[str], *arguments: str) -> dict[str, Any]:
    """Run a short command and return the JSON object that it prints."""
    done = subprocess.run(
        [*program, *arguments], cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    if done.returncode:
        said = done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}"
        raise _refusal(said.splitlines()[-1][:2000])
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        given = f"{command_line([*program, *arguments])} printed no JSON"
        raise ConfigError(given, "The training package of this version", "Update it together with the app") from None


def _refusal(line: str) -> ConfigError:
    """Return an error of the three parts that the command line printed as one line."""
    sentences = re.split(r"(?<=[.?!]) (?=[A-Z])", line)
    if len(sentences) < 3:
        return ConfigError(line, "", "")
    return ConfigError(sentences[0], " ".join(sentences[1:-1]), sentences[-1])


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for name, value in values.items():
        items += _flat(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]
    return items
