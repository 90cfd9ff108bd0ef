"""The cache's probabilities by their definition, and that a chunk that leaves takes its counts along."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from memlong.config import MemoryConfig
from memlong.errors import ConfigError
from memlong.evaluation.ngrams import NGramCache
from memlong.evaluation.perplexity import Scorer
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from tests.memlong.evaluation.losses import token_losses

TOKENS = st.lists(st.integers(0, 4), max_size=12)


def by_hand(seen: list[int], history: list[int], token: int, p: float, order: int) -> float:
    """Witten and Bell's formula on a plain list of tokens."""
    for length in range(order + 1):
        past = history[len(history) - length :]
        after = [seen[at] for at in range(length, len(seen)) if seen[at - length : at] == past]
        if length > len(history) or not after:
            break
        kinds = len(set(after))
        p = (after.count(token) + kinds * p) / (len(after) + kinds)
    return p


@given(TOKENS, TOKENS, st.floats(0.01, 0.9), st.integers(0, 3))
def test_a_prediction_is_the_formulas(seen: list[int], history: list[int], p: float, order: int) -> None:
    cache = NGramCache(0.5, order)
    cache.add("whole", [], seen)
    for token in range(5):
        a, b = cache.line(history, token)
        assert a + b * p == pytest.approx(by_hand(seen, history, token, p, order))


@given(TOKENS, TOKENS)
def test_probabilities_add_up_to_one(seen: list[int], history: list[int]) -> None:
    cache = NGramCache()
    cache.add(0, [], seen)
    lines = [cache.line(history, token) for token in range(7)]
    assert sum(a + b / 7 for a, b in lines) == pytest.approx(1)


@given(st.lists(TOKENS, min_size=1, max_size=5), st.data())
def test_what_left_was_never_there(chunks: list[list[int]], data: st.DataObject) -> None:
    """A chunk's first tokens follow the last ones of the chunk before, also where that one has left."""
    kept = data.draw(st.sets(st.integers(0, len(chunks) - 1)))
    one, other, before = NGramCache(), NGramCache(), []
    for index, chunk in enumerate(chunks):
        one.add(index, before, chunk)
        if index in kept:
            other.add(index, before, chunk)
        before = [*before, *chunk]
    for index in set(range(len(chunks))) - kept:
        one.remove(index)
    assert (one._followers, one._totals) == (other._followers, other._totals)
    with pytest.raises(KeyError):
        one.remove("another")


def test_tokens_in_a_row_are_each_others_history() -> None:
    cache = NGramCache(order=2)
    cache.add(0, [], [1, 2, 3, 1, 2, 4])
    lines = cache.lines([9, 1], [2, 3])
    assert lines.tolist() == [list(cache.line([9, 1], 2)), list(cache.line([1, 2], 3))]
    assert cache.lines([1], []).shape == (0, 2)


def test_the_share_is_a_share() -> None:
    losses, lines = torch.tensor([1.0, 60.0]), torch.tensor([[0.5, 0.25], [0.1, 0.0]], dtype=torch.float64)
    mixed = NGramCache(0.2).mix(losses, lines)
    first = 0.8 * math.exp(-1) + 0.2 * (0.5 + 0.25 * math.exp(-1))
    assert mixed.tolist() == pytest.approx([-math.log(first), -math.log(0.02)])
    torch.testing.assert_close(NGramCache(0).mix(losses, lines), losses.double())
    for weight in (-0.1, 1.0):
        with pytest.raises(ConfigError, match=f"weight {weight}"):
            NGramCache(weight)


@pytest.mark.parametrize("capacity", [512, 64])
def test_a_window_is_told_of_what_the_bank_holds_before_it(
    tiny_llama: Callable[..., Any], tiny_tokenizer: Any, capacity: int
) -> None:
    settings = {"chunk_tokens": 16, "window_tokens": 32, "top_k": 2, "capacity_tokens": capacity, "policy": "fifo"}
    model = MemoryModel(tiny_llama(layers=3), tiny_tokenizer, MemoryConfig(store_dtype="float32", **settings))
    text = " ".join(f"In year {year} the harbour master wrote {year * 7 % 5} down." for year in range(16))
    plain = token_losses(Scorer(model, HashingRetriever(64)), text).double()
    ids = [token for chunk in _chunks(model, text) for token in chunk]
    wanted = []
    for at in range(1, len(ids)):
        window = at // 32 * 32
        held = max(0, window - capacity)
        seen = NGramCache(0.3)
        for start in range(held, window, 16):
            seen.add(start, ids[:start], ids[start : start + 16])
        a, b = seen.line(ids[max(0, at - 3) : at], ids[at])
        p = math.exp(-float(plain[at - 1]))
        wanted.append(-math.log(0.7 * p + 0.3 * (a + b * p)))
    for block in (32, 4096):
        scorer = Scorer(model, HashingRetriever(64), block_tokens=block, ngrams=0.3)
        assert scorer.score(text).loss == pytest.approx(sum(wanted), rel=1e-5)
    assert sum(wanted) < float(plain.sum()) - 1


def _chunks(model: MemoryModel, text: str) -> list[tuple[int, ...]]:
    from memlong.chunking import chunk_text

    return [tuple(chunk.token_ids) for chunk in chunk_text(model.tokenizer, text, 16)]
