"""The page as gradio knows it: what is private, what programs can call, what never waits in a queue."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import reading
from app.context import App
from app.sessions import Visit
from app.settings import Settings
from memlong.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
gr = pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def page() -> Any:
    from app.build import build

    return build(App.make(Settings()))


def test_programs_see_six_names_and_nothing_else(page: Any) -> None:
    named = {name.lstrip("/") for name in page.get_api_info()["named_endpoints"]}
    assert named == {"upload", "ask", "memory_state", "trace", "compare", "policies"}
    assert page.get_api_info()["unnamed_endpoints"] == {}


def test_every_handler_of_the_page_is_private(page: Any) -> None:
    public = {fn.api_name for fn in page.fns.values() if fn.api_visibility == "public"}
    assert public <= {"upload", "ask", "memory_state", "trace", "compare", "policies", "leave"}


def test_every_control_has_an_output_by_which_the_page_shows_that_it_works(page: Any) -> None:
    """gradio marks outputs as awaited, which draws a line along the top; buttons and what is hidden bear no mark."""
    unmarked = (gr.State, gr.Timer, gr.Button, gr.Tabs, gr.DownloadButton, gr.UploadButton)
    outputs: dict[tuple[str, str], list[Any]] = {}
    for fn in page.fns.values():
        for number, event in fn.targets if fn.fn else ():
            control = page.blocks.get(number)
            if control is not None and not isinstance(control, gr.Timer):
                outputs.setdefault((control.elem_id, event), []).extend(fn.outputs)
    at_once = {("again-question", "input"), ("lab-question", "input"), ("chat", "like")}  # the browser shows these
    assert at_once <= set(outputs) and len(outputs) > 40
    silent = {
        control
        for control, found in outputs.items()
        if not any(each.visible is True and not isinstance(each, unmarked) for each in found)
    }
    assert silent == at_once


def test_the_script_of_figures_is_fetched_before_a_tab_needs_it(page: Any) -> None:
    assets = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    named = [fn.js for fn in page.fns.values() if isinstance(fn.js, str) and "PlotlyPlot-" in fn.js]
    assert len(named) == 1
    name = re.search(r"PlotlyPlot-[\w-]+\.js", named[0])
    assert name and (assets / name[0]).is_file()


def test_asking_shows_the_end_of_the_conversation(page: Any) -> None:
    ids = {each._id: each.elem_id for each in page.blocks.values() if getattr(each, "elem_id", None)}
    scrolling = [fn for fn in page.fns.values() if isinstance(fn.js, str) and "#chat" in fn.js]
    assert {ids.get(number) for fn in scrolling for number, _ in fn.targets} == {"question", "send", "ask-questions"}
    for fn in scrolling:
        (other,) = [each for each in page.fns.values() if each is not fn and set(each.targets) & set(fn.targets)]
        assert fn._id < other._id, "what is wired after the question waits for its answer"
    (name,) = {found for fn in scrolling for found in re.findall(r"#chat \.([\w-]+)", str(fn.js))}
    assets = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    assert any(name in each.read_text("utf-8") for each in assets.glob("Index-*.js")), "gradio's own box, by its class"


def test_a_cell_of_either_map_can_be_clicked_for_its_life(page: Any) -> None:
    ids = {each._id: each.elem_id for each in page.blocks.values() if getattr(each, "elem_id", None)}
    clicks = {ids.get(number): fn for fn in page.fns.values() for number, name in fn.targets if name == "click"}
    assert {"live-map", "memory-map"} <= {str(name) for name in clicks}, "the words above both maps say so"
    assert clicks["live-map"].fn is not None
    tabs, chunk_id, _ = clicks["live-map"].fn(SimpleNamespace(_data={"chunk_id": 7}))
    assert (tabs.selected, chunk_id) == ("memory", 7)


def test_an_idle_queue_looks_a_hundred_times_a_second_at_most(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        page._queue.stopped = len(looks) == 5

    monkeypatch.setattr("gradio.queueing.asyncio.sleep", sleep)
    monkeypatch.setattr(page._queue, "stopped", False)
    asyncio.run(page._queue.start_processing())
    assert len(looks) == 5
    assert min(looks) >= 0.01


def test_stopping_never_waits(page: Any) -> None:
    stops = [fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == "stop"]
    assert len(stops) >= 3, "Read, Ask and Attention"
    assert all(not fn.queue for fn in stops)


def test_what_is_wrong_is_said_where_it_was_done(page: Any) -> None:
    ids = {each._id: each.elem_id for each in page.blocks.values() if getattr(each, "elem_id", None)}
    told = {(ids.get(number), name): fn.outputs[5].elem_id for fn in page.fns.values() for number, name in fn.targets
            if len(fn.outputs) > 5 and fn.outputs[0].elem_id == "shelf"}  # fmt: skip
    assert told["samples", "click"] == told["upload", "upload"] == "added-said"
    assert told["paste-add", "click"] == "paste-said"
    assert told["read", "click"] == "read-said"
    assert told["bank-apply", "click"] == "bank-said"
    sharing = [fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ in ("share", "take")]
    fills = {(ids.get(number), name): [e.elem_id for e in fn.outputs] for fn in sharing for number, name in fn.targets}
    assert fills["share", "click"] == ["setup-link", "setup-file", "share-said"], "an estimate beside the form stays"
    assert fills["setup-upload", "upload"][-2:] == ["share-said", "settings-said"]


def test_a_settings_file_is_told_of_where_it_was_chosen(page: Any, tmp_path: Path) -> None:
    takes = [fn.fn for fn in page.fns.values() if fn.fn and [each.elem_id for each in fn.inputs] == ["setup-upload"]]
    (take,) = [fn for fn in takes if fn.__name__ == "take"]
    path = tmp_path / "settings.json"
    path.write_text('{"modell": "x"}')
    *_, told, said = take(str(path))
    assert "Did you mean" in told and said == gr.skip(), "what came of loading stays"
    path.write_text('{"model": "x"}')
    *_, told, said = take(str(path))
    assert "Filled in: the file" in told and said == "", "what was said before was of another form"


def test_stop_can_be_pressed_as_long_as_words_are_shaded(
    make_app: Callable[..., App], read: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.build import build

    app = make_app()
    monkeypatch.setattr(app.visits, "get", lambda key: read)
    (shade,) = [fn.fn for fn in build(app).fns.values() if fn.fn is not None and fn.fn.__name__ == "shade"]
    for chunk_id in (read.exchanges[0].evidence[0].chunk_id, 9_999):
        shown = list(shade(SimpleNamespace(session_hash="a"), 0, chunk_id, -1))
        assert [step[1].interactive for step in shown if step[1] != gr.skip()] == [True, False]


def test_an_idle_stop_button_is_told_so(make_app: Callable[..., App]) -> None:
    from app.build import build

    app = make_app()
    page, request = build(app), SimpleNamespace(session_hash="a")
    visit = app.visits.get("a")
    stops = {fn.outputs[-1].elem_id: fn.fn for fn in page.fns.values() if fn.fn and fn.fn.__name__ == "stop"}
    works = {"stop-answer": "answering", "stop-again": "answering", "stop-reading": "reading"}
    works |= {f"lab-stop-{name}": "experimenting" for name in ("ways", "policies", "owed", "changed", "needle")}
    for name, work in works.items():
        assert not stops[name](request)[-1].interactive
        setattr(visit, work, True)
        assert stops[name](request)[-1] == gr.skip(), "what is going on disables it when it has ended"
        setattr(visit, work, False)


def test_a_question_asked_again_on_memory_can_be_stopped_there(
    make_app: Callable[..., App], read: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.build import build

    app = make_app()
    monkeypatch.setattr(app.visits, "get", lambda key: read)
    page = build(app)
    (again,) = [fn.fn for fn in page.fns.values() if fn.fn and fn.fn.__name__ == "again" and fn.inputs]
    request, question = SimpleNamespace(session_hash="a"), read.exchanges[0].question
    running = again(request, question, None)
    assert next(running)[-1].interactive
    assert not any(step[-1].interactive for step in again(request, question, None)), "the second one is refused"
    assert not list(running)[-1][-1].interactive


def test_of_two_experiments_the_one_that_runs_can_be_stopped(
    make_app: Callable[..., App], read: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.build import build

    app = make_app()
    monkeypatch.setattr(app.visits, "get", lambda key: read)
    steps = {fn.outputs[-1].elem_id: fn.fn for fn in build(app).fns.values() if fn.fn and fn.fn.__name__ == "step"}
    request = SimpleNamespace(session_hash="a")
    running = steps["lab-stop-ways"](request, "Where did the brass lantern stand?", 8)
    assert next(running)[-1].interactive
    refused = list(steps["lab-stop-policies"](request, [0.5]))
    assert "An experiment is running" in refused[0][0] and not any(step[-1].interactive for step in refused)
    assert not list(running)[-1][-1].interactive
    kept = list(steps["lab-kept"](request, [1], []))
    assert "Chunk 1 is" in kept[0] and isinstance(kept[0], str), "gradio would show a list of one as a list"


def test_files_leave_their_box_before_they_are_opened(make_app: Callable[..., App], tmp_path: Path) -> None:
    from app.build import build

    (take,) = [fn for fn in build(make_app()).fns.values() if [each.elem_id for each in fn.inputs] == ["upload"]]
    assert take.fn is not None
    assert take.outputs[-1].elem_id == "upload"
    path = tmp_path / "a.txt"
    path.write_text("Some words.")
    shown = list(take.fn(SimpleNamespace(session_hash="a"), [str(path)]))
    assert "Opening" in shown[0][0]
    assert shown[0][-1] is None, "or they would come again with files that are dropped meanwhile"
    assert all(step[-1] == gr.skip() for step in shown[1:]), "by then other files may be in it"


def test_a_look_at_loading_does_not_empty_what_a_reloaded_page_got(make_app: Callable[..., App]) -> None:
    from app.build import build

    app = make_app()
    ticks = [fn for fn in build(app).fns.values() if [each.elem_id for each in fn.outputs][:2] == ["engine", "shelf"]]
    (look,) = [fn.fn for fn in ticks if fn.fn is not None and fn.fn.__name__ == "tick"]
    request = SimpleNamespace(session_hash="a")
    assert look(request)[1] == gr.skip(), "it may reach the page after what it had before"
    reading.add_text(app.visits.get("a"), "Some words.", "A note", reading.limits_of(app.settings))
    assert "A note" in look(request)[1]


def test_uploads_and_downloads_are_gone_within_hours(page: Any) -> None:
    every, age = page.delete_cache
    assert every + age <= 2 * 3600


def test_both_bins_of_the_conversation_empty_it(page: Any) -> None:
    clearing = [fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == "clear"]
    assert {name for fn in clearing for _, name in fn.targets} == {"click", "clear"}
    assert all(not fn.queue for fn in clearing)


def test_the_second_click_of_two_on_a_chunk_is_dropped(page: Any) -> None:
    acts = [fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == "act"]
    assert [fn.trigger_mode for fn in acts] == ["once"]


def test_what_comes_of_asking_again_leaves_the_chosen_question(page: Any) -> None:
    (again,) = [fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == "again" and fn.inputs]
    after = [fn for fn in page.fns.values() if fn.trigger_after == again._id]
    (own,) = [fn for fn in after if fn.inputs]
    assert "again-question" in [each.elem_id for each in own.inputs]
    (there,) = [fn for fn in after if not fn.inputs]
    assert {"chat", "stop-answer"} <= {each.elem_id for each in there.outputs}, "whoever waits for it on the tab Ask"


def test_opening_memory_anew_keeps_the_question_that_was_chosen(page: Any) -> None:
    tab, chosen = (
        next(block for block in page.blocks.values() if block.elem_id == name)
        for name in ("tab-memory", "again-question")
    )
    (keeps,) = [fn for fn in page.fns.values() if (chosen._id, "input") in fn.targets]
    (came,) = [fn for fn in page.fns.values() if (tab._id, "select") in fn.targets]
    assert keeps.fn is not None and keeps.fn("Why?") == "Why?"
    assert came.inputs[0] is keeps.outputs[0]


def test_a_run_is_started_after_the_form_was_filled_in(page: Any) -> None:
    lane = [fn for fn in page.fns.values() if fn.concurrency_id == "form of a run"]
    assert {fn.fn.__name__ for fn in lane if fn.fn is not None} == {"arrive", "choose", "start", "command"}
    assert {fn.concurrency_limit for fn in lane} == {1}


def test_the_form_of_a_run_is_described_as_it_was_left_last(page: Any) -> None:
    describing = [fn for fn in page.fns.values() if fn.fn is not None and fn.fn.__name__ == "describe"]
    assert [(fn.trigger_mode, len(fn.targets)) for fn in describing] == [("always_last", 2)]


def test_long_work_of_one_visitor_does_not_hold_up_another(page: Any) -> None:
    # Runs are started by the machine's owner, whose form is answered in the order it was used.
    waiting = [
        fn for fn in page.fns.values() if fn.queue and fn.fn is not None and fn.concurrency_id != "form of a run"
    ]
    assert waiting
    assert all(fn.concurrency_limit in (None, "default") for fn in waiting)


def test_refusals_reach_programs_as_they_are_and_leave_no_traceback() -> None:
    from app.build import in_plain_words

    error = ConfigError("top_k=-3", "A whole number", "Raise it")

    def once(request: gr.Request) -> None:
        raise error

    def steps(request: gr.Request) -> Iterator[int]:
        yield 1
        raise error

    for handler in (once, steps):
        plain = in_plain_words(handler)
        assert inspect.signature(plain) == inspect.signature(handler), "gradio hands over what it finds there"
        assert inspect.isgeneratorfunction(plain) == inspect.isgeneratorfunction(handler)
        with pytest.raises(gr.Error) as caught:
            list(plain(None) or ())
        assert caught.value.message == str(error)
        assert not caught.value.print_exception


def test_every_handler_of_the_page_refuses_in_plain_words(page: Any) -> None:
    handlers = [fn.fn for fn in page.fns.values() if fn.fn is not None]
    assert len(handlers) > 40
    assert all(hasattr(handler, "__wrapped__") for handler in handlers)


def test_page_is_built_without_torch_and_without_analytics() -> None:
    program = (
        "import sys\nfrom app.context import App\nfrom app.settings import Settings\nfrom app.build import build\n"
        "build(App.make(Settings()))\nprint('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.split()[-1] == "False"


def test_the_theme_keeps_every_colour_of_its_own_in_both_modes() -> None:
    from app import theme

    made = theme.theme()
    for name in ("background_fill_primary", "background_fill_secondary", "table_even_background_fill"):
        assert getattr(made, name).startswith("var(--ml-") and getattr(made, name + "_dark").startswith("var(--ml-")


def test_style_has_both_themes_and_no_outside_address() -> None:
    from app import theme

    css = theme.css()
    assert ":root{--ml-" in css
    assert ".dark{--ml-" in css
    assert "http" not in css
    assert "@import" not in css


@pytest.mark.parametrize("name", ["memory", "evicted", "pinned", "local", "soft", "text", "bad"])
@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_read_on_every_ground(name: str, dark: bool) -> None:
    from app.theme import MEANINGS, SURFACES

    every = {**MEANINGS, **SURFACES}
    for ground in ("page", "card"):
        assert contrast(every[name][dark], every[ground][dark]) >= 4.5, ground


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours as the accessibility guidelines of the web define it."""
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_help_is_printed_without_starting_anything() -> None:
    done = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--data-dir" in done.stdout
    assert "MEMLONG_DATA_DIR" in done.stdout


def test_wrong_settings_end_with_a_message() -> None:
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "MEMLONG_PORT": "many"},
    )  # fmt: skip
    assert done.returncode == 2
    assert "MEMLONG_PORT=many" in done.stderr
    assert "Traceback" not in done.stderr
