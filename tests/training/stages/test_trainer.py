"""Stages on a tiny model: frozen means frozen, memory is read and written, and a resumed run repeats itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes.nn import Linear4bit

from memlong.config import MemoryConfig
from memlong.errors import MemLongError
from memlong.model.load import load_model
from memlong.retriever.hashing import HashingRetriever
from training import base
from training.data.prepare import PrepareOptions, prepare
from training.merging import merge
from training.recipes import RECIPES, recipe
from training.run import export
from training.stages.build import build
from training.stages.config import StageConfig
from training.stages.trainer import StageTrainer

MEMORY = MemoryConfig(
    preset="paper", chunk_tokens=16, window_tokens=32, top_k=2, capacity_tokens=96, store_dtype="float32"
)


@pytest.fixture(scope="module")
def text(tmp_path_factory, tiny_tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("text")
    for number in range(8):
        words = f"The harbour master kept ledger {number}. Who kept the ledger? The bridge was rebuilt in stone. "
        (folder / f"{number}.txt").write_text(words * (6 + 2 * number))
    prepare(PrepareOptions((str(folder),), held_out=0.2, near_copies=0), tiny_tokenizer, folder / "out")
    return folder / "out"


@pytest.fixture
def config(text) -> StageConfig:
    return StageConfig(
        "test",
        memory=MEMORY,
        text=str(text),
        lora_rank=4,
        lora_alpha=4,
        steps=8,
        batch_size=2,
        warmup_steps=1,
        learning_rate=5e-3,
        retriever="hashing",
        eval_every=4,
        eval_windows=6,
        save_every=3,
        threads=1,
        arithmetic="float32",
    )


@pytest.fixture
def make(config, tiny_llama, tiny_tokenizer, tmp_path):
    def made(name: str = "run", changed: StageConfig = config) -> StageTrainer:
        return build(changed, tmp_path / name, tiny_llama(), tiny_tokenizer, HashingRetriever(64))

    return made


def losses(trainer: StageTrainer, stop_after: int = 0) -> list[float]:
    seen: list[float] = []
    trainer.run(lambda report: seen.append(report.loss), stopped=lambda: len(seen) == stop_after > 0)
    return seen


def test_lower_layers_and_stored_kv_do_not_change_by_a_bit(make):
    trainer = make()
    ids = torch.arange(3, 35)[None]
    stored = trainer.model.read(ids).keys_SBGTD.clone(), trainer.model.read(ids).values_SBGTD.clone()
    before = {name: p.detach().clone() for name, p in trainer.model.model.named_parameters()}
    trainer.run()
    changed = {name for name, p in trainer.model.model.named_parameters() if not torch.equal(p, before[name])}
    assert changed and changed <= set(trainer.parameters)
    memory_layer = trainer.model.layout.stored_layers[0]
    assert all(int(name.split(".layers.")[1].split(".")[0]) > memory_layer for name in changed)
    assert any("norm" in name for name in changed)
    after = trainer.model.read(ids)
    assert torch.equal(after.keys_SBGTD, stored[0]) and torch.equal(after.values_SBGTD, stored[1])


def test_memory_is_written_read_and_cleared(make):
    trainer = make()
    chunks: list[int] = []
    for step in range(12):
        starts = trainer.plan.at(trainer.first_row, step).window == 0
        trainer.train_step()
        trainer.step += 1
        held = len(trainer.memory.rows[0].bank)
        assert held <= MEMORY.capacity_tokens // MEMORY.chunk_tokens
        if starts:
            assert held <= MEMORY.window_tokens // MEMORY.chunk_tokens
        chunks.append(held)
    assert max(chunks) == MEMORY.capacity_tokens // MEMORY.chunk_tokens
    result = trainer.evaluate()
    assert result["loss"] != result["loss_without_memory"]


@pytest.mark.parametrize("stop", [3, 5])
def test_a_resumed_run_repeats_the_uninterrupted_one(make, stop):
    whole = losses(make("whole"))
    seen = losses(make("halves"), stop)
    second = make("halves")
    assert second.resume() and second.step == stop
    assert seen + losses(second) == pytest.approx(whole, abs=1e-5)


def test_accumulation_is_part_of_the_plan(make, config):
    trainer = make(changed=replace(config, accumulate=2))
    for expected in (0, 1):
        assert trainer.plan.at(0, expected).window == trainer.plan.at(0, 0).window + expected
    whole = losses(trainer)
    halves = losses(make("halves", replace(config, accumulate=2)), 3)
    second = make("halves", replace(config, accumulate=2))
    second.resume()
    assert halves + losses(second) == pytest.approx(whole, abs=1e-5)


def test_checkpointing_passes_memory(make, config):
    """Computing activations again gives the same losses and the same weights."""
    plain, again = make("plain"), make("again", replace(config, checkpointing=True))
    assert losses(plain) == pytest.approx(losses(again), abs=1e-5)
    for name, parameter in plain.parameters.items():
        torch.testing.assert_close(parameter, again.parameters[name], atol=1e-4, rtol=1e-3)


def test_maps_are_fitted_and_trained_with_the_bias(make, config):
    memory = MEMORY.replace(preset="interpolated")
    trainer = make(changed=replace(config, memory=memory, train_bias=True, fit_tokens=600))
    extra = {name: p.detach().clone() for name, p in trainer.parameters.items() if "lora" not in name}
    maps = {name for name in extra if name.startswith("maps.")}
    assert maps and any(name.startswith("head_bias.") for name in extra)
    trainer.run()
    assert all(not torch.equal(trainer.parameters[name], extra[name]) for name in maps)
    assert any(bool(trainer.parameters[name].any()) for name in extra if name.startswith("head_bias."))


def test_the_best_checkpoint_is_kept_and_metrics_tell_the_speed(make):
    trainer = make()
    trainer.run()
    rows = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    judged = [row["evaluation"]["loss"] for row in rows if row["evaluation"]]
    best = json.loads((trainer.folder / "best" / "state.json").read_text())
    assert best["best"] == pytest.approx(min(judged)) and all(row["tokens_per_second"] > 0 for row in rows)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_windows(make):
    trainer = make()
    with torch.no_grad():
        next(iter(trainer.parameters.values())).fill_(float("nan"))
    with pytest.raises(MemLongError, match="finite"):
        trainer.run()
    assert json.loads((trainer.folder / "non-finite-0-0.json").read_text())[0]


def test_a_base_of_four_bits_learns_and_stays(config, tiny_llama, tiny_tokenizer, tmp_path):
    """QLoRA: frozen weights are quantised, the adapter is not, and gradients pass through them after reading too."""
    tiny_llama().save_pretrained(tmp_path / "model"), tiny_tokenizer.save_pretrained(tmp_path / "model")
    changed = replace(config, model=str(tmp_path / "model"), quantization="4bit")
    model, tokenizer = base.load_base(changed.model, changed.quantization)
    trainer = build(changed, tmp_path / "run", model, tokenizer, HashingRetriever(64))
    frozen = {n: p.detach().clone() for n, p in trainer.model.model.named_parameters() if not p.requires_grad}
    assert any(type(p).__name__ == "Params4bit" for p in trainer.model.model.parameters())
    assert all(p.dtype == torch.float32 for p in trainer.parameters.values())
    first = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    assert len(losses(trainer)) == config.steps
    assert not [name for name, p in trainer.parameters.items() if torch.equal(p, first[name])]
    now = dict(trainer.model.model.named_parameters())
    assert not [name for name, before in frozen.items() if not torch.equal(now[name], before)]
    layer = next(m for m in trainer.model.model.modules() if isinstance(m, Linear4bit))
    layer.eval()(torch.zeros(1, layer.in_features))
    given = torch.ones(1, layer.in_features, requires_grad=True)
    layer(given).sum().backward()
    assert given.grad is not None and bool(given.grad.any())


@pytest.mark.parametrize("name", [n for n in RECIPES if isinstance(recipe(n), StageConfig)])
def test_every_stage_takes_steps_at_toy_width(name, make, config, tiny_llama, tiny_tokenizer, tmp_path):
    """The recipe as it is, but for sizes: 26 layers where it names layers, toy width, a few steps."""
    wanted = recipe(name)
    small = wanted.memory.replace(chunk_tokens=16, window_tokens=32, capacity_tokens=96)
    changed = replace(
        wanted, model="toy", memory=small, text=config.text, lora_rank=4, steps=2, batch_size=2, threads=1,
        eval_every=2, eval_windows=2, fit_tokens=600,
    )  # fmt: skip
    layers = 26 if small.stored_layers else 6
    trainer = build(changed, tmp_path / name, tiny_llama(layers=layers), tiny_tokenizer, HashingRetriever(64))
    assert len(losses(trainer)) == 2


@pytest.mark.parametrize("name", ["stage1-toy", "stage2-toy"])
def test_what_was_trained_on_the_toy_is_loaded_wherever_it_lies(
    name, config, tiny_llama, tiny_tokenizer, tmp_path, monkeypatch
):
    tiny_llama().save_pretrained(tmp_path / "base"), tiny_tokenizer.save_pretrained(tmp_path / "base")
    monkeypatch.setattr(base, "_where", lambda name: str(tmp_path / "base"))
    small = recipe(name).memory.replace(chunk_tokens=16, window_tokens=32, capacity_tokens=96)
    changed = replace(recipe(name), memory=small, text=config.text, steps=2, threads=1, eval_every=2, eval_windows=2)
    trainer = build(changed, tmp_path / name, *base.load_base(changed.model), HashingRetriever(64))
    trainer.run()
    export(trainer, tmp_path / "export")
    monkeypatch.undo()
    moved = (tmp_path / "export").rename(tmp_path / "moved")
    loaded, ids = load_model(moved, dtype="fp32"), torch.tensor([[5, 6, 7, 8]])
    assert loaded.adapts and loaded.config == small
    assert len({path.stat().st_mode for path in moved.iterdir() if path.is_file()}) == 1
    trainer.model.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.forward(ids).logits, trainer.model.forward(ids).logits, atol=2e-2, rtol=0)
    torch.testing.assert_close(loaded.read(ids).keys_SBGTD, trainer.model.read(ids).keys_SBGTD)
    merge(moved, tmp_path / "merged")
    merged = load_model(tmp_path / "merged", dtype="fp32")
    assert not merged.adapts
    torch.testing.assert_close(merged.forward(ids).logits, loaded.forward(ids).logits, atol=1e-4, rtol=1e-4)
