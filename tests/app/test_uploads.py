"""What is left of uploads that break off, and of those that are too large."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from gradio import route_utils
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect

from app import uploads

START = b'--x\r\nContent-Disposition: form-data; name="files"; filename="book.txt"\r\n\r\n' + b"word " * 1000


async def broken() -> AsyncGenerator[bytes, None]:
    yield START
    raise ClientDisconnect


async def endless() -> AsyncGenerator[bytes, None]:
    while True:
        yield START


async def whole() -> AsyncGenerator[bytes, None]:
    yield START + b"\r\n--x--\r\n"


def parse(stream: AsyncGenerator[bytes, None], folder: Path) -> None:
    parser = route_utils.GradioMultiPartParser(
        Headers({"content-type": "multipart/form-data; boundary=x"}), stream, upload_dir=folder, max_file_size=100_000
    )
    asyncio.run(parser.parse())


@pytest.mark.parametrize(("stream", "said"), [(broken, "broke off"), (endless, "maximum allowed size")])
def test_nothing_stays_of_an_upload_that_does_not_end_well(
    stream: object, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_utils, "GradioMultiPartParser", route_utils.GradioMultiPartParser)
    uploads.tidy(route_utils)
    with pytest.raises(MultiPartException, match=said):
        parse(stream(), tmp_path)  # type: ignore[operator]
    assert not list(tmp_path.iterdir())
    parse(whole(), tmp_path)
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [5000]
