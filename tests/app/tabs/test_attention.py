"""The Attention tab's handlers, on a hand-made trace and on a tiny real answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from app import asking, looking, reading, shading
from app.context import App
from app.rows.attention import MEAN, MOST, looked
from app.sessions import Visit
from app.shading import Shaded
from app.tabs import attention
from app.tabs.attention_text import answer_words, chunk_words
from memlong.config import AskOptions
from memlong.session.layers import LayerNotes
from tests.app.traces import full


@pytest.fixture
def visit_of_two_answers() -> Visit:
    session = full()
    session.ask("Without looking?", masses=False)
    visit = Visit("x", SimpleNamespace())  # type: ignore[arg-type]
    parts = {"recorder": session.recorder, "documents": session.documents, "layers": LayerNotes(session.recorder)}
    visit.session = SimpleNamespace(**parts)  # type: ignore[assignment]
    return visit


def test_the_newest_recorded_answer_is_shown_first(visit_of_two_answers: Visit) -> None:
    timeline = looking.timeline(visit_of_two_answers)
    assert attention.chosen(timeline, None) == 1
    assert attention.chosen(timeline, 0) == 0
    assert attention.chosen(looking.timeline(None), None) is None


def test_menus_offer_tokens_and_heads_that_exist(visit_of_two_answers: Visit) -> None:
    answer, token, head = attention.choices(visit_of_two_answers, 0, 3, 2)
    assert [value for _, value in answer.choices] == [2, 1, 0]
    assert "(not recorded)" in answer.choices[0][0]
    assert len(token.choices) == 1 + 6
    assert (token.value, head.value) == (3, 2)
    assert [value for _, value in head.choices] == [MEAN, MOST, 0, 1, 2]
    _, token, head = attention.choices(visit_of_two_answers, 2, 3, 2)
    assert (token.value, head.value) == (attention.ALL, 2)
    assert [value for _, value in head.choices] == [MEAN, MOST, 0, 1, 2], "gradio may send the chosen head once more"
    _, _, head = attention.choices(Visit("y", SimpleNamespace()), None, attention.ALL, 2)  # type: ignore[arg-type]
    assert (head.value, [value for _, value in head.choices]) == (MEAN, [MEAN])


@pytest.mark.parametrize("token", [attention.ALL, 0, 5])
@pytest.mark.parametrize("head", [MEAN, MOST, 1])
def test_pictures_of_any_token_and_head(visit_of_two_answers: Visit, token: int, head: str | int) -> None:
    said, heat, layers, tokens, scatter = attention.pictures(visit_of_two_answers, 0, token, head)
    assert "of attention on memory" in said
    most = np.asarray(heat.data[0].z)
    row = int(most[:, int(most.mean(axis=0).argmax())].argmax())
    assert f"where layer <strong>{heat.data[0].y[row].removesuffix(' *')}</strong> looks most" in said
    assert heat.data[0].z.shape == (4, len(heat.data[0].x))
    assert len(layers.data[0].y) == 4
    assert len(tokens.data[0].y) == 6
    assert sum(len(trace.x) for trace in scatter.data) == len(heat.data[0].x)


@pytest.mark.parametrize("token", [attention.ALL, 2])
def test_one_layer_alone_is_shown_where_layers_are_not_side_by_side(visit_of_two_answers: Visit, token: int) -> None:
    both, one = (attention.pictures(visit_of_two_answers, 0, token, MEAN, each) for each in (attention.ALL, 6))
    look = looked(looking.timeline(visit_of_two_answers), 0)
    assert look is not None
    row, at = look.layers.index(6), None if token == attention.ALL else token
    assert "Layer <strong>6</strong>" in one[0] and "of its attention on memory" in one[0]
    assert np.array_equal(one[1].data[0].z, both[1].data[0].z), "the heat map has every layer"
    assert one[3].data[0].y == pytest.approx(100 * look.memory_share()[:, row], abs=1e-3)
    masses = sorted(y for trace in one[4].data for y in trace.y)
    assert masses == pytest.approx(sorted(100 * look.by_chunk(at)[row]), abs=1e-3)


def test_the_menu_of_layers_keeps_what_is_chosen(visit_of_two_answers: Visit) -> None:
    menu = attention.layer_menu(visit_of_two_answers, 0, 6)
    assert ([value for _, value in menu.choices], menu.value) == ([attention.ALL, 4, 5, 6, 7], 6)
    assert attention.layer_menu(visit_of_two_answers, 2, 6).value == 6, "layers are the model's, not the answer's"
    assert attention.layer_menu(visit_of_two_answers, 0, 20).value == attention.ALL
    assert attention.layer_menu(Visit("y", SimpleNamespace()), None, 6).value == attention.ALL  # type: ignore[arg-type]


def test_a_token_is_named_as_it_was_written(visit_of_two_answers: Visit) -> None:
    look = looked(looking.timeline(visit_of_two_answers), 0)
    assert look is not None
    look = replace(look, tokens=("The Ledger", *look.tokens[1:]))
    names = [f"chunk {chunk_id}" for chunk_id in look.chunk_ids]
    assert ">Token 1 &#x27;The Ledger&#x27;, mean over heads:" in attention.sentence(look, 0, MEAN, names)
    assert ">All tokens, mean over heads:" in attention.sentence(look, None, MEAN, names)


def test_menus_have_room_for_their_words_on_a_phone(make_app: Callable[..., App]) -> None:
    from app.build import build

    room = {getattr(each, "elem_id", None): getattr(each, "min_width", 0) for each in build(make_app()).blocks.values()}
    assert min(room["attention-token"], room["attention-head"], room["attention-layer"]) > 362 / 2, "one to a row"
    assert room["attention-chunk"] >= 340, "nearly all of a row: it names the document too"


def test_what_was_not_recorded_says_what_to_do(visit_of_two_answers: Visit) -> None:
    assert "No attention was recorded" in attention.pictures(visit_of_two_answers, 2, attention.ALL, MEAN)[0]
    said, *figures = attention.pictures(Visit("y", SimpleNamespace()), None, attention.ALL, MEAN)  # type: ignore[arg-type]
    assert "No answer to look into yet" in said
    assert all(figure.layout.annotations for figure in figures)


def test_titles_are_escaped(visit_of_two_answers: Visit) -> None:
    said = attention.pictures(visit_of_two_answers, 0, attention.ALL, MEAN)[0]
    assert "&lt;b&gt;" in said and "<b>of" not in said


def test_a_real_answer_adds_up(visit: Visit, long_text: str) -> None:
    reading.add_text(visit, long_text, "Log book", reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    for _ in asking.ask(visit, "Where did the brass lantern stand?", AskOptions(max_tokens=3)):
        pass
    visit.settle_layers()
    _, heat, layers, tokens, _ = attention.pictures(visit, 0, attention.ALL, MEAN)
    menu, answer_id = attention.menu_of(visit, 0)
    assert menu.value == answer_id == visit.exchanges[0].answer.answer_id
    step = replace(visit.exchanges[0].answer)
    visit.exchanges[0].answer = replace(step, answer_id=step.answer_id + 1, steps=(step,))
    assert attention.menu_of(visit, 0, 1)[1] == step.answer_id, "a step's layers are its own"
    assert attention.menu_of(visit, 7)[1] == answer_id, "what is not there leaves the newest"
    assert heat.data[0].z.sum(axis=1) == pytest.approx(layers.data[0].x, abs=1e-3)
    answer = visit.exchanges[0].answer
    assert answer is not None and answer.memory_mass is not None
    assert tokens.data[0].y.mean() == pytest.approx(100 * answer.memory_mass, abs=1e-3)
    assert all(name.endswith("*") for name in heat.data[0].y)
    _, alone, *_ = attention.pictures(visit, 0, 0, 1)
    assert alone.data[0].z.max() <= 100
    shares = list(attention.shaded(visit, 0, attention.chunk_menu(visit, 0).value, attention.ALL))
    assert "looked at" not in shares[-1], "the last picture is complete"
    assert shares[-1].count("ma-token") == 32, "one piece a token of the chunk"


def test_words_of_a_chunk_get_what_the_chunk_got(visit: Visit, long_text: str) -> None:
    reading.add_text(visit, long_text + " <b>end</b>", "Log book", reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    for _ in asking.ask(visit, "Where did the brass lantern stand?", AskOptions(max_tokens=6)):
        pass
    exchange = visit.exchanges[0]
    for item in exchange.evidence:
        *_, last = shading.shade(visit, 0, item.chunk_id, None)
        assert last.done == last.total == 6
        assert "".join(last.pieces) == item.text
        assert last.mass.sum() == pytest.approx(item.attention_mass, abs=1e-4)
    *_, first = shading.shade(visit, 0, exchange.evidence[0].chunk_id, 0)
    assert first.done == 1
    visit.stop_answering.set()  # a Stop of something that ended is no Stop of what begins
    steps = shading.shade(visit, 0, exchange.evidence[0].chunk_id, None)
    next(steps)
    visit.stop_answering.set()
    assert list(steps) == [], "Stop keeps what was done"


def test_what_cannot_be_shaded_says_what_to_do(visit: Visit, long_text: str) -> None:
    assert "Choose both above" in next(attention.shaded(visit, None, None, attention.ALL))
    reading.add_text(visit, long_text, "Log book", reading.limits_of(visit.engine.settings))
    for _ in reading.read_all(visit):
        pass
    for source in ("both", "memory"):
        for _ in asking.ask(visit, "Where did the lantern stand?", AskOptions(max_tokens=2, answer_from=source)):
            pass
    chunk_id = visit.exchanges[1].evidence[0].chunk_id
    assert "Ask again from memory" in next(attention.shaded(visit, 0, chunk_id, attention.ALL))
    visit.memory().delete_chunk(chunk_id)
    said = next(attention.shaded(visit, 1, chunk_id, attention.ALL))
    assert 'class="ml-error"' in said and f"Chunk {chunk_id + 1}, which" in said, "people count from 1"


def test_words_of_strangers_are_escaped() -> None:
    words = answer_words(["<b>", " key\n"], np.array([0.1, 0.4]), 1)
    assert "&lt;b&gt;" in words
    assert "<b>" not in words
    assert words.count("ma-chosen") == 1
    assert "--depth:0%" in words
    inside = chunk_words(Shaded(("<i>",), np.array([0.2]), 1, 2), "Chunk <7>")
    assert "<i>" not in inside
    assert "Chunk &lt;7&gt;" in inside
    assert "1 of 2 tokens looked at" in inside
