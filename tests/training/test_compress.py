"""A smaller adapter answers nearly as the whole one does, and loses least where it matters least."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from memlong.errors import ConfigError
from memlong.model.load import load_model
from memlong.retriever.hashing import HashingRetriever
from memlong.session.session import Session
from tests.training.test_merging import answers, trained  # noqa: F401
from training import cli
from training.compress import DOWN, Moments, Update, collecting, compress, moments_of, read_adapter, write_compressed
from training.data.questions import Question

SIZES = {"first": (12, 8), "second": (20, 6)}  # inputs, outputs


@pytest.fixture
def updates():
    torch.manual_seed(0)
    return {name: Update(torch.randn(5, i), torch.randn(o, 5)) for name, (i, o) in SIZES.items()}


def lost(update: Update, small: Update, inputs: torch.Tensor) -> float:
    """Return the share of what an update adds to outputs that a smaller one does not."""
    whole = inputs @ (update.up_OR @ update.down_RI).T
    return float((whole - inputs @ (small.up_OR @ small.down_RI).T).square().sum() / whole.square().sum())


def moments(inputs: torch.Tensor, outputs: float = 1.0) -> Moments:
    return Moments(inputs.T @ inputs, outputs)


def test_what_is_left_out_is_what_these_inputs_need_least(updates):
    inputs = {name: torch.randn(50, i) * torch.linspace(0.01, 3, i) for name, (i, _) in SIZES.items()}
    seen = {name: moments(x) for name, x in inputs.items()}
    small = compress(updates, seen, 2 * 3 * (12 + 8 + 20 + 6))
    assert sum(2 * (each.down_RI.numel() + each.up_OR.numel()) for each in small.values()) <= 2 * 3 * 46
    for name, update in updates.items():
        rank = len(small[name].down_RI)
        assert small[name].up_OR.shape[1] == rank < 5
        u, s, v = torch.linalg.svd(update.up_OR @ update.down_RI, full_matrices=False)
        plain = Update(s[:rank, None] * v[:rank], u[:, :rank])
        assert lost(update, small[name], inputs[name]) < lost(update, plain, inputs[name])


def test_nothing_is_lost_where_there_is_room(updates):
    inputs = {name: torch.randn(50, i) for name, (i, _) in SIZES.items()}
    whole = compress(updates, {name: moments(x) for name, x in inputs.items()}, 10_000)
    assert all(lost(update, whole[name], inputs[name]) < 1e-4 for name, update in updates.items())


def test_layers_whose_outputs_are_small_keep_more(updates):
    inputs = {name: torch.randn(50, i) for name, (i, _) in SIZES.items()}
    for quiet, loud in (("first", "second"), ("second", "first")):
        seen = {quiet: moments(inputs[quiet], 1e-6), loud: moments(inputs[loud], 1e6)}
        small = compress(updates, seen, 2 * 3 * 46)
        assert len(small[quiet].down_RI) > len(small[loud].down_RI)


def test_too_little_room_is_refused(updates):
    seen = {name: moments(torch.randn(50, i)) for name, (i, _) in SIZES.items()}
    with pytest.raises(ConfigError, match=r"At least 9\.2e-05, one direction of each"):
        compress(updates, seen, 91)


def test_moments_are_of_all_tokens_and_hooks_are_gone_afterwards():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    inputs = torch.randn(4, 5, 3)
    found: dict[str, Moments] = {}
    with collecting(model, found):
        model(inputs[:1])
        outputs = model[0](inputs[1:])
    model(inputs)
    flat = inputs.flatten(0, 1)
    torch.testing.assert_close(found["0"].inputs_II, flat.T @ flat)
    assert found["0"].outputs > float(outputs.detach().square().sum())


def test_a_run_is_exported_with_less_in_its_adapter(trained, tmp_path):  # noqa: F811
    export = trained("own") / "export"
    session = Session(load_model(export, dtype="fp32"), HashingRetriever(64))
    text = "The harbour master kept ledger 7, and the bridge was rebuilt in stone. " * 8
    documents = [("doc", text, [Question("q", "doc", "Who kept ledger 7?", ("The harbour master",))])] * 2
    said: list[str] = []
    found = moments_of(session, documents, 3, said.append)
    assert said == ["asking 1 questions on doc"] * 2 and not session.present
    whole = read_adapter(export, tmp_path / "whole")
    before = (export / "adapter/adapter_model.safetensors").stat().st_size
    weights = write_compressed(whole, found, 10.0, tmp_path / "whole")
    torch.testing.assert_close(
        answers(load_model(tmp_path / "whole", dtype="fp32")), answers(session.model), atol=2e-2, rtol=2e-2
    )
    weights = write_compressed(whole, found, 0.7e-6 * before, tmp_path / "small")
    assert weights.stat().st_size < before and (tmp_path / "small/memory.json").is_file()
    ranks = {name.removesuffix(DOWN): len(each) for name, each in load_file(weights).items() if name.endswith(DOWN)}
    config = json.loads((weights.parent / "adapter_config.json").read_text())
    assert {f"base_model.model.{name}": rank for name, rank in config["rank_pattern"].items()} == ranks
    assert len(set(ranks.values())) > 1 and config["alpha_pattern"] == config["rank_pattern"]
    again = load_model(tmp_path / "small", dtype="fp32")
    assert (answers(again) - answers(session.model)).norm() < answers(session.model).norm() / 4
    # What was made smaller once can be made smaller again: its ranks differ.
    less = write_compressed(
        read_adapter(tmp_path / "small", tmp_path / "less"), found, 0.5e-6 * before, tmp_path / "less"
    )
    assert less.stat().st_size < weights.stat().st_size


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--megabytes", "0.0001"], "0.0001 megabytes"), (["--documents", "0"], "--documents 0"),
        (["--questions", "-1"], "--questions -1"), (["--sources", "nope"], "nope"),
        (["--sources", "squad", "--data", "/nowhere"], "/nowhere"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused_before_anything_is_loaded(more, what, trained, tmp_path, capsys, monkeypatch):  # noqa: F811
    run = trained("own")
    monkeypatch.setattr("memlong.model.load.load_model", lambda *_: pytest.fail("a model was loaded"))
    assert cli.main(["export", str(run), "--compressed", str(tmp_path / "out"), *more]) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_what_cannot_be_compressed_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    given = ["export", str(tmp_path / "run"), "--compressed", str(tmp_path / "out")]
    assert cli.main(given) == 2 and "holds no adapter" in capsys.readouterr().err
    (tmp_path / "run/memory.json").write_text('{"version": 1, "memory": {}}')
    (tmp_path / "run/adapter").mkdir()
    (tmp_path / "run/adapter/adapter_config.json").write_text('{"r": 4, "lora_alpha": 4, "use_dora": true}')
    assert cli.main(given) == 2 and "scaled updates" in capsys.readouterr().err
    (tmp_path / "run/adapter/adapter_config.json").write_text('{"r": 4, "lora_alpha": 4}')
    (tmp_path / "out").mkdir()
    (tmp_path / "out/kept.txt").write_text("kept")
    assert cli.main(given) == 2 and "not empty" in capsys.readouterr().err
