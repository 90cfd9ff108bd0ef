"""Where tokens looked is told at once or later, and in the same words."""

from __future__ import annotations

from dataclasses import replace

from memlong.session.session import Session
from memlong.trace.events import LayerMass


def test_what_is_told_later_is_the_same(make_session, long_text, tmp_path):
    told = []
    for at_once in (True, False):
        session = make_session()
        session.layers.at_once = at_once
        session.read(long_text)
        session.ask("Where did the lantern stand?", max_tokens=5)
        if not at_once:
            assert not session.recorder.filter("LayerMass") and len(session.layers.waiting) == 5
            session.save(tmp_path)  # a saved trace is whole
            again = Session.load(tmp_path, session.model, session.retriever)
            assert again.recorder.filter("LayerMass")
        events = [event for event in session.recorder.events if isinstance(event, LayerMass)]
        told.append([replace(event, step=0) for event in events])
    assert told[0] == told[1] != []
