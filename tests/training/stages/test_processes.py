"""Two CPU processes on gloo do what one process with twice the rows does."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.data.prepare import PrepareOptions, prepare

ROOT = Path(__file__).resolve().parents[3]


# What `accelerate launch` tells the processes, beside their number, with each of the configuration files.
LAUNCHED = {
    "Copies": {},
    "Sharded": {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"},
    "Zero2": {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"},
}


def start(arguments: list[str], rank: int, world: int, port: int, shares: str) -> subprocess.Popen[bytes]:
    distributed = LAUNCHED[shares] | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    distributed |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true"}
    environment = os.environ | (distributed if world > 1 else {"ACCELERATE_USE_CPU": "true"})
    command = [sys.executable, "-m", "tests.training.stages.two_processes", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)


@pytest.mark.parametrize("shares", LAUNCHED)
def test_two_processes_train_as_one_with_their_rows(shares, tmp_path, tiny_llama, tiny_tokenizer):
    if shares == "Zero2":
        pytest.importorskip("deepspeed")
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer.save_pretrained(tmp_path / "model")
    books = tmp_path / "books"
    books.mkdir()
    for number in range(7):
        words = f"The harbour master kept ledger {number}. The bridge was rebuilt in stone. "
        (books / f"{number}.txt").write_text(words * (6 + 2 * number))
    prepare(PrepareOptions((str(books),), held_out=0.2, near_copies=0), tiny_tokenizer, tmp_path / "text")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {}
    for world in (1, 2):
        out = tmp_path / f"world{world}"
        out.mkdir()
        arguments = [str(out), str(tmp_path / "model"), str(tmp_path / "text"), str(2 // world)]
        running = [start(arguments, rank, world, port, shares) for rank in range(world)]
        for process in running:
            said = process.communicate()[1].decode(errors="replace")
            assert process.returncode == 0, said[-3000:]
        told[world] = [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(world)]
    (one,), (first, second) = told[1], told[2]
    assert (first["rows"], second["rows"]) == (0, 1)
    assert [a + b for a, b in zip(first["places"], second["places"], strict=True)] == one["places"]
    assert first["held"] + second["held"] == one["held"]
    assert first["losses"] == pytest.approx(one["losses"], abs=1e-4) and first["losses"] == second["losses"]
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(one["weights"], rel=1e-3)
    assert first["judged"] == second["judged"] == pytest.approx(one["judged"], abs=1e-4)
    assert first["shares"] == shares
    alone, together = (load_file(tmp_path / f"world{w}/export/adapter/adapter_model.safetensors") for w in (1, 2))
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=1e-2, rtol=1e-2)  # in half precision
