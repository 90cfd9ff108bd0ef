"""Training on a tiny model: it learns, it resumes exactly, and it leaves alone what must not change."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, MemLongError, PersistError
from memlong.model.load import load_model
from memlong.retriever.hashing import HashingRetriever
from training import run as running
from training.config import TrainConfig
from training.data import sources
from training.data.passages import cut
from training.data.questions import Question
from training.questions import collate
from training.recipes import RECIPES, recipe

KEEPERS = ["Ottoline", "Bram", "Sefa", "Willem", "Hester", "Ludo", "Marit", "Jonas"]


def documents(count: int = 4):
    """Tiny documents: who kept which thing, one fact a sentence."""
    for number in range(count):
        facts = [(f"item {number}{index}", keeper) for index, keeper in enumerate(KEEPERS)]
        text, questions = "", []
        for thing, keeper in facts:
            sentence = f"The {thing} was kept by {keeper} of the harbour. "
            span = (len(text), len(text) + len(sentence))
            questions.append(Question(f"{thing}", f"d{number}", f"Who kept the {thing}?", (keeper,), evidence=(span,)))
            text += sentence
        yield f"d{number}", text, questions


@pytest.fixture
def config(monkeypatch) -> TrainConfig:
    monkeypatch.setitem(sources.SOURCES, "keepers", lambda data: documents())
    monkeypatch.setitem(sources.SOURCES, "squad-eval", lambda data: documents(1))
    memory = MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=2, store_dtype="float32")
    return TrainConfig(
        "test",
        memory=memory,
        sources=("keepers",),
        lora_rank=4,
        lora_alpha=4,
        steps=6,
        batch_size=4,
        warmup_steps=1,
        warm_documents=2,
        documents_every=2,
        single_steps=2,
        max_chunks=2,
        eval_every=3,
        save_every=2,
        threads=1,
        learning_rate=5e-3,
    )


@pytest.fixture
def build(config, tiny_llama, tiny_tokenizer, tmp_path: Path):
    def make(name: str = "run", changed: TrainConfig = config):
        return running.build(changed, tmp_path / name, tiny_llama(), tiny_tokenizer, HashingRetriever(128))

    return make


def losses(trainer) -> list[float]:
    seen: list[float] = []
    trainer.run(lambda report: seen.append(report.loss))
    return seen


def test_the_loss_on_what_was_seen_falls(build, config):
    trainer = build(changed=replace(config, steps=40, single_steps=40))
    seen = losses(trainer)
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])
    rows = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 40 and rows[2]["evaluation"]["recall"] >= 0 and rows[0]["evaluation"] is None


def test_a_resumed_run_repeats_the_uninterrupted_one(build):
    whole = losses(build("whole"))
    first = build("halves")
    seen: list[float] = []
    first.run(lambda report: seen.append(report.loss), stopped=lambda: len(seen) == 3)
    second = build("halves")
    assert second.resume() and second.step == 3
    assert seen + losses(second) == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("end", ["done", "stopped", "failed"])
def test_what_draws_ahead_ends_with_the_run(build, end):
    def threads():
        return {thread for thread in threading.enumerate() if thread.name.startswith("questions")}

    def told(report):
        drawing.update(threads() - before)
        if end == "failed":
            raise OSError("the disk is full")

    before, drawing, trainer = threads(), set(), build()
    with pytest.raises(OSError) if end == "failed" else nullcontext():
        trainer.run(told, stopped=lambda: end == "stopped" and trainer.step == 1)
    assert trainer.step == (trainer.config.steps if end == "done" else 1)
    assert drawing and not drawing & threads()


def test_only_the_adapter_changes_and_stored_kv_stay(build):
    trainer = build()
    before = {name: p.detach().clone() for name, p in trainer.model.model.named_parameters()}
    trainer.memory.read("d0")
    kv = trainer.memory.rows("d0", [0])[0].clone()
    trainer.run()
    lowest = trainer.model.layout.retrieval_layers[0]
    for name, parameter in trainer.model.model.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == parameter.requires_grad or ("lora_A" in name and parameter.requires_grad), name
        if parameter.requires_grad:
            assert "lora_" in name and int(name.split(".layers.")[1].split(".")[0]) >= lowest
    ids = torch.tensor([trainer.sampler.documents[0].chunks[0].token_ids])
    torch.testing.assert_close(trainer.model.read(ids).keys_SBGTD[:, 0], kv[:, 0, :, : ids.shape[1]])


def test_memory_is_what_is_learned_from(build, config):
    """After training on single chunks, the held-out loss without the right chunk is higher than with it."""
    trainer = build(changed=replace(config, steps=40, single_steps=40, learning_rate=1e-2, batch_size=8))
    trainer.run()
    drawn = trainer.sampler.draw(0)
    wrong = [replace(item, chunks=tuple(c for c in range(8) if c not in item.asked.gold)[:1]) for item in drawn]
    with torch.no_grad():
        assert trainer._loss(drawn, trainer.memory) < trainer._loss(wrong, trainer.memory)


def test_the_export_is_loaded_and_answers_as_the_trainer_does(build, tiny_llama, tiny_tokenizer, tmp_path):
    trainer = build()
    trainer.run()
    running.export(trainer, tmp_path / "export")
    modes = {path.stat().st_mode for path in (tmp_path / "export" / "adapter").iterdir()}
    assert len(modes) == 1, "whoever may read the settings may read the weights"
    base = tmp_path / "base"
    tiny_llama().save_pretrained(base), tiny_tokenizer.save_pretrained(base)
    loaded = load_model(base, trainer.config.memory, adapter=tmp_path / "export", dtype="fp32")
    ids = torch.tensor([[5, 6, 7, 8]])
    trainer.model.model.eval()
    with torch.no_grad():
        want, got = trainer.model.forward(ids).logits, loaded.forward(ids).logits
    torch.testing.assert_close(got, want, atol=2e-2, rtol=0)  # the export is in half precision
    torch.testing.assert_close(loaded.read(ids).keys_SBGTD, trainer.model.read(ids).keys_SBGTD)


def test_a_run_starts_from_another_ones_weights(build, config, tmp_path):
    first = build("first")
    first.run()
    second = build("second", replace(config, start=str(tmp_path / "first")))
    assert second.step == 0
    for name, parameter in second.parameters.items():
        assert torch.equal(parameter, first.parameters[name]), name
    with pytest.raises(PersistError, match="Set start to"):
        build("third", replace(config, start=str(tmp_path / "nowhere")))


def test_a_run_starts_from_an_export_and_adds_layers(build, config, tmp_path):
    first = build("first")
    first.run()
    running.export(first, tmp_path / "export")
    whole = replace(config, memory=config.memory.replace(retrieval_layers=(0, 1, 2, 3)))
    second = build("second", replace(whole, start=str(tmp_path / "export")))
    kept = set(first.parameters)
    assert kept < set(second.parameters)
    for name, parameter in second.parameters.items():
        if name in kept:  # an export is in half precision
            torch.testing.assert_close(parameter, first.parameters[name], atol=1e-2, rtol=1e-2)
        elif "lora_B" in name:
            assert not parameter.any(), "what was not trained changes nothing yet"
    with pytest.raises(PersistError, match="of the shape"):
        build("third", replace(config, start=str(tmp_path / "export"), lora_rank=config.lora_rank + 1))


def test_maps_and_memory_biases_of_an_export_are_taken_too(build, config, tmp_path):
    memory = config.memory.replace(preset="interpolated", stored_layers=(1,), retrieval_layers=(2, 3))
    config = replace(config, memory=memory, train_bias=True)
    first = build("first", config)
    first.run()
    running.export(first, tmp_path / "export")
    second = build("second", replace(config, start=str(tmp_path / "export")))
    ours = {name for name in first.parameters if name.startswith(("maps.", "head_bias."))}
    assert {name.partition(".")[0] for name in ours} == {"maps", "head_bias"}
    for name in ours:
        assert torch.equal(second.parameters[name], first.parameters[name]), name


def test_questions_drawn_together_are_shared_out_by_length(build, config):
    alone = build("alone", replace(config, sorted_steps=1, batch_size=16, documents_every=100)).sampler
    together = build("together", replace(config, sorted_steps=4, documents_every=100)).sampler

    def key(item):
        return item.asked.question.id, item.chunks

    four = [together.draw(step) for step in range(4, 8)]
    lengths = [sorted(len(item.asked.question.answers[0]) for item in drawn) for drawn in four]
    by_length = sorted(lengths, key=sum)
    assert all(short[-1] <= long[0] for short, long in itertools.pairwise(by_length))
    assert sorted(key(item) for drawn in four for item in drawn) == sorted(map(key, alone.draw(4)))


def test_only_new_documents_are_embedded(tmp_path, tiny_tokenizer):
    class Counting(HashingRetriever):
        texts = 0

        def embed_documents(self, texts):
            self.texts += len(texts)
            return super().embed_documents(texts)

    parts = [cut(tiny_tokenizer, *document, 32) for document in documents(3)]
    cache, first, second = tmp_path / "e.npz", Counting(64), Counting(64)
    running.embed(parts[:2], first, cache)
    chunks, asked = running.embed(parts, second, cache)
    assert second.texts == len(parts[2].texts) + len(parts[2].asked)
    fresh = running.embed(parts, HashingRetriever(64), tmp_path / "other.npz")
    for mine, theirs in zip((chunks, asked), fresh, strict=True):
        assert mine.keys() == theirs.keys()
        assert all((mine[name] == theirs[name]).all() for name in mine)

    class Halved(HashingRetriever):
        def weigh_query(self, query_E, mean_squares_E, held):
            return query_E * mean_squares_E * held

    _, weighed = running.embed(parts, Halved(64), cache)
    for name, vectors in weighed.items():
        np.testing.assert_allclose(vectors, asked[name] * np.square(chunks[name]).sum(axis=0), rtol=1e-5)
    third = Counting(32)
    running.embed(parts, third, cache)
    assert third.texts == sum(len(p.texts) + len(p.asked) for p in parts), "another embedder's vectors do not count"


def test_frozen_matrices_are_held_in_half_precision_when_it_computes_in_it(build, config):
    trainer = build(changed=replace(config, arithmetic="bfloat16"))
    linear = [m for m in trainer.model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert {m.weight.dtype for m in linear if m.weight.requires_grad} == {torch.float32}
    assert torch.bfloat16 in {m.weight.dtype for m in linear}
    assert all(loss > 0 for loss in losses(trainer))


def test_the_same_questions_with_their_passages_in_the_prompt(build, config):
    trainer = build(changed=replace(config, answer_from="passages", steps=2))
    lowest = build("other").model.layout.retrieval_layers[0]
    assert any(".layers.0." in name for name in trainer.parameters) and lowest > 0
    drawn = trainer.sampler.draw(0)
    texts = [trainer.memory.texts(item.doc_id, item.chunks) for item in drawn]
    batch = collate(trainer.model.tokenizer, drawn, config.max_answer_tokens, texts)
    for row, item in enumerate(drawn):
        said = trainer.model.tokenizer.decode(batch.ids_BT[row])
        assert texts[row] and all(text.strip()[:20] in said for text in texts[row]), said
        assert item.asked.question.question in said
    assert all(loss > 0 for loss in losses(trainer))
    assert not trainer.memory._read, "nothing is stored"


def test_a_loss_that_is_not_finite_stops_and_keeps_the_questions(build):
    trainer = build()
    with torch.no_grad():
        next(iter(trainer.parameters.values())).fill_(float("nan"))
    with pytest.raises(MemLongError, match="finite"):
        trainer.run()
    assert json.loads((trainer.folder / "non-finite-0.json").read_text())[0]["question"]["question"]


def test_a_checkpoint_of_other_settings_is_refused(build, config):
    build().run()
    other = build(changed=replace(config, lora_targets=("q_proj",)))
    with pytest.raises(PersistError, match="tensors"):
        other.resume()


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_are_complete_and_survive_json(name):
    config = recipe(name)
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config
    names = "sources" if isinstance(config, TrainConfig) else "lora_targets"
    changed = config.override({"steps": "7", "memory.top_k": "3", names: "squad,nq"})
    assert (changed.steps, changed.memory.top_k, getattr(changed, names)) == (7, 3, ("squad", "nq"))


def test_misspelt_settings_are_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="learning_rate"):
        recipe("mini").override({"learning_rat": "1"})
    with pytest.raises(ConfigError, match=r"memory\.top_k"):
        recipe("mini").override({"memory.topk": "1"})
    with pytest.raises(ConfigError, match="mini"):
        recipe("minni")


def test_what_was_read_is_kept_for_the_next_run(build, config, tmp_path, monkeypatch):
    kept = replace(config, cache=str(tmp_path / "kept"))
    first = build("first", kept)
    for number in range(2):
        first.memory.read(f"d{number}")
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 2 and all(file.suffix == ".safetensors" for file in files)
    second, plain = build("second", kept), build("plain")

    def refused(*args):
        raise AssertionError("read twice")

    monkeypatch.setattr(second.model, "read", refused)
    for number in range(2):
        second.memory.read(f"d{number}"), plain.memory.read(f"d{number}")
        for old, new in zip(plain.memory.rows(f"d{number}", [0, 1]), second.memory.rows(f"d{number}", [0, 1])):
            assert torch.equal(old, new) if isinstance(old, torch.Tensor) else old == new
    with pytest.raises(AssertionError, match="read twice"):
        second.memory.read("d2")
    other = build("other", replace(kept, memory=kept.memory.replace(store_dtype="bfloat16")))
    other.memory.read("d0")
    assert len(list((tmp_path / "kept").iterdir())) == 3
