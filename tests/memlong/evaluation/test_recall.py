"""Evidence recall counts places by hand-made vectors, and leaves out what nobody can know."""

from __future__ import annotations

import numpy as np
import pytest

from memlong.chunking import chunk_text
from memlong.config import MemoryConfig
from memlong.evaluation.qa import AskedQuestion
from memlong.evaluation.recall import evidence_recall

SHORT = MemoryConfig(chunk_tokens=8, window_tokens=8)


class ByLetter:
    """A text's vector counts the letters a to d."""

    def embed_documents(self, texts):
        return np.array([[text.count(letter) for letter in "abcd"] for text in texts], dtype=np.float32)

    def weigh_query(self, query_E, mean_squares_E, held):
        return query_E

    def embed_query(self, text):
        return self.embed_documents([text])[0]


@pytest.fixture
def text(tiny_tokenizer) -> tuple[str, list[tuple[int, int]]]:
    text = "a a a b. " * 6 + "b b c. " * 6 + "d d d. " * 6
    spans = [chunk.span for chunk in chunk_text(tiny_tokenizer, text, 8)]
    assert len(spans) > 4
    return text, spans


def test_places_are_those_of_the_order(tiny_tokenizer, text):
    text, spans = text
    vectors = ByLetter().embed_documents([text[start:end] for start, end in spans])
    order = sorted(range(len(spans)), key=lambda chunk: (-vectors[chunk, 0], chunk))
    third = spans[order[2]]
    asked = [
        AskedQuestion("a", ("x",), "one", (third,)),
        AskedQuestion("a", ("x",), "two", (third, spans[order[0]])),
        AskedQuestion("a", ("x",), "one"),
        AskedQuestion("a", (), "none"),
    ]
    found = evidence_recall([("t", text, asked)], tiny_tokenizer, ByLetter(), SHORT)
    assert found.places == {"one": [(3, 3)], "two": [(1, 3)]} and found.chunks == len(spans)
    table = found.table([1, 2, 3])
    assert table["one"] == {
        "questions": 1,
        "at 1": 0,
        "all at 1": 0,
        "at 2": 0,
        "all at 2": 0,
        "at 3": 1,
        "all at 3": 1,
    }
    assert [table["two"][name] for name in ("at 1", "all at 1", "all at 3")] == [1, 0, 1]


def test_it_stops_between_documents(tiny_tokenizer, text):
    asked = [AskedQuestion("a", ("x",), "one", ((0, 3),))]
    told = []

    def progress(words: str) -> bool:
        told.append(words)
        return len(told) == 2

    found = evidence_recall([("t", text[0], asked)] * 3, tiny_tokenizer, ByLetter(), SHORT, progress)
    assert len(found.places["one"]) == 1 and len(told) == 2


class LikesFew(ByLetter):
    """Finds chunks by the vectors above, and likes parts the less the more often a stands there."""

    def score_parts(self, query_E, chunks, question):
        assert len(query_E) == 4 and question == "a"
        return [np.array([-3.0 * part.count("a") for part in parts.texts]) for parts in chunks]


def places_of(tiny_tokenizer, text, **settings):
    """Return the place of each chunk, had it been the evidence for a question about the letter a."""
    text, spans = text
    asked = [AskedQuestion("a", ("x",), str(at), (span,)) for at, span in enumerate(spans)]
    found = evidence_recall([("t", text, asked)], tiny_tokenizer, LikesFew(), SHORT.replace(**settings))
    return [found.places[str(at)][0][0] for at in range(len(spans))]


def test_a_second_look_orders_the_first_places_and_leaves_the_later_ones_alone(tiny_tokenizer, text):
    content, spans = text
    own = [content[start:end].count("a") for start, end in spans]
    looked = [0.5 * a - 1.5 * a for a in own]
    order = sorted(range(len(spans)), key=lambda at: (-own[at], at))
    assert places_of(tiny_tokenizer, text) == [order.index(at) + 1 for at in range(len(spans))]
    for candidates in (1, 2, 3, len(spans) - 2, len(spans) + 5):
        first = sorted(order[:candidates], key=lambda at: (-looked[at], at))
        want = [*first, *order[candidates:]]
        found = places_of(tiny_tokenizer, text, rerank_candidates=candidates)
        assert found == [want.index(at) + 1 for at in range(len(spans))]
        assert (want == order) is (candidates == 1), "one chunk keeps its place"


def test_without_a_second_look_no_part_is_scored(tiny_tokenizer, text):
    assert not hasattr(ByLetter, "score_parts")
    asked = [AskedQuestion("a", ("x",), "one", (text[1][0],))]
    given = ([("t", text[0], asked)], tiny_tokenizer, ByLetter(), SHORT)
    assert evidence_recall(*given).places == {"one": [(1, 1)]}
