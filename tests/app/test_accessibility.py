"""Every tab of the page, wide and narrow, light and dark: no serious fault, nothing cut off, nothing fetched elsewhere.

The faults are found by axe-core, which comes with a package and is put into the page as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_browser import (
    ROOT,
    Seen,
    browser,
    bundled_is_here,
    log_book,
    number,
    open_page,
    seen,
    serve,
    skipping,
    tiny_folder,
    upload,
)

__all__ = ["browser", "seen", "tiny_folder"]
pytestmark = pytest.mark.browser
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")

QUESTION = "What is the name of the lighthouse cat?"
SAMPLE = ROOT / "assets" / "samples" / "seventh-ledger.txt"
PROSE = 10_000  # characters of it, with the answer among them: all of it would add minutes to four walks
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def address(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on the bundled model; where its package is missing, on a tiny one."""
    options = [] if bundled_is_here() else ["--model", str(tiny_folder), "--retriever", "hashing"]
    yield from serve([*options, "--capacity", "2048"], tmp_path_factory.mktemp("server"))


def tab_names(page: Any) -> list[str]:
    """Return the names of all tabs, those in the menu of a narrow page included."""
    buttons = page.locator("#tabs button[role=tab], #tabs .overflow-dropdown button")
    names = buttons.evaluate_all("(tabs) => tabs.map((tab) => tab.textContent.trim())")
    return list(dict.fromkeys(name for name in names if name))


def open_tab(page: Any, name: str) -> None:
    """Open a tab with the keyboard, through the menu where the page is too narrow for it."""
    tab = page.get_by_role("tab", name=name, exact=True).first
    if not tab.is_visible():
        page.locator(".overflow-menu > button").first.press("Enter")
        tab = page.locator(".overflow-dropdown button", has_text=name).first
    tab.press("Enter")
    page.wait_for_selector(f"#tab-{name.lower()}", state="visible")
    # gradio shows a place holder, with a fault of its own, until the script that draws figures is there.
    page.wait_for_function(
        "![...document.querySelectorAll('[aria-label=\"Empty value\"]')].some((e) => e.offsetParent)"
    )


def faults(page: Any) -> list[str]:
    """Return every serious fault of the page as it stands, with the element that has it."""
    if not page.evaluate("'axe' in window"):  # half a megabyte, which takes a page as long as looking for faults
        page.evaluate(axe.Axe().axe_script)
    found = page.evaluate("axe.run({resultTypes: ['violations']}).then(({violations}) => violations)")
    return [
        f"{fault['id']}: {node['target']} {node['html'][:120]}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


# axe does not look at words of figures: those that are not in the colour that is checked against every ground.
_PALE = """() => {
  const box = Object.assign(document.createElement('i'), {style: 'color: var(--ml-soft)'});
  document.querySelector('.gradio-container').append(box);
  const soft = getComputedStyle(box).color;
  box.remove();
  // All but those that stand on a coloured cell, and those that appear under the pointer.
  const words = [...document.querySelectorAll('.js-plotly-plot svg text')];
  const seen = words.filter((each) => each.textContent && !each.closest('.textpoint, .hoverlayer'));
  return seen.filter((each) => getComputedStyle(each).fill !== soft).map((each) => each.textContent);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_no_tab_has_a_serious_fault(
    browser: Any, address: str, seen: Seen, tmp_path: Path, width: int, theme: str
) -> None:
    page = open_page(browser, address, seen, width, f"?__theme={theme}")
    names = tab_names(page)
    assert {"Read", "Ask", "Memory", "Attention"} <= set(names)
    found = {f"{name}, empty": faults(page) for name in names if open_tab(page, name) is None}
    open_tab(page, "Read")
    upload(page, tmp_path, "seventh-ledger.txt", SAMPLE.read_text("utf-8")[:PROSE])
    page.wait_for_selector(".ml-is-waiting")
    page.locator("#read").press("Enter")
    page.wait_for_selector(".ml-is-done")
    assert number(page.inner_text("#shelf"), r"([\d,]+) evicted") > 0
    open_tab(page, "Ask")
    page.fill("#question textarea", QUESTION)
    page.press("#question textarea", "Enter")
    page.wait_for_selector("#evidence .ml-facts")
    page.locator("#evidence .ml-hit").first.press("Enter")
    page.wait_for_selector("#reader #passage")
    open_tab(page, "Attention")
    page.wait_for_selector("#attention-said .ma-words")
    page.locator("#shade").press("Enter")
    page.wait_for_selector("#shaded .ma-chunk")
    page.wait_for_selector(".js-plotly-plot .cbaxis text", state="attached")
    for name in names:
        open_tab(page, name)
        found[name] = faults(page)
        assert page.evaluate(_PALE) == [], name
        assert skipping(page) == [], name
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than the page"
    page.close()
    assert {name: faulty for name, faulty in found.items() if faulty} == {}
    assert seen == Seen()


def test_a_fault_would_be_found(browser: Any, address: str, seen: Seen) -> None:
    page = open_page(browser, address, seen)
    page.evaluate("document.querySelector('#top').innerHTML += '<button></button><p style=\"color:#ddd\">Pale</p>'")
    assert {fault.split(":")[0] for fault in faults(page)} == {"button-name", "color-contrast"}
    page.close()


def test_whoever_goes_by_keyboard_sees_where_they_are(browser: Any, address: str, seen: Seen, tmp_path: Path) -> None:
    """Every stop of Tab has an outline, on every tab; no stop keeps the focus; and arrows go from tab to tab."""
    page = open_page(browser, address, seen)
    upload(page, tmp_path, "log-book.txt", log_book(40))
    page.wait_for_selector(".ml-is-waiting")
    page.locator("#read").press("Enter")
    page.wait_for_selector(".ml-is-done")
    for name in tab_names(page):
        open_tab(page, name)
        page.locator("#tab-read-button").focus()
        bare: list[Any] = []
        visits: Counter[tuple[Any, ...]] = Counter()
        while (stop := page.evaluate(_FOCUSED)) and stop[0] != "Use via API":
            bare += [] if stop[1] else [stop]
            visits[tuple(stop)] += 1
            assert visits[tuple(stop)] < 5, f"{name}: {stop} keeps the focus, alone or in a circle"
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):  # between two stops, as in a long menu
                page.keyboard.press("Tab")
        assert stop, f"{name}: the end of the page is not reached"
        assert bare == [], name
    page.locator("#tab-read-button").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tab-ask", state="visible")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.id") == "tab-settings-button"
    page.close()
    assert seen == Seen()


# What has the focus: its words, whether it or the frame around it has an outline, and where it is.
_FOCUSED = """() => {
  const e = document.activeElement;
  const outlined = (x) => getComputedStyle(x).outlineStyle !== 'none' && getComputedStyle(x).outlineWidth !== '0px';
  let seen = false;
  for (let x = e, i = 0; x && i < 4; x = x.parentElement, i++) seen ||= outlined(x);
  const box = e.getBoundingClientRect(), words = e.getAttribute('aria-label') || e.innerText || e.id || e.tagName;
  return [words.trim(), seen, e.closest('[id]')?.id, box.x, box.y];
}"""


def test_a_chunk_s_life_is_reached_by_the_keyboard(browser: Any, address: str, seen: Seen, tmp_path: Path) -> None:
    page = open_page(browser, address, seen)
    upload(page, tmp_path, "log-book.txt", log_book(110))
    page.wait_for_selector(".ml-is-waiting")
    page.locator("#read").press("Enter")
    page.wait_for_selector(".ml-is-done")
    open_tab(page, "Memory")
    page.wait_for_selector("#memory-map .mm-legend li")  # it has cells now; a key pressed before chooses nothing
    cells = page.locator("#memory-map .mm-cells")
    cells.focus()
    cells.press("End")
    cells.press("Enter")
    page.wait_for_selector("#life .mm-life")
    page.locator("#life .mm-does button").first.press("Enter")  # Pin, or Bring back, which pins too
    page.wait_for_selector("#life .mm-pinned")
    page.close()
    assert seen == Seen()
