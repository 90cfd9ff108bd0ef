"""What stands beside an answer: words it shares with a passage, and what to know before trusting it."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from app import asking
from app.exports import conversation, conversation_page
from app.sessions import Visit
from app.tabs import evidence as pane
from app.tabs.ask import look_at, messages
from app.text import escape
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.retriever.base import Step
from memlong.session.results import Pointed


@pytest.mark.parametrize(
    ("answer", "text", "said"),
    [
        ("Анна", "Там была Анна.", True), ("Анн", "Там была Анна.", False), ("né à Lyon", "Il est né à Lyon.", True),
        ("caf", "au café", False), ("灯台守", "鍵は灯台守が持つ", True),
    ],
)  # fmt: skip
def test_an_answer_is_said_in_whole_words_of_any_alphabet_that_has_them(answer: str, text: str, said: bool) -> None:
    assert (pane.words_of(answer, text) is not None) == said


@pytest.mark.parametrize("strength", [-8.0, 0.0])
def test_a_weak_memory_is_named_where_it_got_no_attention(read: Visit, strength: float) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    exchange.answer = replace(exchange.answer, low_evidence=True)
    exchange.options = AskOptions(memory_strength=strength)
    assert ("a memory strength of -8:" in pane.notices(exchange)) == (strength < 0)


def test_a_bar_of_next_to_no_attention_is_short_and_the_most_of_none_is_not_named(read: Visit) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    hits = [replace(item, attention_mass=0.0004 / item.rank) for item in exchange.answer.retrieved]
    exchange.answer = replace(exchange.answer, retrieved=tuple(hits))
    shown = pane.evidence(read)
    assert "width:4.0%" in shown and "width:100.0%" not in shown
    assert "most attention" not in shown
    exchange.answer = replace(exchange.answer, retrieved=(replace(hits[0], attention_mass=0.2), *hits[1:]))
    assert "width:100.0%" in pane.evidence(read) and "most attention" in pane.evidence(read)


@pytest.mark.parametrize(("mass", "little"), [(None, True), (0.01, True), (0.68, False)])
def test_memory_that_was_looked_at_is_not_said_to_have_got_little(
    read: Visit, mass: float | None, little: bool
) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    exchange.answer = replace(exchange.answer, low_evidence=True, memory_mass=mass)
    said = pane.notices(exchange)
    assert "No chunk matched the question well" in said and ("little attention" in said) == little


def in_steps(read: Visit) -> None:
    exchange = read.exchanges[0]
    answer = exchange.answer
    assert answer is not None
    first, last = answer.retrieved[:1], answer.retrieved[1:]
    whole = "Who is <the keeper>?"
    step = replace(answer, question=whole, asked=whole, text="Ada <b>", retrieved=first)
    exchange.answer = replace(answer, retrieved=last, steps=(step,), asked="Where is Ada <b>?")
    exchange.steps = ((step.question, step.text),)


def test_steps_have_their_own_evidence_and_say_what_they_found(read: Visit) -> None:
    whole = read.exchanges[0].evidence
    assert len(whole) > 1 and "ml-step" not in pane.evidence(read)
    in_steps(read)
    shown = pane.evidence(read)
    assert "Asked last: <q>Where is Ada &lt;b&gt;?</q>" in shown
    assert "Asked first: <q>Who is &lt;the keeper&gt;?</q> <b>Ada &lt;b&gt;</b>" in shown
    assert shown.count('<ol class="ml-evidence"') == 2 and "Chunks retrieved for step 1" in shown
    assert shown.index("Retrieved chunks") < shown.index("Asked first") < shown.index("retrieved for step 1")
    assert {item.chunk_id for item in read.exchanges[0].evidence} == {item.chunk_id for item in whole}


def test_every_step_names_the_chunk_that_it_looked_at_most(read: Visit) -> None:
    in_steps(read)
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    (step,), last = exchange.answer.steps, exchange.answer.retrieved
    twice = replace(last[0], attention_mass=0.8)
    seen = [replace(item, attention_mass=0.4 / at) for at, item in enumerate(last, 1)]
    exchange.answer = replace(exchange.answer, retrieved=tuple(seen), steps=(replace(step, retrieved=(twice,)),))
    shown = pane.evidence(read)
    assert shown.count("most attention") == shown.count("width:100.0%") == 2


def test_a_chunk_of_a_step_shows_what_the_step_asked_for(read: Visit) -> None:
    in_steps(read)
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    (step,) = exchange.answer.steps
    text = f"{'Rain fell. ' * 60}The quartermaster came. {'Snow fell. ' * 60}"
    item = replace(step.retrieved[0], text=text)
    step = replace(step, question="Who is the quartermaster?", text="Ada", retrieved=(item,))
    exchange.answer = replace(exchange.answer, steps=(step,))
    assert "quartermaster came" in pane.evidence(read)


def test_the_passage_of_a_step_marks_what_the_step_found(read: Visit) -> None:
    in_steps(read)
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    (step,) = exchange.answer.steps
    (item,), words = step.retrieved, " ".join(step.retrieved[0].text.split()[1:4])
    exchange.answer = replace(exchange.answer, steps=(replace(step, text=words),))
    _, shown = look_at(read, {"act": "open", "id": str(item.chunk_id), "of": "0"})
    assert f'<strong class="ml-own">{words}</strong>' in shown
    assert 'data-act="layers" data-id="0" data-of="1"' in shown, "the step is what looked at it"
    assert asking.said_with(exchange, exchange.answer.retrieved[0]) == (0, exchange.answer.text)


def test_a_chunk_that_a_step_and_the_answer_fetched_opens_as_the_one_it_is_listed_under(read: Visit) -> None:
    in_steps(read)
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    (step,), (own, *_) = exchange.answer.steps, exchange.answer.retrieved
    twice = replace(own, trigger_count=own.trigger_count + 1)
    exchange.answer = replace(exchange.answer, steps=(replace(step, retrieved=(twice,)),))
    whose = re.findall(rf'data-id="{own.chunk_id}" data-of="([^"]+)"', pane.evidence(read))
    assert len(whose) == 2
    for of, number in zip(whose, (0, 1), strict=True):
        _, shown = look_at(read, {"act": "open", "id": str(own.chunk_id), "of": of})
        assert f'data-act="layers" data-id="0" data-of="{number}"' in shown
        more = re.search(r'data-act="more" data-id="\d+" data-of="([^"]+)"', shown)
        assert more and look_at(read, {"act": "more", "id": str(own.chunk_id), "of": more[1]})[1] != shown
    with pytest.raises(ConfigError):
        asking.find_evidence(read, 0, own.chunk_id + 100, 1)


def test_the_conversation_tells_the_steps_before_the_answer(read: Visit) -> None:
    in_steps(read)
    said = messages(read)[1]["content"]
    assert said.startswith("\u21b3 Who is &lt;the keeper>? Ada &lt;b>\n") and said.endswith(read.exchanges[0].text)
    exchange = read.exchanges[0]
    exchange.steps = (("Who is she?", ""),)
    assert messages(read)[1]["content"] == said, "a finished answer knows its steps itself"
    exchange.answer, exchange.text = None, ""
    assert messages(read)[1]["content"] == "\u21b3 Who is she? ...\n"


def test_a_question_that_is_stopped_in_a_step_shows_what_was_found_and_no_more(
    read: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = read.memory()
    session.config = session.config.replace(question_steps=2)
    step = Step((0, 5), "Who wrote of wind 3?")
    monkeypatch.setattr(session.retriever, "first_step", lambda question: step)
    growing = asking.ask(read, "Where did they live?", AskOptions(max_tokens=50), show_every=0)
    told = next(each for each in growing if each.steps).asked_first
    asking.stop(read)
    *_, exchange = growing
    assert [question for question, _ in told] == [question for question, _ in exchange.asked_first]
    assert exchange.answer is not None and exchange.answer.stopped_in_steps
    said, shown = messages(read)[-1]["content"], pane.evidence(read)
    assert said.startswith("\u21b3 Who wrote of wind 3? ") and said.endswith(
        "\n(Stopped before the question itself was asked.)"
    )
    assert "Asked last" not in shown and shown.count('<ol class="ml-evidence"') == 1
    assert "in its steps" in pane.notices(exchange) and "<span>stopped after " in shown
    assert read.turns(2) == session.turns and len(session.turns) == 1
    for export in (conversation, conversation_page):
        assert "(no answer)" in export(read)


def test_exports_tell_the_steps(read: Visit) -> None:
    in_steps(read)
    assert "Asked first: Who is &lt;the keeper&gt;? Ada &lt;b&gt;. Answered from" in conversation_page(read)
    said = conversation(read)
    assert "Asked first: Who is" in said
    own, of_step = said.split("Found for Who is")
    assert "Found for Where is Ada" in own
    ranks = [re.findall(r"^(\d)\. ", part, re.MULTILINE) for part in (own, of_step)]
    answer = read.exchanges[0].answer
    assert answer is not None
    assert ranks == [[str(item.rank) for item in part.retrieved] for part in (answer, *answer.steps)]
    page = conversation_page(read)
    assert page.count("<ol>") == 2 and "<p>Found for <bdi>Who is &lt;the keeper&gt;?</bdi></p><ol>" in page


def test_exports_of_a_question_without_steps_have_one_list(read: Visit) -> None:
    assert conversation_page(read).count("<ol>") == 1
    assert "Found for" not in conversation_page(read) + conversation(read)


def test_a_chunk_that_was_told_anew_later_is_named_so(read: Visit) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None and "told anew later" not in pane.evidence(read)
    first, *others = exchange.answer.retrieved
    exchange.answer = replace(exchange.answer, retrieved=(replace(first, superseded=True), *others))
    assert pane.evidence(read).count("told anew later") == 1


def test_a_chunk_says_which_of_its_words_are_pointed_at(read: Visit) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None and "pointed at" not in pane.evidence(read)
    first, *others = exchange.answer.retrieved
    at = first.text.rindex(" ", 0, len(first.text) - 8) + 1
    span = first.span[0] + at, first.span[0] + len(first.text)
    place = Pointed(span, first.text[at:], 0.83)
    exchange.answer = replace(exchange.answer, retrieved=(replace(first, pointed=(place,)), *others))
    exchange.text = place.text
    shown = pane.evidence(read)
    assert shown.count("pointed at, 83%") == 1 and f"\u201c{escape(place.text.strip())}\u201d here to be" in shown
    assert f'pointed at "{place.text.strip()}" 83%' in conversation(read).replace("\\", "")
    unsure = replace(place, likely=0.05)
    exchange.answer = replace(exchange.answer, retrieved=(replace(first, pointed=(unsure,)), *others))
    assert "pointed at" not in pane.evidence(read) and "pointed at" not in conversation(read)


def test_of_words_said_twice_those_pointed_at_stand_out(read: Visit) -> None:
    answer = read.exchanges[0].answer
    assert answer is not None
    text = "Sefa  came. " + "It rained on the hills. " * 20 + "Then Sefa\nleft."
    at = text.rindex("Sefa")
    item = replace(answer.retrieved[0], text=text, span=(100, 100 + len(text)))
    assert pane.said_in(item, "sefa.") == (0, 4)
    pointed = replace(item, pointed=(Pointed((100 + at, 104 + at), "Sefa", 0.9),))
    assert pane.said_in(pointed, "sefa.") == (at, at + 4) and pane.said_in(pointed, "hills") == pane.said_in(
        item, "hills"
    )
    assert pane.snippet(text, "Sefa", "", (at, at + 4)).endswith("Then <mark>Sefa</mark> left.")
    assert pane.snippet(text, "Sefa", "", (0, 4)).startswith("<mark>Sefa</mark> came.")
    shown = pane.passage(pointed, " " * 100 + text, answer="Sefa")
    assert 'Then <strong class="ml-own">Sefa</strong>' in shown and "ml-own" in pane.passage(pointed, "", answer="Sefa")


def test_little_attention_is_not_told_as_none(read: Visit) -> None:
    exchange = read.exchanges[0]
    assert exchange.answer is not None
    for mass, words in ((0.0004, "under 0.1%"), (None, "not measured")):
        found = tuple(replace(item, attention_mass=mass) for item in exchange.answer.retrieved)
        exchange.answer = replace(exchange.answer, retrieved=found)
        assert pane.evidence(read).count(f'<b class="ml-mass">{words}</b>') == len(found), "as on Memory and Attention"
