"""Every system against a loop written from its definition, on the same tokens."""

from __future__ import annotations

import math

import pytest
import torch

from memlong.chunking import chunk_text
from memlong.config import MemoryConfig
from memlong.errors import MemLongError
from memlong.evaluation.contexts import SINKS, Passage, Plan, _key_tokens, compare, cut_passages
from memlong.evaluation.ngrams import WEIGHT
from memlong.evaluation.perplexity import Scorer
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from tests.memlong.evaluation.losses import token_losses

TEXT = " ".join(
    f"In year {year} the harbour master of Brackwater lost {year * 7 % 23} barrels of salt and wrote it down."
    for year in range(40)
)
CHUNK, WINDOW, CONTEXT, SCORED = 16, 32, 192, 64


def model_of(tiny_llama, tokenizer, adapted: bool = False, **settings) -> MemoryModel:
    plain = {"chunk_tokens": CHUNK, "window_tokens": WINDOW, "top_k": 2, "capacity_tokens": 512}
    made = tiny_llama(layers=4)
    other = {name: value + 0.05 for name, value in made.named_parameters() if "layers.3" in name} if adapted else None
    return MemoryModel(made, tokenizer, MemoryConfig(store_dtype="float32", **(plain | settings)), adapted=other)


@pytest.fixture
def model(tiny_llama, tiny_tokenizer) -> MemoryModel:
    return model_of(tiny_llama, tiny_tokenizer, adapted=True)


def passage_of(model: MemoryModel, context: int = CONTEXT) -> Passage:
    return Passage(
        "t", TEXT, tuple(chunk_text(model.tokenizer, TEXT, CHUNK)[: (context + SCORED) // CHUNK]), context // CHUNK
    )


def one_by_one(model: MemoryModel, ids: list[int], seen, original: bool = False) -> float:
    """Sum of losses of the scored tokens; ``seen(t)`` are the tokens given to predict token t."""
    total = 0.0
    for at in range(CONTEXT, CONTEXT + SCORED):
        given = torch.tensor([seen(at)])
        if original:
            with model.original_weights(), torch.no_grad():
                logits = model.forward(given).logits[0, -1]
        else:
            with torch.no_grad():
                logits = model.forward(given).logits[0, -1]
        total -= float(logits.log_softmax(-1)[ids[at]])
    return total


def test_every_system_is_what_it_says(model):
    passage = passage_of(model)
    ids = [token for chunk in passage.chunks for token in chunk.token_ids]
    most = 80
    plan = Plan((64, CONTEXT), slide_tokens=most, full_tokens=CONTEXT + SCORED)
    found = compare(model, HashingRetriever(64), [passage], plan)
    assert found.passages == 1 and {cell.tokens for cell in found.cells.values()} == {SCORED}
    loss = {at: cell.loss for at, cell in found.cells.items()}
    assert loss["full", CONTEXT] == pytest.approx(one_by_one(model, ids, lambda t: ids[:t]), rel=1e-4)
    window = one_by_one(model, ids, lambda t: ids[(t - 1) // WINDOW * WINDOW : t])
    assert loss["nothing", CONTEXT] == loss["nothing", 64] == pytest.approx(window, rel=1e-4)
    before = one_by_one(model, ids, lambda t: ids[(t - 1) // WINDOW * WINDOW : t], original=True)
    assert loss["original", CONTEXT] == pytest.approx(before, rel=1e-4) and abs(before - window) > 0.1

    def slid(t: int) -> list[int]:
        end = min(CONTEXT - 1 + ((t - CONTEXT) // WINDOW + 1) * WINDOW, len(ids) - 1)
        return ids[:SINKS] + ids[end - most + SINKS : t]

    assert loss["window", CONTEXT] == pytest.approx(one_by_one(model, ids, slid), rel=1e-4)
    told = Scorer(model, HashingRetriever(64), ngrams=plan.ngrams).losses_after(TEXT, passage.chunks, passage.first)
    assert loss["ngrams", CONTEXT] == pytest.approx(float(told.mixed_n.double().sum())) and plan.ngrams == WEIGHT
    assert loss["memory", CONTEXT] == pytest.approx(float(told.model_n.double().sum()))
    assert loss["memory", CONTEXT] > loss["ngrams", CONTEXT] + 1
    alone = compare(model, HashingRetriever(64), [passage], Plan((CONTEXT,), ("ngrams",)))
    assert {at: cell.loss for at, cell in alone.cells.items()} == {("ngrams", CONTEXT): loss["ngrams", CONTEXT]}


@pytest.mark.parametrize("query", ["previous", "current"])
def test_memory_is_filled_by_reading_as_by_scoring(tiny_llama, tiny_tokenizer, query):
    model = model_of(tiny_llama, tiny_tokenizer, capacity_tokens=160)
    passage = passage_of(model)
    scorer = Scorer(model, HashingRetriever(64), query)
    text = TEXT[: passage.chunks[-1].span[1]]
    found = scorer.losses_after(text, passage.chunks, passage.first)
    losses, evicted = found.model_n, found.chunks_evicted
    assert found.mixed_n is losses
    whole = token_losses(scorer, text)
    assert len(losses) == SCORED and evicted == scorer.score(text).chunks_evicted > 0
    assert (losses - whole[-SCORED:]).abs().max() < 2e-4
    (cell,) = compare(model, HashingRetriever(64), [passage], Plan((CONTEXT,), ("memory",), query)).cells.values()
    assert cell.loss == pytest.approx(float(losses.double().sum())) and cell.evicted == evicted


def test_less_context_is_the_nearest_part_of_it(model):
    near, first = passage_of(model).after(4)
    assert first == 4 and near[0].index == CONTEXT // CHUNK - 4 and len(near) == 4 + SCORED // CHUNK
    shorter = compare(model, HashingRetriever(64), [passage_of(model)], Plan((64,), ("memory",)))
    longer = compare(model, HashingRetriever(64), [passage_of(model)], Plan((CONTEXT,), ("memory",)))
    assert shorter.cells["memory", 64].loss != longer.cells["memory", CONTEXT].loss


def test_key_tokens_gain_by_a_long_context(model, monkeypatch):
    passage = passage_of(model)
    given = iter([torch.tensor([1.0, 1.0, 3.0, 0.5]), torch.tensor([3.5, 2.5, 6.0, 2.6])])
    monkeypatch.setattr("memlong.evaluation.contexts._losses", lambda *_: next(given))
    # Gains 2.5, 1.5, 3.0, 2.1; the third is unlikely even with the long context.
    assert _key_tokens(model, passage, Plan((CONTEXT,), key_short=16)).tolist() == [True, False, False, True]


def test_key_tokens_are_scored_apart_and_need_a_long_context(model, monkeypatch):
    passage = passage_of(model)
    assert not _key_tokens(model, passage, Plan((CONTEXT,), key_short=CONTEXT)).any()
    assert not _key_tokens(model, passage, Plan((CONTEXT,), key_short=16, full_tokens=SCORED)).any()
    key = torch.zeros(SCORED, dtype=torch.bool)
    key[5] = True
    monkeypatch.setattr("memlong.evaluation.contexts._key_tokens", lambda *_: key)
    row = compare(model, HashingRetriever(64), [passage], Plan((CONTEXT,), ("memory",))).table()["memory"]["192"]
    losses = Scorer(model, HashingRetriever(64)).losses_after(TEXT, passage.chunks, passage.first).model_n
    assert row["key_tokens"] == 1 and row["key_perplexity"] == pytest.approx(math.exp(float(losses[5])), rel=1e-5)
    assert row["perplexity"] == pytest.approx(math.exp(float(losses.mean())), rel=1e-5)


def test_the_judges_short_context_is_as_long_as_asked(model):
    passage = passage_of(model)
    ids = [token for chunk in passage.chunks for token in chunk.token_ids]
    rows = []

    def losses(judge, given, wanted):
        rows.append((len(given), [(row.start, row.first, row.end) for row in wanted]))
        return torch.zeros(SCORED)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("memlong.evaluation.contexts._losses", losses)
        _key_tokens(model, passage, Plan((CONTEXT,), key_short=48))
    (long_ids, long_rows), (_, short_rows) = rows
    assert long_ids == len(ids) and long_rows == [(0, CONTEXT - 1, len(ids) - 1)]
    assert all(first - start + 1 == 48 for start, first, _ in short_rows)
    assert [end for _, _, end in short_rows[:-1]] == [first for _, first, _ in short_rows[1:]]


def test_what_does_not_fit_is_named(tiny_llama, tiny_tokenizer):
    model = model_of(tiny_llama, tiny_tokenizer)
    found = compare(model, HashingRetriever(64), [passage_of(model)], Plan((64, CONTEXT), full_tokens=128))
    table = found.table()
    assert "128 at most" in table["full"]["192"]["left_out"] and "perplexity" in table["full"]["64"]
    assert "left_out" in table["original"]["64"]
    with pytest.raises(MemLongError, match="multiple of 32"):
        compare(model, HashingRetriever(64), [], Plan((48,)))
    with pytest.raises(MemLongError, match="memory"):
        compare(model, HashingRetriever(64), [], Plan((64,), ("memori",)))
    with pytest.raises(MemLongError, match="previous"):
        compare(model, HashingRetriever(64), [], Plan((64,), query="next"))
    with pytest.raises(MemLongError, match="longer context"):
        Scorer(model, HashingRetriever(64)).losses_after(TEXT, passage_of(model).chunks, 1)


def test_passages_lie_evenly_and_short_documents_have_none(model):
    made = list(cut_passages(model, "t", TEXT, 64, 32, count=3))
    assert [p.chunks[0].index for p in made] == sorted({p.chunks[0].index for p in made}) and len(made) == 3
    assert all(p.first == 4 and len(p.chunks) == 6 and p.chunks[0].index % 2 == 0 for p in made)
    assert not list(cut_passages(model, "t", "Short.", 64, 32))
    with pytest.raises(MemLongError, match="windows of 32"):
        next(cut_passages(model, "t", TEXT, 64, 40))


def test_a_passage_that_was_not_finished_does_not_count(model):
    said: list[str] = []

    def stop(words: str) -> bool:
        said.append(words)
        return sum("key tokens" in each for each in said) == 2 and "window" in words

    found = compare(model, HashingRetriever(64), [passage_of(model)] * 3, Plan((64,)), stop)
    assert found.passages == 1 and {cell.tokens for cell in found.cells.values()} == {SCORED}
