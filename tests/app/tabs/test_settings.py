"""The Settings tab's handlers: the form, sharing, estimating, and loading with a question before it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app import asking, reading
from app.context import App
from app.documents import Limits
from app.engine import LoadState
from app.resources import resources, time_split
from app.setup import SETUPS, Setup
from app.switching import Needs
from app.tabs import ask_controls, lab_pieces, settings, settings_page, settings_pieces
from memlong.config import AskOptions
from memlong.errors import ConfigError, ModelError


@pytest.fixture
def folder(tiny_llama: Callable[..., Any], tmp_path: Path) -> Path:
    tiny_llama(layers=6).config.save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", SETUPS)
def test_the_form_shows_a_setup_and_gives_it_back(name: str) -> None:
    setup = SETUPS[name][1]
    assert settings.setup_of(*settings.form_values(setup)) == setup
    *form, said = settings.fill(lambda: setup, "<b>")
    assert form == settings.form_values(setup)
    assert "&lt;b&gt;" in said


def test_an_emptied_number_is_the_models_own() -> None:
    values = dict(zip(settings.NAMES, settings.form_values(Setup()), strict=True)) | {"top_k": None, "chunk_tokens": ""}
    assert settings.setup_of(*values.values()).memory() == {}


def test_the_menu_of_setups_names_none_once_the_form_was_filled_otherwise(make_app: Callable[..., App]) -> None:
    from app.build import build

    page = build(make_app())
    ids = {each._id: getattr(each, "elem_id", None) for each in page.blocks.values()}
    clearing = [fn for fn in page.fns.values() if [each.elem_id for each in fn.outputs] == ["setup"]]
    assert {ids[number] for fn in clearing for number, _ in fn.targets} == {"setup-upload", "load-run"}
    assert all(fn.fn is not None and fn.fn() is None for fn in clearing)


def test_three_numbers_do_not_share_a_row_of_a_phone(make_app: Callable[..., App]) -> None:
    from app.build import build

    boxes = [each for each in build(make_app()).blocks.values() if getattr(each, "placeholder", "") == "model's own"]
    assert len(boxes) == 11
    assert all(2 * box.min_width < 340 < 3 * box.min_width for box in boxes), "or their own words are cut"


def test_a_file_comes_back_and_a_strange_one_changes_nothing(tmp_path: Path) -> None:
    setup = Setup(model="a/b", top_k=7)
    link, file, told = settings.shared(tmp_path, "http://here:1/app?x=1", *settings.form_values(setup))
    assert told == ""
    assert link.value.startswith("http://here:1/app?model=a/b&")
    assert settings.read_file(file.value["path"] if isinstance(file.value, dict) else str(file.value)) == setup
    bad = dict(zip(settings.NAMES, settings.form_values(setup), strict=True)) | {"top_k": -1}
    *_, told = settings.shared(tmp_path, "", *bad.values())
    assert "top_k" in told
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"modell": "x"}))
    *form, said = settings.fill(lambda: settings.read_file(str(path)), "the file")
    assert form == [form[0]] * len(settings.NAMES)
    assert "Did you mean &#x27;model&#x27;" in said
    path.write_bytes(b'"' + b"x" * 200_000)
    assert "too large" in settings.fill(lambda: settings.read_file(str(path)), "")[-1]


def test_needs_are_estimated_without_loading(make_app: Callable[..., App], folder: Path) -> None:
    app = make_app()
    said = settings.weighed(app, *settings.form_values(Setup(model=str(folder), capacity=1000)))
    assert "A full bank" in said
    assert "It fits" in said
    wrong = settings.weighed(app, *settings.form_values(Setup(model=str(folder), stored_layers=(99,))))
    assert "from 0 to 5" in wrong
    assert "ml-error" in settings.weighed(app, *settings.form_values(Setup(model=str(folder / "gone"))))


def test_what_does_not_fit_is_said() -> None:
    found = Needs(7_000_000_000, 14 * 10**9, 2 * 10**9, 2000, 8 * 10**9, "cpu")
    assert not found.fits
    assert "more than is free" in settings_pieces.needed(found)
    assert "8.0 GB are free" in settings_pieces.ask_first("", found)
    assert Needs(1, 1, 1, 1, None, "cpu").fits


def test_loading_asks_before_memory_is_emptied(make_app: Callable[..., App], folder: Path, long_text: str) -> None:
    app = make_app()
    visit = app.visits.get("a")
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    old, form = app.engine.model, settings.form_values(Setup(model=str(folder), capacity=3200))
    *_, (said, ask, *_) = settings.loading(app, visit, False, *form)
    assert said == ""
    assert "chunks in memory" in ask
    assert app.engine.model is old
    *_, (said, ask, now, memory, time) = settings.loading(app, visit, True, *form)
    assert "Loaded:" in said
    assert ask == ""
    assert app.engine.model is not old
    assert "3,200 tokens" in now
    assert "Model" in memory
    assert "Ask a question" in time


def test_a_failure_is_shown_where_it_was_made(make_app: Callable[..., App]) -> None:
    app = make_app()
    form = settings.form_values(Setup(model="./no/such/folder"))
    *_, (said, ask, now, *_) = settings.loading(app, app.visits.get("a"), False, *form)
    assert "There is no folder" in said
    assert ask == ""
    assert "hashing" in now


def test_a_public_app_shows_what_it_has_and_loads_nothing(make_app: Callable[..., App]) -> None:
    app = make_app(host="0.0.0.0")
    *_, last = settings.loading(app, app.visits.get("a"), True, *settings.form_values(Setup()))
    assert "allow-changes on" in last[0]
    assert "allow-changes on" in settings.weighed(app, *settings.form_values(Setup()))


def test_links_fill_in_the_form_and_load_nothing(make_app: Callable[..., App]) -> None:
    app = make_app()
    (model, *_, said), brought = settings.arrive(app, {"model": "a/b", "__theme": "dark"})
    assert (model, brought) == ("a/b", True)
    assert "Nothing is loaded" in said
    (model, *_, said), brought = settings.arrive(app, {"__theme": "dark"})
    assert (model, said, brought) == ("bundled", "", False)
    (model, *_, said), brought = settings.arrive(app, {"top_k": "8", "polcy": "<script>"})
    assert (model, brought) == ("bundled", True)
    assert "polcy" in said
    assert app.switch.state is None


def test_progress_and_failure_of_switching_in_words() -> None:
    engine = SimpleNamespace(state=LoadState(ready=True))
    switch: Any = SimpleNamespace(state=None, engine=engine)
    assert settings_pieces.switching(switch) == ""
    switch.state = LoadState(0.4, "Loading <x>")
    assert "Loading 40%" in settings_pieces.switching(switch)
    assert "&lt;x&gt;" in settings_pieces.switching(switch)
    switch.state = LoadState(error=ModelError("Gone", "Here", "Look"))
    assert "goes on serving" in settings_pieces.switching(switch)


def test_bars_tell_memory_and_time(make_app: Callable[..., App], long_text: str) -> None:
    app = make_app()
    visit, other = app.visits.get("a"), app.visits.get("b")
    assert time_split(visit) == []
    for each in (visit, other):
        reading.add_text(each, long_text, "Log", Limits())
        list(reading.read_all(each))
    list(asking.ask(visit, "Where was the lantern?", AskOptions(max_tokens=4)))
    found = resources(app.engine, list(app.visits), visit)
    assert found is not None
    assert found.weights == app.engine.model.parameters_bytes()
    assert 0 < found.bank < found.banks
    assert "Other visitors" in settings_pieces.memory_bar(found)
    split = time_split(visit)
    assert [name for name, _ in split] == ["embed", "search", "gather", "prefill", "decode"]
    assert sum(seconds for _, seconds in split) > 0
    assert "decode" in settings_pieces.time_bar(split)


def test_controls_of_other_tabs_follow_the_model(make_app: Callable[..., App]) -> None:
    app = make_app(capacity=3200, policy="lru")
    assert settings_page.of_the_model(app) == [3, 3200, "lru"]


@pytest.mark.parametrize(("top_k", "shown"), [(24, 24), (40, 32)])
def test_as_many_chunks_as_a_model_retrieves_can_be_asked_for(
    make_app: Callable[..., App], top_k: int, shown: int
) -> None:
    app = make_app()
    app.engine.model.config = app.engine.model.config.replace(top_k=top_k)
    value = settings_page.of_the_model(app)[0]
    with gr.Blocks():
        slider = ask_controls.build()[2]
    assert (value, slider.preprocess(value)) == (shown, shown)


def test_more_chunks_than_allowed_are_refused_of_the_model_s_own_number_too(make_app: Callable[..., App]) -> None:
    app = make_app()
    app.engine.model.config = app.engine.model.config.replace(top_k=40)
    visit = app.visits.get("a")
    with pytest.raises(ConfigError, match="Retrieving 40 chunks"):
        list(asking.ask(visit, "Why?", AskOptions()))


def test_no_tab_tells_of_a_memory_that_another_model_took_away(make_app: Callable[..., App], long_text: str) -> None:
    from app.build import build

    app = make_app()
    visit = app.visits.get("a")
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    list(asking.ask(visit, "Where was the lantern?", AskOptions(max_tokens=2)))
    wanted = {"ask-documents", "attention-answer", "shaded", "lab-four", "needle-document"}
    redrawn = [fn for fn in build(app).fns.values() if wanted <= {each.elem_id for each in fn.outputs}]
    assert len(redrawn) == 3, "when this page loads a model, or is sure to, and when another one did"

    def shown(name: str) -> Any:
        values = redrawn[-1].fn(SimpleNamespace(session_hash="a"))
        return dict(zip([each.elem_id for each in redrawn[-1].outputs], values, strict=True))[name]

    for name in wanted:
        assert shown(name) == gr.skip(), "what is chosen stays as long as the model does"
        visit.stale = True
        assert shown(name) != gr.skip()
    visit.start_over()
    assert (menu := shown("ask-documents")).value == menu.choices == []
    for name in ("attention-answer", "needle-document"):
        visit.stale = True
        assert (menu := shown(name)).value is None and menu.choices == []
    visit.stale = True
    assert shown("lab-four") == lab_pieces.empty("ways")
