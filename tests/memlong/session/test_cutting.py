"""A session cuts its documents as its memory says, also after it was saved half-way."""

from __future__ import annotations

from memlong.session import Session

STORY = "The lamp was lit at noon by nobody in particular. Who saw it burn, and what did they pay? " * 12


def test_chunks_are_full_or_end_with_a_sentence(make_session):
    sessions = [make_session(window_tokens=32, chunk_ends=ends) for ends in ("tokens", "sentences")]
    for session in sessions:
        session.read(STORY)
    tokens, sentences = ([record.n_tokens for record in session.bank.records()] for session in sessions)
    assert set(tokens[:-1]) == {32} and min(sentences[:-1]) < 32 and sum(tokens) == sum(sentences)
    assert sessions[1].bank.capacity.slots > sessions[0].bank.capacity.slots
    assert sessions[1].estimate(STORY).n_chunks == len(sentences)


def test_reading_goes_on_with_the_same_chunks_after_loading(make_session, tmp_path):
    whole, half = (make_session(window_tokens=32, chunk_ends="sentences") for _ in range(2))
    whole.read(STORY)
    document = half.open(STORY)
    next(half.read_steps(document))
    half.save(tmp_path / "saved")
    loaded = Session.load(tmp_path / "saved", half.model, half.retriever)
    assert len(loaded.bank) < len(whole.bank)
    for _ in loaded.read_steps(document):
        pass
    assert [record.span for record in loaded.bank.records()] == [record.span for record in whole.bank.records()]


def test_capacity_in_tokens_decides_what_leaves(make_session):
    session = make_session(window_tokens=32, chunk_ends="sentences", capacity_tokens=256)
    report = session.read(STORY)
    first = session.recorder.filter("Evicted")[0]
    assert report.chunks_kept < report.chunks_read
    assert first.occupancy_tokens > 256, "slots left, though no chunk is full"
