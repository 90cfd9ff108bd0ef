"""What was worked out of late is not worked out again, and there is never more of it than there may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from memlong.retriever.recent import Recent, digest


@given(st.lists(st.lists(st.sampled_from("abcdefg"), max_size=6), max_size=8), st.integers(1, 5))
def test_values_are_those_worked_out_and_only_so_many_are_kept(asked, most):
    recent, seen = Recent[str](most), []

    def work(texts):
        seen.append(texts)
        return [text.upper() for text in texts]

    for texts in asked:
        assert recent.of(texts, work) == [text.upper() for text in texts]
        assert len(recent) <= most
        calls = len(seen)
        if len(set(texts)) <= most:
            assert recent.of(texts, work) == [text.upper() for text in texts]
            assert len(seen) == calls, "what was just asked for is there"
    assert all(len(texts) == len(set(texts)) > 0 for texts in seen), "each text once, and never none"


def test_values_about_one_thing_are_not_those_about_another():
    recent = Recent[int](9)
    assert recent.of(["ab"], lambda texts: [1], "x") == [1] and recent.of(["b"], lambda texts: [2], "xa") == [2]
    assert recent.of(["ab"], lambda texts: [3], "x") == [1] and recent.of(["ab"], lambda texts: [4]) == [4]


def test_no_text_is_kept():
    recent = Recent[int](9)
    recent.of(["a secret"], lambda texts: [1], "a question")
    assert list(recent._kept) == [digest("a question\0a secret")]
    assert digest("a") == digest("a") != digest("b") and len(digest("a", 8)) == 8
