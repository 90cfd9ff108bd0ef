"""Hashed words: exact, the same in every process, and of some use."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from memlong.errors import RetrieverError
from memlong.retriever import Retriever, make_retriever

BOOK = [
    "The harbour master kept a ledger of every ship.",
    "The bridge over the river was rebuilt in stone in the third year.",
    "A lamp, a rope and two barrels of salt were lost at sea.",
]


@pytest.fixture(scope="module")
def retriever():
    return make_retriever("hashing")


def test_is_a_retriever_of_unit_vectors(retriever):
    vectors = retriever.embed_documents([*BOOK, "", "   ", "…", "\ud800"])
    assert isinstance(retriever, Retriever)
    assert vectors.shape == (7, retriever.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert retriever.embed_documents([]).shape == (0, retriever.dim)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who kept the ledger?", 0),
        ("When was the bridge rebuilt?", 1),
        ("What was lost at sea?", 2),
        ("rebuilding bridges", 1),  # by stems, through trigrams
    ],
)
def test_finds_the_text_that_shares_words(retriever, question, answer):
    scores = retriever.embed_documents(BOOK) @ retriever.embed_query(question)
    assert int(scores.argmax()) == answer


def test_repeats_count_less_than_in_proportion(retriever):
    once, many = retriever.embed_documents(["salt sea", "salt " * 50 + "sea"])
    assert 0.5 < float(once @ many) < 0.999


def test_is_the_same_in_another_process(retriever):
    code = (
        "from memlong.retriever import make_retriever;"
        "print(make_retriever('hashing').embed_query('A rope of salt').tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == retriever.embed_query("A rope of salt").tobytes().hex()


def test_has_no_limit_and_names_its_size(retriever):
    assert retriever.check(["word " * 10_000]) == []
    assert retriever.count_tokens(BOOK) is None
    assert retriever.fingerprint != make_retriever("hashing", dim=64).fingerprint
    with pytest.raises(RetrieverError, match="16 or more"):
        make_retriever("hashing", dim=4)
