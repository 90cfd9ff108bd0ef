"""Attention on single tokens of memory adds up to what was recorded when the answer was written."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from memlong.config import AskOptions
from memlong.errors import BankError
from memlong.session import Session
from memlong.session.shading import shade, tokens_of
from memlong.trace.events import TokenGenerated

QUESTION = "Where did the brass lantern of Ottoline Varga stand?"


def answered(session: Session, text: str) -> list[TokenGenerated]:
    session.read(text, title="Log book")
    session.ask(QUESTION, AskOptions(max_tokens=9))
    return [event for event in session.recorder.events if isinstance(event, TokenGenerated)]


def memories(tokens: list[TokenGenerated]) -> list[list[int]]:
    return [[chunk_id for chunk_id, _ in token.chunk_mass or ()] for token in tokens]


@pytest.mark.parametrize("relevance", [0.0, 12.0])
def test_tokens_add_up_to_their_chunks(make_session: Callable[..., Session], long_text: str, relevance: float) -> None:
    session = make_session(relevance_strength=relevance)
    tokens = answered(session, long_text)
    assert len({tuple(ids) for ids in memories(tokens)}) > 1, "memory changes while the answer is written"
    before = len(session.recorder.events)
    ids, anew = [token.token_id for token in tokens], range(0, len(tokens), 4)
    shadings = list(shade(session, QUESTION, ids, memories(tokens), anew))
    assert [shading.index for shading in shadings] == list(range(len(tokens)))
    for token, shading in zip(tokens, shadings):
        sums = {chunk_id: float(mass.sum()) for chunk_id, mass in shading.mass.items()}
        assert sums == pytest.approx(dict(token.chunk_mass or ()), abs=1e-5)
        assert all(mass.min() >= 0 and mass.max() < mass.sum() for mass in shading.mass.values())
    assert len(session.recorder.events) == before, "looking leaves no trace"


def test_pieces_of_a_chunk_join_to_its_text(make_session: Callable[..., Session], long_text: str) -> None:
    session = make_session()
    session.read(long_text + " \u00e9\u4e2d\U0001f4da end", title="Log book")
    for chunk_id in range(session.chunks_read):
        record = session.bank.get(chunk_id)
        pieces = tokens_of(session, chunk_id)
        text = session.documents[record.doc_id].text[slice(*record.span)]
        assert "".join(pieces) == text
        if text.isascii():  # else one character may be several tokens, cut between two chunks
            assert len(pieces) == record.n_tokens


def test_a_chunk_that_left_cannot_be_looked_into(make_session: Callable[..., Session], long_text: str) -> None:
    session = make_session()
    tokens = answered(session, long_text)
    session.delete_chunk(memories(tokens)[0][0])
    with pytest.raises(BankError):
        list(shade(session, QUESTION, [token.token_id for token in tokens], memories(tokens)))
