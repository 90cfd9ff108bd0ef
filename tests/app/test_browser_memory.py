"""The Memory tab in a real browser: the map follows the replay slider cell by cell, and the rest when it rests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_accessibility import open_tab
from tests.app.test_browser import Seen, browser, log_book, number, open_page, seen, serve, tiny_folder, upload

__all__ = ["browser", "seen", "tiny_folder"]
pytestmark = pytest.mark.browser

SLIDER = "#replay input[type=range]"
PRESSES = 12


@pytest.fixture(scope="module")
def address(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ["--model", str(tiny_folder), "--retriever", "hashing", "--capacity", "2048"]
    options += ["--memory", "chunk_tokens=64 window_tokens=256"]
    yield from serve(options, tmp_path_factory.mktemp("server"))


def cells(page: Any) -> str:
    """Return the map's cells as they are painted, without the rings."""
    page.wait_for_timeout(100)  # a frame, and one more on a busy machine
    return str(page.evaluate("document.querySelector('#memory-map .mm-cells').toDataURL()"))


def shades_of_rings(page: Any) -> tuple[int, int]:
    """Return the darkest and the lightest grey that the rings around cells are painted in."""
    page.wait_for_timeout(100)
    low, high = page.evaluate(
        "() => { const each = document.querySelector('#memory-map .mm-marks');"
        " const {data} = each.getContext('2d').getImageData(0, 0, each.width, each.height);"
        " const greys = []; for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 250) greys.push(data[i]);"
        " return [Math.min(...greys), Math.max(...greys)]; }"
    )
    return low, high


def coloured(page: Any, name: str, words: str) -> None:
    page.locator("#map-colour").get_by_label(name, exact=True).click()
    page.wait_for_function(f"document.querySelector('#memory-map .mm-legend').innerText.includes('{words}:')")


def read_book(browser: Any, address: str, seen: Seen, folder: Path) -> Any:
    """Open a page and read a document there."""
    page = open_page(browser, address, seen)
    upload(page, folder, "log-book.txt", log_book())
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-done")
    return page


def read_and_look(browser: Any, address: str, seen: Seen, folder: Path) -> Any:
    """Open a page, read a document there, and wait for the tables of Memory."""
    page = read_book(browser, address, seen, folder)
    open_tab(page, "Memory")
    page.wait_for_function("document.querySelector('#chunk-said').innerText.includes('chunks')")
    return page


def test_the_map_follows_the_slider_and_the_tables_when_it_rests(
    browser: Any, address: str, seen: Seen, tmp_path: Path
) -> None:
    page = read_and_look(browser, address, seen, tmp_path)
    every = number(page.inner_text("#chunk-said"), r"of ([\d,]+) chunks")
    calls: list[str] = []
    page.on("request", lambda asked: calls.append(asked.url) if asked.url.endswith("/run/predict") else None)
    page.locator(SLIDER).focus()
    now = page.input_value(SLIDER)
    for _ in range(PRESSES):
        said = page.inner_text("#moment")
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("(said) => document.querySelector('#moment').innerText !== said", arg=said)
    assert int(page.input_value(SLIDER)) == int(now) - PRESSES
    page.wait_for_function(f"!document.querySelector('#chunk-said').innerText.includes('of {every} chunks')")
    assert len(calls) < 2 * PRESSES, "figures and tables did not follow every step"
    followed = cells(page)
    coloured(page, "Age", "age")
    assert cells(page) != followed
    coloured(page, "Trigger count", "trigger count")  # told whole again
    assert cells(page) == followed
    darkest, lightest = shades_of_rings(page)
    assert darkest < 0x40 and lightest > 0xD0, "a ring shows on a pale cell and on a dark one"
    for typed in ("99999", "-4"):  # a refusal would be an error of the page
        said = page.inner_text("#moment")
        page.fill("#replay input[type=number]", typed)
        page.wait_for_function("(said) => document.querySelector('#moment').innerText !== said", arg=said)
    for box in ("#chunk-page", "#log-page"):
        page.fill(f"{box} input", "-3")
        page.press(f"{box} input", "Tab")
        page.wait_for_function("(box) => document.querySelector(box + ' input').value === '1'", arg=box)
    page.click("#now")
    page.wait_for_function(f"document.querySelector('#chunk-said').innerText.includes('of {every} chunks')")
    assert cells(page) != followed
    page.close()
    assert seen == Seen()


def test_the_search_hears_what_is_pasted_and_what_is_taken_out(
    browser: Any, address: str, seen: Seen, tmp_path: Path
) -> None:
    page = read_and_look(browser, address, seen, tmp_path)
    every = page.inner_text("#chunk-said").strip()
    box = page.locator("#chunk-search").locator("input, textarea")
    box.focus()
    page.keyboard.insert_text("Ottoline Varga")  # as pasting does: no key is pressed
    page.wait_for_function("(said) => document.querySelector('#chunk-said').innerText.trim() !== said", arg=every)
    page.keyboard.press("Control+a")
    page.keyboard.press("Backspace")
    page.wait_for_function("(said) => document.querySelector('#chunk-said').innerText.trim() === said", arg=every)
    page.close()
    assert seen == Seen()


def test_figures_fit_a_page_that_was_turned_while_their_tab_was_closed(
    browser: Any, address: str, seen: Seen, tmp_path: Path
) -> None:
    page = read_book(browser, address, seen, tmp_path)
    for _ in range(2):  # figures are drawn once more at the second visit, and not at later ones
        page.click("#tab-memory-button")
        page.wait_for_function("document.querySelectorAll('#tab-memory .js-plotly-plot .bars .point').length > 0")
        page.wait_for_timeout(1500)
        page.click("#tab-settings-button")
    page.set_viewport_size({"width": 700, "height": 800})
    page.click("#tab-memory-button")
    page.wait_for_timeout(1500)
    widths = page.evaluate(
        "[...document.querySelectorAll('#tab-memory .js-plotly-plot')].map((f) => [f._fullLayout.width, f.clientWidth])"
    )
    assert widths and all(drawn == room < 700 for drawn, room in widths), widths
    page.close()
    assert seen == Seen()
