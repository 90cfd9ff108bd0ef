"""Tokens of answers that are pointed at gain logits, the more the likelier the answer is; then its end does."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from memlong.config import AskOptions, MemoryConfig
from memlong.errors import ConfigError
from memlong.generate import end_tokens
from memlong.model.wrapper import MemoryModel
from memlong.pointing import Pointing
from memlong.retriever.base import Place, Places
from memlong.retriever.hashing import HashingRetriever
from memlong.session import Session

TEXT = "The harbour master wrote of wind and of ships. "


def gain(likely: float, strength: float = 6.0) -> float:
    """Return what the formula says."""
    return strength * math.log1p(likely / 0.05) / math.log1p(1 / 0.05)


def moved(tiny_tokenizer, answers, tokens, strength: float = 6.0, ends=(2,)) -> dict[int, float]:
    """Return which tokens' logits are others after some tokens, and by how much."""
    pointing = Pointing(tiny_tokenizer, strength, ends)
    pointing.expect(answers)
    logits = torch.linspace(-1, 1, len(tiny_tokenizer))
    before = logits.clone()
    change = pointing.adjust(logits, tokens) - logits
    assert torch.equal(logits, before), "they are the model's own"
    return {int(at): round(float(change[at]), 4) for at in change.nonzero()}


@pytest.fixture
def ids(tiny_tokenizer):
    return lambda text: tiny_tokenizer(text, add_special_tokens=False)["input_ids"]


def test_each_token_of_a_sure_answer_gains_and_then_its_end(tiny_tokenizer, ids):
    whole = ids("Wind and ships")
    assert len(whole) > 2
    for at, token in enumerate(whole):
        assert moved(tiny_tokenizer, {"Wind and ships": 1.0}, whole[:at]) == {token: 6.0}
    assert moved(tiny_tokenizer, {"Wind and ships": 1.0}, whole, ends=(2, 5)) == {2: 6.0, 5: 6.0}
    assert moved(tiny_tokenizer, {"Wind and ships": 1.0}, [*whole, whole[0]]) == {}
    assert moved(tiny_tokenizer, {"Wind and ships": 1.0}, [whole[0] + 1]) == {}, "the model has its own way"


def test_less_likely_answers_gain_less_and_those_with_one_beginning_share_it(tiny_tokenizer, ids):
    one, other = ids("wind"), ids("ships")
    assert one[0] != other[0]
    found = moved(tiny_tokenizer, {"wind": 0.5, "ships": 0.1}, [])
    assert found == {one[0]: pytest.approx(gain(0.5), abs=1e-4), other[0]: pytest.approx(gain(0.1), abs=1e-4)}
    longer = ids("wind and ships")
    assert longer[: len(one)] == one
    shared = {"wind": 0.3, "wind and ships": 0.2}
    both = moved(tiny_tokenizer, shared, one)
    assert both == {2: pytest.approx(gain(0.3), abs=1e-4), longer[len(one)]: pytest.approx(gain(0.2), abs=1e-4)}
    assert moved(tiny_tokenizer, shared, []) == {one[0]: pytest.approx(gain(0.5), abs=1e-4)}


def test_without_strength_or_answers_nothing_moves(tiny_tokenizer):
    assert moved(tiny_tokenizer, {"wind": 1.0}, [], strength=0.0) == {} == moved(tiny_tokenizer, {}, [])
    assert moved(tiny_tokenizer, {"": 1.0, "wind": 0.0}, []) == {}


def leads(tiny_tokenizer, answers, nowhere, says, tokens=(), doubt=3.0):
    """Return which tokens gain 6 logits or less, where the model itself says so with these log-probabilities."""
    silence = tiny_tokenizer("Not said.", add_special_tokens=False)["input_ids"]
    pointing = Pointing(tiny_tokenizer, 6.0, (2,), "Not said.", doubt)
    pointing.expect(answers, nowhere)
    for at in range(len(tokens) + 1):
        logits = torch.zeros(len(tiny_tokenizer))
        others = math.log(len(logits) - 1)
        if at < len(says):
            logits[silence[at]] = says[at] - math.log1p(-math.exp(says[at])) + others
            assert float(logits.log_softmax(-1)[silence[at]]) == pytest.approx(says[at], abs=1e-4)
        change = pointing.adjust(logits, tokens[:at]) - logits
    return {int(at): round(float(change[at]), 3) for at in change.nonzero()}


@pytest.mark.parametrize(("nowhere", "own", "silent"), [
    (0.5, -1.4, True), (0.5, -1.6, False),  # log-odds of 0
    (0.9, -2.4, True), (0.9, -2.6, False),  # .45 * 2.2 = .99
    (0.1, -0.4, True), (0.1, -0.6, False),
    (1.0, -7.6, True), (1.0, -7.8, False),  # no surer than one in a million
])  # fmt: skip
def test_both_have_a_say_in_whether_no_words_answer(tiny_tokenizer, ids, nowhere, own, silent):
    (first,) = leads(tiny_tokenizer, {"ships": 0.5}, nowhere, [own])
    assert first == ids("Not said." if silent else "ships")[0]


def test_once_silent_all_its_words_gain_and_no_others(tiny_tokenizer, ids):
    silence = ids("Not said.")
    for at, token in enumerate([*silence, 2]):
        assert leads(tiny_tokenizer, {"ships": 0.9}, 0.9, [-0.1] * 2, silence[:at]) == {token: 6.0}
    assert leads(tiny_tokenizer, {"ships": 0.9}, 0.9, [-0.1], ids("ships")[:1]) == {}


def test_an_answer_that_begins_alike_has_it_decided_a_token_later(tiny_tokenizer, ids):
    silence, answer = ids("Not said."), ids("Not ships")
    assert silence[0] == answer[0]
    assert set(leads(tiny_tokenizer, {"Not ships": 0.5}, 0.5, [-0.1, -3.0])) == {silence[0]}
    assert set(leads(tiny_tokenizer, {"Not ships": 0.5}, 0.5, [-0.1, -3.0], silence[:1])) == {answer[1]}
    assert set(leads(tiny_tokenizer, {"Not ships": 0.5}, 0.5, [-0.1, -1.0], silence[:1])) == {silence[1]}


def test_until_then_the_token_that_they_share_gains_as_silence_does(tiny_tokenizer, ids):
    silence, both = ids("Not said."), {"ships": 0.4, "Not ships": 0.1}
    assert leads(tiny_tokenizer, both, 0.5, [-0.1]) == {silence[0]: 6.0}
    goes_on = leads(tiny_tokenizer, both, 0.5, [-0.1], ids("ships")[:1])
    assert goes_on == {ids("ships")[1]: pytest.approx(gain(0.4), abs=1e-3)}
    assert set(leads(tiny_tokenizer, both, 0.5, [-2.0])) == {silence[0], ids("ships")[0]}, (
        "it can but become less likely"
    )
    assert leads(tiny_tokenizer, {"ships": 0.4, "Not ships": 1e-6}, 0.5, [-0.1, -3.0], silence[:1]) == {silence[1]: 6.0}


def test_silence_gains_as_much_as_doubt_says_and_nothing_without(tiny_tokenizer, ids):
    assert leads(tiny_tokenizer, {"ships": 0.4}, 0.9, [-0.1], doubt=9.0) == {ids("Not said.")[0]: 9.0}
    assert set(leads(tiny_tokenizer, {"ships": 0.4}, 0.9, [-0.1], doubt=0.0)) == {ids("ships")[0]}


def test_nobody_says_so_who_is_not_asked_or_has_no_words_for_it(tiny_tokenizer, ids):
    assert set(leads(tiny_tokenizer, {"ships": 0.5}, None, [-0.01])) == {ids("ships")[0]}
    pointing = Pointing(tiny_tokenizer, 6.0, (2,))
    pointing.expect({"ships": 0.5}, 1.0)
    logits = torch.zeros(len(tiny_tokenizer))
    assert int((pointing.adjust(logits, []) - logits).argmax()) == ids("ships")[0]


def test_what_looks_like_a_special_token_in_a_text_is_text(tiny_tokenizer):
    for answer in ("<|im_end|>", "\ud800 ships"):
        (first,) = moved(tiny_tokenizer, {answer: 1.0}, [])
        assert first not in tiny_tokenizer.all_special_ids


def test_behind_a_prompt_without_a_template_an_answer_begins_with_its_blank(tiny_tokenizer, ids):
    bare = copy.deepcopy(tiny_tokenizer)
    bare.chat_template = None
    assert ids(" wind")[0] != ids("wind")[0]
    assert moved(bare, {"wind": 1.0}, []) == {ids(" wind")[0]: 6.0}


class Points(HashingRetriever):
    """Points at these words wherever the best chunk has them."""

    words = "ships"
    nowhere = 0.0
    asked: list[int]

    def point(self, query_E, chunks, question):
        self.asked = [len(chunks)]
        share = (1.0 - self.nowhere) / len(chunks)
        ats = [chunk.text.index(self.words) for chunk in chunks]
        return Places(tuple(Place(n, (at, at + len(self.words)), share) for n, at in enumerate(ats)), self.nowhere)


@pytest.fixture
def session(tiny_llama, tiny_tokenizer):
    config = MemoryConfig(chunk_tokens=32, window_tokens=64, top_k=2, pointing_strength=500.0)
    session = Session(MemoryModel(tiny_llama(), tiny_tokenizer, config), Points(256))
    session.read(TEXT * 20)
    return session


def test_an_answer_is_what_is_pointed_at_and_says_where_it_stands(session):
    answer = session.ask("Who wrote of wind?", AskOptions(max_tokens=24))
    assert answer.text == "ships" and answer.stop_reason == "end" and session.retriever.asked == [2]
    for item in answer.retrieved:
        (pointed,) = item.pointed
        assert session.documents[0].text[slice(*pointed.span)] == pointed.text == "ships" and pointed.likely == 0.5
        assert item.span[0] <= pointed.span[0] < pointed.span[1] <= item.span[1]
    assert answer.to_dict()["retrieved"][0]["pointed"][0]["text"] == "ships"
    assert session.ask("Who wrote of wind?", AskOptions(max_tokens=24, answer_from="passages")).text == "ships"


def test_words_on_two_lines_are_an_answer_on_one(session):
    session.retriever.words = "of\n   ships"
    session.read(TEXT.replace("of ships", "of\n   ships") * 20)
    answer = session.ask("Who wrote of wind?", AskOptions(max_tokens=24, documents=(1,)))
    assert {place.text for item in answer.retrieved for place in item.pointed} == {"of\n   ships"}
    assert answer.text == "of ships"


def test_without_memory_or_strength_nobody_points(session):
    nothing = session.ask("Who wrote of wind?", AskOptions(max_tokens=24, answer_from="nothing"))
    assert nothing.text != "ships" and not nothing.retrieved
    session.config = session.config.replace(pointing_strength=0.0)
    answer = session.ask("Who wrote of wind?", AskOptions(max_tokens=24))
    assert answer.text != "ships" and not any(item.pointed for item in answer.retrieved)


def test_what_was_told_anew_later_leaves_its_share_to_the_last_telling(session):
    session.config = session.config.replace(recency_strength=4.0)
    session.retriever.rivals = lambda query_E, chunks, question: torch.ones(len(chunks), dtype=torch.bool).numpy()
    session.retriever.nowhere = 0.2
    answer = session.ask("Who wrote of wind?", AskOptions(max_tokens=24))
    pointed = {item.superseded: [place.likely for place in item.pointed] for item in answer.retrieved}
    assert pointed == {True: [], False: [pytest.approx(0.8)]}


def test_a_later_chunk_that_nothing_points_at_tells_nothing_anew(session):
    session.config = session.config.replace(recency_strength=4.0)
    session.retriever.rivals = lambda query_E, chunks, question: torch.ones(len(chunks), dtype=torch.bool).numpy()
    real = session.retriever.point

    def first_chunk(query_E, chunks, question):
        found = real(query_E, chunks, question)
        return Places(tuple(place for place in found.likeliest if place.number == 0), found.nowhere)

    session.retriever.point = first_chunk
    answer = session.ask("Who wrote of wind?", AskOptions(max_tokens=24))
    assert answer.text == "ships"
    assert {item.superseded: len(item.pointed) for item in answer.retrieved} == {True: 1, False: 0}


def test_where_no_words_answer_it_says_so_and_half_a_doubt_is_none(session):
    session.config = session.config.replace(abstention="Not said.", abstention_strength=1.0)
    options = AskOptions(max_tokens=24)
    for nowhere, text in ((0.999999, "Not said."), (0.5, "ships")):
        session.retriever.nowhere = nowhere
        assert session.ask("Who wrote of wind?", options).text == text
    session.retriever.nowhere = 0.999999
    forced = session.ask("Who wrote of wind?", options.replace(forced=(0,))).text
    assert forced != "Not said.", "nobody doubts a chunk that somebody wants"


def test_who_points_at_words_has_the_say_of_who_read_the_chunks(session):
    """Log-odds by which silence would gain 900 logits have no say where words are pointed at, and one elsewhere."""
    session.config = session.config.replace(abstention="Not said.", abstention_strength=900.0)
    session.retriever.log_odds = lambda query_E, chunks, question: -5.0
    assert session.ask("Who wrote of wind?", AskOptions(max_tokens=24)).text == "ships"
    session.retriever.point = lambda query_E, chunks, question: Places((), 0.0)
    assert session.ask("Who wrote of wind?", AskOptions(max_tokens=24)).text.startswith("Not said.")


def test_the_end_is_that_of_the_model(session):
    assert end_tokens(session.model) == {session.tokenizer.eos_token_id}


@pytest.mark.parametrize("strength", [-1.0, math.inf, math.nan])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ConfigError, match="pointing_strength"):
        MemoryConfig(pointing_strength=strength)
