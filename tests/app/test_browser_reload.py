"""A page that is loaded again, left and come back to, duplicated, or far away: it keeps what is its own and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.app.test_browser import (
    FACT,
    PATIENCE,
    Seen,
    address,
    ask,
    browser,
    log_book,
    open_page,
    seen,
    tiny_folder,
    upload,
)

__all__ = ["address", "browser", "seen", "tiny_folder"]
pytestmark = pytest.mark.browser
# A network that brings the end of the stream of events only after the number of a question that was asked meanwhile.
LATE_END = """
const plain = window.fetch.bind(window);
const joined = new Promise((tell) => { window.joined = tell; });
window.fetch = async (...given) => {
  const response = await plain(...given);
  const address = String(given[0].url ?? given[0]);
  if (address.includes('/queue/join') && window.asked) setTimeout(window.joined, 300);
  if (!address.includes('/queue/data')) return response;
  const late = new TransformStream({
    async transform(chunk, controller) {
      if (window.reading && new TextDecoder().decode(chunk).includes('close_stream')) {
        window.reading = false;
        window.heldBack = true;
        await joined;
      }
      controller.enqueue(chunk);
    },
  });
  return new Response(response.body.pipeThrough(late), response);
};
"""
QUESTION = "Where did the brass lantern of Ottoline Varga stand?"


def test_a_reload_in_the_middle_loses_nothing(browser: Any, address: str, seen: Seen, tmp_path: Path) -> None:
    page = open_page(browser, address, seen)
    upload(page, tmp_path, "long.txt", log_book(4_000))
    page.wait_for_selector(".ml-is-waiting")
    page.click("#read")
    page.wait_for_selector(".ml-is-reading .ml-bar i", state="attached")
    page.reload()
    page.wait_for_selector(".ml-is-reading, .ml-is-done")
    page.wait_for_selector(".ml-is-done")  # it goes on by itself

    ask(page, QUESTION)
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector(".ml-is-done")
    page.get_by_role("tab", name="Ask").click()
    page.wait_for_selector("#evidence .ml-hit")
    assert QUESTION in page.inner_text("#chat")
    page.close()
    # What the closing page had begun to ask is broken off, which the browser says aloud.
    seen.errors[:] = [said for said in seen.errors if "abort" not in said.lower() and "Connection" not in said]
    assert seen == Seen()


def new_page(context: Any, address: str) -> Any:
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    page.wait_for_selector("#engine .ml-dot")
    return page


def test_a_duplicated_tab_begins_empty(browser: Any, address: str, tmp_path: Path) -> None:
    context = browser.new_context()
    first = new_page(context, address)
    upload(first, tmp_path, "private.txt", FACT)
    first.wait_for_selector(".ml-is-waiting")
    ticket = first.evaluate("sessionStorage.getItem('memlong-visit')")
    # What a browser does when it duplicates a tab.
    context.add_init_script(
        f"if (!sessionStorage.getItem('memlong-visit')) sessionStorage.setItem('memlong-visit', '{ticket}')"
    )
    second = new_page(context, address)
    second.wait_for_function(f"sessionStorage.getItem('memlong-visit') !== '{ticket}'")
    upload(second, tmp_path, "other.txt", "Another text.")
    second.wait_for_selector(".ml-is-waiting")
    assert second.locator(".ml-card").count() == 1, "it has its own document, and not the first tab's"
    assert "other" in second.inner_text("#shelf")
    assert "private" in first.inner_text("#shelf")
    context.close()


def test_a_question_is_heard_of_though_the_stream_of_events_ends_as_it_is_asked(
    browser: Any, address: str, seen: Seen, tmp_path: Path
) -> None:
    page = open_page(browser, address, seen, before=LATE_END)
    upload(page, tmp_path, "short.txt", FACT)
    page.wait_for_selector(".ml-is-waiting")
    page.evaluate("window.reading = true")
    page.click("#read")
    page.wait_for_function("window.heldBack")
    page.evaluate("window.asked = true")
    ask(page, QUESTION)
    page.wait_for_selector("#evidence .ml-hit")
    ask(page, "And who is Ottoline Varga?")  # the streams that come after are heard of as well
    page.wait_for_function("document.querySelectorAll('#chat .bot.message').length === 2")
    page.close()
    assert seen == Seen()
