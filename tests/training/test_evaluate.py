"""Which questions are asked, and how answers are scored when the text holds none."""

from __future__ import annotations

from argparse import Namespace

import pytest

from memlong.config import MemoryConfig
from memlong.evaluation import qa
from memlong.evaluation.answers import NOT_IN_TEXT
from memlong.evaluation.qa import AskedQuestion, evaluate_qa
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from training import evaluate


def test_a_chronicle_is_asked_every_type_alike():
    chosen = Namespace(source="chronicle", seed=3, tokens=6_000, questions=12, by_type=False, documents=[], limit=0)
    ((_, text, asked),) = evaluate.documents(chosen)
    kinds = [question.type for question in asked]
    assert {"single_fact", "changed_fact", "two_hop", "unanswerable"} <= set(kinds)
    assert max(kinds.count(kind) for kind in kinds) <= 2 and len(text) > 20_000


@pytest.mark.parametrize(("said", "answered", "unanswerable"), [(NOT_IN_TEXT, 0.0, 1.0), ("Bram", 1.0, 0.0)])
def test_saying_that_the_text_does_not_tell_is_right_where_it_does_not(
    said, answered, unanswerable, tiny_llama, tiny_tokenizer, monkeypatch
):
    def ask(session, question, options):
        answer = real(session, question, options)
        return type(answer)(**{**{f: getattr(answer, f) for f in answer.__dataclass_fields__}, "text": said})

    real = qa.Session.ask
    monkeypatch.setattr(qa.Session, "ask", ask)
    model = MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(chunk_tokens=16, window_tokens=16, top_k=2))
    questions = [AskedQuestion("Who kept it?", ("Bram",), "told"), AskedQuestion("Who sold it?", (), "not told")]
    found = evaluate_qa(model, HashingRetriever(64), [("t", "Bram kept the lamp. " * 9, questions)], ["memory"])
    table = found.table()
    assert (table["told"]["memory"]["exact"], table["not told"]["memory"]["exact"]) == (answered, unanswerable)
    assert table["told"]["memory"]["abstained"] == unanswerable
