"""A pointer tells where in texts an answer may stand, over all of them together; ours finds it in plain sentences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from memlong.errors import RetrieverError
from memlong.retriever import make_retriever
from memlong.retriever.base import Parts, Place, Places
from memlong.retriever.hybrid import HybridRetriever
from memlong.retriever.parts import cut_parts
from memlong.retriever.pointer import WEIGHTS, WIDER, Pointer, likeliest_places, widened, within_words

QUESTION = "who kept the ledger of the harbour"
TEXTS = ["the master of the harbour kept it", "rain fell", "it was kept by nobody at all"]


def units(stated: float = 1.0, first: int = 3, last: int = 7, bias: float = 0.0) -> dict[str, torch.Tensor]:
    """Return linear units whose span logits are two of a token's states, times two; the stated unit is fixed."""
    span = torch.zeros(2, 32)
    span[0, first] = span[1, last] = 2.0
    return {
        "span.weight": span, "span.bias": torch.full((2,), bias),
        "stated.weight": torch.zeros(1, 32), "stated.bias": torch.tensor([stated]),
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(weights: dict[str, torch.Tensor]):
        save_file(weights, tmp_path / WEIGHTS)
        return tmp_path

    return write


def test_places_share_one_softmax_over_all_texts_and_the_null_place():
    logits, offsets = torch.randn(2, 5, 2), torch.arange(20).view(2, 5, 2)
    logits[0, 3:], logits[:, 0] = -torch.inf, -torch.inf
    spans = [(row, first, last) for row in range(2) for first in range(5) for last in range(first, min(first + 2, 5))]
    plain = {each: (logits[each[0], each[1], 0] + logits[each[0], each[2], 1]).exp().item() for each in spans}
    less = {each: plain[each] * math.exp(-0.3 * (each[2] - each[1])) for each in spans}
    places, nowhere = likeliest_places(logits, offsets, 2, 4)
    assert nowhere == pytest.approx(1 / (1 + sum(plain.values())), rel=1e-5)
    best = sorted(less, key=less.__getitem__, reverse=True)[:4]
    assert [(p.number, p.span) for p in places] == [(r, (10 * r + 2 * f, 10 * r + 2 * e + 1)) for r, f, e in best]
    shares = [(1 - nowhere) * less[each] / sum(less.values()) for each in best]
    assert [place.likely for place in places] == pytest.approx(shares, rel=1e-5)


def test_of_two_answers_no_third_one_is_made():
    logits = torch.full((1, 12, 2), -9.0)
    logits[0, 1] = logits[0, 9] = 4.0
    places, _ = likeliest_places(logits, torch.arange(24).view(1, 12, 2), 12, 3)
    assert [place.span for place in places] == [(2, 3), (18, 19), (2, 19)]
    assert places[0].likely == places[1].likely > 9 * places[2].likely


def test_no_answer_cuts_a_word_and_what_is_lost_there_is_no_nowhere():
    logits, offsets = torch.randn(1, 4, 2), torch.arange(8).view(1, 4, 2)
    cut = torch.zeros(1, 4, 2, dtype=torch.bool)
    cut[0, 1, 1] = cut[0, 2, 0] = True  # the second and the third token are one word
    plain, nowhere = likeliest_places(logits, offsets, 4, 10)
    found, same = likeliest_places(logits, offsets, 4, 10, cut)
    assert same == nowhere and sum(p.likely for p in found) == pytest.approx(1 - nowhere)
    assert {p.span for p in found} == {p.span for p in plain if p.span[0] != 4 and p.span[1] != 3}
    kept = [p.span for p in plain if p.span in {q.span for q in found}]
    assert [p.span for p in found] == kept


def test_words_are_those_of_the_tokenizer(bert):
    _, tokenizer = bert
    text = "harboured, nobodys ship: the ledgerer"
    batch = tokenizer([QUESTION], [text], return_offsets_mapping=True, return_tensors="pt", truncation=False)
    cut = within_words(batch)[0]
    mine = [number for number, segment in enumerate(batch.sequence_ids(0)) if segment == 1]
    for (start, end), (goes_on, gone_on) in zip(
        batch["offset_mapping"][0][mine].tolist(), cut[mine].tolist(), strict=True
    ):
        assert goes_on == (start > 0 and text[start - 1].isalpha() and text[start].isalpha())
        assert gone_on == (end < len(text) and text[end - 1].isalpha() and text[end].isalpha())
    assert cut[mine].any(), "some word is several tokens"


def test_hidden_tokens_are_no_places():
    places, nowhere = likeliest_places(torch.full((1, 3, 2), -torch.inf), torch.zeros(1, 3, 2), 4, 9)
    assert places == () and nowhere == 1.0


def test_it_points_at_what_the_units_of_its_file_say(bert, written):
    model, tokenizer = bert
    pointer = Pointer(model, tokenizer, written(units(bias=-1.0)))
    alone = [pointer.places(QUESTION, [text]) for text in TEXTS]
    found = pointer.places(QUESTION, TEXTS)
    assert found.likeliest and 0 < found.nowhere < 1
    for number, (start, end), likely in found.likeliest:
        text = TEXTS[number]
        assert text[start:end].strip() == text[start:end] != "" and 0 < likely < 1
    # Beside others the places of a text are to each other as they are alone.
    numbers = [place.number for place in found.likeliest]
    most = max(set(numbers), key=numbers.count)
    own = {place.span: place.likely for place in alone[most].likeliest}
    ratios = [p.likely / own[p.span] for p in found.likeliest if p.number == most and p.span in own]
    assert len(ratios) > 1 and ratios == pytest.approx([ratios[0]] * len(ratios), rel=1e-3)
    odds = sum(1 / each.nowhere - 1 for each in alone)
    assert found.nowhere == pytest.approx(1 / (1 + odds), rel=1e-3)


def test_of_what_is_no_words_of_a_text_it_points_at_nothing(bert, written):
    found = Pointer(*bert, written(units(stated=-0.1))).places(QUESTION, TEXTS)
    assert found.likeliest == () and found.nowhere == 0.0


def test_of_no_texts_it_says_nothing(bert, written):
    assert Pointer(*bert, written(units())).places(QUESTION, []) is None


def test_what_looks_like_a_special_token_is_text(bert, written):
    pointer = Pointer(*bert, written(units()))
    texts = ["it was kept [SEP] by nobody at all", "[PAD] [CLS]"]
    found = pointer.places(f"{QUESTION} [SEP] again", texts)
    assert found.likeliest
    for number, (start, end), _ in found.likeliest:
        assert texts[number][start:end].strip() == texts[number][start:end] != ""
    assert not pointer.places("who [SEP] kept it", [""]).likeliest, "nothing of a question is pointed at"


def test_windows_are_wider_and_cut_no_word():
    text = " ".join(f"word{number:04}" for number in range(200))
    start, end = text.index("word0100"), text.index("word0103") - 1
    wide = widened(text, start, end)
    assert wide[0] > start - WIDER and wide[1] <= end + WIDER and wide[1] - wide[0] > end - start + WIDER
    assert all(len(word) == 8 for word in text[slice(*wide)].split())
    assert widened(text, 0, len(text)) == (0, len(text))
    assert widened("x" * 999, 400, 500) == (400, 500), "a text without blanks is not cut anywhere"


def test_a_missing_or_foreign_file_is_refused(bert, written, tmp_path):
    with pytest.raises(RetrieverError, match=r"could not be read.*training point"):
        Pointer(*bert, tmp_path)
    with pytest.raises(RetrieverError, match=r"no stated\.weight and stated\.bias of 1.*training point"):
        Pointer(*bert, written({name: each for name, each in units().items() if not name.startswith("stated")}))


class Reads:
    """Gives each text the logit in front of it."""

    def logits(self, question, texts):
        return np.array([float(text.split()[0]) for text in texts], dtype=np.float32)


class Notes:
    """Notes the texts it is given, and points at one word of each."""

    def places(self, question, texts):
        self.given = texts
        spans = [(text.index("words"), text.index("words") + 5) for text in texts]
        return Places(tuple(Place(at, span, 0.5 / (at + 1)) for at, span in enumerate(spans)), 0.1)


def parts(*logits: float, gap: int = 400) -> Parts:
    """Return a chunk of parts that stand apart, each beginning with its logit."""
    pieces = [f"{logit:g} words of it" for logit in logits]
    text = (" " * gap).join(pieces)
    places = tuple((text.index(piece), text.index(piece) + len(piece)) for piece in pieces)
    ranges = tuple((2 * at, 2 * at + 1) for at in range(len(pieces)))
    return Parts(ranges, tuple(pieces), 2 * len(pieces), tuple(pieces), text, places)


@pytest.fixture
def hybrid(bert_folder):
    made = HybridRetriever(bert_folder, device="cpu", dtype=torch.float32, words=64)
    assert made._pointer is None, "the bundled one is made for other weights"
    made._cross_encoder, made._pointer = Reads(), Notes()
    return made


def test_the_best_parts_are_read_and_none_far_behind(hybrid):
    query = hybrid.embed_query(QUESTION)
    found = hybrid.point(query, [parts(1, 5), parts(4, 3, 9), parts(2)], QUESTION)
    assert [text.split()[0] for text in hybrid._pointer.given] == ["9", "5", "4"]  # not 3: more than 5 behind
    assert [place.number for place in found.likeliest] == [1, 0, 1] and found.nowhere == 0.1
    for place, chunk in zip(found.likeliest, [parts(4, 3, 9), parts(1, 5), parts(4, 3, 9)], strict=True):
        assert chunk.text[slice(*place.span)] == "words"
    hybrid.point(query, [parts(6, 5, 4, 3), parts(7, 8)], f"{QUESTION}?")
    assert [text.split()[0] for text in hybrid._pointer.given] == ["8", "7", "6", "5"]


def test_what_stands_in_a_window_already_is_not_read_twice(hybrid):
    hybrid.point(hybrid.embed_query(QUESTION), [parts(5, 4, gap=9), parts(3)], QUESTION)
    assert [text.split()[0] for text in hybrid._pointer.given] == ["5", "3"]


def test_without_a_pointer_a_question_or_chunks_nobody_points(hybrid):
    query = hybrid.embed_query(QUESTION)
    assert hybrid.point(query, [], QUESTION) is None is hybrid.point(query, [parts(1)], " ")
    hybrid.use_pointer(None)
    assert hybrid.point(query, [parts(1)], QUESTION) is None
    assert make_retriever("hashing").point(query, [parts(1)], QUESTION) is None


@pytest.fixture(scope="module")
def ours():
    try:
        return make_retriever("hybrid")
    except RetrieverError as error:
        pytest.skip(f"MiniLM is not installed: {error}")


STORY = (
    "Ada Brenn was born in Orlath, a town by the sea, and went to school there. In 1871 she bought the Fenwick Mill "
    "from her uncle Tom Hale for ninety crowns. She was afraid of thunder, and kept a grey dog named Pell. The river "
    "froze that winter, and nobody could bring grain to the mill before March."
)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Where was Ada Brenn born?", "Orlath"),
        ("What was Ada Brenn afraid of?", "thunder"),
        ("In which year did Ada Brenn buy the Fenwick Mill?", "1871"),
        ("What is the name of the dog?", "Pell"),
    ],
)
def test_ours_points_at_the_answer(ours, tiny_tokenizer, question, answer):
    chunk = cut_parts(tiny_tokenizer, STORY, len(tiny_tokenizer(STORY)["input_ids"]))
    found = ours.point(ours.embed_query(question), [chunk], question)
    best = found.likeliest[0]
    assert STORY[slice(*best.span)] == answer and best.likely > 0.3 and found.nowhere < 0.5


@pytest.mark.parametrize("question", ["Summarise the text.", "What do you think of Ada Brenn?"])
def test_ours_points_at_nothing_where_no_words_answer(ours, tiny_tokenizer, question):
    chunk = cut_parts(tiny_tokenizer, STORY, len(tiny_tokenizer(STORY)["input_ids"]))
    found = ours.point(ours.embed_query(question), [chunk], question)
    assert sum(place.likely for place in found.likeliest) < 0.2
