"""Near copies: found from the share of runs of words in common, left out of prepared text, interrupted or not."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.near import WORDS, NearCopies
from training.data.packed import DOCUMENTS, TOKENS
from training.data.prepare import PrepareOptions, prepare


def words(seed: int, count: int = 400) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choices("abcdefghij", k=draw.randint(2, 8))) for _ in range(count)]


def changed(text: list[str], every: int) -> list[str]:
    return [f"other{at}" if at % every == every - 1 else word for at, word in enumerate(text)]


def in_common(first: list[str], second: list[str]) -> float:
    """The exact share, written out."""
    one, two = ({tuple(t[at : at + WORDS]) for at in range(len(t) - WORDS + 1)} for t in (first, second))
    return len(one & two) / len(one | two)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(9, 400))
def test_signatures_estimate_what_texts_have_in_common(seed: int, every: int) -> None:
    first = words(seed)
    second = changed(first, every)
    near = NearCopies(0.8)
    equal = (near.signature(" ".join(first)) == near.signature(" ".join(second))).mean()
    # Of 128 draws the deviation is at most 0.045.
    assert abs(equal - in_common(first, second)) < 0.2


def test_case_spacing_and_punctuation_do_not_count() -> None:
    near = NearCopies(0.8)
    text = words(1)
    assert np.array_equal(near.signature(" ".join(text)), near.signature(",\n".join(text).upper()))
    assert near.signature("").shape == near.signature("two words").shape == (128,)


def test_only_what_is_nearly_the_same_is_held() -> None:
    near, text = NearCopies(0.8), words(2)
    near.add(near.signature(" ".join(text)))
    alike, half = changed(text, 200), changed(text, 20)
    assert in_common(text, alike) > 0.9 and in_common(text, half) < 0.6
    assert near.holds(near.signature(" ".join(alike)))
    assert not near.holds(near.signature(" ".join(half))) and not near.holds(near.signature(" ".join(words(3))))
    off = NearCopies(0.0)
    off.add(off.signature(" ".join(text)))
    assert not off.holds(off.signature(" ".join(text)))


@pytest.fixture
def books(tmp_path: Path) -> Path:
    folder = tmp_path / "books"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(" ".join(words(number)))
    (folder / "1-again.txt").write_text(" ".join(changed(words(1), 150)))
    (folder / "5-again.txt").write_text("Preface. " + " ".join(words(5)))
    return folder


def test_near_copies_are_left_out_and_counted(books, tmp_path, tiny_tokenizer):
    manifest = prepare(PrepareOptions((str(books),)), tiny_tokenizer, tmp_path / "out")
    assert manifest["dropped"] == {"near copy": 2} and manifest["documents"] == 6
    assert not (tmp_path / "out/signatures.bin").exists()
    kept = prepare(PrepareOptions((str(books),), near_copies=0), tiny_tokenizer, tmp_path / "all")
    assert kept["dropped"] == {} and kept["documents"] == 8


def test_an_interrupted_preparation_still_knows_what_it_kept(books, tmp_path, tiny_tokenizer, interrupted):
    options = PrepareOptions((str(books),))
    whole = prepare(options, tiny_tokenizer, tmp_path / "whole", save_every=2)
    with interrupted(6):
        prepare(options, tiny_tokenizer, tmp_path / "halves", save_every=2)
    assert prepare(options, tiny_tokenizer, tmp_path / "halves", save_every=2) == whole
    for name in (TOKENS, DOCUMENTS):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
