"""Two CPU processes on gloo do what one process with twice the rows does."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.forks import Fork
from training.data.prepare import PrepareOptions, prepare

# What `accelerate launch` tells the processes, beside their number, with each of the configuration files.
LAUNCHED = {
    "Copies": {},
    "Sharded": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "Zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
}


@dataclass(frozen=True)
class Written:
    """What every process needs: a model and a text in files."""

    folder: Path
    model: Path
    text: Path

    def train(self, world: int, shares: str) -> tuple[list[dict[str, Any]], Path]:
        """Train two rows in so many processes; returns what each of them tells, and the folder they wrote to."""
        out = self.folder / f"{shares}{world}"
        out.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = [str(out), str(self.model), str(self.text), str(2 // world)]
        for run in [start(words, rank, world, port, shares, out) for rank in range(world)]:
            status, _, wrong = run.end()
            assert status == 0, wrong[-3000:]
        return [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(world)], out


def start(words: list[str], rank: int, world: int, port: int, shares: str, out: Path) -> Fork:
    environment = {"ACCELERATE_USE_CPU": "true"}
    if world > 1:
        environment |= LAUNCHED[shares] | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return Fork("tests.training.stages.two_processes", words, environment, out / f"logs{rank}")


@pytest.fixture(scope="module")
def written(tiny_llama, tiny_tokenizer, tmp_path_factory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    tiny_llama().save_pretrained(folder / "model")
    tiny_tokenizer.save_pretrained(folder / "model")
    books = folder / "books"
    books.mkdir()
    for number in range(7):
        words = f"The harbour master kept ledger {number}. The bridge was rebuilt in stone. "
        (books / f"{number}.txt").write_text(words * (6 + 2 * number))
    prepare(PrepareOptions((str(books),), held_out=0.2, near_copies=0), tiny_tokenizer, folder / "text")
    return Written(folder, folder / "model", folder / "text")


@pytest.fixture(scope="module")
def alone(written: Written) -> tuple[list[dict[str, Any]], Path]:
    """What one process tells: it knows of no shares, so all ways to share are held to the same one."""
    return written.train(1, "Alone")


@pytest.mark.parametrize("shares", LAUNCHED)
def test_two_processes_train_as_one_with_their_rows(shares, written, alone):
    if shares == "Zero2":
        pytest.importorskip("deepspeed")
    told, out = {}, {}
    told[1], out[1] = alone
    told[2], out[2] = written.train(2, shares)
    (one,), (first, second) = told[1], told[2]
    assert (first["rows"], second["rows"]) == (0, 1)
    assert [a + b for a, b in zip(first["places"], second["places"], strict=True)] == one["places"]
    assert first["held"] + second["held"] == one["held"]
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-4) and first["losses"] == second["losses"]
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(one["weights"], rel=1e-3)
    assert first["judged"] == second["judged"] == pytest.approx(one["judged"], abs=1e-4)
    assert first["shares"] == shares
    by_one, together = (load_file(out[w] / "export/adapter/adapter_model.safetensors") for w in (1, 2))
    assert by_one.keys() == together.keys()
    for name, tensor in by_one.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-2, rtol=1e-2)  # in half precision
