"""A book of any format the app reads is read without a page too, by the same parser in a process of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from memlong import books
from memlong.books import read_book
from memlong.errors import DocumentError
from tests.app.documents import samples

MADE = {"pdf": samples.two_pages, "epub": samples.epub, "docx": samples.docx, "html": samples.html}


@pytest.mark.parametrize("ending", [*MADE, "HTML"])
def test_other_formats_are_read_as_the_app_reads_them(tmp_path, ending):
    from app.documents import read_document

    path = tmp_path / f"book.{ending}"
    path.write_bytes(MADE[ending.lower()]())
    book, shown = read_book(path), read_document(path, path.name)
    assert (book.text, book.title, book.spans, book.warnings) == (shown.text, shown.title, shown.spans, shown.warnings)
    assert len(book.text) > 20 and (book.spans or ending.lower() == "html")


def test_plain_text_stays_as_it_stands_in_the_file(tmp_path):
    for name in ("log.txt", "log.md", "log"):
        path = tmp_path / name
        path.write_text("\ufeff# Day 1\nA ship\n  came.\n", encoding="utf-8")
        assert read_book(path) == books.Book("log", "# Day 1\nA ship\n  came.\n")


def test_text_of_another_encoding_is_read_too(tmp_path):
    path = tmp_path / "log.txt"
    path.write_bytes("Der Schlüssel lag über der Tür. ".encode("latin-1") * 20)
    assert "Der Schlüssel lag über der Tür." in read_book(path).text


def test_what_cannot_be_read_is_refused_in_three_parts(tmp_path):
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "torn.pdf").write_bytes(samples.two_pages()[:200])
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 40)
    for name in ("missing.txt", "missing.pdf", "folder.txt", "blank.txt", "torn.pdf", "noise"):
        with pytest.raises(DocumentError) as refused:
            read_book(tmp_path / name)
        assert str(tmp_path / name) in refused.value.given
        assert refused.value.allowed and refused.value.do


FAULTS = {  # answer, exit code, words
    "dies": (b"", -9, "SIGKILL, it took too long or too much memory"),
    "works too long": (b"", -24, "SIGXCPU, it took too long"),
    "gives up": (b"", 1, "exit code 1: ModuleNotFoundError: no such parser"),
    "babbles": (b"what?", 0, "no answer"),
    "lies": (b'{"parsed": [1]}', 0, "no answer"),
    "lies about the text": (b'{"parsed": {"title": "A", "text": 5, "spans": [], "warnings": []}}', 0, "no answer"),
    "lies about places": (
        b'{"parsed": {"title": "A", "text": "B", "spans": [[0, "x", 1]], "warnings": []}}',
        0,
        "no answer",
    ),
    "lies about warnings": (b'{"parsed": {"title": "A", "text": "B", "spans": [], "warnings": "C"}}', 0, "no answer"),
    "starves": (b'{"memory": true}', 0, "too much memory"),
    "hangs": (b"", 0, "seconds"),
    "is kept away": (b"", 0, "cannot be started: Permission denied"),
}


@pytest.mark.parametrize("fault", ["beside nothing", *FAULTS])
def test_a_parser_that_is_not_there_or_dies_is_told(tmp_path, monkeypatch, fault):
    path = tmp_path / "book.pdf"
    path.write_bytes(samples.two_pages())
    if fault == "beside nothing":
        monkeypatch.setattr(books, "_ROOT", tmp_path)
        with pytest.raises(DocumentError, match="not beside the library"):
            read_book(path)
        return

    def run(*given, **options):
        assert options["timeout"] > 0
        if fault == "hangs":
            raise subprocess.TimeoutExpired("parser", 1)
        if fault == "is kept away":
            raise PermissionError(13, "Permission denied")
        said, code, _ = FAULTS[fault]
        return subprocess.CompletedProcess(
            [], code, stdout=said, stderr=b"Traceback\nModuleNotFoundError: no such parser\n"
        )

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DocumentError, match=rf"book.pdf could not be read \(its parser .*{FAULTS[fault][2]}"):
        read_book(path)


def test_what_looks_like_text_by_its_letters_alone_is_not_read_as_that(tmp_path):
    made = {
        "letters.txt": b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        "rich.rtf": b"{\\rtf1\\ansi The key hung in the mill.}",
        "kindle.mobi": bytes(60) + b"BOOKMOBI" + bytes(100),
        "zeros.txt": bytes(5000),
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DocumentError) as refused:
            read_book(tmp_path / name)
        assert str(tmp_path / name) in refused.value.given
    (tmp_path / "wide.txt").write_bytes(("The key hung in the mill. " * 9).encode("utf-16-le"))
    assert read_book(tmp_path / "wide.txt").text.startswith("The key hung in the mill.")
    (tmp_path / "page.txt").write_bytes(samples.html())
    assert "<" not in read_book(tmp_path / "page.txt").text


@pytest.mark.parametrize(
    "beginning", ["<?xml version='1.0'?>\n<html>", "<!-- saved -->\n<html>", "<head><title>T</title></head>", "<body>"]
)
def test_a_page_is_known_by_its_beginning_as_the_app_knows_it(tmp_path, beginning):
    from app.documents import read_document

    path = tmp_path / "page.txt"
    path.write_text(f"{beginning}<p>The key hung in the mill.</p>")
    book = read_book(path)
    assert book.text == read_document(path, path.name).text
    assert "<" not in book.text and "The key hung in the mill." in book.text


def test_the_parser_is_given_no_secrets_and_finds_its_modules(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a secret")
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # python -m then does not look into the folder it runs in
    seen = {}
    run = subprocess.run

    def watched(*given, **options):
        seen.update(options["env"])
        return run(*given, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    path = tmp_path / "book.pdf"
    path.write_bytes(samples.two_pages())
    assert "third winter" in read_book(path).text
    assert seen["PATH"] and "HF_TOKEN" not in seen


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_told_from_a_file_that_is_missing(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(DocumentError, match="is a pipe or a device"):
            read_book(path)
    with pytest.raises(DocumentError, match="is a folder"):
        read_book(tmp_path)


def test_a_file_of_a_library_and_not_a_book_is_refused_before_it_fills_the_memory(tmp_path):
    path = tmp_path / "library.txt"
    with path.open("wb") as file:
        file.truncate(3_200_000_000)  # takes no room on a disk
    with pytest.raises(DocumentError, match=r"has 3\.2 GB"):
        read_book(path)


@pytest.mark.parametrize("name", ["with blanks and ü.pdf", "-dash.pdf", os.fsdecode(b"caf\xe9.pdf")])
def test_names_and_places_do_not_matter(tmp_path, monkeypatch, name):
    (tmp_path / "far").mkdir()
    try:
        (tmp_path / "far" / name).write_bytes(samples.two_pages())
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    (tmp_path / "link.txt").symlink_to(tmp_path / "far" / name)
    monkeypatch.chdir(tmp_path / "far")
    for path in (Path(name), Path("..") / "far" / name, Path("../link.txt")):
        assert "third winter" in read_book(path).text


def test_the_command_line_reads_a_pdf_and_tells_the_page(tmp_path, tiny_llama, tiny_tokenizer, capsys):
    from memlong.cli import main

    folder, path = tmp_path / "model", tmp_path / "book.pdf"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    path.write_bytes(samples.pdf([["The key hung in the mill."], ["The lamp stood by the door."]], title="Keys"))
    options = ["--model", str(folder), "--retriever", "hashing", "--chunk-tokens", "8", "--max-tokens", "2"]
    assert main(["ask", str(path), "Where was the lamp by the door?", *options]) == 0
    said = capsys.readouterr().out
    assert "Keys" in said and "page 2" in said, Path(path).name
