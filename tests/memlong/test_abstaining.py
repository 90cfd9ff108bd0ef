"""The words that say that the text does not tell gain logits in doubt, lose them where a chunk surely answers."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from memlong.abstaining import Abstaining
from memlong.config import AskOptions, MemoryConfig
from memlong.errors import ConfigError
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session

WORDS = "The text does not say."


def moved(tiny_tokenizer, log_odds, tokens, strength: float = 6.0, words: str = WORDS) -> dict[int, float]:
    """Return which tokens' logits are others after some tokens, and by how much."""
    abstaining = Abstaining(tiny_tokenizer, words, strength)
    abstaining.log_odds = log_odds
    logits = torch.linspace(-1, 1, len(tiny_tokenizer))
    before = logits.clone()
    change = abstaining.adjust(logits, tokens) - logits
    assert torch.equal(logits, before), "they are the model's own"
    return {int(at): round(float(change[at]), 4) for at in change.nonzero()}


def test_in_doubt_each_token_of_the_words_gains(tiny_tokenizer):
    ids = tiny_tokenizer(WORDS, add_special_tokens=False)["input_ids"]
    for at, token in enumerate(ids):
        assert moved(tiny_tokenizer, -1.5, ids[:at]) == {token: 6.0}
    assert moved(tiny_tokenizer, -1.5, ids) == {} == moved(tiny_tokenizer, -1.5, [ids[0] + 1])


def test_the_beginning_loses_where_a_chunk_surely_answers(tiny_tokenizer):
    ids = tiny_tokenizer(WORDS, add_special_tokens=False)["input_ids"]
    assert len(ids) > 2
    assert moved(tiny_tokenizer, 4.0, []) == {ids[0]: -6.0} and moved(tiny_tokenizer, 9.0, ids[:1]) == {ids[1]: -6.0}
    assert moved(tiny_tokenizer, 9.0, ids[:2]) == {}


@pytest.mark.parametrize("log_odds", [None, -1.0, 0.0, 3.9])
def test_where_nobody_can_say_it_is_left_to_the_model(tiny_tokenizer, log_odds):
    assert moved(tiny_tokenizer, log_odds, []) == {}


def test_without_words_or_strength_nothing_moves(tiny_tokenizer):
    assert moved(tiny_tokenizer, -9.0, [], words="") == {} == moved(tiny_tokenizer, -9.0, [], strength=0.0)


def test_behind_a_prompt_without_a_template_the_words_begin_with_their_blank(tiny_tokenizer):
    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = None
    first = tiny_tokenizer(f" {WORDS}", add_special_tokens=False)["input_ids"][0]
    assert moved(bare, -1.5, []) == {first: 6.0}


class Sure(HashingRetriever):
    """Says what it is told to."""

    answers: float | None = None

    def log_odds(self, query_E, chunks, question):
        assert chunks and question
        return self.answers


@pytest.fixture
def say(tiny_llama, tiny_tokenizer):
    config = MemoryConfig(chunk_tokens=32, window_tokens=64, top_k=2, abstention=WORDS, abstention_strength=500.0)
    session = Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), Sure(256))
    session.read("The harbour master wrote of wind and of ships. " * 20)

    def answer(log_odds: float | None, **options) -> str:
        session.retriever.answers = log_odds
        return session.ask("Who wrote of wind?", AskOptions(max_tokens=24, **options)).text

    return answer


def test_an_answer_abstains_in_doubt_and_only_then(say):
    assert say(-2.0).startswith(WORDS)
    plain = say(None)
    assert not plain.startswith("The text") and say(2.0) == plain
    assert say(-2.0, answer_from="passages").startswith(WORDS)
    assert say(-2.0, answer_from="nothing") == say(9.0, answer_from="nothing")


def test_nobody_doubts_a_chunk_that_somebody_wants(say):
    assert say(-2.0, forced=(0,)) == say(None, forced=(0,))


@pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="abstention_strength"):
        MemoryConfig(abstention_strength=strength)
