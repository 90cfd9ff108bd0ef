"""The data folder is where its owner says, or where the platform keeps such things."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from memlong.paths import data_dir


def test_the_environment_decides(monkeypatch, tmp_path):
    monkeypatch.setenv("MEMLONG_DATA_DIR", str(tmp_path))
    assert data_dir() == tmp_path


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"HOME": "/somebody"}, "/somebody/.local/share/memlong"),
        ("linux", {"XDG_DATA_HOME": "/elsewhere"}, "/elsewhere/memlong"),
        ("darwin", {"HOME": "/somebody"}, "/somebody/Library/Application Support/memlong"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/memlong"),
    ],
)
def test_else_the_platform_does(monkeypatch, platform, variables, expected):
    for name in ("MEMLONG_DATA_DIR", "XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert data_dir() == Path(expected)
