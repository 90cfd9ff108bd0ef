"""Attention to the evidence as a second loss: where it is, what is asked, and that it is learned."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from memlong.attention.context import EvidenceFocus
from memlong.config import MemoryConfig
from memlong.errors import ConfigError
from memlong.retriever.hashing import HashingRetriever
from training import run as running
from training.config import TrainConfig
from training.data import sources
from training.data.passages import AskedChunk, Passages, cut
from training.data.questions import Question
from training.focus import EvidenceFinder, focus_loss, focused
from training.questions import IGNORED, Drawn, collate

TEXT = (
    "The mill stood empty. In spring Bram Oke kept the lantern in the mill. Nobody asked why. "
    "The bell was cast by Sefa in the year of the flood. It rang twice. Ludo heard it from the harbour."
)
LANTERN, BELL = (
    "In spring Bram Oke kept the lantern in the mill.",
    "The bell was cast by Sefa in the year of the flood.",
)


def asked(question: str, answer: str, evidence: list[tuple[int, int]], **other: object) -> Question:
    return Question("q", "d", question, (answer,) if answer else (), evidence=tuple(evidence), **other)


def span(words: str) -> tuple[int, int]:
    return TEXT.index(words), TEXT.index(words) + len(words)


def passages(tokenizer, *questions: Question, chunk_tokens: int = 16) -> Passages:
    return cut(tokenizer, "d", TEXT, questions, chunk_tokens)


def words_of(tokenizer, document: Passages, question: AskedChunk) -> str:
    finder = EvidenceFinder(tokenizer, [document])
    every = tuple(range(len(document.chunks)))
    ids = [
        token
        for chunk in document.chunks
        for start, end in finder.ranges(Drawn("d", question, every), chunk.index)
        for token in chunk.token_ids[start:end]
    ]
    return str(tokenizer.decode(ids)).strip()


def test_evidence_is_the_sentence_with_the_answer(tiny_tokenizer):
    whole = asked("Who kept the lantern?", "Bram Oke", [(0, len(TEXT))])
    document = passages(tiny_tokenizer, whole, chunk_tokens=200)
    assert words_of(tiny_tokenizer, document, document.asked[0]) == LANTERN


@pytest.mark.parametrize("chunk_tokens", [8, 16, 200])
def test_evidence_of_a_joined_answer_is_all_of_it(tiny_tokenizer, chunk_tokens):
    joined = asked("What was cast where the lantern hung?", "Sefa", [span(LANTERN), span(BELL)], type="two_hop")
    document = passages(tiny_tokenizer, joined, chunk_tokens=chunk_tokens)
    found = words_of(tiny_tokenizer, document, document.asked[0])
    assert found.replace(" ", "") == (LANTERN + BELL).replace(" ", "")


def test_nothing_is_evidence_of_what_the_text_does_not_tell(tiny_tokenizer):
    document = passages(tiny_tokenizer, asked("Who sold the bell?", "", [], answerable=False))
    assert words_of(tiny_tokenizer, document, document.asked[0]) == ""


@pytest.fixture
def config(monkeypatch) -> TrainConfig:
    questions = [
        asked("Who kept the lantern?", "Bram Oke", [span(LANTERN)]),
        asked("Who cast the bell?", "Sefa", [span(BELL)]),
        asked("Who sold the bell?", "", [], answerable=False),
    ]
    monkeypatch.setitem(sources.SOURCES, "mill", lambda data: iter([("d", TEXT, questions)]))
    monkeypatch.setitem(sources.SOURCES, "squad-eval", lambda data: iter([("e", TEXT, questions)]))
    memory = MemoryConfig(chunk_tokens=16, window_tokens=16, top_k=2, store_dtype="float32")
    return TrainConfig(
        "test", memory=memory, sources=("mill",), lora_rank=4, lora_alpha=4, steps=30, batch_size=4, warmup_steps=1,
        warm_documents=1, max_documents=1, single_steps=0, max_chunks=4, eval_every=99, save_every=99, threads=1,
        learning_rate=5e-3, miss_rate=0.0,
    )  # fmt: skip


@pytest.fixture
def build(config, tiny_llama, tiny_tokenizer, tmp_path):
    def make(**changed):
        changed_config = replace(config, **changed)
        return running.build(changed_config, tmp_path, tiny_llama(), tiny_tokenizer, HashingRetriever(128))

    return make


def look(trainer) -> EvidenceFocus:
    """Return what a forward pass over the first questions finds of their evidence, with all chunks in memory."""
    document = trainer.sampler.documents[0]
    drawn = [Drawn("d", question, tuple(range(len(document.chunks)))) for question in document.asked]
    for item in drawn:
        trainer.memory.read(item.doc_id)
    context = trainer.model.stack_memory([trainer.memory.rows(item.doc_id, item.chunks) for item in drawn])
    batch = collate(trainer.model.tokenizer, drawn, 24)
    finder = EvidenceFinder(trainer.model.tokenizer, [document])
    context = focused(context, finder, drawn, batch, trainer.config.focus_layers)
    trainer.model.forward(batch.ids_BT, context, attention_mask=batch.mask_BT)
    focus, labels = context.focus, batch.labels_BA
    answers = [row[row != IGNORED].tolist() for row in labels]
    assert [int(row.sum()) for row in focus.asked_BP] == [min(4, len(a) - 1) for a in answers[:2]] + [0]
    for row in (0, 1):  # the token after a place is the token of the answer that the place writes
        places = focus.places_BP[row][focus.asked_BP[row]]
        assert batch.ids_BT[row, places + 1].tolist() == answers[row][: len(places)]
    return focus


def test_training_turns_attention_to_the_evidence(build):
    before, after = {}, {}
    for weight in (0.0, 1.0):
        trainer = build(focus_weight=weight)
        before[weight] = focus_loss(look(trainer)).item()
        for trainer.step in range(30):
            trainer.train_step()
        after[weight] = focus_loss(look(trainer)).item()
    assert before[0.0] == before[1.0]
    assert after[1.0] < 0.9 * before[1.0]
    assert after[1.0] < after[0.0]


def test_evaluation_judges_the_answer_alone(build):
    weights = {weight: build(focus_weight=weight).evaluate()["loss"] for weight in (0.0, 1.0)}
    assert weights[0.0] == weights[1.0]


def test_layers_are_asked_that_read_memory(build):
    assert set(look(build(focus_weight=1.0, focus_layers=())).shares) == set(build().model.layout.retrieval_layers)
    with pytest.raises(ConfigError, match=r"focus_layers=\[99\]"):
        build(focus_weight=1.0, focus_layers=(99,)).train_step()


def test_nothing_asked_is_no_loss():
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    focus = EvidenceFocus(nothing, nothing, nothing.long(), nothing, frozenset({0}), {0: torch.ones(1, 2)})
    assert float(focus_loss(focus)) == 0


@pytest.mark.parametrize("changed", [{"focus_weight": -1.0}, {"focus_weight": 0.3, "answer_from": "passages"}])
def test_settings_that_make_no_sense_are_refused(config, changed):
    with pytest.raises(ConfigError, match="focus_weight"):
        replace(config, **changed)
