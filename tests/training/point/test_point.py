"""Training of the pointer: what it learns from, its loss, exact resume, and the file it writes."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from memlong.errors import MemLongError, RetrieverError
from memlong.retriever.cross_encoder import WEIGHTS as CROSS
from memlong.retriever.pointer import MAX_TOKENS, WEIGHTS, Pointer
from tests.training.rank.conftest import bert_tokenizer, retriever, tiny_bert  # noqa: F401  (fixtures)
from tests.training.rank.conftest import config as rank_config  # noqa: F401
from tests.training.rank.conftest import pairs as rank_pairs  # noqa: F401
from training import cli
from training.point.cli import train
from training.point.config import PointConfig
from training.point.examples import Pointed, example, open_ended, usable, window_of
from training.point.scorer import PointScorer, gold_tokens, span_loss
from training.point.trainer import PointTrainer, measure
from training.rank.pairs import Candidate, RankedQuestion
from training.rank.scorer import write_weights


@pytest.fixture
def config(rank_config) -> PointConfig:  # noqa: F811
    its_own = {"start": "", "pairs": 3, "positives": 1, "at_once": 2, "max_tokens": 224, "lost": 0.0, "open": 0.0}
    return PointConfig.from_dict(rank_config.to_dict() | its_own)


@pytest.fixture
def pairs(rank_pairs):  # noqa: F811
    return rank_pairs


@pytest.fixture
def build(config, pairs, tiny_bert, bert_tokenizer, tmp_path):  # noqa: F811
    def make(name: str = "run", changed: PointConfig | None = None) -> PointTrainer:
        scorer = PointScorer(tiny_bert(), bert_tokenizer, config.rank, seed=config.seed)
        return PointTrainer(changed or config, scorer, pairs, tmp_path / name)

    return make


def losses(trainer, stop_at: int = 10**9) -> list[float]:
    seen: list[float] = []
    trainer.run(lambda report: seen.append(report.loss), stopped=lambda: trainer.step >= stop_at)
    return seen


TEXT = "Bram met Sefa at noon. " + "Rain fell on the hills and it was cold. " * 40 + "Bram was a miller."


def question(**changes) -> RankedQuestion:
    found = RankedQuestion(
        "Who met Sefa?", "extractive", True, (0,),
        (Candidate(0, TEXT[:22], True, 0), Candidate(1, TEXT[700:740], False, 700), Candidate(2, TEXT[-18:], False,
         len(TEXT) - 18)), (), TEXT, ((0, 4),),
    )  # fmt: skip
    return replace(found, **changes)


def test_an_example_has_one_part_with_the_answer_and_says_where(config):
    made = example(question(), config, random.Random(0))
    assert len(made.texts) == 3 and made.stated
    ((row, span),) = made.targets
    assert made.texts[row][slice(*span)] == "Bram" and made.texts[row].startswith("Bram met Sefa")
    start, end = window_of(question(), question().candidates[1])
    assert TEXT[start:end] in made.texts and start < 700 and end > 740


def test_parts_that_say_the_answer_elsewhere_are_left_out(config):
    twice = question(stands=((0, 4), (len(TEXT) - 18, len(TEXT) - 14)))
    for seed in range(8):
        made = example(twice, config, random.Random(seed))
        assert len(made.texts) == 2 and len(made.targets) == 1


def test_what_changed_has_no_rivals(config):
    assert len(example(question(type="changed_fact"), config, random.Random(0)).texts) == 1


def test_a_lost_answer_and_one_that_is_worked_out_have_no_place(config):
    lost = example(question(), replace(config, lost=0.999), random.Random(1))
    assert lost.targets == () and lost.stated and not any(text.startswith("Bram met") for text in lost.texts)
    counted = example(question(type="counting"), config, random.Random(0))
    assert counted.targets == () and not counted.stated
    absent = example(question(answerable=False, stands=()), config, random.Random(0))
    assert absent.targets == () and absent.stated


def test_open_questions_are_answered_by_no_words(config):
    asked = {open_ended(question(), config, random.Random(seed)).question for seed in range(60)}
    assert len(asked) > 20 and not any("{" in each for each in asked) and any("Bram" in each for each in asked)
    assert open_ended(question(), config, random.Random(0)).stated is False


def test_two_hops_and_answers_in_no_part_are_not_learned_from():
    assert usable(question()) and not usable(question(type="two_hop"))
    assert not usable(question(stands=((400, 404),))) and not usable(question(candidates=()))
    assert usable(question(type="counting", stands=())) and usable(question(answerable=False, stands=()))


def test_first_and_last_tokens_are_those_of_the_words():
    offsets = torch.tensor([[[0, 0], [0, 4], [5, 8], [9, 13], [0, 0]]])
    allowed = torch.tensor([[[False] * 2, [True] * 2, [True] * 2, [True] * 2, [False] * 2]])
    gold = gold_tokens(Pointed("q", ("t",), ((0, (5, 13)),)), offsets, allowed)
    assert gold[0, :, 0].nonzero().tolist() == [[2]] and gold[0, :, 1].nonzero().tolist() == [[3]]
    cut = gold_tokens(Pointed("q", ("t",), ((0, (5, 20)),)), offsets, allowed)
    assert not cut.any(), "cut off"


def test_the_loss_is_the_plain_formula():
    logits = torch.randn(2, 4, 2)
    logits[:, 0] = -torch.inf
    gold = torch.zeros(2, 4, 2, dtype=torch.bool)
    gold[0, 2, 0] = gold[0, 3, 1] = gold[1, 1, 0] = gold[1, 1, 1] = True
    shares = [logits[..., end].exp()[gold[..., end]].sum() / (1 + logits[..., end].exp().sum()) for end in range(2)]
    assert span_loss(logits, gold).item() == pytest.approx(-sum(torch.log(s).item() for s in shares) / 2, rel=1e-5)
    null = [1 / (1 + logits[..., end].exp().sum()) for end in range(2)]
    nothing = span_loss(logits, torch.zeros_like(gold))
    assert nothing.item() == pytest.approx(-sum(torch.log(s).item() for s in null) / 2, rel=1e-5)


def test_it_learns_to_point(build, config):
    trainer = build(changed=replace(config, steps=90, eval_every=100, save_every=100))
    before, seen = measure(trainer.scorer, trainer.held_out), losses(trainer)
    after = measure(trainer.scorer, trainer.held_out)
    assert sum(seen[-20:]) < 0.8 * sum(seen[:20])
    assert {name.partition("/")[2] for name in after} <= {"right", "f1", "missed", "none", "stated", "worked_out"}
    assert after["keepers/f1"] >= before["keepers/f1"] and after["keepers/stated"] == 1.0


def test_the_written_file_points_at_the_same(build, config, tiny_bert, bert_tokenizer, tmp_path):  # noqa: F811
    trainer = build(changed=replace(config, steps=8, eval_every=100, save_every=100))
    trainer.run()
    write_weights(trainer.scorer.weights(), tmp_path / WEIGHTS)
    pointer = Pointer(tiny_bert(), bert_tokenizer, tmp_path)
    for each in trainer.draw(3):
        with torch.inference_mode():
            logits = trainer.scorer([each.question] * len(each.texts), each.texts).span_nT2
        found = pointer.places(each.question, each.texts)
        assert found is not None
        # The updates are written in bfloat16.
        length = logits.shape[1]
        pairs = logits[:, :, None, 0] + logits[:, None, :, 1]
        allowed = torch.ones(length, length, dtype=torch.bool).triu().tril(23)
        total = torch.logaddexp(pairs.masked_fill(~allowed, -torch.inf).flatten().logsumexp(0), torch.zeros(()))
        assert found.nowhere == pytest.approx(float((-total).exp()), rel=0.1)


def test_a_cross_encoder_to_begin_with_is_part_of_what_is_written(tiny_bert, bert_tokenizer, tmp_path):  # noqa: F811
    name = "encoder.layer.0.attention.self.query"
    torch.manual_seed(3)
    low = {f"{name}.lora_A": torch.randn(2, 32) * 0.2, f"{name}.lora_B": torch.randn(32, 2) * 0.2}
    unit = {"score.weight": torch.zeros(1, 32), "score.bias": torch.zeros(1)}
    save_file(low | unit | {"encoder.layer.0.output.LayerNorm.bias": torch.ones(32)}, tmp_path / CROSS)
    plain = PointScorer(tiny_bert(), bert_tokenizer, 4)
    begun = PointScorer(tiny_bert(), bert_tokenizer, 4, start=tmp_path)
    pair = (["who kept the item"], ["Bram kept the item"])
    with torch.inference_mode():
        assert not torch.allclose(plain(*pair).span_nT2[0, 6:8], begun(*pair).span_nT2[0, 6:8], atol=1e-3)
        for unit in (begun.span, begun.stated):
            torch.nn.init.normal_(unit.weight)
    weights = begun.weights()
    assert weights[f"{name}.lora_A"].shape == (6, 32) and weights[f"{name}.lora_B"].shape == (32, 6)
    write_weights(weights, tmp_path / WEIGHTS)
    torch.manual_seed(0)
    Pointer(tiny_bert(), bert_tokenizer, tmp_path)
    again = PointScorer(tiny_bert(), bert_tokenizer, 3, seed=5, start=tmp_path)  # goes on with the pointer there
    assert again.weights()[f"{name}.lora_A"].shape == (9, 32)
    with torch.inference_mode():
        for mine, first in zip(again(*pair), begun(*pair), strict=True):
            torch.testing.assert_close(mine, first, atol=2e-2, rtol=2e-2)
    with pytest.raises(RetrieverError, match="training rank"):
        PointScorer(tiny_bert(), bert_tokenizer, 4, start=tmp_path / "nowhere")


def test_a_resumed_run_tells_the_losses_of_an_uninterrupted_one(build, tmp_path):
    whole = losses(build("whole"))
    assert len(whole) == 6
    assert losses(build("cut"), stop_at=4) == whole[:4]
    again = build("cut")
    assert again.resume() and losses(again) == whole[4:]
    rows = [json.loads(line) for line in (tmp_path / "cut/metrics.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == whole and [r["step"] for r in rows if r["evaluation"]] == [3, 6]


def test_a_loss_that_is_not_finite_stops_and_changes_nothing(build, tmp_path):
    trainer = build()
    with torch.no_grad():
        trainer.parameters["span.bias"].fill_(float("nan"))
    with pytest.raises(MemLongError, match=r"step 1 is nan.*non-finite-1\.json"):
        trainer.run()
    assert json.loads((tmp_path / "run/non-finite-1.json").read_text())[0]["question"]


@pytest.fixture
def sources_here(tiny_bert, bert_tokenizer, tiny_tokenizer, retriever, monkeypatch):  # noqa: F811
    monkeypatch.setattr("training.rank.scorer.load_minilm", lambda device: (tiny_bert(), bert_tokenizer))
    monkeypatch.setattr("training.base.load_tokenizer", lambda name: tiny_tokenizer)
    monkeypatch.setattr("memlong.retriever.hybrid.HybridRetriever", lambda **named: retriever)
    monkeypatch.setattr("training.point.cli.require_known", lambda sources: None)


@pytest.mark.usefixtures("sources_here")
def test_the_command_stops_goes_on_and_writes(config, tmp_path):
    said: list[str] = []
    stop: list[int] = []

    def say(words: str) -> None:
        said.append(words)
        if words.startswith("step 4/"):
            stop.append(2)

    train(config, tmp_path, say, lambda: stop)
    assert said[-1].startswith("stopped at step 4") and (tmp_path / WEIGHTS).is_file()
    said.clear()
    train(config, tmp_path, said.append)
    assert "resumed at step 4" in said and said[-1].startswith("done at step 6") and "held out" in said[-2]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("lost=1", "lost=1"), ("open=-0.1", "open=-0.1"), ("pairs=1", "pairs=1"), ("sources=nope weights=1", "nope"),
        ("start=nowhere", "nowhere"), ("max_tokens=112", "max_tokens=112"), ("positives=3", "positives=3"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(given, what, tmp_path, capsys):
    assert cli.main(["point", *given.split(), "--out", str(tmp_path / "run")]) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_a_pair_is_as_long_as_the_pointer_reads_it():
    assert PointConfig().max_tokens == MAX_TOKENS


def test_settings_are_shown(capsys):
    assert cli.main(["point", "steps=7", "--show"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 7
