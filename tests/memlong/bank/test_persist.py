"""Saving and loading: nothing is lost, nothing is half there, nothing foreign is taken in."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from memlong.bank import memory, persist, savefolder
from memlong.bank.bank import Bank
from memlong.bank.formats import FORMATS
from memlong.bank.ledger import ChunkPlace
from memlong.bank.persist import load, save
from memlong.bank.store import KVShape
from memlong.errors import BankError, PersistError

SHAPE = KVShape(stored_layers=2, kv_heads=2, chunk_tokens=4, head_dim=4)
ROOT = Path(__file__).resolve().parents[3]
FINGERPRINT = {"model": "tiny", "retriever": "hashing-8", "stored_layers": (1, 2)}


def make_bank(chunks: int, dtype: str = "float32", seed: int = 0) -> Bank:
    """Return a lived-in bank: short chunks, triggers, a pin, holes among the ids."""
    rng = np.random.default_rng(seed)
    bank = Bank.create(SHAPE, 8, 40, "lru", dtype)
    for n in range(chunks):
        tokens = 4 if n % 3 else 2
        vector = rng.normal(size=8).astype(np.float32)
        keys, values = torch.from_numpy(rng.normal(size=(2, 2, 2, tokens, 4)).astype(np.float32))
        bank.write(ChunkPlace(n // 5, n % 5, (n * 9, n * 9 + 9), tokens), vector, keys, values, step=n)
        bank.trigger([hit.chunk_id for hit in bank.search(vector, 2)], step=n)
        bank.evict()
    if chunks > 3:
        bank.pin(chunks - 2)
        bank.delete(chunks - 3)
    return bank


def content(bank: Bank) -> tuple[Any, ...]:
    """Return all that makes a bank what it is; slots may differ."""
    ids = [record.chunk_id for record in bank.records()]
    rows = [{name: getattr(record, name) for name in record.__slots__ if name != "slot"} for record in bank.records()]
    numbers = [states.tolist() for states in bank.gather(ids, torch.float32)]
    vectors = [bank.embedding(id).tolist() for id in ids]
    ledger, store = bank.ledger, bank.store
    settings = (bank.capacity, bank.policy.name, store.shape, store.dtype, store.scale_dtype, store.slots)
    return (
        rows,
        numbers,
        vectors,
        settings,
        (ledger.clock, ledger.half_life, ledger.pinned_tokens, bank.tokens),
    )


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("chunks", [0, 1, 25])
def test_a_bank_comes_back_as_it_was(tmp_path: Path, dtype: str, chunks: int) -> None:
    bank = make_bank(chunks, dtype)
    save(bank, tmp_path, FINGERPRINT)
    loaded = load(tmp_path, FINGERPRINT)
    assert content(loaded.bank) == content(bank)
    assert (loaded.extra, loaded.files.names) == ({}, [])


def test_a_loaded_bank_lives_on(tmp_path: Path) -> None:
    bank = make_bank(25)
    save(bank, tmp_path, FINGERPRINT)
    again = load(tmp_path, FINGERPRINT).bank
    keys = torch.ones(2, 2, 4, 4)
    for each in (bank, again):
        for _ in range(6):
            record = each.write(ChunkPlace(9, 0, (0, 1), 4), np.ones(8, np.float32), keys, -keys)
            each.evict()
        assert record.chunk_id == 30
    assert content(again) == content(bank)


def test_the_caller_gets_its_json_and_its_files_back(tmp_path: Path) -> None:
    extra = {"documents": [{"title": "Straße 7"}], "strength": -0.5}
    files = {"0.txt": "Grüße".encode(), "trace.jsonl": b"", "raw.bin": bytes(range(256))}
    save(make_bank(3), tmp_path, FINGERPRINT, extra, files)
    loaded = load(tmp_path, FINGERPRINT)
    assert loaded.extra == extra
    assert {name: loaded.files.read(name) for name in loaded.files.names} == files
    with pytest.raises(PersistError, match=r"1\.txt was not saved"):
        loaded.files.read("1.txt")


def test_a_new_save_takes_the_place_of_the_old_and_leaves_nothing_behind(tmp_path: Path) -> None:
    save(make_bank(10), tmp_path, FINGERPRINT, files={"old.txt": b"old"})
    save(make_bank(5, seed=1), tmp_path, FINGERPRINT, files={"new.txt": b"new"})
    loaded = load(tmp_path, FINGERPRINT)
    assert content(loaded.bank) == content(make_bank(5, seed=1))
    assert loaded.files.names == ["new.txt"]
    assert len(list(tmp_path.iterdir())) == 2  # manifest and one data folder


def test_the_tensor_file_is_plain_safetensors(tmp_path: Path) -> None:
    bank = make_bank(8, "bfloat16")
    save(bank, tmp_path, FINGERPRINT)
    (path,) = tmp_path.glob("*/bank.safetensors")
    ids = [record.chunk_id for record in bank.records()]
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == {"kv", "embeddings"}
        keys_NSGCD = file.get_tensor("kv")[:, :, 0]
        assert torch.equal(keys_NSGCD.transpose(0, 1), bank.gather(ids).keys_SNGCD)
    assert path.stat().st_size % 4 == 0


# ------------------------------------------------------------------------------------- other set-ups


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model": "other"}, r"model='tiny'.*model='other'"),
        ({"stored_layers": (1, 3)}, r"stored_layers=\[1, 2\].*stored_layers=\[1, 3\]"),
        ({"model": "x", "retriever": "y"}, r"model='tiny', retriever='hashing-8'"),
        ({"dtype": "new"}, r"dtype=None.*dtype='new'"),
    ],
)
def test_a_bank_of_another_set_up_is_refused_by_name(tmp_path: Path, change: dict, words: str) -> None:
    save(make_bank(3), tmp_path, FINGERPRINT)
    with pytest.raises(PersistError, match=words):
        load(tmp_path, FINGERPRINT | change)


def test_a_refusal_says_what_hashes_are_called(tmp_path: Path) -> None:
    save(make_bank(3), tmp_path, FINGERPRINT, names={"model": "folder/one"})
    with pytest.raises(PersistError, match=r"model='tiny' \(folder/one\).*model='other' \(folder/two\)"):
        load(tmp_path, FINGERPRINT | {"model": "other"}, names={"model": "folder/two"})


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_saved_files_may_be_read_by_whom_the_user_lets(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save(make_bank(3), tmp_path / "saved", FINGERPRINT)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "saved").rglob("*")}
    assert modes == {0o640, 0o750}


def test_an_equal_fingerprint_may_have_gone_through_json(tmp_path: Path) -> None:
    save(make_bank(3), tmp_path, FINGERPRINT)
    assert len(load(tmp_path, json.loads(json.dumps(FINGERPRINT))).bank) == 3


def test_a_bank_that_does_not_fit_is_refused_for_that_and_not_as_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(make_bank(3), tmp_path, FINGERPRINT)
    monkeypatch.setattr(memory, "available_bytes", lambda device: 10)
    with pytest.raises(BankError, match="of memory are free"):
        load(tmp_path, FINGERPRINT)


# ------------------------------------------------------------------------------------------- damage


def data_file(folder: Path, name: str) -> Path:
    (path,) = folder.glob(f"data-*/{name}")
    return path


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "tensors cut short": (lambda f: os.truncate(data_file(f, "bank.safetensors"), 300), "instead of"),
    "tensors changed": (lambda f: flip(data_file(f, "bank.safetensors")), "bank.safetensors was changed"),
    "ledger changed": (lambda f: flip(data_file(f, "ledger.json")), "ledger.json was changed"),
    "extra changed": (lambda f: flip(data_file(f, "extra.json")), "extra.json was changed"),
    "ledger gone": (lambda f: data_file(f, "ledger.json").unlink(), "ledger.json is missing"),
    "data folder gone": (lambda f: shutil.rmtree(next(f.glob("data-*"))), "is missing"),
    "manifest cut short": (lambda f: os.truncate(f / "manifest.json", 50), "cannot be read"),
    "manifest nested": (lambda f: (f / "manifest.json").write_text("[" * 100_000), "cannot be read"),
    "manifest empty": (lambda f: (f / "manifest.json").write_text(""), "cannot be read"),
    "manifest of no sense": (
        lambda f: (f / "manifest.json").write_text("[1]"),
        "cannot be read",
    ),
    "manifest points outside": (lambda f: edit(f, lambda m: m.update(data="../x")), "no save has written"),
    "file outside": (
        lambda f: edit(f, lambda m: m["files"].update({"../x": {"bytes": 1, "crc32": 1}})),
        "no save has written",
    ),
    "shape of no sense": (lambda f: edit(f, lambda m: m["about"]["shape"].update(kv_heads=7)), "damaged"),
    "shape without a field": (lambda f: edit(f, lambda m: m["about"]["shape"].pop("kv_heads")), "damaged"),
    "fingerprint of no sense": (lambda f: edit(f, lambda m: m["about"].update(fingerprint="x")), "damaged"),
    "unknown policy": (lambda f: edit(f, lambda m: m["about"].update(policy="x")), "damaged"),
    "unknown type": (lambda f: edit(f, lambda m: m["about"].update(dtype="x")), "damaged"),
    "too few slots": (lambda f: edit(f, lambda m: m["about"].update(slots=1)), "damaged"),
}


@pytest.mark.parametrize("damage, words", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_is_refused_and_named(tmp_path: Path, damage: Callable[[Path], object], words: str) -> None:
    save(make_bank(20), tmp_path, FINGERPRINT)
    damage(tmp_path)
    with pytest.raises(PersistError, match=words.replace(".", r"\.")):
        load(tmp_path, FINGERPRINT)


def test_damage_to_a_file_of_the_caller_is_found_when_it_is_read(tmp_path: Path) -> None:
    save(make_bank(2), tmp_path, FINGERPRINT, files={"a.txt": b"aaa"})
    flip(data_file(tmp_path, "a.txt"))
    with pytest.raises(PersistError, match=r"a\.txt was changed"):
        load(tmp_path, FINGERPRINT).files.read("a.txt")


def test_a_folder_without_a_save_and_a_newer_format_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PersistError, match="Nothing is saved in"):
        load(tmp_path / "nowhere", FINGERPRINT)
    save(make_bank(2), tmp_path, FINGERPRINT)
    edit(tmp_path, lambda manifest: manifest.update(version=99))
    with pytest.raises(PersistError, match="in format 99"):
        load(tmp_path, FINGERPRINT)


@pytest.mark.parametrize("name", ["../a", "a/b", "a\\b", "", "..", "C:a", persist.TENSORS])
def test_file_names_are_plain_and_free_and_a_refusal_changes_nothing(tmp_path: Path, name: str) -> None:
    save(make_bank(2), tmp_path, FINGERPRINT)
    with pytest.raises(PersistError, match="Plain file names"):
        save(make_bank(3), tmp_path, FINGERPRINT, files={name: b""})
    assert len(load(tmp_path, FINGERPRINT).bank) == 2
    assert len(list(tmp_path.iterdir())) == 2


# ------------------------------------------------------------------------------------------- crashes


class PowerCut(Exception):
    """The machine stops."""


class Fuse:
    """Lets so many operations on the disk pass; from then on nothing reaches it, clean-up included."""

    def __init__(self, operations: int) -> None:
        self.left = operations
        self.blown = False

    def guard(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                self.blown = True
                raise PowerCut
            return real(*args, **kwargs)

        return guarded


@pytest.fixture
def fuse(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Fuse]]:
    """Return a function that puts a fuse before every operation that a save makes on the disk."""

    def install(operations: int) -> Fuse:
        new = Fuse(operations)
        monkeypatch.setattr(Path, "mkdir", new.guard(mkdir))
        monkeypatch.setattr(savefolder._Counted, "write", new.guard(write))
        monkeypatch.setattr(savefolder, "sync", new.guard(sync))
        monkeypatch.setattr(Path, "write_bytes", new.guard(write_bytes))
        monkeypatch.setattr(os, "replace", new.guard(replace))
        monkeypatch.setattr(shutil, "rmtree", new.guard(rmtree))
        return new

    mkdir, write, sync = Path.mkdir, savefolder._Counted.write, savefolder.sync
    write_bytes, replace, rmtree = Path.write_bytes, os.replace, shutil.rmtree
    yield install
    monkeypatch.undo()


def test_a_power_cut_at_any_operation_leaves_the_old_or_the_new_state(
    tmp_path: Path, fuse: Callable[[int], Fuse], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = make_bank(12), make_bank(7, seed=1)
    old_content, new_content = content(old), content(new)
    outcomes = []
    for operations in range(100):
        folder = tmp_path / str(operations)
        save(old, folder, FINGERPRINT, {"state": "old"}, {"a.txt": b"old"})
        cut = fuse(operations)
        with suppress(PowerCut):
            save(new, folder, FINGERPRINT, {"state": "new"}, {"a.txt": b"new"})
        blown = cut.blown
        monkeypatch.undo()
        loaded = load(folder, FINGERPRINT)
        state = loaded.extra["state"]
        assert content(loaded.bank) == (old_content if state == "old" else new_content)
        assert loaded.files.read("a.txt") == state.encode()
        outcomes.append(state)
        save(new, folder, FINGERPRINT)  # the next save clears away what was left
        assert len(list(folder.iterdir())) == 2
        if not blown:
            break
    assert not blown
    assert outcomes == sorted(outcomes, reverse=True)  # old until the one moment, then new
    assert {"old", "new"} == set(outcomes)
    assert len(outcomes) > 15


def test_a_power_cut_during_the_first_save_leaves_nothing_to_load(
    tmp_path: Path, fuse: Callable[[int], Fuse], monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse(6)
    with pytest.raises(PowerCut):
        save(make_bank(5), tmp_path, FINGERPRINT)
    monkeypatch.undo()
    with pytest.raises(PersistError, match="Nothing is saved"):
        load(tmp_path, FINGERPRINT)


def test_a_full_disk_leaves_the_old_state_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(make_bank(5), tmp_path, FINGERPRINT)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(savefolder._Counted, "write", full)
    with pytest.raises(PersistError, match="No space left"):
        save(make_bank(9), tmp_path, FINGERPRINT)
    monkeypatch.undo()
    assert len(load(tmp_path, FINGERPRINT).bank) == len(make_bank(5))
    assert len(list(tmp_path.iterdir())) == 2


SAVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import runpy
tests = runpy.run_path(sys.argv[3])
banks = [tests["make_bank"](12), tests["make_bank"](7, seed=1)]
turn = 0
while True:
    tests["save"](banks[turn % 2], sys.argv[1], tests["FINGERPRINT"], {"turn": turn % 2})
    print("saved", flush=True)
    turn += 1
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with kill -9")
def test_a_killed_process_leaves_a_whole_state(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SAVER, str(tmp_path), str(ROOT), __file__]
    expected = [content(make_bank(12)), content(make_bank(7, seed=1))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(7)]
        process.kill()  # in the middle of the eighth save
    assert lines == ["saved\n"] * 7
    assert process.returncode == -signal.SIGKILL
    loaded = load(tmp_path, FINGERPRINT)
    assert content(loaded.bank) == expected[loaded.extra["turn"]]
    save(make_bank(3), tmp_path, FINGERPRINT)
    assert len(list(tmp_path.iterdir())) == 2
