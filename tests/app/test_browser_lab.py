"""The Lab in a real browser: every panel from its empty state to its picture, and Stop, with the bundled model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_accessibility import open_tab
from tests.app.test_browser import (
    FACT,
    Seen,
    ask,
    browser,
    bundled_is_here,
    log_book,
    number,
    open_page,
    seen,
    serve,
    skipping,
    upload,
)

__all__ = ["browser", "seen"]
pytestmark = pytest.mark.browser

QUESTION = "Where did the brass lantern of Ottoline Varga stand?"
PANELS = ("lab-policies", "lab-what-if", "lab-needle")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not bundled_is_here():
        pytest.skip("needs the bundled model's package (make setup), and it is not installed")
    yield from serve(["--capacity", "1024"], tmp_path_factory.mktemp("server"))  # four chunks


def unfold(page: Any) -> None:
    for panel in PANELS:
        page.locator(f"#{panel} .label-wrap").first.press("Enter")
        page.wait_for_selector(f"#{panel} .label-wrap.open")


def drawn(page: Any, plot: str, at_least: int) -> None:
    """Wait until a picture has so many traces, or bars of its only one."""
    page.wait_for_function(
        "([id, n]) => { const d = document.querySelector(`#${id} .js-plotly-plot`)?.data; "
        "return d && (d.length >= n || d[0]?.x?.length >= n); }",
        arg=[plot, at_least],
    )


def choose(page: Any, menu: str) -> str:
    """Take the first entry of a menu, and return its words."""
    page.click(f"#{menu} input")
    first = page.locator(f"#{menu} [role=option]").first
    words = str(first.inner_text())
    first.click()
    page.keyboard.press("Escape")
    return words


_NOTHING_TO_STOP = "[...document.querySelectorAll('[id^=lab-stop-]')].every((stop) => stop.disabled)"


def found(page: Any, place: str) -> str:
    """Return what an experiment found, once it is over."""
    page.wait_for_selector(f"#{place} .lab-found")
    page.wait_for_function(_NOTHING_TO_STOP)
    return str(page.inner_text(f"#{place} .lab-found"))


def no_wider(page: Any) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def triggers(page: Any) -> str:
    """Return what the Memory tab says of the bank, and how many events it has seen."""
    open_tab(page, "Memory")
    page.wait_for_selector("#tab-memory .mm-moment")
    return str(page.inner_text("#tab-memory .mm-moment"))


def read_log_book(page: Any, folder: Path) -> None:
    open_tab(page, "Read")
    upload(page, folder, "log-book.txt", log_book(110))
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-done")
    assert number(page.inner_text("#shelf"), r"([\d,]+) evicted") > 0


def compare_four_ways(page: Any) -> None:
    page.click("#lab-ask")
    assert "Memory" in found(page, "lab-four")
    assert page.locator("#lab-four .lab-card").count() == 4
    assert page.inner_text("#lab-four").count("a token)") == 4


# How far a table goes beyond its frame, and the names of the columns that are seen.
_TABLE = """() => {
  const frame = document.querySelector('#lab-policies-table .lab-scroll');
  const names = [...frame.querySelectorAll('th')].filter((each) => each.offsetParent);
  return [frame.scrollWidth - frame.clientWidth, names.map((each) => each.textContent)];
}"""


def replay(page: Any) -> None:
    page.click("#lab-replay")
    assert "with room for " in found(page, "lab-policies-said")
    drawn(page, "lab-recall", 5)
    drawn(page, "lab-course", 5)
    assert page.locator("#lab-policies-table tbody tr").count() >= 5
    beyond, columns = page.evaluate(_TABLE)
    assert beyond <= 0, "nothing hides behind a sideways scroll"
    assert {"Policy", "Held, reading", "Held, questions", "Regret"} <= set(columns)
    wide = page.viewport_size["width"] > 720
    assert ("Missed most" in columns, "Evicted" in columns) == (wide, wide)
    assert ("A wider screen also shows" in page.inner_text("#lab-policies-table")) != wide


def bring_one_back(page: Any) -> str:
    """Weigh the chunks of the newest answer, ask again with one that had left, and return its number."""
    page.click("#lab-weigh")
    assert "log-probability" in found(page, "lab-owed-said")
    drawn(page, "lab-owed", 2)
    out, back = choose(page, "lab-without"), choose(page, "lab-back")
    assert "score" in out and "harbour master" in back, "a chunk is named by where it is and how it begins"
    page.click("#lab-again")
    assert "the answer before has a log-probability of" in found(page, "lab-changed")
    assert f"chunk {back.split(' ')[0]} among them" in page.inner_text("#lab-changed")
    return back.split(" ")[0]


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_every_experiment_goes_from_its_empty_state_to_its_finding(
    browser: Any, address: str, seen: Seen, tmp_path: Path, width: int, theme: str
) -> None:
    page = open_page(browser, address, seen, width, f"?__theme={theme}")
    open_tab(page, "Lab")
    unfold(page)
    assert no_wider(page) and page.evaluate(_NOTHING_TO_STOP)
    page.fill("#lab-question textarea", QUESTION)
    page.click("#lab-ask")
    page.wait_for_selector("#lab-four .ml-error")
    assert "Nothing has been read yet" in page.inner_text("#lab-four")
    read_log_book(page, tmp_path)
    open_tab(page, "Ask")
    page.fill("#question textarea", QUESTION)
    page.press("#question textarea", "Enter")
    page.wait_for_selector("#evidence .ml-facts")
    before = triggers(page)
    open_tab(page, "Lab")
    compare_four_ways(page)
    replay(page)
    chunk_id = bring_one_back(page)
    assert skipping(page) == []
    assert triggers(page) == before, "no experiment left an event"
    open_tab(page, "Lab")
    page.wait_for_selector("#lab-back .token-remove")  # still chosen: a second choice would take it out
    page.click("#lab-keep")
    page.wait_for_selector("#lab-kept .lab-said")
    assert f"Chunk {chunk_id} is back in memory, and pinned" in page.inner_text("#lab-kept")
    assert triggers(page) != before, "this one was asked for"
    assert no_wider(page)
    page.close()
    assert seen == Seen()


def test_stop_leaves_what_was_found_and_no_progress(browser: Any, address: str, seen: Seen, tmp_path: Path) -> None:
    page = open_page(browser, address, seen)
    read_log_book(page, tmp_path)
    open_tab(page, "Lab")
    unfold(page)
    page.fill("#needle-sentence textarea, #needle-sentence input", FACT)
    page.fill("#needle-question textarea, #needle-question input", QUESTION)
    page.fill("#needle-expected textarea, #needle-expected input", "cellar")
    assert page.input_value("#needle-document input") == "log-book"
    page.click("#needle-run")
    page.wait_for_selector("#needle-said .ml-bar")
    page.wait_for_selector("#needle-tries li")
    box, stop = page.locator("#needle-run").bounding_box(), page.locator("#lab-stop-needle").bounding_box()
    assert abs(box["y"] - stop["y"]) < box["height"], "it is where the button was that began it"
    page.click("#lab-stop-needle")
    page.wait_for_function("document.querySelector('#needle-said').innerText.includes('Stopped')")
    page.wait_for_function(_NOTHING_TO_STOP)
    assert page.locator("#needle-said .ml-bar").count() == 0
    assert page.locator("#needle-tries li").count() >= 1
    drawn(page, "needle-grid", 1)
    # The place is free again, and so is the visitor's own question.
    page.click("#lab-replay")
    found(page, "lab-policies-said")
    ask(page, QUESTION)
    page.close()
    assert seen == Seen()
