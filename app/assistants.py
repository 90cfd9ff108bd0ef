"""What assistants (MCP clients) send and get, where gradio's own server hands on Python's words for it."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from app.text import shorten
from memlong.errors import DocumentError


def speak_plainly(server: Any) -> None:
    """Have gradio's server for assistants refuse files in words and answer in JSON, from now on.

    Args:
        server: gradio's module ``mcp``, whose own server decodes whatever follows a comma, and answers with ``repr``.
    """

    class PlainServer(server.GradioMCPServer):  # type: ignore[misc]
        def convert_strings_to_filedata(self, value: Any, filedata_positions: list[list[str | int]]) -> Any:
            for place in filedata_positions:
                require_file(_at(value, place))
            return super().convert_strings_to_filedata(value, filedata_positions)

        def postprocess_output_data(self, data: Sequence[Any], root_url: str) -> list[Any]:
            told = [json.dumps(each, ensure_ascii=False) if isinstance(each, dict | list) else each for each in data]
            return list(super().postprocess_output_data(told, root_url))

    server.GradioMCPServer = PlainServer


def require_file(given: Any) -> None:
    """Raise DocumentError for a file that is neither an address nor a whole data: address."""
    if not isinstance(given, str) or given.startswith(("http://", "https://")):
        return
    head, comma, data = given.partition(",")
    if not head.startswith("data:"):
        what, allowed = (
            f"The file {shorten(given, 100)!r}",
            "The address of a file sent to this app, or a data: address",
        )
        raise DocumentError(what, allowed, "POST the file to /gradio_api/upload, and send its address")
    try:
        base64.b64decode(data, validate=True)
        whole = bool(comma) and head.endswith(";base64")
    except ValueError:  # also binascii's, and letters beyond ASCII
        whole = False
    if not whole:
        what = f"The address {shorten(given, 60)}"
        raise DocumentError(
            what, "data:text/plain;base64, and the whole file in base64", "Encode it anew, with padding"
        )


def _at(value: Any, place: Sequence[str | int]) -> Any:
    """Return what stands at a place of nested values, None where it is left out."""
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
