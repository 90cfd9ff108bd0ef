"""Runs as processes: started, followed, stopped, resumed, found again by another app, and never mistaken for others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.recipes import TRAINING, command_line, parse_overrides, recipes, shown
from app.text import at_home
from app.training_runs import RECORD, Run, Runs
from memlong.errors import ConfigError, MemLongError

FAKE = (sys.executable, str(Path(__file__).with_name("fake_training.py")))
LONG = ("steps=1000000",)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path / "runs", FAKE)
    yield made
    for name in made.names():
        if made.get(name).alive:
            made.stop(name)
            until(made, name, lambda run: not run.alive)


def until(runs: Runs, name: str, wanted: Callable[[Run], bool]) -> Run:
    """Wait for a state of a run; a run that ends by itself ends the waiting."""
    while not wanted(run := runs.get(name)):
        assert run.alive, f"{run.state}: {run.log}"
        time.sleep(0.02)
    return run


def test_a_run_goes_to_its_end_and_leaves_an_export(runs: Runs) -> None:
    assert runs.start("tiny", (), "one").state != "failed"  # a busy machine may look only after its end
    run = until(runs, "one", lambda run: run.state == "done")
    assert [step.step for step in run.steps] == [1, 2, 3]
    assert (run.steps[1].held_out, run.steps[0].held_out) == (2.0, None)
    assert run.export == run.folder / "export"
    assert "done at step 3" in run.log
    assert runs.names() == ["one"]
    assert runs.free_name("tiny") == "tiny-1"


def test_stop_keeps_what_was_done_and_resume_goes_on(runs: Runs) -> None:
    runs.start("long", LONG, "one")
    until(runs, "one", lambda run: len(run.steps) > 2)
    assert runs.stop("one").state in ("stopping", "stopped")
    stopped = until(runs, "one", lambda run: not run.alive)
    assert stopped.state == "stopped"
    assert stopped.export is not None
    with pytest.raises(ConfigError, match="not running"):
        runs.stop("one")
    assert runs.resume("one").state in ("starting", "running")
    with pytest.raises(ConfigError, match="is running"):
        runs.resume("one")
    again = until(runs, "one", lambda run: len(run.steps) > len(stopped.steps))
    assert f"resumed at step {len(stopped.steps)}" in again.log
    assert again.state == "running"


def test_the_same_run_is_not_started_twice_at_a_time(runs: Runs) -> None:
    runs.start("long", LONG, "one")
    with pytest.raises(ConfigError, match="one is running with these very settings"):
        runs.start("long", LONG, "two")
    assert runs.names() == ["one"], "nothing is left of the refused one"
    runs.start("tiny", (), "another")
    runs.stop("one")
    until(runs, "one", lambda run: not run.alive)
    assert runs.start("long", LONG, "two").alive


def test_another_app_finds_a_run_and_can_stop_it(runs: Runs) -> None:
    runs.start("long", LONG, "one")
    until(runs, "one", lambda run: bool(run.steps))
    other = Runs(runs.folder, FAKE)
    assert other.get("one").state == "running"
    other.stop("one")
    assert until(other, "one", lambda run: not run.alive).state == "stopped"


def test_runs_have_a_process_group_of_their_own(runs: Runs) -> None:
    record = runs.start("long", LONG, "one").record
    assert os.getpgid(record.pid) == record.pid != os.getpgid(0)


def test_a_number_that_another_process_got_is_never_signalled(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.start("tiny", (), "one")
    record = until(runs, "one", lambda run: run.state == "done").record
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    try:
        # Whether the start or the command differs: it is not the process that was started.
        for forged in (replace(record, pid=stranger.pid), replace(record, pid=stranger.pid, created=time.time())):
            runs._write(forged)
            assert not runs.get("one").alive
            with pytest.raises(ConfigError):
                runs.stop("one")
    finally:
        stranger.communicate(b"\n")
    assert sent == []
    assert stranger.returncode == 0


def test_failures_are_told_with_their_log(runs: Runs) -> None:
    runs.start("tiny", ("steps=0",), "one")
    while (run := runs.get("one")).alive:
        time.sleep(0.02)
    assert run.state == "failed"
    assert "RuntimeError: no such data" in run.log
    assert run.export is None


def test_a_killed_run_has_failed_and_can_be_resumed(runs: Runs) -> None:
    record = runs.start("long", LONG, "one").record
    until(runs, "one", lambda run: len(run.steps) > 1)
    os.kill(record.pid, signal.SIGKILL)
    while runs.get("one").alive:
        time.sleep(0.02)
    assert runs.get("one").state == "failed"
    assert runs.resume("one").alive


def test_a_run_can_be_stopped_before_it_listens_even_by_an_app_in_the_background(runs: Runs) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a shell does to programs in the background
    try:
        runs.start("tiny", ("steps=-1",), "one")
    finally:
        signal.signal(signal.SIGINT, before)
    assert until(runs, "one", lambda run: "loading" in run.log).state == "starting"
    runs.stop("one")
    while (run := runs.get("one")).alive:
        time.sleep(0.02)
    assert run.state == "stopped"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "-x", "a b", "x" * 65])
def test_names_that_leave_the_folder_are_refused(runs: Runs, name: str) -> None:
    with pytest.raises(ConfigError):
        runs.start("tiny", (), name)
    with pytest.raises(ConfigError):
        runs.get(name)


def test_two_runs_do_not_share_a_name(runs: Runs) -> None:
    runs.start("tiny", (), "one")
    with pytest.raises(ConfigError, match="exists"):
        runs.start("tiny", (), "one")


def test_a_damaged_record_is_told(runs: Runs) -> None:
    (runs.folder / "bad").mkdir(parents=True)
    (runs.folder / "bad" / RECORD).write_text(json.dumps({"name": "bad"}))
    with pytest.raises(MemLongError, match="damaged"):
        runs.get("bad")
    (runs.folder / "bad" / RECORD).unlink()


def test_the_real_command_line_tells_its_recipes_and_values() -> None:
    known = recipes(TRAINING)
    assert {"mini", "tiny"} <= set(known)
    assert all(known.values())
    values = shown("tiny", ("steps=9", "memory.top_k=3"), TRAINING)
    assert (values["steps"], values["memory.top_k"]) == (9, 3)
    with pytest.raises(ConfigError) as refused:
        shown("tiny", ("stps=9",), TRAINING)
    assert refused.value.given == "Unknown setting 'stps'."
    assert refused.value.do == "Did you mean 'steps'?"


def test_overrides_are_pairs_and_never_options() -> None:
    assert parse_overrides("steps=100 memory.top_k=8\nname='a b'  # why") == ("steps=100", "memory.top_k=8", "name=a b")
    assert parse_overrides("  ") == ()
    for text in ("steps", "--out=/x", "-c=1", "a;b=1", "x='"):
        with pytest.raises(ConfigError):
            parse_overrides(text)


def test_commands_are_shown_as_a_terminal_takes_them() -> None:
    assert command_line((sys.executable, "-m", "training", "run", "x", "a=b c")) == "python -m training run x 'a=b c'"


def test_nobody_is_told_whose_home_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path("/people/some body")
    monkeypatch.setattr(Path, "home", lambda: home)
    command = ("run", f"data={home}/texts", "--out", f"{home}/runs/my run")
    line = command_line(command)
    assert line == "run 'data=/people/some body/texts' --out ~/'runs/my run'"
    shell = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, env={"HOME": str(home)}, check=True
    )
    assert tuple(shell.stdout.splitlines()) == command, "a shell takes it for the same"
    assert at_home(f"saved in {home}/runs, not /srv{home}/runs") == f"saved in ~/runs, not /srv{home}/runs"
