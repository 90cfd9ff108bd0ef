"""Training on a tiny BERT: the loss, what is written, exact resume, and what stops a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from memlong.errors import ConfigError, MemLongError
from memlong.retriever.cross_encoder import WEIGHTS, CrossEncoder
from training import cli
from training.adapters import trainable
from training.rank.cli import train
from training.rank.config import RankConfig
from training.rank.loss import listwise_loss
from training.rank.measure import judge, measure
from training.rank.pairs import Candidate, RankedQuestion
from training.rank.scorer import PairScorer, write_weights
from training.rate import cosine_rate


def losses(trainer, stop_at: int = 10**9) -> list[float]:
    seen: list[float] = []
    trainer.run(lambda report: seen.append(report.loss), stopped=lambda: trainer.step >= stop_at)
    return seen


def test_the_loss_is_the_plain_formula():
    positives, negatives = torch.tensor([0.5, -1.0]), torch.tensor([0.2, -0.3, 1.1])
    others = 1 + negatives.exp().sum()
    shares = positives.exp() / (positives.exp() + others)
    torch.testing.assert_close(listwise_loss(positives, negatives), -shares.log().mean())
    # Without a positive: the share of the null part.
    torch.testing.assert_close(listwise_loss(positives[:0], negatives), -(1 / others).log())
    assert listwise_loss(torch.tensor([9.0]), negatives) < 0.01 < listwise_loss(positives[:0], negatives)


def test_the_rate_warms_up_and_falls_to_a_fiftieth():
    config = RankConfig(learning_rate=1.0, warmup_steps=10, steps=100)
    rates = [cosine_rate(config, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1) and rates[-1] == 0.02
    assert rates[50] == pytest.approx(0.5) and rates.index(max(rates)) == 9


def test_a_step_draws_positives_first_and_no_more_than_asked(build, config, pairs):
    trainer = build()
    known = {(each.question, each.answerable): each for each in pairs.training["keepers"]}
    kinds = set()
    for step in range(30):
        drawn = trainer.draw(step)
        assert len(drawn) == config.questions
        assert [each.characters for each in drawn] == sorted(each.characters for each in drawn)
        for each in drawn:
            question = known[each.question, each.question.startswith("Who kept")]
            held = {one.text for one in question.positives}
            assert set(each.texts[: each.positives]) <= held
            assert len(each.texts) <= config.pairs and each.positives <= config.positives
            assert bool(each.positives) is question.answerable and len(each.texts) > each.positives
            kinds.add(question.answerable)
    assert kinds == {True, False}
    assert trainer.draw(3) == trainer.draw(3) != trainer.draw(4)


def test_the_loss_of_a_step_is_the_mean_of_its_questions(build):
    trainer, by_hand = build(), []
    for each in trainer.draw(0):
        logits = trainer.scorer([each.question] * len(each.texts), each.texts)
        by_hand.append(listwise_loss(logits[: each.positives], logits[each.positives :]).item())
    assert trainer.train_step() == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)


def test_the_loss_falls(build, config):
    seen = losses(build(changed=replace(config, steps=80, learning_rate=2e-2, eval_every=100, save_every=100)))
    assert sum(seen[-30:]) / 30 < 0.7 * sum(seen[:10]) / 10


def test_the_written_file_gives_the_same_logits(build, tiny_bert, bert_tokenizer, tmp_path):
    trainer = build()
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    trainer.run()
    assert not [name for name, value in trainer.parameters.items() if torch.equal(value, before[name])]
    write_weights(trainer.scorer.weights(), tmp_path / WEIGHTS)
    texts = ["The item 03 was kept by Willem of the harbour.", "Kept by Ludo.", "The item 11 was kept by Bram " * 4]
    question = "Who kept the item 03?"
    with torch.inference_mode():
        trained = trainer.scorer([question] * 3, texts)
    encoder = tiny_bert()
    loaded = torch.from_numpy(CrossEncoder(encoder, bert_tokenizer, tmp_path, 112).logits(question, texts))
    torch.testing.assert_close(loaded, trained, atol=1e-4, rtol=1e-4)
    untrained = torch.tensor([0.0] * 3)
    assert not torch.allclose(loaded, untrained, atol=1e-2) and len({round(float(each), 4) for each in loaded}) == 3


def test_frozen_matrices_alone_are_held_in_bfloat16(config, tiny_bert, bert_tokenizer, scorer):
    half = PairScorer(tiny_bert(), bert_tokenizer, config.rank, config.max_tokens, half=True, seed=config.seed)
    kinds = {name: parameter.dtype for name, parameter in half.named_parameters()}
    matrices = {name for name in kinds if name.endswith("base_layer.weight")}
    assert len(matrices) == 12 and {name for name, kind in kinds.items() if kind == torch.bfloat16} == matrices
    given = ["Who kept the item 03?"] * 2, ["The item 03 was kept by Willem.", "Kept by Ludo."]
    logits = half(*given)
    logits.sum().backward()
    assert all(each.grad is not None and each.grad.dtype == torch.float32 for each in trainable(half).values())
    torch.testing.assert_close(logits, scorer(config)(*given), atol=0.02, rtol=0.1)


def test_weights_have_the_names_of_the_encoder(scorer, config, tiny_bert):
    weights = scorer(config).weights()
    linear = [name for name, module in tiny_bert().named_modules() if isinstance(module, torch.nn.Linear)]
    shapes = {name: tuple(weights[f"{name}.lora_A"].shape) for name in linear}
    assert len(linear) == 12 and shapes["encoder.layer.1.output.dense"] == (4, 64)
    assert tuple(weights["encoder.layer.1.output.dense.lora_B"].shape) == (32, 4)
    norms = {name for name in weights if "LayerNorm" in name}
    assert (
        len(norms) == 8
        and norms <= set(dict(tiny_bert().named_parameters()))
        and not [n for n in norms if "embed" in n]
    )
    assert len(weights) == 2 * len(linear) + len(norms) + 2 and weights["score.weight"].shape == (1, 32)


def test_a_resumed_run_tells_the_losses_of_an_uninterrupted_one(build, tmp_path):
    whole = losses(build("whole"))
    assert len(whole) == 6 == len(set(whole))
    assert losses(build("cut"), stop_at=3) == whole[:3]
    # As after a kill: a step was told that no checkpoint holds.
    with (tmp_path / "cut/metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "loss": 9.0}\n{"step": 5, "lo')
    again = build("cut")
    assert again.resume() and again.step == 3
    assert losses(again) == whole[3:]
    rows = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == list(enumerate(whole, 1))
    assert [row["step"] for row in rows if row["evaluation"]] == [3, 6]
    assert {"keepers/best_pair", "keepers/first_4", "keepers/refused"} <= set(rows[2]["evaluation"])


def test_a_loss_that_is_not_finite_stops_and_changes_nothing(build, tmp_path):
    trainer = build()
    with torch.no_grad():
        trainer.parameters["score.bias"].fill_(float("nan"))
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    with pytest.raises(MemLongError, match=r"step 1 is nan.*non-finite-1\.json"):
        trainer.run()
    assert json.loads((tmp_path / "run/non-finite-1.json").read_text())[0]["texts"]
    for name, value in trainer.parameters.items():
        assert torch.equal(value.nan_to_num(7), before[name].nan_to_num(7))


def question_of(holds: list[bool], chunks: list[int], gold: tuple[int, ...], type: str = "extractive"):
    candidates = tuple(Candidate(chunk, f"part {n}", yes) for n, (chunk, yes) in enumerate(zip(chunks, holds)))
    return RankedQuestion("Who?", type, bool(gold), gold, candidates, ())


def test_what_is_measured():
    held = question_of([False, False, True, False], [7, 7, 3, 5], (3,))
    assert judge(held, [0.1, 2.0, 1.0, -1.0]) == {
        "best_pair": False, "found": True, "first_1": False, "first_2": True, "first_4": True
    }  # fmt: skip
    assert judge(held, [-3, -2.0, -1.0, -4]) == {
        "best_pair": True, "found": False, "first_1": True, "first_2": True, "first_4": True
    }  # fmt: skip
    both = question_of([True, False, True, False], [7, 7, 3, 5], (3, 7), "two_hop")
    assert judge(both, [3.0, 0, 1.0, 2.0])["first_2"] is False and judge(both, [3.0, 0, 2.5, 2.0])["first_2"] is True
    without = question_of([False, False], [1, 2], ())
    assert judge(without, [-1.0, 0.5]) == {"refused": False} and judge(without, [-1.0, -0.5]) == {"refused": True}
    shares = measure(lambda questions, texts: torch.tensor([-1.0, 0.5, 3, 0.2][: len(texts)]), {"s": [held, without]})
    assert shares["s/best_pair"] == 1.0 and shares["s/refused"] == 0.0
    shares = measure(lambda questions, texts: -torch.arange(len(texts)).float(), {"s": [held, both]})
    assert shares["s/best_pair"] == 0.5 and shares["s/first_1"] == 0.0


@pytest.fixture
def small(config, retriever, scorer, tiny_tokenizer, monkeypatch):
    """The whole command on the tiny BERT."""
    monkeypatch.setattr("memlong.retriever.hybrid.HybridRetriever", lambda **options: retriever)
    monkeypatch.setattr("training.base.load_tokenizer", lambda name: tiny_tokenizer)
    monkeypatch.setattr("training.rank.scorer.load_scorer", lambda rank, max_tokens, half, device, seed: scorer(config))
    return config


def test_the_command_stops_goes_on_and_writes(small, tmp_path):
    said: list[str] = []
    stop: list[int] = []

    def say(words: str) -> None:
        said.append(words)
        if words.startswith("step 4/"):
            stop.append(2)

    train(small, tmp_path, say, lambda: stop)
    assert said[-1].startswith("stopped at step 4") and (tmp_path / "cross_encoder.safetensors").is_file()
    first = (tmp_path / "cross_encoder.safetensors").read_bytes()
    said.clear()
    train(small, tmp_path, said.append)
    assert said[0] == "resumed at step 4" and said[-1].startswith("done at step 6")
    assert "questions/s" in said[1] and "min left" in said[1] and "\nheld out  keepers/" in said[2]
    assert (tmp_path / "cross_encoder.safetensors").read_bytes() != first
    card = (tmp_path / "README.md").read_text()
    assert "6 of 6 steps" in card and "| keepers | 1.0 |" in card and "keepers/best_pair" in card
    assert '"seed"' in card and '"data"' not in card and not list(tmp_path.glob("*.new"))


@pytest.mark.parametrize(("source", "nearest"), [("squat:20", "'squad'"), ("chronicle-long", "'chronicle")])
def test_unknown_sources_are_refused_before_anything_is_loaded(source, nearest, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("memlong.retriever.hybrid.HybridRetriever", lambda **options: pytest.fail("it loads"))
    words = ["rank", f"sources=nq,{source}", "weights=1,1", "--out", str(tmp_path / "run")]
    assert cli.main(words) == 2
    said = capsys.readouterr().err
    assert f"Unknown source '{source.partition(':')[0]}'" in said and f"Did you mean {nearest}" in said
    assert not list(tmp_path.iterdir())


def test_unknown_settings_are_refused_with_the_nearest_name(capsys):
    assert cli.main(["rank", "step=3"]) == 2
    assert "'steps'" in capsys.readouterr().err
    assert cli.main(["rank", "--show", "sources=nq:4", "weights=1", "steps=3"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["steps"], shown["sources"], shown["weights"]) == (3, ["nq:4"], [1.0])


@pytest.mark.parametrize(
    "items",
    [
        {"weights": "1,2"},
        {"sources": "nq,nq:3", "weights": "1,1"},
        {"sources": "nq", "weights": "0"},
        {"steps": "0"},
        {"pairs": "1"},
        {"learning_rate": "0"},
        {"arithmetic": "float64"},
        {"weights": "a"},
        {"sources": "nq,squad", "weights": "1,nan"},
        {"sources": "nq,squad", "weights": "inf,1"},
        {"max_tokens": "513"},
    ],
)
def test_settings_that_do_not_fit_are_refused(items):
    with pytest.raises(ConfigError, match=next(iter(items))):
        RankConfig().override(items)


def test_a_pair_may_be_as_long_as_minilm_reads():
    assert RankConfig().override({"max_tokens": "512"}).max_tokens == 512


def test_a_source_without_questions_is_refused(build, config):
    with pytest.raises(ConfigError, match="others has no question"):
        build(changed=replace(config, sources=("keepers", "others"), weights=(1.0, 1.0)))
