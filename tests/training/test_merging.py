"""A merged checkpoint is a model like any other, answers as its adapter did, and is refused where it would not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from memlong.config import MemoryConfig
from memlong.errors import ConfigError, PersistError
from memlong.model.load import load_model
from memlong.retriever.hashing import HashingRetriever
from training import cli
from training.data.prepare import PrepareOptions, prepare
from training.merging import merge
from training.recipes import stage1_toy
from training.run import export
from training.stages.build import build


@pytest.fixture
def trained(tmp_path, tiny_llama, tiny_tokenizer):
    """Return ``trained(preset)``: the folder of a short run on a tiny model."""

    def made(preset: str, **memory):
        tiny_llama().save_pretrained(tmp_path / "model")
        tiny_tokenizer.save_pretrained(tmp_path / "model")
        for number in range(4):
            (tmp_path / f"{number}.txt").write_text(f"The harbour master kept ledger {number}, and the bridge. " * 40)
        sources = tuple(str(tmp_path / f"{number}.txt") for number in range(4))
        prepare(PrepareOptions(sources, held_out=0.2, near_copies=0), tiny_tokenizer, tmp_path / "text")
        settings = MemoryConfig(
            preset=preset,
            chunk_tokens=16,
            window_tokens=32,
            top_k=2,
            capacity_tokens=96,
            store_dtype="float32",
            **memory,
        )
        config = replace(
            stage1_toy(), memory=settings, model=str(tmp_path / "model"), text=str(tmp_path / "text"), steps=3,
            threads=1, learning_rate=3e-2, arithmetic="float32", fit_tokens=300, train_bias=True,
            eval_every=9, lora_alpha=8,
        )  # fmt: skip
        trainer = build(config, tmp_path / preset, tiny_llama(), tiny_tokenizer, HashingRetriever(64))
        trainer.run()
        export(trainer, tmp_path / preset / "export")
        return tmp_path / preset

    return made


def answers(model) -> torch.Tensor:
    """Read two chunks and answer with both."""
    text = torch.arange(3, 35).reshape(2, 16)
    kv = model.read(text)
    keys, values = (part.float() for part in (kv.keys_SBGTD, kv.values_SBGTD))
    with torch.no_grad():
        return model.forward(torch.arange(40, 52)[None], model.memory(keys, values, [16, 16])).logits


@pytest.mark.parametrize("preset", ["paper", "projected"])
def test_the_merged_model_answers_as_the_adapter_does(preset, trained, tmp_path, capsys):
    run = trained(preset)
    plain = (
        answers(load_model(tmp_path / "model", dtype="fp32", config=load_model(run / "export").config))
        if preset == "paper"
        else None
    )
    adapted = load_model(run / "export", dtype="fp32")
    assert cli.main(["export", str(run), "--merged", str(tmp_path / "merged")]) == 0
    merged = load_model(tmp_path / "merged", dtype="fp32")
    assert not merged.adapts and adapted.adapts and merged.config == adapted.config
    assert merged.bias is not None and (merged.maps is None) == (preset == "paper")
    torch.testing.assert_close(answers(merged), answers(adapted), atol=1e-4, rtol=1e-4)
    if plain is not None:
        assert (plain - answers(merged)).abs().max() > 1e-2
    assert not (tmp_path / "merged" / "adapter").exists()
    with pytest.raises(PersistError, match="not empty"):
        merge(run / "export", tmp_path / "merged")


def test_merging_is_refused_where_trained_layers_write_memory(trained, tmp_path, capsys):
    run = trained("own")
    assert cli.main(["export", str(run), "--merged", str(tmp_path / "merged")]) == 2
    assert "Use the export/ as it is" in capsys.readouterr().err and not (tmp_path / "merged").exists()
    with pytest.raises(PersistError, match="holds no adapter"):
        merge(tmp_path / "model", tmp_path / "merged")


def test_an_adapter_of_all_layers_is_refused(trained, tmp_path):
    run = trained("paper")
    path = run / "export/adapter/adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"layers_to_transform": None}))
    with pytest.raises(ConfigError, match="Layers from 0 up"):
        merge(run, tmp_path / "merged")
