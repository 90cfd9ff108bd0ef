"""Experiments without a page: on a tiny real session, with turns, a Stop, and nothing left behind."""

from __future__ import annotations

import json

import pytest

from app import api, asking, lab, reading
from app.sessions import Visit
from app.tabs import lab as tab
from app.tabs import lab_pieces as pieces
from memlong.bank.eviction import POLICIES
from memlong.config import ANSWER_FROM, AskOptions
from memlong.errors import BankError, ConfigError
from memlong.evaluation.needle import Needle

QUESTION = "Where did the brass lantern stand?"


@pytest.fixture
def read(visit: Visit, long_text: str) -> Visit:
    """A visitor who has read a log book and asked one question."""
    reading.add_text(visit, long_text, "Log <b>book</b>", reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    for _ in asking.ask(visit, QUESTION, AskOptions(max_tokens=3)):
        pass
    return visit


def test_nothing_can_be_tried_before_something_was_read(visit: Visit) -> None:
    for run in (lab.four_ways(visit, QUESTION, AskOptions()), lab.policies(visit)):
        with pytest.raises(ConfigError, match="Nothing has been read"):
            next(run)
    with pytest.raises(ConfigError, match="No answer from memory"):
        next(lab.owed(visit, 0))
    assert not visit.experimenting


def test_four_ways_answer_one_question_and_leave_the_conversation_alone(read: Visit) -> None:
    assert read.session is not None
    turns = list(read.session.turns)
    *_, last = lab.four_ways(read, QUESTION, AskOptions(max_tokens=3))
    assert list(last) == list(ANSWER_FROM)
    assert len(last["nothing"].retrieved) == 0 < len(last["passages"].retrieved)  # type: ignore[union-attr]
    assert len(read.exchanges) == 1 and read.session.turns == turns and not read.experimenting
    html = pieces.four(last)
    assert html.count("lab-card") == 4 and html.count("log-probability") == 4


def test_answers_that_grow_and_evil_ones_are_shown(read: Visit) -> None:
    html = pieces.four({"memory": "<script>alert(1)</script>"})
    assert "<script>" not in html and "&lt;script&gt;" in html and "being answered" in html


def test_stop_ends_an_experiment_and_frees_its_place(read: Visit) -> None:
    steps = lab.four_ways(read, QUESTION, AskOptions(max_tokens=50))
    next(steps)
    with pytest.raises(ConfigError, match="An experiment is running"):
        next(lab.policies(read))
    lab.stop(read)
    rest = list(steps)
    assert set(rest[-1] if rest else {"memory": ""}) == {"memory"} and not read.experimenting


def test_policies_are_replayed_on_what_was_really_asked(read: Visit) -> None:
    *_, last = lab.policies(read, [0.25, 0.5])
    assert {(row.policy, row.capacity_tokens) for row in last.rows} == {
        (policy, capacity) for policy in POLICIES for capacity in {row.capacity_tokens for row in last.rows}
    }
    assert len({row.capacity_tokens for row in last.rows}) == 2
    assert all(row.recall_questions is not None and row.evicted for row in last.rows)
    said, recall, course = pieces.policies(last)
    assert len(recall.data) == len(course.data) == len(POLICIES)
    assert "trigger_count (yours)" in said and last.words.startswith("With ")


def test_what_an_answer_owes_is_weighed_and_drawn(read: Visit) -> None:
    *_, rows = lab.owed(read, 0)
    answer = read.exchanges[0].answer
    assert answer is not None
    assert {row.left_out for row in rows[1:-1]} == {item.chunk_id for item in answer.retrieved}
    said, figure = pieces.owed(rows)
    assert "log-probability" in said and len(figure.data[0].x) == len(rows) - 1
    assert pieces.owed([])[0].startswith('<div class="ml-empty">')


def test_other_chunks_are_put_in_and_compared(read: Visit) -> None:
    answer, without, instead = tab.menus(read, None)
    assert answer.value == 0 and without.choices and instead.choices
    first, other = without.choices[0][1], instead.choices[0][1]
    *_, html = tab.changed(read, 0, [first], [other])
    assert "Before" in html and "Now" in html
    *_, after = lab.changed(read, 0, [first], [other])
    ids = [item.chunk_id for item in after.retrieved]  # type: ignore[union-attr]
    assert other in ids and first not in ids
    with pytest.raises(BankError):
        list(lab.changed(read, 0, [], [99_999]))
    assert not read.experimenting


def test_a_needle_is_hidden_in_a_session_of_its_own(read: Visit) -> None:
    assert read.session is not None
    before = read.session.recorder.step
    needle = Needle("The password is Marigold.", "What is the password?", "Marigold")
    *_, last = lab.needle(read, needle, 512, 2, [0.25, 1.0])
    assert len(last.tries) == 4 and last.share == 1.0
    assert read.session.recorder.step == before
    said, grid = pieces.needle(last)
    assert said.count("<li>") == 4 and grid.data[0].z.shape == (2, 2)
    with pytest.raises(ConfigError, match="Choose fewer"):
        next(lab.needle(read, needle, 512, 9, [0.25, 1.0]))


def test_handlers_give_as_many_values_as_their_panel_shows(read: Visit) -> None:
    assert all(len(row) == 3 for row in tab.policies(read, []))
    assert all(len(row) == 2 for row in tab.owed(read, 0))
    assert all(isinstance(row, str) for row in tab.ways(read, QUESTION, 2))
    assert all(
        len(row) == 2 for row in tab.needle(read, "The code is Iris.", "What is the code?", "Iris", 256, 1, [1.0])
    )


def test_programs_compare_and_replay_with_plain_values(read: Visit) -> None:
    answers = api.compare(read, QUESTION, top_k=2, max_tokens=2)
    assert list(answers) == list(ANSWER_FROM) and len(answers["passages"]["retrieved"]) == 2
    told = api.policies(read, [0.25])
    assert {row["policy"] for row in told["replays"]} == set(POLICIES) and told["conclusion"]
    assert json.loads(json.dumps([answers, told]))
    for shares in ([], [0.0], [1.5]):
        with pytest.raises(ConfigError, match="Choose others"):
            api.policies(read, shares)


def test_evidence_of_every_way_is_shown_and_escaped(read: Visit) -> None:
    *_, last = lab.four_ways(read, QUESTION, AskOptions(max_tokens=2))
    html = pieces.four(last)
    assert html.count("<details") == 3 and "Log <b>book</b>" not in html
