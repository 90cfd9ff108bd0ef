"""Saving a bank and reading it back: safetensors and JSON, nothing pickled, replaced in one step.

Shapes: N chunks held, E embedding size, S stored layers, G key/value heads, C chunk tokens, D head size.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from memlong.bank.bank import Bank
from memlong.bank.capacity import Capacity
from memlong.bank.ledger import ChunkRecord, Ledger
from memlong.bank.memory import require_memory
from memlong.bank.savefolder import SavedFolder, damaged, saving
from memlong.bank.store import KVShape, KVStore
from memlong.bank.tensorfile import Rows, write_tensors
from memlong.errors import PersistError
from memlong.index.faiss import FlatIndex

TENSORS, LEDGER, EXTRA = "bank.safetensors", "ledger.json", "extra.json"
_EMBEDDINGS = "embeddings"
_FIELDS = [field.name for field in fields(ChunkRecord)]


@dataclass(frozen=True)
class SavedFiles:
    """The caller's own files in a saved folder; each is checked when it is read."""

    _saved: SavedFolder

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [name for name in self._saved.names if name not in (TENSORS, LEDGER, EXTRA)]

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises:
            PersistError: when it is damaged or was not saved.
        """
        return self._saved.read(name)


class LoadedBank(NamedTuple):
    """What :func:`load` returns.

    Attributes:
        bank: with the ids, counts, pins, capacity and policy it had. extra: the caller's JSON. files: its
            files.
    """

    bank: Bank
    extra: dict[str, Any]
    files: SavedFiles


def save(
    bank: Bank,
    folder: Path | str,
    fingerprint: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    names: Mapping[str, str] | None = None,
) -> None:
    """Save a bank; an older save in the folder is replaced in one step, or stays whole.

    Args:
        fingerprint: JSON-safe values that must be equal for the bank to be of use: model, retriever,
            settings.
        extra: JSON-safe values of the caller, given back by :func:`load`. files: its files, by plain name.
        names: what people call values of the fingerprint that are hashes, for the refusal of another set-up.

    Raises:
        PersistError: for a file name that is a path or is taken.
    """
    records = bank.records()
    store, ledger = bank.store, bank.ledger
    about = {
        "fingerprint": dict(fingerprint),
        "names": dict(names or {}),
        "shape": asdict(store.shape),
        "dtype": store.dtype,
        "scale_dtype": store.scale_dtype,
        "slots": store.slots,
        "capacity": asdict(bank.capacity),
        "policy": bank.policy.name,
        "embedding_dim": bank.index.dim,
    }
    columns = {name: [getattr(record, name) for record in records] for name in _FIELDS}
    tensors = {name: Rows(tensor, columns["slot"]) for name, tensor in store.tensors.items()}
    embeddings = torch.empty(len(records), bank.index.dim)
    for row, record in enumerate(records):
        embeddings[row] = torch.from_numpy(bank.embedding(record.chunk_id))
    tensors[_EMBEDDINGS] = Rows(embeddings, range(len(records)))
    with saving(folder, about) as save:
        with save.open(TENSORS) as file:
            write_tensors(file, tensors)
        books = {"clock": ledger.clock, "half_life": ledger.half_life, "columns": columns}
        save.write(LEDGER, json.dumps(books).encode())
        save.write(EXTRA, json.dumps(dict(extra or {})).encode())
        for name, content in (files or {}).items():
            save.write(name, content)


def load(
    folder: Path | str,
    fingerprint: Mapping[str, Any],
    device: torch.device | str = "cpu",
    names: Mapping[str, str] | None = None,
) -> LoadedBank:
    """Read a saved bank back; its K-V go from the page cache to their slots in one copy.

    Args:
        fingerprint: of the model, retriever and settings that will use it. device: where the K-V shall lie.
        names: as for :func:`save`.

    Raises:
        PersistError: when nothing is saved there, it is damaged, or it was made by another set-up.
        BankError: when it does not fit into the memory.
    """
    saved = SavedFolder(folder)
    with _trusting(saved):
        _refuse_other_setup(saved, fingerprint, names or {})
        shape, slots = KVShape(**saved.about["shape"]), int(saved.about["slots"])
        dtype, scale_dtype = saved.about["dtype"], saved.about["scale_dtype"]
        needed = slots * shape.chunk_tokens * shape.bytes_per_token(dtype, scale_dtype)
    require_memory(needed, slots * shape.chunk_tokens, device)
    with _trusting(saved):
        bank = _filled(saved, KVStore(slots, shape, dtype, device, scale_dtype))
        return LoadedBank(bank, saved.read_json(EXTRA), SavedFiles(saved))


@contextmanager
def _trusting(saved: SavedFolder) -> Iterator[None]:
    """Turn what goes wrong when the content is not what a save has written into words about that."""
    try:
        yield
    except PersistError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError) as error:
        raise damaged(saved.folder, str(error)) from error


def _refuse_other_setup(saved: SavedFolder, fingerprint: Mapping[str, Any], names: Mapping[str, str]) -> None:
    # Through JSON, as the saved one went: tuples become lists.
    was, now = saved.about["fingerprint"], json.loads(json.dumps(dict(fingerprint)))
    differing = sorted(key for key in was.keys() | now.keys() if was.get(key) != now.get(key))

    def words(values: Mapping[str, Any], called: Mapping[str, str]) -> str:
        named = {key: f" ({called[key]})" if key in called else "" for key in differing}
        return ", ".join(f"{key}={values.get(key)!r}{named[key]}" for key in differing)

    if differing:
        raise PersistError(
            f"The session in {saved.folder} was made with {words(was, saved.about.get('names', {}))}",
            f"Here it would be used with {words(now, names)}",
            "Open it with what it was made with, or read the documents again",
        )


def _filled(saved: SavedFolder, store: KVStore) -> Bank:
    about, books = saved.about, saved.read_json(LEDGER)
    columns = [books["columns"][name] for name in _FIELDS]
    records = [ChunkRecord(*values) for values in zip(*columns, strict=True)]
    for record in records:
        record.span = (record.span[0], record.span[1])  # JSON made a list of it
    ledger = Ledger(books["half_life"], books["clock"])
    index = FlatIndex(about["embedding_dim"])
    bank = Bank(store, index, Capacity(**about["capacity"]), about["policy"], ledger)
    # Tensors of the file are views of its pages: nothing is read before it is copied to its slot.
    with safe_open(saved.checked(TENSORS), framework="pt") as file:
        for name, slots in store.tensors.items():
            slots[: len(records)].copy_(file.get_tensor(name))
        bank.adopt(records, file.get_tensor(_EMBEDDINGS).numpy())
    return bank
