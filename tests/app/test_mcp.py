"""The app's API as tools for assistants (MCP), through a client of that protocol, and what only such clients need."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from app import api, assistants
from app.settings import Settings
from memlong.errors import ConfigError, DocumentError
from tests.app.test_browser import log_book, serve, tiny_folder
from tests.app.test_client import NAMES

__all__ = ["tiny_folder"]
HERE, EVERYWHERE = Settings(), Settings(host="0.0.0.0")


@pytest.fixture(scope="module")
def address(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("mcp")
    yield from serve(
        ["--model", str(tiny_folder), "--retriever", "hashing", "--mcp"], tmp_path_factory.mktemp("server")
    )


def call(address: str, name: str, given: Mapping[str, Any], session: str = "") -> tuple[bool, str]:
    """Call a tool as a client does that comes, asks and goes; returns whether it was refused, and what it said."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def once() -> tuple[bool, str]:
        headers = {api.SESSION_HEADER: session} if session else None
        async with streamablehttp_client(f"{address}gradio_api/mcp/", headers=headers) as (read, write, _):
            async with ClientSession(read, write) as client:
                await client.initialize()
                said = await client.call_tool(name, dict(given))
                return bool(said.isError), str(getattr(said.content[0], "text", ""))

    return asyncio.run(once())


def send(address: str, path: Path) -> str:
    """Send a file to the app as an assistant's tool does; returns its address there."""
    border = "border-of-parts"
    head = f'--{border}\r\nContent-Disposition: form-data; name="files"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + f"\r\n--{border}--\r\n".encode()
    kind = {"Content-Type": f"multipart/form-data; boundary={border}"}
    with urllib.request.urlopen(urllib.request.Request(f"{address}gradio_api/upload", body, kind)) as reply:
        return f"{address}gradio_api/file={json.load(reply)[0]}"


@pytest.mark.browser
def test_tools_have_the_names_of_the_api_and_say_what_each_argument_is_for(address: str) -> None:
    with urllib.request.urlopen(f"{address}gradio_api/mcp/schema") as reply:
        tools = {tool["name"]: tool for tool in json.load(reply)}
    assert {f"/{name}" for name in tools} == NAMES
    for name, tool in tools.items():
        assert len(tool["description"]) > 20, name
        for argument, about in tool["inputSchema"]["properties"].items():
            assert about["type"] in ("string", "integer"), (name, argument)
            assert about["description"], (name, argument)


@pytest.mark.browser
def test_an_assistant_reads_and_asks_in_its_own_session(address: str, tmp_path: Path) -> None:
    path = tmp_path / "log-book.txt"
    path.write_text(log_book(10))
    refused, said = call(address, "upload", {"file": send(address, path)}, "mine")
    assert not refused, said
    assert json.loads(said)["status"] == "done"
    given = {"question": "Where did the brass lantern stand?", "max_tokens": 2, "top_k": 1}
    refused, said = call(address, "ask", given, "mine")
    assert not refused, said
    assert len(json.loads(said)["retrieved"]) == 1
    assert json.loads(call(address, "memory_state", {}, "yours")[1])["chunks"] == []
    assert json.loads(call(address, "memory_state", {})[1])["chunks"] == []


@pytest.mark.browser
def test_the_app_fetches_nothing_for_an_assistant(address: str) -> None:
    refused, said = call(address, "upload", {"file": "https://outside.invalid/book.txt"})
    assert refused
    assert "Files sent to this app" in said


@pytest.mark.browser
def test_a_file_that_is_not_whole_is_refused_in_words(address: str) -> None:
    refused, said = call(address, "upload", {"file": "data:text/plain;base64,abc"})
    assert refused
    assert said.endswith("Encode it anew, with padding.")
    refused, said = call(address, "upload", {"file": "data:text/plain;base64,VGhlIGxhbXAgaXMgcmVkLg=="})
    assert not refused
    assert json.loads(said)["status"] == "done"


@pytest.mark.parametrize("given", ["data:text/plain,The%20lamp", "data:", "data:,", "data:;base64", "data:;base64,é="])
def test_what_is_no_whole_data_address_is_refused(given: str) -> None:
    with pytest.raises(DocumentError, match="the whole file in base64"):
        assistants.require_file(given)


def test_what_is_no_address_is_refused() -> None:
    for given in ("book.txt", "", "ftp://here/book.txt"):
        with pytest.raises(DocumentError, match="address of a file sent to this app"):
            assistants.require_file(given)
    for whole in ("https://here/book.txt", "data:;base64,", "data:text/plain;charset=utf-8;base64,QQ=="):
        assistants.require_file(whole)


def test_a_name_keeps_sessions_apart_and_is_needed_where_others_reach_the_app() -> None:
    mcp = {"x-gradio-user": "mcp"}
    assert api.session_key("hash", {}, EVERYWHERE) == "hash"
    assert api.session_key(None, {}, HERE) == "api"
    assert api.session_key("hash", mcp, HERE) == "hash"
    assert api.session_key("hash", {**mcp, api.SESSION_HEADER: "a-1"}, EVERYWHERE) == "named a-1"
    with pytest.raises(ConfigError, match="does not name its session"):
        api.session_key("hash", mcp, EVERYWHERE)
    with pytest.raises(ConfigError, match="64 at most"):
        api.session_key("hash", {api.SESSION_HEADER: "a b"}, HERE)


def test_only_addresses_of_own_uploads_are_paths(tmp_path: Path) -> None:
    book = tmp_path / "a b.txt"
    assert api.own_upload(str(book), tmp_path) == str(book)
    assert api.own_upload(f"http://127.0.0.1:1/gradio_api/file={tmp_path}/a%20b.txt", tmp_path) == str(book.resolve())
    for other in (
        "http://127.0.0.1:1/book.txt",
        f"http://h/gradio_api/file={tmp_path}/../secret",
        f"http://h/gradio_api/file={tmp_path}/a%00b",
        "http://h/gradio_api/file=",
        "https://x.invalid/",
    ):
        with pytest.raises(DocumentError, match="Files sent to this app"):
            api.own_upload(other, tmp_path)
