"""The tabs Settings and Train in a real browser: links, loading in place, and a run from start to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.app.test_browser import Seen, ask, browser, open_page, seen, serve, tiny_folder, upload

__all__ = ["browser", "seen", "tiny_folder"]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def other_folder(tiny_llama: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    tiny_llama(layers=6, hidden=64).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def address(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = tmp_path_factory.mktemp("data")
    options = ["--model", str(tiny_folder), "--retriever", "hashing", "--capacity", "4096", "--data-dir", str(data)]
    yield from serve(options, tmp_path_factory.mktemp("server"))


def says(page: Any, selector: str, words: str) -> None:
    """Wait until a part of the page says something."""
    page.wait_for_function(
        "([selector, words]) => document.querySelector(selector)?.innerText.includes(words)", arg=[selector, words]
    )


def read_log(browser: Any, address: str, seen: Seen, folder: Path) -> Any:
    """Open a page and read a document there."""
    page = open_page(browser, address, seen)
    upload(page, folder, "log.txt", "The harbour master kept a ledger of every ship. " * 60)
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-done")
    return page


def test_a_link_fills_in_the_form_and_another_model_is_loaded(
    browser: Any, address: str, seen: Seen, other_folder: Path, tmp_path: Path
) -> None:
    page = read_log(browser, address, seen, tmp_path)
    other = read_log(browser, address, seen, tmp_path)
    other.get_by_role("tab", name="Memory").click()
    says(other, "#memory-head", "in memory")
    page.get_by_role("tab", name="Settings").click()
    says(page, "#loaded", "1-3")
    page.fill("#model textarea, #model input", str(other_folder))
    page.click("#estimate")
    says(page, "#settings-said", "It fits")
    page.click("#share")
    page.wait_for_selector("#setup-link")
    assert "It fits" in page.inner_text("#settings-said"), "making a link takes nothing away"
    page.click("#load")
    says(page, "#settings-ask", "This empties")
    page.click("#settings-ask [data-act=keep]")
    page.wait_for_selector("#settings-ask [data-act=keep]", state="detached")
    says(page, "#loaded", "1-3")
    page.click("#load")
    page.click("#settings-ask [data-act=load]")
    says(page, "#settings-said", "Loaded:")
    says(page, "#loaded", "2-5")
    says(other, "#memory-head", "Memory was emptied")
    says(other, "#chunk-said", "No chunks")
    other.close()
    page.get_by_role("tab", name="Read").click()
    page.wait_for_selector(".ml-is-waiting")
    assert "tokens" in page.inner_text(".ml-is-waiting")
    page.close()

    page = open_page(browser, address, seen, query="?__theme=dark&model=./gone&top_k=7")
    says(page, "#settings-said", "Nothing is loaded yet")
    assert page.input_value("#setup-top-k input") == "7"
    page.click("#load")
    says(page, "#settings-said", "There is no folder")
    says(page, "#loaded", "2-5")
    page.click("#share")
    page.wait_for_selector("#setup-link")
    assert "top_k=7" in page.input_value("#setup-link textarea, #setup-link input")
    page.close()
    assert seen == Seen()


def test_a_page_left_open_tells_nothing_of_a_memory_that_is_gone(
    browser: Any, address: str, seen: Seen, other_folder: Path, tmp_path: Path
) -> None:
    other = open_page(browser, address, seen)
    other.get_by_role("tab", name="Lab").click()
    other.fill("#lab-question textarea", "Where is the ledger?")
    other.click("#lab-ask")
    says(other, "#lab-four", "Nothing has been read")
    other.get_by_role("tab", name="Read").click()
    upload(other, tmp_path, "log.txt", "The harbour master kept a ledger of every ship. " * 60)
    other.wait_for_selector(".ml-is-waiting")
    other.click("#read")
    other.wait_for_selector(".ml-is-done")
    other.get_by_role("tab", name="Lab").click()
    says(other, "#lab-four", "ask a question about it here")
    other.click("#lab-ask")
    other.wait_for_selector("#lab-four .lab-found")
    ask(other, "Where is the ledger?")
    other.click("#ask-settings button")
    other.click("#ask-documents input")
    other.keyboard.press("Enter")
    other.wait_for_selector("#ask-documents .token")
    other.get_by_role("tab", name="Attention").click()
    other.wait_for_selector("#attention-said .ma-words")

    page = open_page(browser, address, seen)
    page.get_by_role("tab", name="Settings").click()
    page.fill("#model textarea, #model input", str(other_folder))
    page.click("#load")
    page.click("#settings-ask [data-act=load]")
    says(page, "#settings-said", "Loaded:")
    page.close()
    says(other, "#attention-said", "No answer to look into yet")
    other.get_by_role("tab", name="Lab").click()
    says(other, "#lab-four", "ask a question about it here")
    other.get_by_role("tab", name="Ask").click()
    other.wait_for_selector("#ask-documents .token", state="detached")
    other.close()
    assert seen == Seen()


def test_a_run_is_started_told_to_have_failed_and_found_by_another_page(browser: Any, address: str, seen: Seen) -> None:
    page = open_page(browser, address, seen)
    page.get_by_role("tab", name="Train").click()
    says(page, "#command", "python -m training run tiny")
    assert "Asking" not in page.inner_text("#recipe-purpose")
    page.fill("#overrides textarea", "stps=3")
    page.press("#overrides textarea", "Tab")
    says(page, "#train-said", "Did you mean 'steps'?")
    page.fill("#overrides textarea", "data=./gone")
    page.press("#overrides textarea", "Tab")
    says(page, "#command", "data=./gone")
    page.click("#start-run")
    says(page, "#run-state", "Starting")
    page.close()
    page = open_page(browser, address, seen)
    page.get_by_role("tab", name="Train").click()
    says(page, "#run-state", "Ended before the first step")
    assert page.is_enabled("#resume-run")
    assert page.is_disabled("#stop-run")
    page.close()
    assert seen == Seen()


@pytest.mark.parametrize("tab", ["Train", "Settings"])
def test_the_tabs_fit_a_phone(browser: Any, address: str, seen: Seen, tab: str) -> None:
    page = open_page(browser, address, seen, 390, "?__theme=dark")
    page.click(".overflow-menu > button")
    page.locator(".overflow-dropdown button").filter(has_text=tab).click()
    page.wait_for_selector("#command .ms-pre" if tab == "Train" else "#load")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
    assert seen == Seen()
