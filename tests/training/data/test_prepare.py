"""Preparing text: every format, no duplicate, borders kept, and an interruption that costs nothing."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from memlong.errors import ConfigError, DocumentError
from training.data.jsonl import write_jsonl
from training.data.packed import DOCUMENTS, TOKENS, PackedText
from training.data.prepare import PrepareOptions, clean, prepare
from training.data.readers import RawText, passed_over, read_source
from training.data.upsample import LengthUpsampler

PROSE = "The harbour master of Brackwater kept ledger number {0}. In year {0} the bridge was rebuilt in stone. "


def write_books(folder: Path, count: int = 9) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{number}.txt").write_text(PROSE.format(number) * (number + 3))
    return folder


def options(folder: Path, **changes) -> PrepareOptions:
    return PrepareOptions((str(folder),), **({"held_out": 0.2, "min_tokens": 8, "near_copies": 0} | changes))


def test_documents_come_back_token_for_token(tmp_path, tiny_tokenizer):
    books = write_books(tmp_path / "books")
    (books / "copy.md").write_text(PROSE.format(2).upper() * 5)
    (books / "empty.txt").write_text(" \n\n")
    manifest = prepare(options(books, licence="CC0"), tiny_tokenizer, tmp_path / "out")
    assert manifest["dropped"] == {"duplicate": 1, "short": 1} and manifest["documents"] == 9
    assert manifest["sources"][str(books)]["licences"] == ["CC0"]
    texts = []
    for split in ("train", "eval"):
        packed = PackedText(tmp_path / "out", split, 16)
        for document, windows in enumerate(packed.windows()):
            ids = np.concatenate([packed.window(document, w) for w in range(windows)])
            assert all(len(packed.window(document, w)) == 16 for w in range(windows - 1))
            texts.append(tiny_tokenizer.decode(ids.tolist()))
    wanted = [clean(PROSE.format(n) * (n + 3)) for n in range(9)]
    # A last window of one token predicts nothing and is left out.
    assert all(any(text.startswith(got) and len(text) - len(got) < 12 for text in wanted) for got in texts)
    assert len(texts) == 9


def test_an_interrupted_preparation_ends_as_an_uninterrupted_one(tmp_path, tiny_tokenizer, interrupted):
    books = write_books(tmp_path / "books")
    whole = prepare(options(books), tiny_tokenizer, tmp_path / "whole", save_every=2)
    with interrupted(6) as taken:
        prepare(options(books), tiny_tokenizer, tmp_path / "halves", save_every=2, save_seconds=1e9)
    with pytest.raises(DocumentError, match="prepare"):
        PackedText(tmp_path / "halves", "train", 16)
    again = prepare(options(books), tiny_tokenizer, tmp_path / "halves", save_every=2)
    assert len(taken) == 6 + 5, "four documents had been saved and are not tokenised again"
    assert again == whole
    for name in (TOKENS, DOCUMENTS):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(("seconds", "again"), [(0.0, 4), (1e9, 9)])
def test_a_kill_costs_seconds_of_work_however_few_documents_that_are(
    seconds, again, tmp_path, tiny_tokenizer, interrupted
):
    books = write_books(tmp_path / "books")
    whole = prepare(options(books), tiny_tokenizer, tmp_path / "whole")
    with interrupted(6) as taken:
        prepare(options(books), tiny_tokenizer, tmp_path / "halves", save_seconds=seconds)
    assert prepare(options(books), tiny_tokenizer, tmp_path / "halves") == whole
    assert len(taken) == 6 + again
    for name in (TOKENS, DOCUMENTS):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def damage(books: Path) -> dict[str, str]:
    """Add files that cannot be read, or not to their end, to a folder; return path -> what is said of each."""
    (books / "0-first.pdf").write_bytes(b"no pdf")
    (books / "3-middle.parquet").write_bytes(b"no table")
    (books / "5-half.jsonl").write_text(json.dumps({"text": PROSE.format(50) * 4}) + "\n{")
    with zipfile.ZipFile(books / "z-last.epub", "w") as book:
        book.writestr("nothing", "")
    said = {"0-first.pdf": "no readable PDF", "3-middle.parquet": "cannot be read (Arrow", "5-half.jsonl": "Line 2",
            "z-last.epub": "no readable EPUB"}  # fmt: skip
    return {str(books / name): words for name, words in said.items()}


def test_damaged_files_are_left_out_and_told(tmp_path, tiny_tokenizer, capsys, monkeypatch):
    from training import base
    from training.cli import main

    monkeypatch.setattr(base, "load_tokenizer", lambda name: tiny_tokenizer)
    books = write_books(tmp_path / "books")
    wanted = damage(books)
    command = ["prepare", str(books), "--out", str(tmp_path / "out"), "--min-tokens", "8", "--near-copies", "0"]
    for _ in range(2):  # a prepared folder tells it again
        assert main(command) == 0
        said = capsys.readouterr()
        manifest = json.loads(said.out)
        assert manifest["documents"] == 10, "what came before the damage counts"
        assert list(manifest["unread"]) == list(wanted) and "4 of the files" in said.err
        for path, words in wanted.items():
            assert words in manifest["unread"][path] and f"{path}: {manifest['unread'][path]}" in said.err


@pytest.mark.parametrize("document", range(1, 11))
def test_damaged_files_do_not_change_what_is_gone_on_with(document, tmp_path, tiny_tokenizer, interrupted):
    books = write_books(tmp_path / "books")
    damage(books)
    whole = prepare(options(books), tiny_tokenizer, tmp_path / "whole")
    with interrupted(document):
        prepare(options(books), tiny_tokenizer, tmp_path / "halves", save_every=2)
    assert prepare(options(books), tiny_tokenizer, tmp_path / "halves", save_every=2) == whole
    for name in (TOKENS, DOCUMENTS):
        assert (tmp_path / "halves" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("again", [0, 4])
@pytest.mark.parametrize("document", range(1, 11))
def test_files_mended_while_it_was_interrupted_are_taken_in(document, again, tmp_path, tiny_tokenizer, interrupted):
    """The second interruption comes while, or after, what was mended is read."""
    books, rows = write_books(tmp_path / "books"), [json.dumps({"text": PROSE.format(n) * 4}) for n in range(50, 56)]
    files = {"0-first.jsonl": rows[:3], "5-half.jsonl": rows[3:]}
    for (name, lines), torn in zip(files.items(), ("{", rows[3] + "\n{"), strict=True):
        (books / name).write_text(torn)
        (tmp_path / name).write_text("\n".join(lines))
    with interrupted(document):
        prepare(options(books), tiny_tokenizer, tmp_path / "out", save_every=2, save_seconds=1e9)
    for name in files:
        (tmp_path / name).replace(books / name)
    if again:
        with interrupted(again):
            prepare(options(books), tiny_tokenizer, tmp_path / "out", save_every=2, save_seconds=1e9)
    manifest = prepare(options(books), tiny_tokenizer, tmp_path / "out", save_every=2)
    assert (manifest["documents"], manifest["read"]) == (15, 15)
    assert manifest["dropped"] == {} and manifest["unread"] == {}, "none twice"


def test_sources_of_which_nothing_can_be_read_are_refused(tmp_path, tiny_tokenizer):
    books = tmp_path / "books"
    books.mkdir()
    for _ in range(2):  # once refused, it is not taken for prepared
        with pytest.raises(DocumentError, match="no file of a known kind"):
            prepare(options(books), tiny_tokenizer, tmp_path / "out")
    (books / "a.pdf").write_bytes(b"no pdf")
    for _ in range(2):
        with pytest.raises(DocumentError, match=r"a\.pdf is no readable PDF"):
            prepare(options(books), tiny_tokenizer, tmp_path / "out")
    (books / "b.txt").write_text(PROSE.format(1) * 4)
    assert prepare(options(books), tiny_tokenizer, tmp_path / "out")["documents"] == 1


def test_a_source_that_is_not_there_is_refused_before_any_is_read(tmp_path, tiny_tokenizer):
    books = write_books(tmp_path / "books")
    wanted = PrepareOptions((str(books), str(tmp_path / "boks")), near_copies=0)
    with pytest.raises(DocumentError, match="boks"):
        prepare(wanted, tiny_tokenizer, tmp_path / "out")
    assert not (tmp_path / "out" / TOKENS).exists()


def test_a_package_that_a_format_needs_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    (tmp_path / "a.pdf").write_bytes(b"")
    with pytest.raises(DocumentError, match="pip install pypdfium2"):
        list(read_source(str(tmp_path / "a.pdf")))


def test_progress_is_apart_from_the_result(tmp_path, tiny_tokenizer, capsys, monkeypatch):
    from training import base
    from training.cli import main

    monkeypatch.setattr(base, "load_tokenizer", lambda name: tiny_tokenizer)
    books = tmp_path / "books"
    books.mkdir()
    write_jsonl(books / "many.jsonl", ({"text": PROSE.format(number)} for number in range(70)))
    command = ["prepare", str(books), "--out", str(tmp_path / "out"), "--min-tokens", "8", "--near-copies", "0"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["documents"] == 70 and "tokens of 64 documents" in said.err


def test_other_options_are_refused(tmp_path, tiny_tokenizer):
    books = write_books(tmp_path / "books", 3)
    prepare(options(books), tiny_tokenizer, tmp_path / "out")
    with pytest.raises(ConfigError, match="min_tokens"):
        prepare(options(books, min_tokens=9), tiny_tokenizer, tmp_path / "out")


def test_formats_are_read(tmp_path):
    import pyarrow
    from pyarrow import parquet

    write_jsonl(tmp_path / "a.jsonl.zst", [{"text": "one", "meta": {"redpajama_set_name": "Book"}}, {"text": "two"}])
    parquet.write_table(pyarrow.table({"content": ["three"], "license": ["MIT"]}), tmp_path / "b.parquet")
    with zipfile.ZipFile(tmp_path / "c.epub", "w") as book:
        book.writestr(
            "META-INF/container.xml", '<container><rootfiles><rootfile full-path="o/p.opf"/></rootfiles></container>'
        )
        items = '<item id="x" href="x.html"/><item id="y" href="y.html"/>'
        spine = '<itemref idref="y"/><itemref idref="x"/>'
        opf = f'<package xmlns="n"><manifest>{items}</manifest><spine>{spine}</spine></package>'
        book.writestr("o/p.opf", opf)
        book.writestr("o/x.html", "<body><p>last</p></body>")
        book.writestr("o/y.html", "<body><script>no()</script><p>first</p></body>")
    found = list(read_source(str(tmp_path)))
    assert [raw.text for raw in found] == ["one", "two", "three", "first\n\nlast"]
    assert (found[0].domain, found[2].licence) == ("Book", "MIT")


def test_pdf_is_read(tmp_path):
    import pypdfium2
    import pypdfium2.raw as raw

    document = pypdfium2.PdfDocument.new()
    page = document.new_page(300, 100)
    font = raw.FPDFText_LoadStandardFont(document.raw, b"Helvetica")
    text = raw.FPDFPageObj_CreateTextObj(document.raw, font, 12.0)
    words = ("The bridge was rebuilt.\0").encode("utf-16-le")
    raw.FPDFText_SetText(text, _wide(words))
    raw.FPDFPageObj_Transform(text, 1, 0, 0, 1, 20, 50)
    raw.FPDFPage_InsertObject(page.raw, text)
    raw.FPDFPage_GenerateContent(page.raw)
    document.save(tmp_path / "a.pdf")
    assert [raw_text.text.strip() for raw_text in read_source(str(tmp_path / "a.pdf"))] == ["The bridge was rebuilt."]


def _wide(words: bytes):
    import ctypes

    return ctypes.cast(ctypes.create_string_buffer(words), ctypes.POINTER(ctypes.c_ushort))


@pytest.mark.parametrize("source", ["nothing.txt", "nothing.docx"])
def test_unknown_sources_are_refused(source):
    with pytest.raises(DocumentError, match=r"nothing|Source"):
        list(read_source(source))


def test_damaged_books_are_refused(tmp_path):
    (tmp_path / "a.epub").write_bytes(b"no zip")
    (tmp_path / "a.pdf").write_bytes(b"no pdf")
    for name in ("a.epub", "a.pdf"):
        with pytest.raises(DocumentError, match=name):
            list(read_source(str(tmp_path / name)))


def test_length_upsampling_keeps_parts_in_proportion_and_prefers_long_documents():
    sampler, kept = LengthUpsampler(1000, 0.7), {"web": [0, 0], "book": [0, 0]}
    for number in range(4000):
        for part, tokens in (("web", 1500 if number % 5 == 0 else 100), ("book", 1200 if number % 2 else 300)):
            if sampler.takes(part, tokens):
                kept[part][tokens >= 1000] += tokens
    for part, (short, long) in kept.items():
        assert long / (short + long) >= 0.699, part
        assert short > 0, part
    seen = {part: counts["seen"] for part, counts in sampler.counts.items()}
    wanted = seen["web"] / seen["book"]
    assert sum(kept["web"]) / sum(kept["book"]) == pytest.approx(wanted, rel=0.15)
    assert LengthUpsampler(0, 0.7).takes("web", 1)


def test_cleaning():
    assert clean("a\u200bb \t c\r\n\r\n\r\n\r\nd\x00 ") == "ab c\n\nd"
    assert RawText("n", "t").domain == ""
    assert json.dumps(clean("e\u0301")) == '"\\u00e9"'


def test_what_is_hidden_in_a_folder_is_neither_read_nor_told_of(tmp_path):
    """The folder itself may lie below a hidden one."""
    books = tmp_path / ".data" / "books"
    for place in ("a.txt", "part/b.txt", ".git/c.txt", "part/.cache/deep/d.txt", ".e.txt", ".git/HEAD", "f.odt"):
        (books / place).parent.mkdir(parents=True, exist_ok=True)
        (books / place).write_text(place)
    assert [raw.text for raw in read_source(str(books))] == ["a.txt", "part/b.txt"]
    assert passed_over(str(books)) == [books / "f.odt"]


def test_the_command_says_what_it_leaves_out_and_that_it_has_been_here(tmp_path, tiny_tokenizer, capsys, monkeypatch):
    from training import base
    from training.cli import main

    monkeypatch.setattr(base, "load_tokenizer", lambda name: tiny_tokenizer)
    books = write_books(tmp_path / "books")
    (books / "letter.docx").write_bytes(b"PK")
    (books / "page.HTML").write_text("<p>")
    (books / ".hidden").write_text("x")
    command = ["prepare", str(books), "--out", str(tmp_path / "out"), "--min-tokens", "8", "--near-copies", "0"]
    assert main(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["documents"] == 9
    assert "2 of the files (.docx, .html)" in said.err and "before" not in said.err
    (books / "new.txt").write_text(PROSE.format(77) * 9)
    assert main(command) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["documents"] == 9 and "was prepared before" in said.err
