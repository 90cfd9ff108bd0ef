"""The recorded numbers of a correct MemLong forward pass, reached by the public classes: MemoryModel and Bank."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

from memlong.attention.context import MassObserver, MemoryContext
from memlong.bank.bank import Bank
from memlong.bank.ledger import ChunkPlace
from memlong.bank.store import KVShape
from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from tests.memlong.model.plain_llama import plain_forward

FOLDER = Path(__file__).parents[2] / "fixtures" / "parity"
CASES = sorted(path.stem for path in FOLDER.glob("*.json"))
TOLERANCE = {"float32": 2e-5, "bfloat16": 5e-4}


@cache
def llama() -> LlamaForCausalLM:
    sizes = json.loads((FOLDER / f"{CASES[0]}.json").read_text())["config"]
    names = (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings "
        "rms_norm_eps rope_theta pad_token_id"
    )
    model = LlamaForCausalLM(LlamaConfig(**{name: sizes[name] for name in names.split()}, tie_word_embeddings=False))
    model.load_state_dict(load_file(FOLDER / "weights.safetensors"))
    return model.eval().requires_grad_(False)


class Reader:
    """What a session does for every batch row, without its retriever: the cases say what is retrieved."""

    def __init__(self, config: dict[str, Any], rows: int) -> None:
        size = config["mem_group_size"]
        self.model = MemoryModel(
            llama(), None,
            MemoryConfig(
                preset="paper", stored_layers=(config["mem_layer"],), retrieval_layers=tuple(config["ret_attn_layers"]),
                chunk_tokens=size, window_tokens=size, capacity_tokens=config["memory_size"],
                store_dtype=config["mem_dtype"],
            ),
        )  # fmt: skip
        spec, memory = self.model.spec, self.model.config
        shape = KVShape(1, spec.kv_heads, size, spec.head_dim)
        self.banks = [Bank.create(shape, 4, memory.capacity_tokens, dtype=memory.store_dtype) for _ in range(rows)]
        self.evicted = 0

    def store(self, ids_BT: Tensor) -> None:
        """Read one window by itself and write its chunks, the last one as short as it comes."""
        kv, size = self.model.read(ids_BT), self.model.config.chunk_tokens
        for row, bank in enumerate(self.banks):
            for start in range(0, ids_BT.shape[1], size):
                end = min(start + size, ids_BT.shape[1])
                place = ChunkPlace(0, bank.ledger.clock, (start, end), end - start)
                bank.write(place, np.eye(4, dtype=np.float32)[0], *kv.piece(row, start, end))

    def evict(self, evicted_before: int) -> None:
        """Let the oldest go until as many have left as the case says."""
        for chunk_id in range(self.evicted, evicted_before):
            for bank in self.banks:
                bank.delete(chunk_id)
        self.evicted = evicted_before

    def memory(self, retrieved: Sequence[Sequence[int]] | None, **kwargs: Any) -> MemoryContext | None:
        if not retrieved:
            return None
        rows = []
        for bank, ids in zip(self.banks, retrieved, strict=True):
            gathered = bank.gather(ids, self.model.dtype, self.model.device)
            rows.append((gathered.keys_SNGCD, gathered.values_SNGCD, bank.lengths(ids)))
        return self.model.stack_memory(rows, **kwargs)

    def stored(self) -> tuple[Tensor, Tensor]:
        """Return keys and values [B, G, M, D] of all chunks held, in order."""
        joined: tuple[list[Tensor], list[Tensor]] = ([], [])
        for bank in self.banks:
            ids = [record.chunk_id for record in bank.records()]
            for states, parts in zip(bank.gather(ids, torch.float32), joined, strict=True):
                chunks = [states[0, i, :, :length] for i, length in enumerate(bank.lengths(ids))]
                parts.append(torch.cat(chunks, dim=1))
        return torch.stack(joined[0]), torch.stack(joined[1])


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("observed", [False, True])
def test_recorded_case(name: str, observed: bool) -> None:
    case, want = json.loads((FOLDER / f"{name}.json").read_text()), load_file(FOLDER / f"{name}.safetensors")
    reader = Reader(case["config"], case["batch"])
    tolerance, ids = TOLERANCE[case["config"]["mem_dtype"]], want["input_ids"]
    reading = case["steps"][: len(case["steps"]) - case["decode"]]
    done, logits = 0, []
    for index, step in enumerate(reading):
        reader.evict(step["evicted_before"])
        assert all(bank.ledger.clock == step["entries_stored_before"] for bank in reader.banks)
        window = ids[:, done : done + step["n_tokens"]]
        done += step["n_tokens"]
        kept = DynamicCache() if case["decode"] and index == len(reading) - 1 else None
        memory = reader.memory(step["retrieved"], observer=MassObserver() if observed else None)
        logits.append(reader.model.forward(window, memory, past_key_values=kept).logits)
        if kept is None:
            reader.store(window)
    assert (logits[-1] - want["logits_last_context"]).abs().max() < tolerance
    assert (torch.cat(logits[:2], 1) - want["logits_first_two_chunks"]).abs().max() < tolerance
    lengths = torch.tensor(case["stored_entry_lengths"])
    gone = int(lengths[: reader.evicted].sum())
    for got, name in zip(reader.stored(), ("memory_keys", "memory_values"), strict=True):
        close = tolerance if case["config"]["mem_dtype"] == "float32" else 0.02  # one rounding may flip
        assert (got - want[name][:, :, gone:].float()).abs().max() < close
    last = reading[-1]["n_tokens"]
    for j, step in enumerate(case["steps"][len(reading) :]):
        memory = reader.memory(step["retrieved"], observer=MassObserver() if observed else None)
        token = want["decode_ids"][:, j : j + 1]
        out = reader.model.forward(token, memory, past_key_values=kept, start=last + j)
        assert (out.logits[:, 0] - want["decode_logits"][:, j]).abs().max() < tolerance


VARIANTS = {
    "two rows, other chunks": {"rows": 2, "retrieved": [[0, 3], [1, 4]], "windows": [16] * 6},
    "two rows, other counts": {"rows": 2, "retrieved": [[0, 3, 5], [2]], "windows": [16] * 6},
    "short chunks": {"rows": 1, "retrieved": [[0, 1, 2, 4]], "windows": [16, 5, 16, 16, 1, 16]},
    "chunks cut short by the window": {"rows": 2, "retrieved": [[1, 3], [0, 1]], "windows": [23, 40]},
    "one-token context": {"rows": 1, "retrieved": [[1, 2]], "windows": [16] * 4, "last": 1},
    "memory layer retrieves": {"rows": 2, "retrieved": [[0, 1], [1, 2]], "windows": [16] * 3, "layers": (2, (2, 3, 5))},
    "one layer above": {"rows": 1, "retrieved": [[0, 2]], "windows": [16] * 3, "layers": (0, (5,))},
    "after many left": {"rows": 1, "retrieved": [[29, 32, 35]], "windows": [16] * 36, "evicted": 28},
    "bias for all": {"rows": 2, "retrieved": [[0, 1], [1]], "windows": [16] * 3, "strength": -1.5},
    "bias per head": {"rows": 2, "retrieved": [[0, 1], [1]], "windows": [16] * 3, "bias": True},
    "chunks of 512": {"rows": 1, "retrieved": [[0]], "windows": [200], "chunk": 512},
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("observed", [False, True])
def test_unrecorded_case_equals_the_formula(name: str, observed: bool) -> None:
    variant = VARIANTS[name]
    stored, retrieving = variant.get("layers", (2, (3, 4, 5)))
    config = {
        "mem_group_size": variant.get("chunk", 16), "mem_layer": stored, "ret_attn_layers": retrieving,
        "memory_size": 512, "mem_dtype": "float32",
    }  # fmt: skip
    reader = Reader(config, variant["rows"])
    torch.manual_seed(0)
    learned = {layer: torch.randn(4) for layer in retrieving} if variant.get("bias") else None
    reader.model.bias = learned
    strength = float(variant.get("strength", 0.0))
    chunks: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(variant["rows"])]
    for tokens in variant["windows"]:
        window = torch.randint(1, 128, (variant["rows"], tokens))
        reader.evict(max(0, reader.banks[0].ledger.clock - 32) if "evicted" in variant else 0)
        reader.store(window)
        for row, parts in enumerate(chunks):
            keys, values = plain_forward(llama(), window[row]).kv[stored]
            size = config["mem_group_size"]
            parts += zip(keys.split(size, 1), values.split(size, 1), strict=True)
    reader.evict(variant.get("evicted", 0))
    ids = torch.randint(1, 128, (variant["rows"], variant.get("last", 32)))
    observer = MassObserver(last_only=False) if observed else None
    memory = reader.memory(variant["retrieved"], strength=strength, observer=observer)
    got = reader.model.forward(ids, memory).logits
    mass = observer.take() if observer else {}
    for row, chosen in enumerate(variant["retrieved"]):
        far = tuple(torch.cat([chunks[row][i][part] for i in chosen], 1) for part in (0, 1))
        truth = plain_forward(llama(), ids[row], dict.fromkeys(retrieving, far), learned or strength)
        assert (got[row] - truth.logits).abs().max() < 2e-5
        lengths = [chunks[row][i][0].shape[1] for i in chosen]
        for layer, shares in mass.items():
            want = torch.stack([part.sum(-1) for part in truth.weights[layer].split([*lengths, ids.shape[1]], -1)], -1)
            torch.testing.assert_close(shares[row, ..., : len(chosen)], want[..., :-1], atol=2e-6, rtol=1e-4)
            assert not shares[row, ..., len(chosen) :].any()
    without = reader.model.forward(ids).logits
    assert (got - without).abs().max() > 1e-3
