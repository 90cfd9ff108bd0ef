"""Classification by examples: the likeliest label by definition, balanced examples, deviations over seeds."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from memlong.config import MemoryConfig
from memlong.errors import ConfigError
from memlong.evaluation.icl import Arm, Example, ICLResult, Task, balanced, classify, evaluate_icl
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session

TRAIN = tuple(
    Example(f"ship {i} was {'lost' if i % 3 else 'found'}", "bad" if i % 3 else "very good") for i in range(12)
)
TEST = tuple(Example(f"rope {i} was {'lost' if i % 2 else 'found'}", "bad" if i % 2 else "very good") for i in range(5))
TASK = Task("ships", TRAIN, TEST, "Review: {text}\nSentiment: {label}")


@pytest.fixture
def model(tiny_llama, tiny_tokenizer) -> MemoryModel:
    return MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(chunk_tokens=16, window_tokens=16, top_k=2))


def logprob(session: Session, prompt: str, label: str) -> float:
    """Log-probability of a label, token by token."""
    tokenizer, model = session.tokenizer, session.model
    start, ids = len(tokenizer(prompt)["input_ids"]), tokenizer(f"{prompt} {label}")["input_ids"]
    memory = None
    if len(session.bank):
        hits = session.search(session.retriever.embed_query(prompt.split("\n\n")[-1]), 2)
        gathered = session.bank.gather(sorted(hit.chunk_id for hit in hits), model.dtype, model.device)
        lengths = session.bank.lengths(sorted(hit.chunk_id for hit in hits))
        memory = model.memory(gathered.keys_SNGCD, gathered.values_SNGCD, lengths)
    total = 0.0
    for at in range(start, len(ids)):
        with torch.no_grad():
            logits = model.forward(torch.tensor([ids[:at]]), memory).logits[0, -1]
        total += float(logits.log_softmax(-1)[ids[at]])
    return total


@pytest.mark.parametrize("remember", [False, True])
def test_the_likeliest_label_wins(model, remember):
    session = Session(model, HashingRetriever(64))
    if remember:
        session.read("\n\n".join(TASK.shown(example) for example in TRAIN))
    before = TASK.shown(TRAIN[0]) + "\n\n"
    gaps = []
    for example in TEST:
        prompt = before + TASK.asked(example.text)
        assert prompt.endswith("Sentiment:")
        scores = {label: logprob(session, prompt, label) for label in TASK.labels}
        gaps.append(scores["bad"] - scores["very good"])
        assert classify(session, TASK, before, example.text) == max(scores, key=scores.get)
    assert min(abs(gap) for gap in gaps) > 1e-3


def test_labels_take_turns_and_seeds_differ():
    order = balanced(TASK, 0)
    assert order == balanced(TASK, 0) != balanced(TASK, 1)
    assert Counter(order) == Counter(TRAIN)
    assert all({example.label for example in order[at : at + 2]} == {"bad", "very good"} for at in range(0, 8, 2))


def test_every_arm_is_tried_with_every_seed(model):
    result = ICLResult()
    arms = [Arm(0, 0), Arm(2, 0), Arm(0, 6), Arm(2, 6)]
    evaluate_icl((model, HashingRetriever(64)), TASK, arms, [0, 1], result)
    table = result.table()["ships"]
    assert list(table) == ["none", "2 in window", "6 in memory", "2 in window, 6 in memory"]
    assert all(set(row["seeds"]) == {"0", "1"} and row["commonest_label"] == 0.6 for row in table.values())
    assert table["none"]["deviation"] == 0.0


def test_means_and_deviations_by_hand():
    result = ICLResult({"t": {"a": {0: 0.5, 1: 0.7}, "b": {0: 0.25}}}, {"t": 0.5})
    table = result.table()["t"]
    assert table["a"]["accuracy"] == pytest.approx(0.6) and table["a"]["deviation"] == pytest.approx(0.02**0.5)
    assert table["b"] == {"accuracy": 0.25, "deviation": 0.0, "seeds": {"0": 0.25}, "commonest_label": 0.5}


def test_an_arm_that_was_not_finished_is_left_out(model):
    result = ICLResult()
    evaluate_icl(
        (model, HashingRetriever(64)), TASK, [Arm(0, 0), Arm(1, 0)], [0], result, lambda words: "1 in window" in words
    )
    assert list(result.right["ships"]) == ["none"]


def test_wrong_tasks_are_refused(model):
    with pytest.raises(ConfigError, match="at the end"):
        Task("t", TRAIN, TEST, "{label}: {text}")
    with pytest.raises(ConfigError, match="two labels"):
        Task("t", TRAIN[1:3], TEST)
    with pytest.raises(ConfigError, match="fewer in the window"):
        classify(Session(model, HashingRetriever(64)), TASK, "lost " * 5000, "ship")
