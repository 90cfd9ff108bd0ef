"""Every recipe of questions takes steps at toy width; those of the stages do in ``stages/test_trainer.py``."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memlong.model.load import load_model
from memlong.retriever.hashing import HashingRetriever
from tests.training.test_loop import documents
from training import run as running
from training.config import TrainConfig
from training.data import sources
from training.data.questions import Question
from training.recipes import RECIPES, recipe

QUESTIONS = [name for name in RECIPES if isinstance(recipe(name), TrainConfig)]


def asked(count: int = 3):
    """Documents with as many questions that they do not answer as they do."""
    for doc_id, text, questions in documents(count):
        more = [
            Question(f"u{q.id}", doc_id, f"Who sold the {q.id}?", (), answerable=False, evidence=()) for q in questions
        ]
        yield doc_id, text, [*questions, *more]


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_recipe_of_questions_takes_steps_at_toy_width(name, monkeypatch, tmp_path, tiny_llama, tiny_tokenizer):
    """The recipe as it is, but for sizes and sources: a few questions of a few documents, a tiny model."""
    wanted = recipe(name)
    for source in wanted.sources:
        monkeypatch.setitem(sources.SOURCES, source.partition(":")[0], lambda data: asked())
    monkeypatch.setitem(sources.SOURCES, wanted.held_out, lambda data: asked(1))
    base = tmp_path / "base"
    tiny_llama().save_pretrained(base), tiny_tokenizer.save_pretrained(base)
    # The toy has fewer layers than the bundled model; without a list it reads where the preset says.
    memory = wanted.memory.replace(chunk_tokens=32, window_tokens=32, retrieval_layers=())
    changed = replace(
        wanted, model=str(base), memory=memory, steps=3, batch_size=4,
        warm_documents=1, documents_every=1, single_steps=1, eval_every=3, save_every=2, lora_rank=4, threads=1,
        fit_tokens=300, sorted_steps=min(wanted.sorted_steps, 2),
    )  # fmt: skip
    trainer = running.build(changed, tmp_path / name, tiny_llama(), tiny_tokenizer, HashingRetriever(64))
    before = {key: value.detach().clone() for key, value in trainer.parameters.items()}
    seen = []
    trainer.run(seen.append)
    assert [report.step for report in seen] == [1, 2, 3] and seen[-1].evaluation["loss"] > 0
    assert not [key for key, value in trainer.parameters.items() if torch.equal(value, before[key])]
    kinds = {kind: any(key.startswith(kind) for key in before) for kind in ("maps", "head_bias")}
    assert kinds == {"maps": bool(trainer.model.layout.mapped_layers), "head_bias": wanted.train_bias}
    running.export(trainer, tmp_path / name / "export")
    loaded = load_model(tmp_path / name / "export", dtype="fp32")
    assert loaded.config == changed.memory and loaded.adapts
    if trainer.model.maps is not None:
        for key, value in trainer.model.maps.state_dict().items():
            torch.testing.assert_close(loaded.maps.state_dict()[key], value)
