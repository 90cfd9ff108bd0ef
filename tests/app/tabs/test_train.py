"""The Train tab's handlers, on a training command that learns nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.context import App
from app.settings import Settings
from app.tabs import train, train_pieces
from app.training_runs import Run, Runs
from tests.app.test_training_runs import FAKE

LONG = "steps=1000000"


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path, FAKE)
    yield made
    for name in made.names():
        if made.get(name).alive:
            made.stop(name)
        while made.get(name).alive:
            time.sleep(0.02)


def wait(runs: Runs, name: str, steps: int) -> Run:
    while len((run := runs.get(name)).steps) < steps:
        assert run.alive, run.log
        time.sleep(0.02)
    return run


def test_a_recipe_is_described_with_its_command(runs: Runs) -> None:
    (menu,) = train.offered(runs, None)
    assert [name for name, _ in menu.choices] == ["long", "tiny"]
    assert menu.value == "tiny"
    purpose, values, command, said = train.described(runs, "tiny", "steps=7", "mine")
    assert "Over &lt;at&gt; once" in purpose
    assert '<dd class="ms-changed">7</dd>' in values
    assert "memory.top_k" in values
    assert "run tiny steps=7 --out" in command
    assert said == ""


@pytest.mark.parametrize(("text", "words"), [("stps=7", "Did you mean"), ("--out=/x", "key=value"), ("x", "key=value")])
def test_wrong_changes_are_told_and_start_nothing(runs: Runs, text: str, words: str) -> None:
    assert words in train.described(runs, "tiny", text, "")[-1]
    assert words in train.started(runs, "tiny", text, "one")[0]
    assert runs.names() == []


def test_a_value_that_training_refuses_is_told_in_its_words_and_starts_nothing(tmp_path: Path) -> None:
    runs = Runs(tmp_path / "runs")  # with the real command line
    said = train.started(runs, "tiny", "steps=-1", "one")[0]
    assert said == train.described(runs, "tiny", "steps=-1", "one")[-1]
    for part in ("steps=-1", "A whole number from 1", "Raise steps"):
        assert part in said
    assert runs.names() == []


@pytest.mark.parametrize("name", ["../evil", "a b", "x" * 70, "-x", ".."])
def test_a_name_that_cannot_be_is_told_before_the_start_is_pressed(runs: Runs, name: str) -> None:
    *_, command, said = train.described(runs, "tiny", "", name)
    assert "64 at most" in said
    assert "training" not in command and "run tiny" not in command, "a command that Start would refuse is not shown"
    assert "64 at most" in train.started(runs, "tiny", "", name)[0]


def test_the_command_that_is_shown_is_the_one_that_is_started(runs: Runs) -> None:
    *_, command, said = train.described(runs, "tiny", "steps=7", " mine ")
    assert said == ""
    assert f"{runs.folder.name}/mine" in command.replace("&#x27;", "")
    assert train.described(runs, "tiny", "stps=7", "")[2] == train_pieces.NO_COMMAND, "not that of other settings"
    assert "Over &lt;at&gt; once" in train.described(runs, "tiny", "stps=7", "")[0], "the recipe is what it was"


def test_recipes_that_cannot_be_had_are_waited_for_no_longer(tmp_path: Path) -> None:
    broken = Runs(tmp_path, (sys.executable, "-c", "raise SystemExit(3)"))
    purpose, _, command, said = train.described(broken, None, "", None)
    assert (purpose, command) == ("", train_pieces.NO_COMMAND) and said


def test_start_follow_stop_resume_and_load(runs: Runs) -> None:
    said, name, menu, state, stop, resume, load, *_, drawn, timer = train.started(runs, "long", LONG, " mine ")
    assert (said, name, menu.value) == ("", "long-1", "mine")
    assert (stop.interactive, resume.interactive, load.interactive, timer.active) == (True, False, False, True)
    run = wait(runs, "mine", 3)
    state, *_, log, loss, _, drawn, _ = train.followed(runs, "mine", None)
    assert "Training" in state
    assert "left" in state
    assert "started" in log
    assert len(loss.data[0].x) >= 3
    assert drawn[:2] == ("mine", "running")
    said, state, *_ = train.done(runs, "mine", runs.stop)
    assert said == ""
    while runs.get("mine").alive:
        time.sleep(0.02)
    state, stop, resume, load, *_, timer = train.followed(runs, "mine", drawn)
    assert "Stopped" in state
    assert (stop.interactive, resume.interactive, load.interactive, timer.active) == (False, True, True, False)
    folder, words = train.export_of(runs, "mine") or ("", "")
    assert folder == str(run.folder / "export")
    assert "mine" in words
    assert "not running" in train.done(runs, "mine", runs.stop)[0]
    assert train.done(runs, "mine", runs.resume)[0] == ""
    assert runs.get("mine").alive


def test_a_run_without_a_step_yet_is_not_told_to_be_started(runs: Runs) -> None:
    run = runs.start("long", (LONG,), "early")
    early = SimpleNamespace(get=lambda name: replace(run, steps=()))
    *_, loss, hesitation, _, _ = train.followed(early, "early", None)  # type: ignore[arg-type]
    for picture in (loss, hesitation):
        assert "Start a run" not in str(picture.layout.annotations)
        assert "first step" in str(picture.layout.annotations).replace("<br>", " ")


def test_pictures_are_sent_only_when_they_changed(runs: Runs) -> None:
    train.started(runs, "tiny", "", "one")
    while runs.get("one").alive:
        time.sleep(0.02)
    *_, loss, _, drawn, _ = train.followed(runs, "one", None)
    assert loss.data
    *_, again, _, same, _ = train.followed(runs, "one", drawn)
    assert not hasattr(again, "data")
    assert same == drawn


def test_a_reload_finds_the_newest_run(runs: Runs) -> None:
    assert "No run is chosen" in train.follow_newest(runs, None)[1]
    train.started(runs, "tiny", "", "one")
    menu, state, *_ = train.follow_newest(Runs(runs.folder, FAKE), "gone")
    assert menu.value == "one"
    assert "No run" not in state
    assert train.export_of(runs, "gone") is None


def test_runs_live_in_the_data_folder(tmp_path: Path) -> None:
    app = App.make(Settings(data_dir=tmp_path))
    assert train.runs_of(app).folder == tmp_path / "runs"


def test_a_public_app_has_no_buttons_that_start_anything() -> None:
    import gradio as gr

    from app.build import build

    page = build(App.make(Settings(host="0.0.0.0")))
    names = {fn.fn.__qualname__ for fn in page.fns.values() if fn.fn is not None}
    assert not [name for name in names if name.startswith("wire.<locals>") and "stop_run" in name]
    texts = [block.value for block in page.blocks.values() if isinstance(block, gr.HTML)]
    assert any("does not let visitors train" in str(text) for text in texts)


def test_what_a_run_prints_is_escaped_and_progress_bars_are_drawn_once() -> None:
    run: Any = SimpleNamespace(log="<b>\n 0%|\r50%|\r100%|\nend\n")
    text = train_pieces.log_box(run)
    assert "&lt;b&gt;\n100%|\nend" in text
    assert "50%" not in text
    assert "Nothing was printed" in train_pieces.log_box(None)


def test_a_failure_is_told_beside_the_run(runs: Runs) -> None:
    train.started(runs, "tiny", "steps=0", "one")
    while runs.get("one").alive:
        time.sleep(0.02)
    state, stop, resume, *_ = train.followed(runs, "one", None)
    assert "RuntimeError: no such data" in state
    assert (stop.interactive, resume.interactive) == (False, True)


def test_a_run_that_ended_before_its_first_step_has_no_checkpoint_to_go_on_from() -> None:
    for state in ("stopped", "failed"):
        run: Any = SimpleNamespace(state=state, steps=(), log="")
        assert "begins anew" in train_pieces.state(run) and "checkpoint" not in train_pieces.state(run)


def test_pace_in_words() -> None:
    assert train_pieces.pace(0.25) == "4.0 steps/s"
    assert train_pieces.pace(33) == "33 s a step"
