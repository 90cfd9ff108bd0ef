"""The page in a real browser: a long document overflows a small bank, and everything about it can be seen.

The server is the real one, started as a person would, with a tiny random model (and once with the bundled one).
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")

ROOT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
]  # fmt: skip
PATIENCE = 180_000  # milliseconds; waits are for states of the page, this only ends a broken run
FACT = "The brass lantern of Ottoline Varga stood in the cellar of the customs house."
ATTACK = (
    "<img src='https://outside.invalid/x.png' onerror='document.title=\"owned\"'><b id='owned'>bold</b> {{7*7}} ${1+1}"
)


@dataclass
class Seen:
    """What the browser met: requests to other hosts, and errors of the page."""

    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("needs Chromium, and none is installed")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def tiny_folder(tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama(layers=4, hidden=32).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    options = ["--model", str(tiny_folder), "--retriever", "hashing", "--capacity", "2048", "--upload-mb", "1"]
    yield from serve(options, tmp_path_factory.mktemp("server"))


def serve(options: list[str], folder: Path) -> Iterator[str]:
    """Start ``app.py`` on a free port and yield its address; its output is shown when it does not come up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "log.txt").open("w+")
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "uploads"), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port), *options], cwd=ROOT, env=environment, stdout=log, stderr=log
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        while not answers(address):
            if server.poll() is not None:
                log.seek(0)
                pytest.fail(f"The app ended by itself:\n{log.read()}")
            time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        server.wait()
        log.close()


def skipping(page: Any) -> list[tuple[int, str]]:
    """Return the headings that can be seen and leave out a level, with their own: they say that one is missing."""
    script = """() => [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]
      .filter((e) => e.checkVisibility()).map((e) => [Number(e.tagName[1]), e.textContent])"""
    seen = [(0, ""), *((level, words) for level, words in page.evaluate(script))]
    assert len(seen) > 1
    return [after for before, after in itertools.pairwise(seen) if after[0] > before[0] + 1]


def bundled_is_here() -> bool:
    """Whether the app can start with the bundled model and no network."""
    from memlong.files import is_whole
    from memlong.model.bundled import NAME, packaged_gguf
    from memlong.paths import data_dir

    return is_whole(data_dir() / "models" / NAME) or packaged_gguf() is not None


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address) as reply:
            return reply.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def page(browser: Any, address: str, seen: Seen) -> Iterator[Any]:
    """A fresh page of the app with the model loaded; fails on requests to other hosts and on errors."""
    opened = open_page(browser, address, seen)
    yield opened
    opened.close()
    assert seen.outside == []
    assert seen.errors == []


def open_page(browser: Any, address: str, seen: Seen, width: int = 1440, query: str = "", before: str = "") -> Any:
    """Open a page; ``before``: JavaScript that runs in it before its own."""
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.add_init_script(before)
    page.set_default_timeout(PATIENCE)

    def note(request: Any) -> None:
        if not request.url.startswith((address, "data:", "blob:")):
            seen.outside.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("console", lambda said: seen.errors.append(said.text) if said.type == "error" else None)
    page.goto(address + query)
    page.wait_for_selector("#engine .ml-dot", state="attached")  # a link may open another tab than Read
    return page


def number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    assert found, f"{pattern!r} is not in {text!r}"
    return int(found[1].replace(",", ""))


def upload(page: Any, folder: Path, name: str, text: str | bytes) -> None:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    page.set_input_files("#upload input[type=file]", str(path))


def ask(page: Any, question: str) -> None:
    page.get_by_role("tab", name="Ask").click()
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    page.wait_for_selector("#evidence .ml-hit")
    page.wait_for_selector("#evidence .ml-facts")


def log_book(days: int = 400) -> str:
    lines = [f"On day {day} the harbour master wrote of wind {day * 7 % 13} and of port {day}." for day in range(days)]
    return "\n\n".join([ATTACK, *lines[: days // 2], FACT, *lines[days // 2 :]])


def test_a_long_document_overflows_the_bank_and_answers_show_their_evidence(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "log-book.txt", log_book())
    page.wait_for_selector(".ml-is-waiting")
    before = page.inner_text("#shelf")
    tokens, chunks = number(before, r"([\d,]+) tokens"), number(before, r"([\d,]+) chunks")
    assert chunks == -(-tokens // 256) > 8
    assert "times as large as the bank" in before
    page.click("#read")
    page.wait_for_selector(".ml-is-done")
    after = page.inner_text("#shelf")
    assert number(after, r"([\d,]+) chunks kept") == 8, "2,048 tokens are 8 chunks"
    assert number(after, r"([\d,]+) evicted") == chunks - 8
    assert f"of {chunks} chunks read" in page.inner_text("#bank-line")

    ask(page, "Where did the brass lantern of Ottoline Varga stand?")
    rows = page.locator("#evidence .ml-hit")
    assert 1 <= rows.count() <= 8
    for row in rows.all():
        text = row.inner_text()
        assert "log-book" in text
        counts = re.search(r"triggers\s+(\d+) → (\d+)", text)
        assert counts
        assert int(counts[2]) > int(counts[1])
        assert re.search(r"attention\s+\d+\.\d%", text)
    rows.first.click()
    page.wait_for_selector("#reader #passage")
    marked = page.inner_text("#reader #passage").strip()
    assert " ".join(rows.first.locator(".ml-snippet").inner_text().strip("… .").split()) in " ".join(marked.split())
    with page.expect_download() as saved:
        page.click("#save-md")
    assert "Ottoline Varga" in Path(saved.value.path()).read_text("utf-8"), "the first click saves what is there now"

    page.set_viewport_size({"width": 390, "height": 900})  # lines break elsewhere, and the passage is brought back
    page.wait_for_function(
        "() => { const paper = document.querySelector('#reader .ml-paper'), box = paper.getBoundingClientRect(),"
        " mark = paper.querySelector('#passage').getBoundingClientRect();"
        " return paper.dataset.width === String(paper.clientWidth) && mark.top >= box.top && mark.top < box.bottom; }"
    )
    page.set_viewport_size({"width": 1440, "height": 900})
    number_of_chunk = number(page.inner_text("#reader header"), r"chunk ([\d,]+)")
    page.click("#reader [data-act=life]")
    page.wait_for_selector(f"#life .mm-life[data-id='{number_of_chunk - 1}']")
    page.get_by_role("tab", name="Ask").click()
    page.click("#reader [data-act=layers]")
    page.wait_for_selector("#attention-said .ma-words")


def test_memory_tab_shows_what_left(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "log-book.txt", log_book())
    page.wait_for_selector(".ml-is-waiting")
    page.click(".ml-card [data-act=read]")
    page.wait_for_selector(".ml-is-done")
    gone = number(page.inner_text("#shelf"), r"([\d,]+) evicted")
    page.get_by_role("tab", name="Memory").click()
    page.wait_for_function(f"document.querySelector('#tab-memory').innerText.includes('{gone} evicted')")


def test_a_figure_is_saved_under_its_title(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "log-book.txt", log_book(40))
    page.wait_for_selector(".ml-is-waiting")
    page.click(".ml-card [data-act=read]")
    page.wait_for_selector(".ml-is-done")
    page.get_by_role("tab", name="Memory").click()
    button = "#tab-memory .js-plotly-plot .modebar-btn[data-title*=PNG]"
    page.wait_for_selector(button, state="attached")
    with page.expect_download() as saved:  # found and clicked in one step: a figure drawn anew has other buttons
        page.evaluate("(button) => document.querySelector(button).click()", button)
    assert saved.value.suggested_filename == "occupancy-and-evictions-over-time.png"


def test_text_of_strangers_is_never_run(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "attack.txt", ATTACK + "\n\nThe lantern stood in the cellar.")
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-done")
    ask(page, f"What is {ATTACK}?")
    page.click("#evidence .ml-hit")
    page.wait_for_selector("#reader #passage")
    assert page.locator("#owned").count() == 0
    assert page.title() != "owned"
    assert "<b id='owned'>" in page.inner_text("#chat")
    assert "{{7*7}} ${1+1}" in page.inner_text("#reader #passage")


def test_a_title_without_a_blank_widens_nothing_and_lines_run_their_own_way(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "x" * 90 + ".txt", f"{FACT}\n\nשלום עולם, זה טקסט מימין לשמאל.\n\n" + log_book(20))
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-done")
    page.set_viewport_size({"width": 390, "height": 900})
    ask(page, "Where did the brass lantern of Ottoline Varga stand?")
    page.click("#evidence .ml-hit")
    page.wait_for_selector("#reader #passage")
    for each in ("#evidence .ml-hit", "#reader header", "#reader .ml-paper"):
        assert page.locator(each).first.evaluate("(box) => box.scrollWidth <= box.clientWidth + 1"), each
    assert page.locator("#reader .ml-paper p").first.evaluate("(p) => getComputedStyle(p).unicodeBidi") == "plaintext"


def test_errors_are_shown_at_the_file(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "broken.pdf", b"%PDF-1.7 and nothing else")
    page.wait_for_selector(".ml-is-failed [role=alert]")
    said = page.inner_text(".ml-is-failed")
    assert "broken.pdf" in said
    assert len(re.findall(r"\.(?:\s|$)", said)) >= 3, "what was given, what is allowed, what to do"
    page.click(".ml-is-failed [data-act=remove]")
    page.wait_for_selector(".ml-is-failed", state="detached")


def test_a_file_that_is_too_large_says_so_and_holds_up_no_other(page: Any, tmp_path: Path) -> None:
    large, small = tmp_path / "large.txt", tmp_path / "small.txt"
    large.write_text("word " * 300_000)
    small.write_text("A private diary.")
    page.set_input_files("#upload input[type=file]", [str(large), str(small)])
    page.wait_for_selector(".ml-is-failed [role=alert]")
    page.wait_for_selector(".ml-is-waiting")
    said = page.inner_text(".ml-is-failed")
    assert "large.txt: The file has 1.5 MB. Files up to 1.0 MB can be read. Split it" in " ".join(said.split())
    assert "diary" not in said
    page.click(".ml-is-failed [data-act=remove]")
    page.wait_for_selector(".ml-is-failed", state="detached")
    box = page.locator("#upload button, #upload [role=button]").first
    box.evaluate(
        "(box) => { const held = new DataTransfer();"
        " held.items.add(new File(['x'.repeat(1100000)], 'dropped.txt'));"
        " held.items.add(new File(['A log.'], 'log.txt'));"
        " box.dispatchEvent(new DragEvent('drop', {dataTransfer: held, bubbles: true, cancelable: true})); }"
    )
    page.wait_for_selector(".ml-is-failed [role=alert]")
    assert "dropped.txt" in page.inner_text(".ml-is-failed")
    page.wait_for_function("document.querySelectorAll('.ml-is-waiting').length === 2")


def test_stop_keeps_what_was_read_and_resume_finishes(page: Any, tmp_path: Path) -> None:
    upload(page, tmp_path, "long.txt", log_book(4_000))
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-reading .ml-bar i[style*='width']")
    page.click("#stop-reading")
    page.wait_for_selector(".ml-is-stopped")
    page.wait_for_selector("#stop-reading:disabled")
    assert "Resume" in page.inner_text(".ml-is-stopped")
    page.click("[data-act=resume]")
    page.wait_for_selector(".ml-is-done")
    page.wait_for_selector("#stop-reading:disabled")


def test_two_visitors_do_not_see_each_other(browser: Any, address: str, seen: Seen, tmp_path: Path) -> None:
    one, other = open_page(browser, address, seen), open_page(browser, address, seen)
    upload(one, tmp_path, "private.txt", "A private diary.")
    one.wait_for_selector(".ml-is-waiting")
    assert "No documents yet" in other.inner_text("#shelf")
    assert "diary" not in other.content()
    one.close()
    other.close()
    assert seen == Seen()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1440, "light")])
def test_first_screen_fits_and_samples_are_one_click_away(
    browser: Any, address: str, seen: Seen, width: int, theme: str
) -> None:
    page = open_page(browser, address, seen, width, f"?__theme={theme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.locator("#samples button").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".ml-is-done")
    page.wait_for_selector("#read-questions button")
    # Found and clicked in one step: the end of reading may draw the questions anew between a press and its release.
    page.evaluate("document.querySelector('#read-questions button').click()")
    page.wait_for_selector("#evidence .ml-facts")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
    assert seen == Seen()


def test_a_phone_shows_how_far_a_sample_is_once_and_then_stays_where_it_is_put(
    browser: Any, address: str, seen: Seen
) -> None:
    page = open_page(browser, address, seen, 390)
    top = "document.querySelector('#shelf .ml-card').getBoundingClientRect().top"
    page.locator("#samples button").last.click()
    page.wait_for_selector(".ml-is-reading", state="attached")
    page.wait_for_function(f"0 <= {top} && {top} < window.innerHeight - 120")
    page.evaluate("window.scrollTo(0, 0)")
    said = page.inner_text(".ml-is-reading .ml-facts")
    page.wait_for_function("(said) => document.querySelector('.ml-card .ml-facts').innerText !== said", arg=said)
    assert page.evaluate("window.scrollY") == 0 and page.evaluate(top) > 780, "whoever looks elsewhere is left alone"
    page.click("#stop-reading")
    page.wait_for_selector(".ml-is-stopped, .ml-is-done")
    page.close()
    assert seen == Seen()


def test_bundled_model_answers_from_the_short_sample(
    browser: Any, seen: Seen, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if not bundled_is_here():
        pytest.skip("needs the bundled model's package (make setup), and it is not installed")
    for address in serve([], tmp_path_factory.mktemp("bundled")):
        page = open_page(browser, address, seen)
        page.locator("#samples button").first.click()
        page.wait_for_selector(".ml-is-done")
        ask(page, "What is the name of the lighthouse cat?")
        assert page.inner_text("[data-testid=bot]").strip()
        page.close()
    assert seen == Seen()
