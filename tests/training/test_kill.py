"""The real command, killed in the middle of a run: the same command goes on, and tells the same losses."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.training.forks import Fork
from training.data.jsonl import write_jsonl
from training.data.prepare import PrepareOptions, prepare
from training.metrics import forget_after

STEPS, KILLED_AFTER = 48, 5
KEEPERS = ["Ottoline", "Bram", "Sefa", "Willem", "Hester", "Ludo", "Marit", "Jonas"]


def command(recipe: str, out: Path, settings: list[str], logs: Path) -> Fork:
    return Fork("training", ["run", recipe, "--out", str(out), *settings], {"ACCELERATE_USE_CPU": "true"}, logs)


def ended(run: Fork) -> str:
    status, said, wrong = run.end()
    assert status == 0, wrong[-3000:]
    return said


def killed(run: Fork, metrics: Path) -> None:
    """Wait for a line of metrics that no checkpoint holds yet, then kill without warning."""
    while run.process.is_alive():
        if metrics.is_file() and metrics.read_bytes().count(b"\n") >= KILLED_AFTER:
            run.process.kill()
            break
        time.sleep(0.002)
    status, _, wrong = run.end()
    assert status == -signal.SIGKILL, wrong[-3000:]


def losses(out: Path) -> list[tuple[int, float]]:
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows]


def questions_about_keepers(folder: Path) -> None:
    """Write what the sources ``qamr`` and ``squad-eval`` read."""
    rows, text = [], ""
    for number in range(3):
        for index, keeper in enumerate(KEEPERS):
            sentence = f"The item {number}{index} was kept by {keeper} of the harbour. "
            question = {"question": f"Who kept the item {number}{index}?", "answers": [keeper]}
            rows.append(question | {"id": f"{number}-{index}", "doc_id": "d", "context": sentence})
            text += sentence
    write_jsonl(folder / "qa/train-qamr.jsonl.zst", rows)
    evidence = [row | {"evidence": [[text.find(row["context"]), len(text)]], "context": None} for row in rows]
    write_jsonl(folder / "longqa/eval-squad.jsonl.zst", evidence)
    write_jsonl(folder / "longqa/docs-squad.jsonl.zst", [{"doc_id": "d", "text": text}])


@pytest.fixture
def settings(tmp_path, tiny_llama, tiny_tokenizer) -> dict[str, list[str]]:
    """Return recipe -> settings that make it small."""
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    books = tmp_path / "books"
    for folder in ("books", "qa", "longqa"):
        (tmp_path / folder).mkdir()
    for number in range(6):
        (books / f"{number}.txt").write_text(
            f"The harbour master kept ledger {number}, and the bridge. " * (40 + number)
        )
    prepare(PrepareOptions((str(books),), held_out=0.2, near_copies=0), tiny_tokenizer, tmp_path / "text")
    questions_about_keepers(tmp_path)
    common = [f"model={tmp_path / 'model'}", "retriever=hashing", f"steps={STEPS}", "eval_every=1000", "save_every=4"]
    common += ["threads=1", "memory.chunk_tokens=32"]
    return {
        "tiny": [*common, "memory.window_tokens=32", f"data={tmp_path}", "batch_size=16"],
        "stage1-toy": [*common, f"text={tmp_path / 'text'}", "batch_size=4"],
    }


@pytest.mark.parametrize("recipe", ["tiny", "stage1-toy"])
def test_a_killed_run_goes_on_and_tells_the_same_losses(recipe, settings, tmp_path):
    ended(command(recipe, tmp_path / "whole", settings[recipe], tmp_path / "logs/whole"))
    whole = losses(tmp_path / "whole")
    assert [step for step, _ in whole] == list(range(1, STEPS + 1)) and len({loss for _, loss in whole}) > STEPS // 2
    begun = command(recipe, tmp_path / "killed", settings[recipe], tmp_path / "logs/killed")
    killed(begun, tmp_path / "killed/metrics.jsonl")
    assert not (tmp_path / "killed/export").exists()
    said = ended(command(recipe, tmp_path / "killed", settings[recipe], tmp_path / "logs/resumed"))
    resumed = int(said.split("resumed at step ")[1].split()[0])
    assert 4 <= resumed < STEPS and resumed % 4 == 0
    again = losses(tmp_path / "killed")
    assert [step for step, _ in again] == [step for step, _ in whole]
    assert [loss for _, loss in again] == pytest.approx([loss for _, loss in whole], abs=1e-4)
    assert (tmp_path / "killed/export/memory.json").is_file()


def test_steps_that_are_taken_again_are_told_once(tmp_path):
    forget_after(tmp_path, 3)
    lines = [json.dumps({"step": step}) + "\n" for step in range(1, 7)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 7, "lo')
    forget_after(tmp_path, 4)
    assert (tmp_path / "metrics.jsonl").read_text() == "".join(lines[:4])
