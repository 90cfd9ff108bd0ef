"""Damaged files of every format end as a document or as a DocumentError, never as anything else."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.documents import Limits, read_document
from app.documents.archive import Archive
from app.documents.parse import parse_file
from memlong.errors import DocumentError
from tests.app.documents import samples

LIMITS = Limits(characters=200_000, unpacked_bytes=5_000_000)
# PDFium may end the process it runs in, so PDF goes through the child only.
IN_PROCESS = [kind for kind in samples.ALL if kind != "pdf"]

Mutation = tuple[str, float, bytes]
mutations = st.lists(
    st.tuples(
        st.sampled_from(["put", "insert", "cut", "copy", "end"]),
        st.floats(0, 1),
        st.one_of(
            st.binary(min_size=1, max_size=8),
            st.sampled_from(
                [b"<", b">", b"</p>", b"\x00", b"\xff", b"&#0;", b"PK\x03\x04", b"%PDF-", b"\n\n", b"<!--"]
            ),
        ),
    ),
    min_size=1,
    max_size=6,
)


@functools.cache
def sample(kind: str) -> bytes:
    return samples.ALL[kind]()


def mutate(content: bytes, steps: list[Mutation]) -> bytes:
    data = bytearray(content)
    for how, where, piece in steps:
        at = int(where * len(data))
        if how == "put":
            data[at : at + len(piece)] = piece
        elif how == "insert":
            data[at:at] = piece
        elif how == "cut":
            del data[at : at + 10 * len(piece)]
        elif how == "copy":
            data[at:at] = data[max(at - 500, 0) : at]
        else:
            del data[max(at, 1) :]
    return bytes(data)


def mutate_inside(content: bytes, steps: list[Mutation]) -> bytes:
    """Mutate the largest XML member of an archive: mutated archives mostly fail at their checksums."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.zip")
        path.write_bytes(content)
        with Archive(path, "archive", Limits()) as archive:
            members: dict[str, bytes | str] = {name: archive.read(name) for name in archive.names()}
    texts = [name for name in members if name.endswith(("document.xml", ".xhtml", ".opf"))]
    chosen = texts[int(steps[0][1] * (len(texts) - 1))]
    raw = members[chosen]
    assert isinstance(raw, bytes)
    members[chosen] = mutate(raw, steps)
    return samples.archive(members)


def outcome(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload.bin")
        path.write_bytes(content)
        try:
            parsed = parse_file(path, name, LIMITS)
        except DocumentError:
            return
    assert parsed.text.strip()
    assert parsed.title.strip()
    if parsed.spans:  # a text without pages or chapters has none
        edges = [0, *(end for _, end, _ in parsed.spans)]
        assert [start for start, _, _ in parsed.spans] == edges[:-1]
        assert edges[-1] == len(parsed.text)
    assert all(start < end and label for start, end, label in parsed.spans)
    parsed.text.encode()  # no lone surrogates


@pytest.mark.parametrize("kind", IN_PROCESS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=mutations)
def test_mutated_bytes(kind: str, steps: list[Mutation]) -> None:
    outcome(mutate(sample(kind), steps), f"a.{kind}")


@pytest.mark.parametrize("kind", ["epub", "docx"])
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=mutations)
def test_mutated_members(kind: str, steps: list[Mutation]) -> None:
    outcome(mutate_inside(sample(kind), steps), f"a.{kind}")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(content=st.binary(min_size=1, max_size=400), name=st.sampled_from(["a.txt", "a.md", "a.html", "a"]))
def test_any_bytes(content: bytes, name: str) -> None:
    if b"%PDF-" not in content:
        outcome(content, name)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    text=st.text(alphabet="aB .\n\t#*_`[]()<>/&-=|!:CHAPTERI1", max_size=300),
    name=st.sampled_from(["a.txt", "a.md", "a.html"]),
)
def test_any_text(text: str, name: str) -> None:
    outcome(text.encode(), name)
    outcome(f"<html>{text}</html>".encode(), name)


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=mutations, kind=st.sampled_from(["pdf", "pdf", "pdf", "docx"]))
def test_mutated_bytes_in_the_child(kind: str, steps: list[Mutation]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "upload.bin")
        path.write_bytes(mutate(sample(kind), steps))
        try:
            document = read_document(path, f"a.{kind}", LIMITS)
        except DocumentError:
            return
    assert document.text
    assert not document.spans or document.spans[-1].end == len(document.text)
