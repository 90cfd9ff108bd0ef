"""Make the pictures of ``docs/screenshots/`` anew: ``make screenshots``.

Starts the app with the bundled model and a bank too small for its short sample, reads the sample, asks a question,
and takes every tab that the page has, wide and narrow, light and dark.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
OUT = Path(__file__).resolve().parent / "screenshots"
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
    "--disable-background-networking --disable-component-update"
).split()
VIEWS = {"light": (1440, "light"), "dark": (1440, "dark"), "phone": (390, "light"), "phone-dark": (390, "dark")}
QUESTION = "What was the name of the reef that the Corisande struck?"
PATIENCE = 300_000  # milliseconds; only ends a broken run


def main() -> None:
    """Start the app, walk its tabs, write one PNG a tab and view."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet = {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    with tempfile.TemporaryDirectory() as uploads:
        server = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), "--capacity", "7680"],
            cwd=ROOT,
            env={**os.environ, **quiet, "GRADIO_TEMP_DIR": uploads},
        )
        try:
            walk(f"http://127.0.0.1:{port}/", server)
        finally:
            server.terminate()
            server.wait()


def walk(address: str, server: subprocess.Popen[bytes]) -> None:
    """Take all pictures of a running app."""
    while not _answers(address):
        if server.poll() is not None:
            raise SystemExit("The app ended by itself; its output is above.")
        time.sleep(0.3)
    browser_path = next(found for name in ("chromium", "google-chrome") if (found := shutil.which(name)))
    OUT.mkdir(exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        prepare(page)
        names = tabs(page)
        for view, (width, theme) in VIEWS.items():
            page.set_viewport_size({"width": width, "height": 900})
            page.evaluate("(dark) => document.body.classList.toggle('dark', dark)", theme == "dark")
            for name in names:
                open_tab(page, name)
                if name == "Train":
                    page.wait_for_selector("#command .ms-pre")  # it comes from the training program, seconds later
                page.wait_for_timeout(2000)  # figures draw themselves after their data came
                page.evaluate("window.dispatchEvent(new Event('resize'))")  # those of another width fit themselves in
                page.wait_for_timeout(500)
                small(page.screenshot(full_page=True), OUT / f"{name.lower()}-{view}.png")
        browser.close()


def small(png: bytes, path: Path) -> None:
    """Write a picture with 128 colours: a page has few, and every clone carries these files."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128).save(path, optimize=True)


def prepare(page: Any) -> None:
    """Read the short sample and ask a question about it."""
    page.wait_for_selector("#engine .ml-dot")
    page.locator("[data-act=sample]").first.click()
    page.wait_for_selector("[data-act=ask-tab]")
    open_tab(page, "Ask")
    page.locator("#question textarea").fill(QUESTION)
    page.locator("#send").click()
    page.wait_for_selector("#evidence .ml-facts")
    hits = page.locator("#evidence .ml-hit")
    telling = hits.filter(has_text="says the same words")
    (telling if telling.count() else hits).first.click()
    page.wait_for_selector("#reader #passage")
    open_tab(page, "Memory")
    page.wait_for_selector("#memory-map .mm-legend li")  # it has cells now; a key pressed before chooses nothing
    cells = page.locator("#memory-map .mm-cells")
    cells.focus()
    cells.press("Enter")
    page.wait_for_selector("#life .mm-life")
    open_tab(page, "Attention")
    page.wait_for_selector("#attention-said .ma-words")  # a chunk is chosen now
    page.locator("#shade").click()
    page.wait_for_function("document.querySelector('#shaded .ma-chunk') && !document.querySelector('#shaded .ml-bar')")


def tabs(page: Any) -> list[str]:
    """Return the names of all tabs, those in the menu of a narrow page included."""
    names = "#tabs button[role=tab], #tabs .overflow-dropdown button"
    found = page.locator(names).evaluate_all("(tabs) => tabs.map((tab) => tab.textContent.trim())")
    return list(dict.fromkeys(name for name in found if name))


def open_tab(page: Any, name: str) -> None:
    """Open a tab, through the menu where the page is too narrow for it."""
    tab = page.get_by_role("tab", name=name, exact=True).first
    if not tab.is_visible():
        page.locator(".overflow-menu > button").first.click()
        page.locator(".overflow-dropdown button", has_text=name).first.click()
        return
    tab.click()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


if __name__ == "__main__":
    main()
