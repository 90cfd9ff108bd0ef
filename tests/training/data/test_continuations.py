"""Passages to continue: cut at words, told from where they stand, and never fetched by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memlong.config import MemoryConfig
from memlong.retriever.hashing import HashingRetriever
from tests.training.test_loop import documents
from training import run as running
from training.config import TrainConfig
from training.data import sources
from training.data.continuations import SCORED, SHOWN, continuations, excerpt
from training.data.jsonl import write_jsonl
from training.data.passages import cut
from training.questions import IGNORED, Drawn, QuestionSampler, collate

TEXT = "\n\n".join(" ".join(f"word{paragraph}x{number}" for number in range(60)) for paragraph in range(12))


def test_question_and_answer_are_the_text_itself() -> None:
    made = continuations("d", TEXT, 20, seed=0)
    assert len(made) == 20 and made == continuations("d", TEXT, 20, seed=0)
    for question in made:
        ((start, end),) = question.evidence
        assert question.question + question.answers[0] == TEXT[start:end].strip()
        assert question.answers[0][0].isspace() and start >= len(TEXT) // 4
        assert SHOWN - 20 <= len(question.question) <= SHOWN + 20
        assert 0 < len(question.answers[0]) <= SCORED + 20


def test_a_short_text_has_none() -> None:
    assert continuations("d", "A few words.", 5, seed=0) == []


def test_an_excerpt_begins_with_a_paragraph_and_keeps_its_length() -> None:
    part = excerpt(TEXT, 2000)
    assert len(part) <= 2000 and part in TEXT and part.startswith("word") and "x0 " in part[:12]
    assert excerpt("short", 100) == "short"


def test_only_chunks_before_the_passage_can_be_retrieved(tiny_tokenizer) -> None:
    document = cut(tiny_tokenizer, "d", TEXT, continuations("d", TEXT, 12, seed=0), 32)
    assert len(document.asked) == 12
    chunks, questions = len(document.chunks), len(document.asked)
    random = np.random.default_rng(0)
    vectors = {"d": random.normal(size=(chunks, 8))}, {"d": random.normal(size=(questions, 8))}
    sampler = QuestionSampler(TrainConfig("test", single_steps=0, batch_size=8, max_chunks=4), [document], *vectors)
    drawn = [item for step in range(8) for item in sampler.draw(step)]
    drawn += [sampler.retrieved(document, index, 4) for index in range(questions)]
    for item in drawn:
        start = item.asked.question.evidence[0][0]
        assert all(document.chunks[chunk].span[1] <= start for chunk in item.chunks)
    assert any(item.chunks for item in drawn)


def test_plain_text_has_no_template_and_is_scored_in_full(tiny_tokenizer) -> None:
    document = cut(tiny_tokenizer, "d", TEXT, continuations("d", TEXT, 1, seed=0), 32)
    asked = document.asked[0]
    batch = collate(tiny_tokenizer, [Drawn("d", asked, ())], max_answer_tokens=2)
    scored = tiny_tokenizer(asked.question.answers[0], add_special_tokens=False)["input_ids"]
    assert batch.plain_B.tolist() == [True]
    assert batch.labels_BA[0][batch.labels_BA[0] != IGNORED].tolist() == scored and len(scored) > 2
    whole = tiny_tokenizer(asked.question.question)["input_ids"] + scored
    assert batch.ids_BT[0, -len(whole) :].tolist() == whole


def test_books_are_a_source(tmp_path) -> None:
    rows = [{"doc_id": name, "title": name, "text": TEXT} for name in ("one", "two")]
    write_jsonl(tmp_path / "books/train-00.jsonl.zst", rows)
    found = list(sources.interleave(("books:1",), tmp_path))
    assert [doc_id for doc_id, _, _ in found] == ["one"] and found[0][2]
    assert found[0][1] == TEXT


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_plain_text_counts_by_its_weight(weight, tiny_llama, tiny_tokenizer, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "keepers", lambda data: documents())
    monkeypatch.setitem(sources.SOURCES, "plain", lambda data: [("p", TEXT, continuations("p", TEXT, 4, seed=0))])
    monkeypatch.setitem(sources.SOURCES, "squad-eval", lambda data: documents(1))
    config = TrainConfig(
        "test",
        memory=MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=2, store_dtype="float32"),
        sources=("keepers", "plain"),
        lora_rank=4,
        warm_documents=2,
        threads=1,
        text_weight=weight,
    )
    trainer = running.build(config, tmp_path, tiny_llama(), tiny_tokenizer, HashingRetriever(64))
    asked = [Drawn(d.doc_id, d.asked[0], (0,)) for d in trainer.sampler.documents[:2]]
    with torch.no_grad():
        both, answer = trainer._loss(asked, trainer.memory), trainer._loss(asked[:1], trainer.memory)
        text = trainer._loss(asked[1:], trainer.memory)
    assert float(both) == pytest.approx(float(answer) + float(text), abs=1e-4)
    assert (float(text) > 0) == bool(weight)
