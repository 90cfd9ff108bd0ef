"""The parsing process: answers, limits, crashes, cancelling. The test process is the server that stays up."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from app.documents import Document, Limits, read_document, sandbox
from memlong.books import parser_environment
from memlong.chunking import PageSpan
from memlong.errors import Cancelled, DocumentError
from tests.app.documents import samples

ROOT = Path(__file__).resolve().parents[3]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold every limit")


def upload(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "upload.bin"
    path.write_bytes(content)
    return path


def children() -> list[str]:
    """Return the ids of the living children of this process."""
    found: list[str] = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that ended between the list and the look
            found += (task / "children").read_text().split()
    return found


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    before = children() if sys.platform == "linux" else []
    yield
    if sys.platform == "linux":
        assert children() == before


@pytest.mark.parametrize("kind", samples.ALL)
def test_documents_come_back_whole(kind: str, tmp_path: Path) -> None:
    document = read_document(upload(tmp_path, samples.ALL[kind]()), f"C:\\books\\my_book.{kind}")
    assert isinstance(document, Document)
    assert document.kind == kind
    assert all(isinstance(span, PageSpan) for span in document.spans)
    assert document.spans[0].start == 0
    assert document.spans[-1].end == len(document.text)
    for paragraph in samples.PARAGRAPHS:
        assert paragraph in document.text


def test_letters_of_all_kinds_cross_the_border(tmp_path: Path) -> None:
    text = "中文 العربية हिन्दी 🏴‍☠️ \U0001d11e é \ud7ff"
    assert read_document(upload(tmp_path, text.encode()), "a.txt").text == text


def test_errors_cross_the_border_with_the_name_in_front(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        read_document(upload(tmp_path, samples.encrypted_pdf()), "/etc/../locked.pdf")
    assert caught.value.given.startswith("locked.pdf: ")
    assert "password" in caught.value.given
    assert caught.value.do


@pytest.mark.parametrize("content, words", [(None, "no such file"), (b"", "empty"), (b"x" * 2001, "2.0 kB")])
def test_what_needs_no_parser(content: bytes | None, words: str, tmp_path: Path) -> None:
    path = tmp_path / "missing" if content is None else upload(tmp_path, content)
    with pytest.raises(DocumentError, match=words):
        read_document(path, "a.txt", Limits(file_bytes=2000))


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no such file"):
        read_document(tmp_path, "a.txt")


@LINUX
def test_a_pdf_that_wants_all_memory_kills_only_the_child(tmp_path: Path) -> None:
    hostile = samples.pdf([["x"]], stream=b"q " * 110_000_000)
    assert len(hostile) < 1_000_000
    limits = Limits(memory_bytes=300_000_000)
    with pytest.raises(DocumentError, match=r"crashed|too much memory"):
        read_document(upload(tmp_path, hostile), "a.pdf", limits)
    assert read_document(upload(tmp_path, samples.two_pages()), "a.pdf", limits).kind == "pdf"


@LINUX
def test_memory_limit(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="too much memory") as caught:
        read_document(upload(tmp_path, b"words and " * 6_000_000), "a.txt", Limits(memory_bytes=150_000_000))
    assert "150 MB" in caught.value.allowed


@LINUX
def test_processor_limit(tmp_path: Path) -> None:
    # A long text of short lines takes seconds of work.
    text = "".join(f"line {i} of many\n\n" for i in range(1_500_000)).encode()
    with pytest.raises(DocumentError, match="took too long") as caught:
        read_document(upload(tmp_path, text), "a.txt", Limits(cpu_seconds=1))
    assert "1 seconds" in caught.value.allowed


def hanging(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Let the parsing process run ``code`` instead of the parser."""
    start = subprocess.Popen
    monkeypatch.setattr(sandbox.subprocess, "Popen", lambda args, **kw: start([sys.executable, "-c", code], **kw))


def test_wall_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging(monkeypatch, "import signal; signal.pause()")
    with pytest.raises(DocumentError, match="took too long"):
        read_document(upload(tmp_path, b"text"), "a.txt", Limits(wall_seconds=0.2))


def test_cancel_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging(monkeypatch, "import signal; signal.pause()")
    asked = iter([False, False, True])
    with pytest.raises(Cancelled):
        read_document(upload(tmp_path, b"text"), "a.txt", cancel=lambda: next(asked))


def test_cancel_before_the_start_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.subprocess, "Popen", None)
    with pytest.raises(Cancelled):
        read_document(upload(tmp_path, b"text"), "a.txt", cancel=lambda: True)


@pytest.mark.parametrize(
    "code, words",
    [
        ("import os; os.abort()", "crashed.*SIGABRT"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed.*SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGXCPU)", "too long"),
        ("raise SystemExit(3)", "crashed.*exit code 3"),
        ("print('{')", "crashed"),
        ("print('[]')", "crashed"),
        ("print('{\"parsed\": {}}')", "crashed"),
        ("import sys\nwhile True: sys.stdout.write('x' * 100000)", "crashed"),
    ],
)
def test_every_way_to_die(code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hanging(monkeypatch, code)
    with pytest.raises(DocumentError, match=words):
        read_document(upload(tmp_path, b"text"), "a.txt", Limits(characters=1000))


def test_the_child_imports_neither_torch_nor_gradio() -> None:
    code = (
        "import sys, app.documents.child, app.documents.registry as r\n"
        "[f.parser() for f in r.FORMATS.values()]\n"
        "print([m for m in ('torch', 'gradio', 'transformers', 'numpy', 'faiss', 'docx', 'lxml') if m in "
        "sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_child_gets_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "HF_TOKEN" not in parser_environment()
    assert set(parser_environment()) <= {*os.environ, "PYTHONPATH", "PYTHONUTF8", "PYTHONDONTWRITEBYTECODE"}


@LINUX
def test_the_child_cannot_write_files(tmp_path: Path) -> None:
    target = tmp_path / "written"
    code = (
        "from app.documents.child import restrict; from app.documents.limits import Limits; "
        "restrict(Limits())\n"
        f"with open({str(target)!r}, 'w') as file: file.write('x' * 100)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "File too large" in done.stderr
    assert target.read_bytes() == b""
