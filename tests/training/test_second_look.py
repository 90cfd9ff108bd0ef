"""Training fetches chunks as answering does, also after a second look, and draws a step alike whenever it is drawn."""

from __future__ import annotations

from copy import deepcopy
from threading import current_thread

import numpy as np
import pytest

from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session
from training import run as running
from training.config import TrainConfig
from training.data.passages import cut
from training.data.questions import Question

SIZE, LOOKED = 96, 5
KEEPERS = ("Bram", "Odile", "Tamsin", "Corvin")


class Weighing(HashingRetriever):
    """Weighs what is common in a text less, as the hybrid one does."""

    def weigh_query(self, query_E, mean_squares_E, held):
        return (query_E / (0.01 + mean_squares_E)).astype(np.float32)


def text_of(seed: int) -> str:
    return " ".join(
        f"The lamp of house {i * 7 % 41 + seed} was kept by {KEEPERS[i * i % 4]} until year {i * 13 % 37}."
        for i in range(48)
    )


def document_of(tokenizer, seed: int):
    text, name = text_of(seed), f"d{seed}"
    asked = []
    for i in range(0, 48, 3):
        house, keeper = i * 7 % 41 + seed, KEEPERS[i * i % 4]
        start = text.index(f"The lamp of house {house} ")
        end = text.index(".", start)
        question = f"Who kept the lamp of house {house}?"
        asked.append(Question(f"{name}-{i}", name, question, (keeper,), evidence=((start, end),)))
    return cut(tokenizer, name, text, [*asked, Question("x", name, "Who sold salt?", (), answerable=False)], SIZE)


@pytest.fixture
def build(tmp_path, tiny_tokenizer):
    """Return ``build(documents, **memory)``: a sampler as a run makes it."""

    def make(documents, tokenizer=tiny_tokenizer, **memory):
        settings = MemoryConfig(chunk_tokens=SIZE, window_tokens=SIZE, store_dtype="float32", **memory)
        config = TrainConfig(
            "test", batch_size=4, warm_documents=1, documents_every=4, single_steps=6, sorted_steps=4, memory=settings
        )
        return running._sampler(config, documents, Weighing(256), tokenizer, tmp_path / "kept.npz")

    return make


def ids_of(hits):
    return [hit.chunk_id for hit in hits]


@pytest.mark.parametrize("candidates", [0, LOOKED])
def test_a_question_s_chunks_are_those_that_a_session_finds(build, tiny_llama, tiny_tokenizer, candidates):
    document, moved = document_of(tiny_tokenizer, 0), 0
    sampler = build([document], rerank_candidates=candidates)
    session = Session(MemoryModel(tiny_llama(), tiny_tokenizer, sampler.config.memory), Weighing(256))
    session.read(text_of(0))
    assert len(session.bank) == len(document.chunks) > 2 * LOOKED
    for index, asked in enumerate(document.asked):
        query_E = session.embed_query(asked.question.question)
        found, first = ids_of(session.search(query_E, LOOKED)), ids_of(session.bank.search(query_E, len(session.bank)))
        assert sampler._ranked(document, index) == [*found, *first[LOOKED:]]
        for top_k in (1, 3):
            fetched = sampler.retrieved(document, index, top_k).chunks
            assert list(fetched) == sorted(ids_of(session.search(query_E, top_k)))
        moved += found != first[:LOOKED]
    assert (moved > 0) is (candidates > 0)


def test_without_relevance_nothing_is_added_to_what_is_looked_at_twice(build, tiny_tokenizer):
    document = document_of(tiny_tokenizer, 0)
    plain, graded = (build([document], rerank_candidates=LOOKED, relevance_strength=each) for each in (0.0, 8.0))
    one, other = (sampler.retrieved(document, 0, 3) for sampler in (plain, graded))
    assert one == other and one.relevance_NC is None and other.relevance_NC.shape == (3, SIZE)


def test_a_step_is_drawn_alike_in_order_again_and_alone(build, tiny_tokenizer):
    documents = [document_of(tiny_tokenizer, seed) for seed in (0, 1, 2)]
    given = {"rerank_candidates": LOOKED, "relevance_strength": 8.0}
    sampler = build(documents, **given)
    in_order = [sampler.draw(step) for step in range(12)]
    again = [sampler.draw(step) for step in reversed(range(12))][::-1]
    alone = [build(documents, **given).draw(step) for step in range(12)]
    assert in_order == again == alone
    for step, drawn in enumerate(in_order):
        assert len(drawn) == 4
        for one, other in zip(drawn, alone[step], strict=True):
            np.testing.assert_array_equal(one.relevance_NC, other.relevance_NC)
    assert len({str(drawn) for drawn in in_order}) == 12, "each step has its own"
    early = [item for drawn in in_order[:8] for item in drawn]
    assert all(item.chunks == item.asked.gold for item in early), "by the first of the steps drawn together"
    assert {item.doc_id for drawn in in_order[8:] for item in drawn} > {item.doc_id for item in in_order[0]}


def test_the_steps_of_one_draw_are_worked_out_together_once_and_ahead(build, tiny_tokenizer, monkeypatch):
    sampler, drawn = build([document_of(tiny_tokenizer, 0)], rerank_candidates=LOOKED), []
    real = sampler._draw_together
    monkeypatch.setattr(
        sampler, "_draw_together", lambda *given: drawn.append((*given, current_thread())) or real(*given)
    )
    for step in (4, 5, 6, 7, 7, 8):
        sampler.draw(step)
    sampler._ahead[1].result()
    assert [each[:2] for each in drawn] == [(4, 16), (8, 16), (12, 16)]
    assert [each[2] is current_thread() for each in drawn] == [True, False, False]


def test_drawing_ahead_ends_with_the_run_and_not_in_the_middle_of_it(build, tiny_tokenizer):
    sampler = build([document_of(tiny_tokenizer, 0)], rerank_candidates=LOOKED)
    before = sampler.draw(0)
    pool, (first, ahead) = sampler._pool, sampler._ahead
    sampler.rest()
    assert first == 4 and ahead.done(), "nothing works on"
    with pytest.raises(RuntimeError):
        pool.submit(print)
    whole = build([document_of(tiny_tokenizer, 0)], rerank_candidates=LOOKED)
    assert [sampler.draw(step) for step in range(8)] == [whole.draw(step) for step in range(8)], "none is cut short"
    assert sampler.draw(0) == before
    sampler.draw(sampler.config.steps - 1)
    assert sampler._ahead[0] < sampler.config.steps, "nobody asks for what comes after the last step"


def test_what_draws_ahead_has_a_tokenizer_of_its_own(build, tiny_tokenizer):
    """Fast tokenizers let nobody in while another thread sets how they cut or pad."""
    shared = deepcopy(tiny_tokenizer)
    sampler = build([document_of(tiny_tokenizer, 0)], shared, rerank_candidates=LOOKED)
    shared.backend_tokenizer.enable_truncation(3)
    for parts in sampler.parts.values():
        assert parts._tokenizer.backend_tokenizer.truncation is None
        assert parts._tokenizer.get_vocab() == shared.get_vocab()


def test_what_a_second_look_finds_first_is_what_memory_holds_in_training(build, tiny_tokenizer):
    document = document_of(tiny_tokenizer, 0)
    sampler = build([document], rerank_candidates=LOOKED)
    for drawn in (sampler.draw(step) for step in range(8, 20)):
        for item in drawn:
            index = document.asked.index(item.asked)
            ranked = sampler._ranked(document, index)
            others = [chunk for chunk in item.chunks if chunk not in item.asked.gold]
            assert set(others) <= set(ranked[: len(item.chunks)])
