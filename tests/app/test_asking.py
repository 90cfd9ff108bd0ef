"""What a visitor does with questions, without a page."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import api, asking, looking, reading
from app.context import App
from app.documents import Limits
from app.exports import conversation, conversation_file, document_archive
from app.sessions import Exchange, Visit
from app.tabs import evidence as pane
from app.tabs.ask import again, cleared, picture, pictures
from memlong.config import AskOptions
from memlong.errors import ConfigError, DocumentError, MemLongError

QUESTION = "Where did the brass lantern of Ottoline Varga stand?"
SHORT = AskOptions(max_tokens=6, top_k=3)


@pytest.fixture
def read(visit: Visit, long_text: str) -> Visit:
    """Return a visitor whose log book was read."""
    reading.add_text(visit, long_text, "Log <b>", Limits())
    list(reading.read_all(visit))
    return visit


def ask(visit: Visit, question: str = QUESTION, options: AskOptions = SHORT) -> Exchange:
    *_, exchange = asking.ask(visit, question, options)
    return exchange


def test_answers_grow_and_bring_their_evidence(read: Visit) -> None:
    steps = [(exchange.text, len(exchange.evidence)) for exchange in asking.ask(read, QUESTION, SHORT, show_every=0)]
    assert steps[0] == ("", 0)
    assert len({text for text, _ in steps}) > 2
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    assert exchange.answer.text == exchange.text
    assert [item.rank for item in exchange.evidence] == [1, 2, 3]
    assert any("Ottoline" in item.text for item in exchange.evidence)
    assert all(item.trigger_count == item.trigger_count_before + 1 for item in exchange.evidence)
    assert not read.answering


def test_nothing_read_is_said_at_the_question(visit: Visit) -> None:
    exchange = ask(visit)
    assert exchange.error is not None
    assert "Nothing has been read" in str(exchange.error)
    assert ask(visit, options=AskOptions(answer_from="nothing", max_tokens=2)).error is None


def test_stop_keeps_the_answer_so_far(read: Visit) -> None:
    steps = asking.ask(read, QUESTION, AskOptions(max_tokens=200), show_every=0)
    next(steps)
    next(steps)
    asking.stop(read)
    *_, exchange = steps
    assert exchange.answer is not None
    assert exchange.answer.stop_reason == "cancelled"
    assert exchange.answer.n_tokens < 10
    assert "stopped" in pane.notices(exchange)


def test_one_question_at_a_time(read: Visit) -> None:
    steps = asking.ask(read, QUESTION, SHORT)
    next(steps)
    with pytest.raises(ConfigError, match="being written"):
        next(asking.ask(read, "And now?", SHORT))
    with pytest.raises(ConfigError):
        asking.take_back(read, 0)
    list(steps)
    with pytest.raises(ConfigError, match="empty"):
        next(asking.ask(read, "  ", SHORT))


def test_asking_while_reading_says_how_far_it_was(visit: Visit, long_text: str) -> None:
    reading.add_text(visit, long_text, "Log", Limits())
    steps = reading.read_all(visit, show_every=0)
    next(steps)
    next(steps)
    exchange = ask(visit)
    assert exchange.answer is not None
    assert "Log" in exchange.answer.reading
    assert "before reading was done" in pane.notices(exchange)
    list(steps)
    assert next(iter(visit.shelf)).state == "done"


def test_asking_again_and_edited(read: Visit) -> None:
    first = ask(read).text
    ask(read, "Who wrote of wind?")
    assert asking.take_back(read, 0) == QUESTION
    assert read.exchanges == []
    assert ask(read).text == first, "at temperature 0 the same question has the same answer"
    with pytest.raises(ConfigError):
        asking.take_back(read, 5)


def test_documents_that_are_gone_do_not_block_a_question(read: Visit) -> None:
    exchange = ask(read, options=AskOptions(max_tokens=2, documents=(0, 99)))
    assert exchange.error is None
    assert {item.doc_id for item in exchange.evidence} == {0}


def test_evidence_of_earlier_answers_stays(read: Visit) -> None:
    ask(read)
    ask(read, "Who wrote of wind?")
    read.shown = 0
    html = pane.evidence(read)
    assert QUESTION in html
    assert html.count('data-act="open"') == 3
    item = read.exchanges[0].evidence[0]
    assert asking.find_evidence(read, 0, item.chunk_id) is item
    with pytest.raises(ConfigError):
        asking.find_evidence(read, 7, 0)


def test_passages_are_marked_in_context_and_escaped(read: Visit) -> None:
    item = ask(read).evidence[0]
    text = asking.document_text(read, item.doc_id)
    html = pane.passage(item, text, around=40)
    assert '<mark id="passage">' in html
    assert "Log &lt;b&gt;" in html
    assert "Log <b>" not in html + pane.evidence(read)
    reading.read_again(read, 0)
    assert asking.document_text(read, item.doc_id) == text, "the text of an answer's document stays readable"
    reading.remove(read, 0)
    assert '<mark id="passage">' in pane.passage(item, asking.document_text(read, item.doc_id))


def test_the_list_says_which_passage_has_the_answer_s_words(read: Visit) -> None:
    exchange = ask(read)
    first, *others = exchange.evidence
    only = next(w for w in first.text.split() if len(w) > 3 and not any(pane.words_of(w, o.text) for o in others))
    exchange.text = f"{only.upper()}."
    rows = pane.evidence(read).split("<li>")[1:]
    tagged = [number for number, row in enumerate(rows) if "says the same words" in row]
    assert [exchange.evidence[number] for number in tagged] == [first]
    exchange.text = "No such words at all"
    assert "says the same words" not in pane.evidence(read)


def test_the_answer_s_own_words_stand_out_in_its_passage(read: Visit) -> None:
    item = ask(read).evidence[0]
    text = asking.document_text(read, item.doc_id)
    words = text[item.span[0] : item.span[1]].split()[3:6]
    html = pane.passage(item, text, answer=" ".join(words).upper() + ".")
    assert html.count('<strong class="ml-own">') == 1
    plain = re.sub(r"<[^>]+>", "", html[html.index('<mark id="passage">') : html.index("</mark>")])
    assert unescape(plain).split() == text[item.span[0] : item.span[1]].split(), "nothing is lost or said twice"
    assert "ml-own" not in pane.passage(item, text, answer="no such words at all")
    assert pane.words_of("a\nlead  box.", "in A lead\nbox, below") == (3, 13)
    assert pane.words_of("a.", "a b") is None, "too short to mean anything"
    assert pane.words_of("ten", "Often at ten.") == (9, 12) and pane.words_of("art", "a part of 1824") is None
    assert pane.words_of("灯塔守", "从前灯塔守在这里") == (2, 5)


def test_a_passage_leads_to_its_chunk_s_life_and_its_layers(read: Visit) -> None:
    item = ask(read).evidence[0]
    html = pane.passage(item, asking.document_text(read, item.doc_id), of=(0, 2))
    assert f'data-act="life" data-id="{item.chunk_id}"' in html
    assert 'data-act="layers" data-id="0" data-of="2"' in html
    assert 'data-act="layers"' not in pane.passage(replace(item, attention_mass=None), "")


def test_conversation_as_markdown(read: Visit) -> None:
    ask(read, "Is *this* a <test>?")
    asking.like(read, 0, True)
    text = conversation(read)
    assert r"\*this\*" in text
    assert "<test>" not in text.replace(r"\<test\>", "")
    assert "Rated: up." in text
    assert "triggers" in text


def test_conversation_as_a_page_and_for_programs(read: Visit) -> None:
    exchange = ask(read, "Is this a <script>alert(1)</script>?")
    page = conversation_file(read, "html").read_text("utf-8")
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "Log &lt;b&gt;" in page
    assert "triggers" in page and page.count("<blockquote") == 3
    assert "{" not in page.split("</style>")[1]
    kept = json.loads(conversation_file(read, "json").read_text("utf-8"))
    assert kept["read"] == ["Log <b>"]
    assert kept["exchanges"][0]["question"] == exchange.question
    assert kept["exchanges"][0]["result"]["retrieved"][0]["chunk_id"] == exchange.evidence[0].chunk_id


def test_document_archive(read: Visit, long_text: str) -> None:
    with zipfile.ZipFile(document_archive(read, 0)) as archive:
        assert archive.read("text.txt").decode() == long_text
        assert b'"ChunkWritten"' in archive.read("trace.jsonl")
        assert set(archive.namelist()) == {"text.txt", "about.json", "trace.jsonl"}


def test_api_gives_plain_values(make_app: Callable[..., App], long_text: str, tmp_path: Path) -> None:
    app = make_app()
    visit = app.visits.get("program")
    path = tmp_path / "log.txt"
    path.write_text(long_text)
    assert api.memory_state(visit)["tokens"] == 0
    report = api.upload(app, visit, {"path": str(path), "orig_name": "log.txt"}, tmp_path)
    assert report["status"] == "done"
    state = api.memory_state(visit)
    assert len(state["chunks"]) == report["chunks_kept"]
    answer: dict[str, Any] = api.ask(visit, QUESTION, "memory", 2, 4)
    assert len(answer["retrieved"]) == 2
    assert answer["retrieved"][0]["trigger_count"] > 0
    kinds = {event["kind"] for event in api.trace(visit)}
    assert {"DocumentOpened", "ChunkWritten", "Retrieved", "AnswerFinished"} <= kinds
    assert api.trace(visit, since=10)[0]["step"] == 10


def test_api_answers_have_no_keys_but_text(read: Visit) -> None:
    ask(read)
    replayed = api.policies(read)
    assert any(row["missed"] for row in replayed["replays"]), "or the next line proves little"
    for value in (replayed, api.memory_state(read), api.trace(read), api.ask(read, QUESTION, max_tokens=4)):
        assert {type(key) for key in keys(value)} == {str}, "gradio breaks off the connection at any other key"


def keys(value: Any) -> Iterator[Any]:
    """Yield the keys of all dictionaries inside a value."""
    if isinstance(value, dict):
        yield from value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from keys(each)


@pytest.mark.parametrize("since", ["abc", None, 1.5, True, [0], -1])
def test_api_says_what_a_step_is(read: Visit, since: Any) -> None:
    with pytest.raises(ConfigError, match=r"since=.* A whole number from 0"):
        api.trace(read, since)


def test_api_reads_no_path_that_is_no_upload(make_app: Callable[..., App], tmp_path: Path) -> None:
    app = make_app()
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    for path in (tmp_path / "secret.txt", uploads / ".." / "secret.txt", uploads / "a\0b", ""):
        with pytest.raises(DocumentError, match="no upload"):
            api.upload(app, app.visits.get("program"), {"path": str(path)}, uploads)
    for no_file in (str(tmp_path / "secret.txt"), 5, None):
        with pytest.raises(DocumentError, match="no upload"):
            api.upload(app, app.visits.get("program"), no_file, uploads)  # type: ignore[arg-type]
    with pytest.raises(MemLongError):
        api.ask(app.visits.get("program"), "Anything?")


@pytest.mark.parametrize(
    ("question", "options", "words"),
    [
        ("why " * 2000, SHORT, "8,000 characters"),
        (None, SHORT, "empty"),
        (["a"], SHORT, "of type list"),
        ("Why?", AskOptions(top_k=10**9), "32 chunks"),
        ("Why?", AskOptions(max_tokens=10**9), "1,024 tokens"),
    ],
)
def test_what_would_hold_up_everybody_is_refused(read: Visit, question: Any, options: AskOptions, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ask(read, question, options)
    assert read.exchanges == []
    assert not read.answering


def test_a_question_edited_into_nonsense_leaves_the_conversation_as_it_was(read: Visit) -> None:
    ask(read)
    controls = ("memory", [], 3, 0, 0, 8)
    *_, last = again(read, [0, None], "why " * 2000, controls)
    assert "8,000 characters" in last[1]
    assert [exchange.question for exchange in read.exchanges] == [QUESTION]


def test_the_second_click_of_two_changes_nothing(read: Visit) -> None:
    going = asking.ask(read, QUESTION, SHORT)
    next(going)
    nothing = [[{"__type__": "update"}] * 7]
    for typed in (QUESTION, f" {QUESTION}", "", None):
        assert list(pictures(read, typed, SHORT)) == nothing  # type: ignore[arg-type]
    assert "One question at a time" in list(pictures(read, "Another?", SHORT))[-1][1]
    list(going)
    assert len(read.exchanges) == 1
    assert "empty" in list(pictures(read, "", SHORT))[-1][1], "with no answer going on it is a mistake"


def test_a_snippet_shows_where_the_answer_stands() -> None:
    text = "Nothing of note was said. " * 20 + "The lantern <b> stood in the cellar of the inn. " + "And so on. " * 20
    shown = pane.snippet(text, "In the cellar.", "Where did the lantern stand?")
    assert "&lt;b&gt; stood <mark>in the cellar</mark> of the inn" in shown
    assert shown.startswith("… ") and shown.endswith(" …")
    assert len(shown) < pane.SNIPPET + 60
    apart = pane.snippet(text, "A vault.", "Where did the lantern stand in that inn?")
    assert "lantern" in apart and "<mark>" not in apart
    assert pane.snippet("Short.", "", "") == "Short."
    part = pane.snippet("Then they sat in the kitchen.", "Hen", "Which reef was it?")
    assert "<mark>" not in part, "no part of a longer word"
    assert "<mark>Hen</mark>" in pane.snippet("Then the reef called the Hen.", "Hen.", "Which reef was it?")
    assert pane.snippet("", "x", "y") == ""
    whole = pane.snippet("The cellar of the inn.", "the cellar of the inn", "")
    assert whole == "<mark>The cellar of the inn</mark>."


def test_answers_do_not_pay_for_layers_until_somebody_looks(read: Visit, tmp_path: Path) -> None:
    exchange = ask(read)
    assert exchange.answer is not None and exchange.evidence[0].attention_mass is not None
    session = read.memory()

    def told() -> list[Any]:
        return session.recorder.filter("LayerMass")

    assert told() == []
    waiting = len(session.layers.waiting)
    assert waiting == exchange.answer.n_tokens
    read.settle_layers()
    assert len(told()) == waiting * len(session.model.layout.retrieval_layers)
    read.settle_layers()
    assert len(told()) == waiting * len(session.model.layout.retrieval_layers), "each is told once"
    ask(read)
    best = exchange.evidence[0].chunk_id
    shown = looking.life(read, looking.Look(chunk_id=best))
    assert shown is not None and any("most in layer" in station.words for station in shown.stations)
    ask(read)
    assert any("LayerMass" in str(event) for event in api.trace(read))
    assert not session.layers.waiting


def test_a_conversation_is_cleared_only_between_answers(read: Visit) -> None:
    ask(read)
    going = asking.ask(read, "Another?", SHORT)
    next(going)
    kept = cleared(read)
    assert len(kept[0]) == 4
    assert "An answer is being written" in kept[1]
    list(going)
    assert cleared(read)[0] == []
    assert asking.chosen(read) is None
    assert len(read.memory().bank), "memory stays"


def test_what_is_typed_and_said_meanwhile_is_left_alone(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking.ask, "__defaults__", (0.0,))
    steps = list(pictures(read, QUESTION, SHORT))
    assert len(steps) > 4
    boxes, notices = [step[6] for step in steps], [step[1] for step in steps]
    assert boxes[0] == ""
    assert all(box != "" for box in boxes[1:]), "the box is emptied once, and the next question may be typed"
    assert set(notices[:-2]) == {""}


def test_with_nothing_read_the_tab_says_what_to_do(visit: Visit) -> None:
    assert "on the tab Read" in picture(visit)[3]
    list(asking.ask(visit, QUESTION, SHORT))
    assert "on the tab Read" in picture(visit)[3], "after a question for which there was nothing"


def test_stop_can_be_pressed_as_long_as_an_answer_is_written(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking.ask, "__defaults__", (0.0,))
    assert not picture(read)[5].interactive
    first, *going = [step[5].interactive for step in pictures(read, QUESTION, SHORT)]
    assert first, "from the first sign of work on"
    assert going[-1] is False and True in going
    *_, refused = pictures(read, " ", SHORT)
    assert not refused[5].interactive, "a refused question is nothing to stop"


def test_a_refusal_stays_until_a_question_is_taken(read: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking.ask, "__defaults__", (0.0,))
    going = pictures(read, QUESTION, SHORT)
    next(going)
    *_, refused = pictures(read, "Another?", SHORT)
    assert "An answer is being written" in refused[1]
    assert refused[6] == gr.skip(), "it stays in the box"
    assert all("An answer is being written" in step[1] for step in going), "to the end, and after it"
    *_, taken = pictures(read, "Another?", SHORT)
    assert "being written" not in taken[1]
    *_, empty = pictures(read, " ", SHORT)
    assert "An empty question" in empty[1]
    cleared(read)
    assert "An empty question" not in picture(read)[1]
