"""Training of the decomposer: what it learns from, its loss, exact resume, and the file it writes."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from memlong.errors import ConfigError, MemLongError
from memlong.retriever.decomposer import WEIGHTS, Decomposer
from tests.training.rank.conftest import bert_tokenizer, tiny_bert  # noqa: F401  (fixtures)
from training import cli
from training.data.chronicle import make_chronicle
from training.data.questions import Question
from training.decompose.cli import train
from training.decompose.config import DecomposeConfig
from training.decompose.examples import ExampleSets, draw, load_examples, made, told
from training.decompose.patterns import Example
from training.decompose.scorer import SpanScorer, tokens_of
from training.decompose.trainer import DecomposeTrainer, measure
from training.rank.scorer import write_weights

TWO = [Example(f"Where did the item {n:02} of Willem go?", (10, 21)) for n in range(6)]
ONE = [Example(f"Who kept the item {n:02}?", None) for n in range(6)]
SETS = ExampleSets({"told": TWO, "made": [TWO[0], Example("What is it?", None, False)], "plain": ONE},
                   {"told": TWO[:2], "plain": ONE[:3]})  # fmt: skip


@pytest.fixture
def config():
    return DecomposeConfig(sources=("plain",), steps=6, questions=8, rank=4, warmup_steps=1, eval_every=3, save_every=3,
                           learning_rate=1e-2, threads=1, arithmetic="float32")  # fmt: skip


@pytest.fixture
def build(config, tiny_bert, bert_tokenizer, tmp_path):  # noqa: F811
    def make(name: str = "run", changed: DecomposeConfig | None = None) -> DecomposeTrainer:
        scorer = SpanScorer(tiny_bert(), bert_tokenizer, config.rank, seed=config.seed)
        return DecomposeTrainer(changed or config, scorer, SETS, tmp_path / name)

    return make


def losses(trainer, stop_at: int = 10**9) -> list[float]:
    seen: list[float] = []
    trainer.run(lambda report: seen.append(report.loss), stopped=lambda: trainer.step >= stop_at)
    return seen


def test_told_questions_mark_the_words_for_a_person():
    examples = list(told(range(3), "train"))
    assert len(examples) > 20 and examples == list(told(range(3), "train"))
    for question, inner, person in examples:
        words = question[slice(*inner)].lower()
        assert person and words.startswith("the ") and 2 < len(words) < len(question) - 5
    assert not {e.question for e in examples} & {e.question for e in told(range(3), "eval")}


def test_the_bridges_of_a_chronicle_are_its_two_hop_questions():
    asked = {
        question.question for question in make_chronicle(3, 6_000, "train").questions if question.type == "two_hop"
    }
    assert asked and all(any(head in text for head in (" of ", " who ", " whom ", " married to ")) for text in asked)


def test_patterns_fill_every_mark_and_span_the_words_they_put_in():
    examples = list(made(1, 400, "train"))
    assert examples == list(made(1, 400, "train"))
    two = [example for example in examples if example.inner]
    assert 150 < len(two) < 300 and {example.person for example in two} == {True, False}
    for question, inner, _ in examples:
        assert "{" not in question and question[0] == question[0].upper()
        assert inner is None or 0 <= inner[0] < inner[1] < len(question)


def test_a_step_draws_the_shares_that_were_asked_for(config):
    drawn = [each for step in range(200) for each in draw(SETS.training, replace(config, told=0.5, made=0), step)]
    share = sum(each in TWO for each in drawn) / len(drawn)
    assert 0.45 < share < 0.55 and set(drawn) == {*TWO, *ONE}
    assert draw(SETS.training, config, 3) == draw(SETS.training, config, 3) != draw(SETS.training, config, 4)


def test_sources_give_questions_of_one_step_and_keep_some_out(config, monkeypatch):
    def source(name, data):
        for number in range(12):
            yield f"d{number}", "text", [
                Question("a", "d", f"Who {number}?", ("x",)),
                Question("b", "d", f"Hop {number}?", ("x",), type="two_hop"),
            ]  # fmt: skip

    monkeypatch.setattr("training.decompose.examples.open_source", source)
    said: list[str] = []
    sets = load_examples(replace(config, sources=("squad:11",), eval_questions=7), said.append)
    assert [each.question for each in sets.held_out["squad"]] == ["Who 0?", "Who 10?"]
    assert [each.question for each in sets.training["squad"]] == [f"Who {n}?" for n in range(1, 10)]
    assert len(sets.held_out["made"]) == len(sets.held_out["told"]) == 7
    assert said == ["squad: 9 questions to learn from, 2 kept out"]
    monkeypatch.setattr("training.decompose.examples.open_source", lambda name, data: iter([("d", "t", [])]))
    with pytest.raises(ConfigError, match="The source nq has no question"):
        load_examples(replace(config, sources=("nq",)), said.append)


def test_spans_of_characters_become_tokens():
    places = [(0, 0), (0, 5), (6, 9), (10, 14), (14, 15), (0, 0)]
    assert tokens_of((6, 14), places) == (2, 3) and tokens_of((0, 15), places) == (1, 4)
    assert tokens_of(None, places) == (0, 0)
    assert tokens_of((10, 20), places) == (0, 0), "cut off"


def test_the_loss_is_the_plain_formula(build, bert_tokenizer):  # noqa: F811
    scorer, some = build().scorer, [TWO[1], ONE[2], Example("What is the item 03 of Willem?", (8, 19), False)]
    total = kinds = 0.0
    for question, inner, person in some:
        logits = scorer([question])
        first, last = tokens_of(inner, logits.places[0])
        rows = logits.span_nT2[0].log_softmax(dim=0)
        total += -(rows[first, 0] + rows[last, 1]).item() / (2 * len(some))
        if inner:
            kinds += functional.softplus(-logits.person_n[0] if person else logits.person_n[0]).item() / 2
    assert scorer.loss(some).item() == pytest.approx(total + 0.5 * kinds, rel=1e-4)


def test_it_learns_to_mark_them(build, config):
    trainer = build(changed=replace(config, steps=60, eval_every=100, save_every=100))
    before, seen = measure(trainer.scorer, SETS.held_out), losses(trainer)
    after = measure(trainer.scorer, SETS.held_out)
    assert sum(seen[-10:]) < 0.3 * sum(seen[:10])
    assert after["told/right_0"] == 1.0 > before["told/right_0"] and after["plain/taken_apart_0"] == 0.0
    assert set(after) == {"told/right_0", "told/right_3", "told/asked", "plain/taken_apart_0", "plain/taken_apart_3"}


def test_the_written_file_marks_the_same(build, config, tiny_bert, bert_tokenizer, tmp_path):  # noqa: F811
    trainer = build(changed=replace(config, steps=80, eval_every=100, save_every=100))
    trainer.run()
    write_weights(trainer.scorer.weights(), tmp_path / WEIGHTS)
    decomposer = Decomposer(tiny_bert(), bert_tokenizer, tmp_path)
    for question, inner, _ in TWO:
        step = decomposer.first_step(question)
        assert step is not None and step == (inner, f"Who is {question[slice(*inner)]}?")
    assert [decomposer.first_step(example.question) for example in ONE] == [None] * 6


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


def test_the_command_stops_goes_on_and_writes(config, tiny_bert, bert_tokenizer, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr("training.decompose.examples.load_examples", lambda config, say: SETS)
    monkeypatch.setattr("training.rank.scorer.load_minilm", lambda device: (tiny_bert(), bert_tokenizer))
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
    assert said[0] == "resumed at step 4" and said[-1].startswith("done at step 6") and "held out" in said[-2]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("told=0.7 made=0.3", "told=0.7 made=0.3"), ("held_out=0", "held_out=0"), ("steps=0", "steps=0"),
        ("sources=", "No source"), ("learning_rate=0", "learning_rate=0.0"), ("arithmetic=int8", "int8"),
        ("stepz=3", "steps"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(given, what, tmp_path, capsys):
    assert cli.main(["decompose", *given.split(), "--out", str(tmp_path / "run")]) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_settings_are_shown(capsys):
    assert cli.main(["decompose", "steps=7", "--show"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 7
