"""The Memory tab's handlers, with a tiny real memory and with hand-made traces."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from app import asking, looking, reading
from app.looking import Look
from app.rows import chunks
from app.rows.chunks import Filter
from app.rows.log import LogFilter
from app.rows.words import event_words
from app.sessions import Visit
from app.tabs import life, memory
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.session.layers import LayerNotes
from memlong.trace.recorder import chunks_of
from tests.app.traces import full

# What the tab's components say before anybody touched them.
NO_LOOKS: tuple[Any, ...] = (
    None, "triggers", "read", None, "", memory.ANY, "any state", "Chunk, first to last", 1, [], memory.ANY, "", 1,
)  # fmt: skip


@pytest.fixture
def made_visit() -> Visit:
    """Return a visitor whose session is a hand-made trace."""
    session = full()
    visit = Visit("x", SimpleNamespace(run=lambda work, *given, kind="question": work(*given)))  # type: ignore[arg-type]
    parts = {"recorder": session.recorder, "documents": session.documents, "layers": LayerNotes(session.recorder)}
    visit.session = SimpleNamespace(**parts)  # type: ignore[assignment]
    return visit


@pytest.fixture
def read_visit(visit: Visit, long_text: str) -> Visit:
    """Return a visitor who read a document into a bank that it overflows."""
    reading.add_text(visit, long_text, "Log <i>book</i>", reading.limits_of(visit.engine.settings))
    visit.memory().set_capacity(32 * 12)
    for _ in reading.read_all(visit):
        pass
    return visit


def test_before_anything_was_read_every_part_says_what_to_do() -> None:
    visit = Visit("x", SimpleNamespace())  # type: ignore[arg-type]
    head, cells, moment, shown = memory.top(visit, Look())
    assert "Open the tab Read" in head
    assert (cells["n"], moment) == (0, "")
    assert "Choose a chunk" in shown
    occupancy, counts, rows, row_words, page, events, log_words, *_ = memory.details(visit, Look())
    assert not occupancy.data and not counts.data
    assert (rows, events, page) == ([], [], 1)
    assert "No chunks" in row_words and "No events" in log_words


def test_the_view_of_now_and_of_an_earlier_moment(made_visit: Visit) -> None:
    head, cells, moment, _ = memory.top(made_visit, Look())
    assert "75 chunks read" in head
    timeline = looking.timeline(made_visit)
    assert f"Now, after event {timeline.stops[-1]}." in moment
    early = memory.top(made_visit, Look(step=timeline.stops[20]))
    assert "Looking back" in early[0]
    assert f"Event {timeline.stops[20]}" in early[2]
    assert early[1]["written"] < cells["written"]
    assert "Nothing had been read at this moment" in memory.top(made_visit, Look(step=1))[0]


def test_rows_come_a_page_at_a_time(made_visit: Visit) -> None:
    rows, words, page = looking.rows(made_visit, Look(page=2))
    assert (len(rows), words, page) == (25, "26 to 50 of 75 chunks", 2)
    rows, words, page = looking.rows(made_visit, Look(page=2, rows=Filter(words="ledger part 12:")))
    assert (len(rows), words, page) == (1, "1 to 1 of 1 chunk", 1)
    events, words, _ = looking.log(made_visit, Look(log=LogFilter(("Pinned",))))
    assert ([event.kind for event in events], words) == (["Pinned"], "1 to 1 of 1 event")
    assert len(looking.log(made_visit, Look())[0]) == 25


def test_components_become_a_look() -> None:
    look = memory.look_of(7, "age", "bank", 3, "key", 1, "held", "Oldest", 2, ["Evicted"], memory.ANY, " 12 ", None)
    rows, log = Filter("key", 1, "held", "Oldest"), LogFilter(("Evicted",), None, 11)
    assert look == Look(7, "age", "bank", 3, rows, 2, log, 1)
    look = memory.look_of(None, "age", "bank", None, None, memory.ANY, "held", "x", None, None, None, "x", 1)
    assert look.log == LogFilter()


def test_text_of_a_document_is_escaped(made_visit: Visit) -> None:
    shown = memory.top(made_visit, Look(chunk_id=3))[3]
    assert "&lt;b&gt;of&lt;/b&gt;" in shown
    assert "<b>of</b>" not in shown


def test_a_life_offers_what_can_be_done(made_visit: Visit) -> None:
    timeline = looking.timeline(made_visit)
    pinned = next(id for id, chunk in timeline.state().chunks.items() if chunk.pinned)
    held = next(id for id, chunk in timeline.state().chunks.items() if not chunk.pinned)
    gone = next(iter(timeline.state().evicted))
    shown = {id: life.life_html(looking.life(made_visit, Look(chunk_id=id))) for id in (pinned, held, gone)}
    assert 'data-act="unpin"' in shown[pinned] and 'data-act="delete"' in shown[pinned]
    assert 'data-act="pin"' in shown[held] and 'data-act="restore"' not in shown[held]
    assert 'data-act="restore"' in shown[gone] and 'data-act="pin"' not in shown[gone]
    assert "Why: fewest triggers" in shown[gone]


def test_before_a_chosen_chunk_was_read_it_is_said_when_that_was(made_visit: Visit) -> None:
    timeline = looking.timeline(made_visit)
    chosen = 30
    read = timeline.about[chosen][0].step
    before = memory.top(made_visit, Look(step=read - 1, chunk_id=chosen))[3]
    assert "Chunk 31 was not read yet" in before and f"written at event {read}" in before
    assert 'data-id="30"' in before, "the page does not take its coming back for another choice"
    assert "mm-life" in memory.top(made_visit, Look(step=read, chunk_id=chosen))[3]
    assert memory.top(made_visit, Look(step=1, chunk_id=9_999))[3] == life.NOTHING_CHOSEN, "there never was one"
    assert memory.top(made_visit, Look(step=read - 1))[3] == life.NOTHING_CHOSEN


def test_the_attention_of_every_layer_can_be_read_without_a_mouse(made_visit: Visit) -> None:
    seen = next(chunk_id for chunk_id, share in looking.timeline(made_visit).attention_share(None).items() if share)
    shown = life.life_html(looking.life(made_visit, Look(chunk_id=seen)))
    listed = shown.partition("<summary>Layer by layer</summary>")[2].partition("</details>")[0]
    assert listed.count("<li>layer ") == shown.partition('class="mm-layers"')[2].partition("</span>")[0].count("<i ")
    assert "most in head" in listed


def test_a_chunk_has_one_number_wherever_a_person_sees_it(made_visit: Visit) -> None:
    """The first is 1, in the table, the life, the log and what is searched for; its id, for programs, is 0."""
    timeline, documents = looking.timeline(made_visit), looking.documents(made_visit)
    rows, _, _ = looking.rows(made_visit, memory.look_of(*NO_LOOKS))
    assert [row.chunk_id for row in rows[:3]] == [0, 1, 2]
    assert [cells[0] for cells in chunks.table(rows, documents)[:3]] == [1, 2, 3]
    shown = life.life_html(looking.life(made_visit, Look(chunk_id=2)))
    assert "<h3>Chunk 3</h3>" in shown and 'data-id="2"' in shown
    events, _, _ = looking.log(made_visit, memory.look_of(*NO_LOOKS[:9], ["ChunkWritten"], memory.ANY, "3", 1))
    assert events and all(2 in chunks_of(event) for event in events)
    words = [event_words(event, timeline, documents) for event in events if event.kind == "ChunkWritten"]
    assert words and words[0].startswith("Chunk 3 written: ") and ", position 3," in words[0]


def test_pin_unpin_delete_and_bring_back(read_visit: Visit) -> None:
    session = read_visit.memory()
    chunk_id = session.bank.records()[0].chunk_id
    assert "cannot be evicted" in looking.act(read_visit, "pin", chunk_id)
    assert session.bank.get(chunk_id).pinned
    looking.act(read_visit, "unpin", chunk_id)
    assert not session.bank.get(chunk_id).pinned
    looking.act(read_visit, "delete", chunk_id)
    assert chunk_id not in session.bank
    gone = next(iter(looking.timeline(read_visit).state().evicted))
    looking.act(read_visit, "restore", chunk_id)
    said = looking.act(read_visit, "restore", gone)
    assert gone in session.bank
    assert f"Chunk {gone + 1} is back" in said and "had to leave" in said
    assert looking.timeline(read_visit).state().chunks.keys() == {record.chunk_id for record in session.bank.records()}


def test_several_that_had_to_leave_are_told_as_several(read_visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = next(iter(looking.timeline(read_visit).state().evicted))
    for left, words in (([], "pinned. Ask again"), ([2], "Chunk 3 had to leave"), ([2, 6], "Chunks 3, 7 had to leave")):
        monkeypatch.setattr(read_visit.memory(), "restore", lambda chunk_id, left=left: left)
        assert words in looking.act(read_visit, "restore", gone)


def test_what_cannot_be_done_says_why(read_visit: Visit) -> None:
    with pytest.raises(ConfigError, match="Chunk 10000 has left memory"):
        looking.act(read_visit, "pin", 9_999)
    assert "There is no chunk 10000" in memory.done(read_visit, "restore", 9_999)
    held = read_visit.memory().bank.records()[0].chunk_id
    assert f"Chunk {held + 1} is in memory" in memory.done(read_visit, "restore", held)
    with pytest.raises(ConfigError):
        looking.act(read_visit, "fly", 0)
    with pytest.raises(ConfigError):
        looking.act(Visit("y", read_visit.engine), "pin", 0)


def test_ask_again_shows_both_answers(read_visit: Visit) -> None:
    question = "Where did the brass lantern stand?"
    for _ in asking.ask(read_visit, question, AskOptions(max_tokens=4)):
        pass
    assert looking.questions(read_visit) == [question]
    found = read_visit.exchanges[0].answer
    assert found is not None
    best = found.retrieved[0].chunk_id
    looking.act(read_visit, "delete", best)
    *_, shown = memory.compare(read_visit, question, best)
    assert "<h3" in shown.split("<h4>")[0] and "<h4>Before</h4>" in shown and "<h4>Now</h4>" in shown
    assert f"(chunk {best + 1} among them)" in shown and f"(not chunk {best + 1})" in shown
    assert "log-probability" in shown


def test_a_chunk_that_a_step_fetched_is_among_those_of_both_answers(read_visit: Visit) -> None:
    for _ in asking.ask(read_visit, "Where did the brass lantern stand?", AskOptions(max_tokens=1)):
        pass
    exchange = read_visit.exchanges[0]
    assert exchange.answer is not None
    first, *others = exchange.answer.retrieved
    step = replace(exchange.answer, retrieved=(first,))
    exchange.answer = replace(exchange.answer, retrieved=tuple(others), steps=(step,))
    assert f"(chunk {first.chunk_id + 1} among them)" in life.comparison(None, exchange, first.chunk_id)


def test_the_question_to_ask_again_stays_the_one_that_was_chosen(read_visit: Visit) -> None:
    first, second = "Where did the brass lantern stand?", "Who wrote of the wind?"
    for question in (first, second):
        for _ in asking.ask(read_visit, question, AskOptions(max_tokens=1)):
            pass
    assert memory.first_of(read_visit, Look())[2].value == second
    assert memory.first_of(read_visit, Look(), first)[2].constructor_args == {"choices": [second, first]}
    assert memory.first_of(read_visit, Look(), "One of another memory")[2].value == second


def test_a_question_is_asked_again_as_it_was(read_visit: Visit) -> None:
    question = "Where did the brass lantern stand?"
    sampled = AskOptions(answer_from="both", top_k=2, temperature=0.7, seed=3, max_tokens=3)
    for options in (AskOptions(max_tokens=2), sampled, AskOptions(answer_from="nothing", max_tokens=2)):
        for _ in asking.ask(read_visit, question, options):
            pass
    *_, (before, after) = looking.ask_again(read_visit, question)
    assert before is read_visit.exchanges[1]
    assert after.options == sampled
    assert before.answer is not None and after.answer is not None
    assert after.answer.token_ids == before.answer.token_ids


def test_asking_again_without_a_question_says_what_to_do(visit: Visit) -> None:
    assert "tab Ask" in "".join(memory.compare(visit, None, None))


def test_everything_fits_the_components(made_visit: Visit) -> None:
    values: list[Any] = memory.first_of(made_visit, Look())
    assert len(values) == 5 + 4
    assert len(memory.details(made_visit, Look())) == 9


def test_a_filter_for_a_document_of_another_memory_is_let_go(made_visit: Visit) -> None:
    known = next(iter(looking.timeline(made_visit).titles))
    kept, gone = memory.first_of(made_visit, Look(rows=Filter(doc_id=known), log=LogFilter(doc_id=999)))[3:5]
    assert (kept.value, gone.value) == (known, memory.ANY)
