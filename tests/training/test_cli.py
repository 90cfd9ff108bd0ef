"""The command line of training: settings wherever they stand, and clear words for what is not one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training import cli
from training import settled as settling
from training.recipes import recipe


@pytest.mark.parametrize(
    "words",
    [
        ["steps=7", "memory.top_k=3", "--out", "here"],
        ["--out", "here", "steps=7", "memory.top_k=3"],
        ["steps=7", "--out", "here", "memory.top_k=3"],
        ["--out=here", "steps=7", "memory.top_k=3"],
    ],
)
def test_settings_stand_before_and_after_options(words, monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "run", lambda config, folder: asked.append((config, folder)) or 0)
    assert cli.main(["run", "tiny", *words]) == 0
    config, folder = asked[0]
    assert (config.recipe, config.steps, config.memory.top_k, folder) == ("tiny", 7, 3, Path("here"))


def test_show_takes_settings_after_its_option(capsys):
    assert cli.main(["show", "tiny", "--json", "steps=9"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 9


def test_layers_are_written_as_a_range(capsys):
    assert cli.main(["show", "tiny", "memory.retrieval_layers=2-4,7"]) == 0
    assert json.loads(capsys.readouterr().out)["memory"]["retrieval_layers"] == [2, 3, 4, 7]


def test_who_stops_reading_the_output_sees_no_traceback():
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        command = [sys.executable, "-m", "training", "show", "mini"]
        ended = subprocess.run(command, stdout=nobody, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.parametrize("place", ["before", "after"])
def test_what_is_no_setting_is_refused(place, monkeypatch, capsys):
    monkeypatch.setattr(cli, "run", lambda config, folder: pytest.fail("it ran"))
    option = ["--out", "here"]
    words = ["junk", *option] if place == "before" else [*option, "junk"]
    assert cli.main(["run", "tiny", *words]) == 2
    assert "'junk'" in (said := capsys.readouterr().err) and "key=value" in said
    words = ["step=7", *option] if place == "before" else [*option, "step=7"]
    assert cli.main(["run", "tiny", *words]) == 2
    assert "steps" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["run", "tiny", "--uot", "here", "steps=7"], ["list", "steps=7"], ["prepare", "a", "--out", "b", "--c=1"]]
)
def test_unknown_options_are_refused_by_name(words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    assert left.value.code == 2
    assert words[2 if words[0] == "run" else -1] in capsys.readouterr().err


@pytest.mark.parametrize("command", ["show", "estimate", "run"])
@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("tiny", "sources=squad:0", "The source squad:0"),
        ("tiny", "sources=qamr,nq:-1", "The source nq:-1"),
        ("tiny", "sources=squat", "Did you mean 'squad'"),
        ("tiny", "sources=", "sources= without a name"),
        ("tiny", "held_out=squad-evil", "Did you mean 'squad-eval'"),
        ("tiny", "start=nowhere/run", "start=nowhere/run, which is no folder"),
        ("stage2-bundled", "start=nowhere/run", "start=nowhere/run, which is no folder"),
        ("tiny", "model=./gone", "model=./gone, which is no folder"),
        ("stage1-bundled", "model=runs/a/gone", "model=runs/a/gone, which is no folder"),
    ],
)
def test_what_is_not_there_is_refused_before_anything_is_loaded(command, name, setting, said, monkeypatch, capsys):
    def loads(*given, **named):
        pytest.fail("it loads")

    monkeypatch.setattr("training.base.load_base", loads)
    monkeypatch.setattr("training.base.open_base_config", loads)
    assert cli.main([command, name, setting]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "setting", "said"),
    [
        ("tiny", "data=./gone", "data=gone, which is no folder"),
        ("stage1-bundled", "text=gone", "There is no manifest.json in gone"),
    ],
)
def test_a_run_without_its_text_is_refused_before_anything_is_loaded(
    name, setting, said, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("training.base.load_base", lambda *given, **named: pytest.fail("it loads"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", name, setting]) == 2
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert cli.main(["show", name, setting]) == 0, "nobody has to have it to look at a recipe"


def test_a_start_that_is_there_is_taken(tmp_path, capsys):
    assert cli.main(["show", "stage2-toy", f"start={tmp_path}"]) == 0
    assert json.loads(capsys.readouterr().out)["start"] == str(tmp_path)
    (tmp_path / "file").touch()
    assert cli.main(["show", "stage2-toy", f"start={tmp_path / 'file'}"]) == 2


def test_arithmetic_is_chosen_once_a_run(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(settling, "in_bfloat16", lambda name, device: asked.append(name) or name != "float32")
    config = recipe("stage1-toy")
    cpu = torch.device("cpu")
    assert config.arithmetic == "auto" and settling.settled(config, tmp_path, cpu).arithmetic == "bfloat16"
    begun = replace(config, arithmetic="float32").to_dict()
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint/state.json").write_text(json.dumps({"step": 3, "config": begun}))
    assert settling.settled(config, tmp_path, cpu).arithmetic == "float32"
    assert asked == ["auto", "float32"]
    given = replace(config, arithmetic="bfloat16")
    assert settling.settled(given, tmp_path, cpu) is given


def test_an_interrupt_is_said_in_words(monkeypatch, capsys):
    def interrupted(chosen):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.prepare_cli, "run", interrupted)
    assert cli.main(["prepare", "a", "--out", "b"]) == 130
    assert "the same command goes on" in capsys.readouterr().err
