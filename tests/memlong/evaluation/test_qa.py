"""Scores of answers by document, and what a table makes of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memlong.config import MemoryConfig
from memlong.evaluation import qa
from memlong.evaluation.answers import NOT_IN_TEXT
from memlong.evaluation.qa import AskedQuestion, QAResult, Scored, by_depth, by_length, evaluate_qa, means
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever

TEXT = "Bram kept the lamp. " * 9
ROW = Scored(
    "d", 1500, 4096, 0.5, "all", "memory", "?", ("yes",), "yes", 1.0, 1.0, False, True, False, True, False, 0.5, 2.0, 3
)


@pytest.fixture
def model(tiny_llama, tiny_tokenizer) -> MemoryModel:
    return MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(chunk_tokens=16, window_tokens=16, top_k=2))


@pytest.mark.parametrize(("said", "answered", "unanswerable"), [(NOT_IN_TEXT, 0.0, 1.0), ("Bram", 1.0, 0.0)])
def test_saying_that_the_text_does_not_tell_is_right_where_it_does_not(
    said, answered, unanswerable, model, monkeypatch
):
    real = qa.Session.ask
    monkeypatch.setattr(qa.Session, "ask", lambda *given: replace(real(*given), text=said))
    questions = [AskedQuestion("Who kept it?", ("Bram",), "told"), AskedQuestion("Who sold it?", (), "not told")]
    table = evaluate_qa(model, HashingRetriever(64), [("t", TEXT, questions)], ["memory"]).table()
    assert (table["told"]["memory"]["exact"], table["not told"]["memory"]["exact"]) == (answered, unanswerable)
    assert table["told"]["memory"]["wrongly_said_so"] == table["not told"]["memory"]["said_so"] == unanswerable
    assert "said_so" not in table["told"]["memory"] and "wrongly_said_so" not in table["not told"]["memory"]


def test_evidence_is_looked_for_in_what_was_retrieved_and_held(model):
    middle = TEXT.index("Bram", 80)
    asked = AskedQuestion("Who kept the lamp?", ("Bram",), "all", ((middle, middle + 4), (0, 4)))
    small = model.with_config(model.config.replace(capacity_tokens=16, policy="fifo"))
    for given, kept in ((model, True), (small, False)):
        result = evaluate_qa(given, HashingRetriever(64), [("t", TEXT, [asked])], ["memory", "nothing"])
        memory, nothing = result.rows
        assert memory.evidence_kept is kept and (kept or not memory.evidence_found)
        assert not memory.evidence_all or memory.evidence_found
        assert nothing.evidence_kept is None is nothing.evidence_found
        assert memory.depth == pytest.approx((middle + 2) / len(TEXT))
        assert memory.document_tokens == result.tokens_read and memory.capacity_tokens == given.config.capacity_tokens


def test_means_by_hand():
    rows = [ROW, replace(ROW, exact=0.0, f1=0.5, abstained=True, evidence_found=False, seconds=4.0)]
    rows.append(replace(ROW, answers=(), exact=0.0, f1=0.0, evidence_found=None, evidence_all=None, evidence_kept=None))
    row = means(rows)
    assert (row["exact"], row["f1"], row["questions"], row["unanswerable"]) == (0.5, 0.75, 3, 1)
    assert (row["said_so"], row["wrongly_said_so"]) == (0.0, 0.5)
    assert (row["evidence_recall"], row["evidence_recall_all"], row["evidence_kept"]) == (0.5, 0.0, 1.0)
    assert row["seconds"] == pytest.approx(8 / 3)
    alone = means([replace(ROW, answers=(), abstained=True)])
    assert alone["said_so"] == alone["exact"] == 1.0 and "wrongly_said_so" not in alone


def test_rows_are_split_by_length_depth_and_capacity():
    assert [by_length(replace(ROW, document_tokens=n))[1] for n in (300, 1024, 80_000)] == [
        "under 1,024 tokens",
        "1,024 to 2,048 tokens",
        "65,536 to 131,072 tokens",
    ]
    assert [by_depth(replace(ROW, depth=d))[1] for d in (0.0, 0.2, 0.99, 1.0, None)] == [
        "0 to 20 %",
        "20 to 40 %",
        "80 to 100 %",
        "80 to 100 %",
        "place not known",
    ]
    hop = replace(ROW, type="two_hop", capacity_tokens=64)
    result = QAResult([ROW, hop, replace(hop, capacity_tokens=16), replace(ROW, way="nothing")])
    assert list(result.table("capacity")) == ["4,096 tokens", "two_hop, 16 tokens", "two_hop, 64 tokens"]
    assert list(result.table("capacity", types=False)) == ["16 tokens", "64 tokens", "4,096 tokens"]
    assert set(result.table()["all"]) == {"memory", "nothing"} and list(result.table()) == ["all", "two_hop"]


def test_stopping_keeps_what_was_scored(model):
    asked = [AskedQuestion("Who kept the lamp?", ("Bram",))] * 3
    said: list[str] = []

    def stop(words: str) -> bool:
        said.append(words)
        return "2 of 3" in words

    result = evaluate_qa(model, HashingRetriever(64), [("t", TEXT, asked)] * 2, ["memory"], progress=stop)
    assert len(result.rows) == 2 and "100% read" in said[-3]
    assert not evaluate_qa(model, HashingRetriever(64), [("t", TEXT, asked)], progress=lambda words: True).rows
