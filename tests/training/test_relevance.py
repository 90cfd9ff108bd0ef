"""Training reads memory through the relevance that answering computes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch

from memlong.config import MemoryConfig
from memlong.retriever.hashing import HashingRetriever
from memlong.retriever.parts import cut_parts, relevance, relevance_to, second_look
from training.config import TrainConfig
from training.data.passages import cut
from training.data.questions import CONTINUATION, Question
from training.questions import QuestionSampler
from training.relevance import ScoredParts, stack_relevance

TEXT = " ".join(f"The lamp of house {i} was kept by Bram until the third year." for i in range(40))
SIZE = 128


@pytest.fixture
def document(tiny_tokenizer):
    asked = [Question(f"a{i}", "d", f"Who kept the lamp of house {i}?", ("Bram",), evidence=((0, 60),)) for i in (0, 3)]
    plain = Question("p", "d", "The lamp of", (" house",), evidence=((len(TEXT) - 30, len(TEXT)),), type=CONTINUATION)
    return cut(tiny_tokenizer, "d", TEXT, [*asked, plain], SIZE)


@pytest.fixture
def sampler(document, tiny_tokenizer):
    retriever = HashingRetriever(256)
    chunks = retriever.embed_documents(document.texts)
    questions = {"d": retriever.embed_documents([each.question.question for each in document.asked])}
    parts = {"d": ScoredParts(tiny_tokenizer, document, retriever, questions["d"])}
    memory = MemoryConfig(chunk_tokens=SIZE, window_tokens=SIZE, relevance_strength=1.0)
    config = TrainConfig("test", warm_documents=1, memory=memory)
    return QuestionSampler(config, [document], {"d": chunks}, questions, parts)


def test_it_is_what_answering_computes(document, sampler, tiny_tokenizer):
    retriever = HashingRetriever(256)
    for index in (0, 1):
        item = sampler.retrieved(document, index, 3)
        parts = [cut_parts(tiny_tokenizer, document.texts[i], document.chunks[i].n_tokens) for i in item.chunks]
        query = retriever.embed_query(item.asked.question.question)
        want = relevance(parts, retriever.score_parts(query, parts), SIZE)
        assert len(item.chunks) > 1 and want.min() < 0
        np.testing.assert_allclose(item.relevance_NC, want, atol=1e-6)


def test_the_retriever_reads_and_doubts_as_when_answering(document, tiny_tokenizer):
    class Reading(HashingRetriever):
        """Scores by the very words of a question, and doubts by them."""

        def score_parts(self, query_E, chunks, question=""):
            return [np.float32([Random(question + part).random() for part in parts.texts]) for parts in chunks]

        def doubt(self, query_E, chunks, question):
            return np.float32([Random(question + parts.texts[0]).random() for parts in chunks])

    retriever, query_E = Reading(256), np.zeros(256, np.float32)
    scored = ScoredParts(tiny_tokenizer, document, retriever, np.stack([query_E] * 3))
    chunks = [(at, cut_parts(tiny_tokenizer, document.texts[at], document.chunks[at].n_tokens)) for at in (4, 1, 2, 0)]
    ids, parts = [at for at, _ in chunks], [each for _, each in chunks]
    orders = []
    for asked in (0, 1):
        question = document.asked[asked].question.question
        want = relevance_to(retriever, query_E, question, parts, SIZE)
        np.testing.assert_allclose(scored.relevance(asked, ids, SIZE), want, atol=1e-6)
        assert len(set(retriever.doubt(query_E, parts, question))) == len(parts) > 1
        looked = dict(zip(ids, second_look(retriever, query_E, question, parts, [0.0] * 4), strict=True))
        orders.append(scored.ranked(asked, ids, [0.0] * 4))
        assert orders[-1] == sorted(ids, key=lambda at, looked=looked: -looked[at])
    assert orders[0] != orders[1]


def test_plain_text_has_none(document, sampler):
    at = next(i for i, each in enumerate(document.asked) if each.question.type == CONTINUATION)
    assert sampler.retrieved(document, at, 2).relevance_NC is None
    chunks, asked = (np.ones((len(each), 2)) for each in (document.chunks, document.asked))
    bare = QuestionSampler(sampler.config, [document], {"d": chunks}, {"d": asked})
    assert bare.retrieved(document, 0, 2).relevance_NC is None


def test_rows_are_padded_with_zeros():
    rows = [np.full((1, 4), -1.0, np.float32), None, np.full((2, 4), -0.5, np.float32)]
    found = stack_relevance(rows, 2, 4, 3.0)
    assert found.tolist() == [[-3.0] * 4 + [0.0] * 4, [0.0] * 8, [-1.5] * 8]


def test_the_loss_depends_on_it(tmp_path, tiny_llama, tiny_tokenizer, document, sampler):
    from memlong.model.wrapper import MemoryModel
    from training.adapters import add_adapter
    from training.cache import DocumentMemory
    from training.loop import HeldOut, Trainer

    losses = []
    for strength in (0.0, 0.0, 20.0):
        torch.manual_seed(0)
        memory = sampler.config.memory.replace(relevance_strength=strength, store_dtype="float32")
        config = replace(sampler.config, memory=memory, lora_rank=2, arithmetic="float32", threads=1)
        model = add_adapter(tiny_llama(), config, tuple(range(tiny_llama().config.num_hidden_layers)))
        wrapped = MemoryModel(model, tiny_tokenizer, memory)
        kept = DocumentMemory(wrapped, [document])
        items = [sampler.retrieved(document, index, 2) for index in range(len(document.asked))]
        trainer = Trainer(config, wrapped, sampler, kept, HeldOut(items, kept), tmp_path / str(len(losses)))
        losses.append(trainer.evaluate()["loss"])
    assert losses[0] == losses[1] != losses[2]
