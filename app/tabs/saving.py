"""Buttons that make a file and save it: one click does both, with what is there at that moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

import gradio as gr

# The file is in the hidden button a moment after the event that made it.
_CLICK = """() => { setTimeout(() => {
  const e = document.querySelector('#%s');
  (e?.matches('a,button') ? e : e?.querySelector('a,button'))?.click();
}, 400); }"""


class Saver(NamedTuple):
    """A button, and a hidden one that holds its file: gradio's own saves what was made by the click before."""

    button: gr.Button
    file: gr.DownloadButton

    def on_click(self, make: Callable[..., str], busy: gr.HTML, inputs: Any = None) -> None:
        """Have a click call ``make``, which returns the path of a file, and save that file.

        ``busy``: an output that stays as it is. The page shows that it works by its outputs, and a hidden one shows
        nothing.
        """
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

        @wraps(make)
        def file_alone(*given: Any) -> list[Any]:
            return [make(*given), gr.skip()]

        made = self.button.click(file_alone, inputs, [self.file, busy], **quiet)
        made.then(None, None, None, js=_CLICK % self.file.elem_id, **quiet)


def saver(words: str, elem_id: str, label: str = "") -> Saver:
    """Lay out a small button that saves a file."""
    button = gr.Button(words, size="sm", scale=0, min_width=90, elem_id=elem_id)
    return Saver(button, gr.DownloadButton(label or words, visible="hidden", elem_id=f"{elem_id}-file"))
