"""A word that begins like one of the text goes on like one of the text, if anything speaks for it at all."""

from __future__ import annotations

import pytest
import torch

from memlong.config import AskOptions, MemoryConfig
from memlong.errors import ConfigError
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session
from memlong.spelling import Spelling, whole_words

TEXT = "She lives in Dorlel Passage, by the spinach field; Dorian's house is N° 12."


class Pieces:
    """A tokenizer whose tokens are these texts; like SentencePiece's it drops the first blank of what it decodes."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts

    def batch_decode(self, rows, clean_up_tokenization_spaces=True):
        assert clean_up_tokenization_spaces is False
        return ["".join(self.texts[token] for token in row).removeprefix(" ") for row in rows]


@pytest.fixture
def pieces():
    return Pieces("D", "lel", "or", "ian", " Row", ".", "OR", "1", " Dor")


def adjusted(pieces, written, *, strength=4.0, text=TEXT):
    """Return by how much each token's logit falls, and check that the logits given stay as they are."""
    spelling = Spelling(pieces, strength)
    spelling.learn(text)
    logits = torch.linspace(0, 1, len(pieces.texts))
    before = logits.clone()
    found = before - spelling.adjust(logits, "".join(pieces.texts[token] for token in written).strip(), written)
    assert torch.equal(logits, before)
    return {pieces.texts[token] for token in found.nonzero().flatten().tolist()}, found.max().item()


def test_what_goes_on_as_no_word_does_loses_the_strength(pieces):
    assert adjusted(pieces, [0]) == ({"D", "lel", "ian"}, pytest.approx(4.0))
    assert adjusted(pieces, [0, 2]) == ({"D", "or", "OR"}, pytest.approx(4.0)), "lel and ian both go on with Dor"
    assert adjusted(pieces, [0, 2], strength=1.5)[1] == pytest.approx(1.5)
    assert adjusted(pieces, [0, 2, 3], text=TEXT) == ({"D", "lel", "or", "ian", "OR"}, pytest.approx(4.0))


def test_words_may_end_or_begin_anywhere(pieces):
    for written in ([0], [0, 2], [0, 2, 1]):
        lost, _ = adjusted(pieces, written)
        assert not lost & {" Row", ".", "1", " Dor"}, "neither blanks, stops and digits nor new words"


def test_words_that_are_none_of_the_text_are_left_alone(pieces):
    assert adjusted(pieces, [1])[0] == set(), "no word begins with lel"
    assert adjusted(pieces, [7])[0] == set() == adjusted(pieces, [0, 5])[0], "numbers, and what comes after a stop"
    assert adjusted(pieces, [0], strength=0.0)[0] == set() == adjusted(pieces, [0], text="")[0]
    assert adjusted(pieces, [])[0] == set(), "nothing is written yet"


def test_more_texts_add_words(pieces):
    spelling = Spelling(pieces, 4.0)
    for text in (TEXT, "Dlel is a village.", "DLEL"):
        spelling.learn(text)
    assert spelling._words == sorted(set(spelling._words)) and spelling._words.count("dlel") == 1
    lost = torch.zeros(9) - spelling.adjust(torch.zeros(9), "D", [0])
    assert lost.nonzero().flatten().tolist() == [0, 3]


def test_scripts_without_blanks_between_words_are_left_alone():
    pieces = Pieces("北", "京", "方")
    assert adjusted(pieces, [0], text="北京是中国的首都。")[0] == set()


def test_accents_are_letters_however_they_are_written():
    pieces = Pieces("Caf", "é", "e\u0301", "eteria")
    for text in ("The Café.", "The Cafe\u0301."):
        assert adjusted(pieces, [0], text=text)[0] == {"Caf", "eteria"}


@pytest.mark.parametrize(
    ("span", "words"),
    [((0, 3), "She"), ((1, 2), "She"), ((3, 15), " lives in Dorlel"), ((12, 18), " Dorlel"), ((4, 100), TEXT[4:])],
)
def test_words_that_a_chunk_cuts_are_learnt_whole(span, words):
    assert whole_words(TEXT, span) == words
    assert whole_words("", (0, 0)) == ""


@pytest.mark.parametrize("strength", [-1.0, float("nan"), float("inf")])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="spelling_strength"):
        MemoryConfig(spelling_strength=strength)


def test_answers_spell_as_what_was_retrieved_for_them(tiny_llama, tiny_tokenizer, monkeypatch):
    learnt, seen = [], []
    real, adjust = Spelling.learn, Spelling.adjust
    monkeypatch.setattr(Spelling, "learn", lambda self, text: (learnt.append(text), real(self, text))[1])
    monkeypatch.setattr(Spelling, "adjust", lambda self, *given: (seen.append(len(given[2])), adjust(self, *given))[1])
    config = MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=2, spelling_strength=4.0)
    session = Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(64))
    session.read(" ".join(f"On day {day} a ship came to port {day}." for day in range(20)))
    answer = session.ask("Which ship came on day 3?", AskOptions(max_tokens=6))
    found = [whole_words(session.documents[0].text, item.span) for item in answer.retrieved]
    assert learnt == ["Which ship came on day 3?", *found]
    session.ask("And then?", AskOptions(max_tokens=1, history=1))
    assert learnt[-len(answer.retrieved) - 3 :][:3] == ["And then?", "Which ship came on day 3?", answer.text]
    del seen[-1]
    assert answer.n_tokens and seen == [*range(len(seen))] and len(seen) >= answer.n_tokens


def test_log_probabilities_are_the_model_s_own(tiny_llama, tiny_tokenizer, monkeypatch):
    from memlong.evaluation.counterfactual import answer_logprob

    monkeypatch.setattr(Spelling, "adjust", lambda self, logits, text, tokens: -logits)  # takes the unlikeliest
    config = MemoryConfig(chunk_tokens=32, window_tokens=32, top_k=2, retrieve_every=0, store_dtype="float32")
    session = Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), HashingRetriever(64))
    session.read(" ".join(f"On day {day} a ship came to port {day}." for day in range(20)))
    answer = session.ask("Which ship came?", AskOptions(max_tokens=4))
    ids = [item.chunk_id for item in answer.retrieved]
    weighed = answer_logprob(session, "Which ship came?", answer.token_ids, ids)
    assert answer.logprob == pytest.approx(weighed, abs=1e-3) and answer.logprob < -4
