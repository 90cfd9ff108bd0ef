"""Everything that can be wrong with a file has its own error in three parts, and hostile files do no harm."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from app.documents.limits import Limits
from app.documents.parse import parse_file
from memlong.errors import ConfigError, DocumentError
from tests.app.documents import samples

MEGABYTE = 1_000_000


def refused(tmp_path: Path, content: bytes, name: str, limits: Limits | None = None) -> DocumentError:
    path = tmp_path / "upload.bin"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        parse_file(path, name, limits or Limits())
    assert caught.value.given
    assert caught.value.allowed
    assert caught.value.do
    return caught.value


def test_limits_are_positive() -> None:
    with pytest.raises(ConfigError, match="characters"):
        Limits(characters=0)


@pytest.mark.parametrize("content", [b"", b" \n\t ", b"\xef\xbb\xbf", b"\0\0\0\0"])
def test_empty(content: bytes, tmp_path: Path) -> None:
    assert "empty" in refused(tmp_path, content, "a.txt").given


@pytest.mark.parametrize("text", ["\u00a0\u2003 ", "\u200b\u200e", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_blanks_of_every_kind_are_no_text(text: str, encoding: str, tmp_path: Path) -> None:
    given = refused(tmp_path, (text * 3000).encode(encoding), "a.txt").given
    assert "no text" in given or "empty" in given


@pytest.mark.parametrize(
    "content, words",
    [
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(50), "password"),
        (b"{\\rtf1 hello}", "RTF"),
        (b"\x1f\x8b\x08" + bytes(50), "gzip"),
        (bytes(60) + b"BOOKMOBI" + bytes(60), "Kindle"),
        (samples.archive({"a.txt": "x"}), "ZIP"),
        (samples.archive({"xl/workbook.xml": "x"}), "Excel"),
        (
            samples.archive({"mimetype": "application/vnd.oasis.opendocument.text", "content.xml": "x"}),
            "OpenDocument",
        ),
        (bytes(range(1, 256)) * 20, "binary"),
        (b"some text" + bytes(200) + b"\xff" * 20, "binary"),
    ],
)
def test_other_kinds_are_named(content: bytes, words: str, tmp_path: Path) -> None:
    error = refused(tmp_path, content, "book.pdf")
    assert words in error.given
    assert "PDF, EPUB" in error.allowed


@pytest.mark.parametrize(
    "text", ["BMW builds cars.", "BZhang wrote this.", "Rar! said the lion.", "ID3 is a standard."]
)
def test_words_that_look_like_magic_numbers_are_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(text)
    assert parse_file(path, "a.txt", Limits()).text == text


def test_encrypted_pdf(tmp_path: Path) -> None:
    assert "password" in refused(tmp_path, samples.encrypted_pdf(), "a.pdf").given


def test_scanned_pdf(tmp_path: Path) -> None:
    picture = b"q 600 0 0 800 0 0 cm BI /W 2 /H 2 /CS /G /BPC 8 ID \x00\x60\xa0\xff EI Q"
    assert "scanned" in refused(tmp_path, samples.pdf([[], []], stream=picture), "a.pdf").given
    assert "OCR" in refused(tmp_path, samples.pdf([[]], stream=picture), "a.pdf").do
    assert "scanned" in refused(tmp_path, samples.pdf([[]], stream=b"0 0 m 90 90 l S"), "a.pdf").given


def test_blank_pdf_was_not_scanned(tmp_path: Path) -> None:
    for pages in ([[]], [[], []]):
        error = refused(tmp_path, samples.pdf(pages), "a.pdf")
        assert "no text in this PDF" in error.given
        assert "OCR" not in error.do, "there is nothing to recognise"


@pytest.mark.parametrize("kind", ["pdf", "epub", "docx"])
def test_cut_off_files_are_damaged(kind: str, tmp_path: Path) -> None:
    whole = samples.ALL[kind]()
    cut = whole[: len(whole) // 2] if kind != "pdf" else whole[:40]
    assert "damaged" in refused(tmp_path, cut, f"a.{kind}").given


@pytest.mark.parametrize("kind", samples.ALL)
def test_too_much_text(kind: str, tmp_path: Path) -> None:
    error = refused(tmp_path, samples.ALL[kind](), f"a.{kind}", Limits(characters=100))
    assert "too much text" in error.given
    assert "100 characters" in error.allowed


def test_too_many_pages(tmp_path: Path) -> None:
    assert "3 pages" in refused(tmp_path, samples.pdf([["x"]] * 3), "a.pdf", Limits(pages=2)).given


@pytest.mark.parametrize("content", [b"<html><body><script>x</script></body></html>", b"<html></html>"])
def test_pages_without_text(content: bytes, tmp_path: Path) -> None:
    assert "no text" in refused(tmp_path, content, "a.html").given


class TestArchives:
    @pytest.mark.parametrize("kind", ["epub", "docx"])
    def test_too_many_members(self, kind: str, tmp_path: Path) -> None:
        error = refused(tmp_path, samples.ALL[kind](), f"a.{kind}", Limits(members=3))
        assert "not unpacked" in error.given
        assert "3 are allowed" in error.given

    @pytest.mark.parametrize("kind", ["epub", "docx"])
    def test_too_much_in_all(self, kind: str, tmp_path: Path) -> None:
        assert "holds" in refused(tmp_path, samples.ALL[kind](), f"a.{kind}", Limits(unpacked_bytes=900)).given

    def test_docx_bomb(self, tmp_path: Path) -> None:
        bomb = samples.raw_docx("<w:p/>" * 2 * MEGABYTE)
        assert len(bomb) < 100_000
        assert "times" in refused(tmp_path, bomb, "a.docx").given

    def test_epub_bomb(self, tmp_path: Path) -> None:
        members = samples.epub_members({"one.xhtml": samples.page("<p>" + "a" * 10 * MEGABYTE + "</p>")})
        assert "times" in refused(tmp_path, samples.archive(members), "a.epub").given

    def test_a_member_that_lies_about_its_size_is_counted_while_reading(self, tmp_path: Path) -> None:
        content = bytearray(samples.raw_docx("<w:p/>" * 2 * MEGABYTE))
        place = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 4)  # the second entry of the directory
        content[place + 20 : place + 28] = struct.pack("<II", 5_000_000, 5_000_000)
        refused(tmp_path, bytes(content), "a.docx")

    def test_reading_counts_over_all_members(self, tmp_path: Path) -> None:
        from app.documents.archive import Archive

        path = tmp_path / "a.zip"
        path.write_bytes(samples.archive({"a": "x" * 600}))
        with Archive(path, "archive", Limits(unpacked_bytes=1000)) as archive:
            archive.read("a")
            with pytest.raises(DocumentError, match="more than"):
                archive.read("a")

    def test_encrypted_member(self, tmp_path: Path) -> None:
        content = bytearray(samples.docx())
        for mark, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = content.find(mark)
            while place >= 0:
                content[place + flag] |= 1
                place = content.find(mark, place + 4)
        assert "password" in refused(tmp_path, bytes(content), "a.docx").given

    def test_unusual_packing(self, tmp_path: Path) -> None:
        members = {"word/document.xml": f"<w:document {samples.W}/>"}
        assert "damaged" in refused(tmp_path, samples.archive(members, zipfile.ZIP_LZMA), "a.docx").given

    def test_damaged_member(self, tmp_path: Path) -> None:
        content = samples.archive({"word/document.xml": "<a>" + "text" * 99 + "</a>"}, zipfile.ZIP_STORED)
        error = refused(tmp_path, content.replace(b"texttext", b"textTEXT", 1), "a.docx")
        assert "damaged" in error.given

    def test_strange_names_touch_no_file(self, tmp_path: Path) -> None:
        outside = tmp_path / "secret.xhtml"
        outside.write_text("<p>secret</p>")
        members = samples.epub_members({"one.xhtml": samples.page("<p>Honest.</p>")})
        for name in ("../../secret.xhtml", str(outside), "..\\secret.xhtml"):
            members[name] = "<p>inside</p>"
        members["OEBPS/book.opf"] = str(members["OEBPS/book.opf"]).replace("one.xhtml", str(outside), 1)
        path = tmp_path / "folder" / "upload.epub"
        path.parent.mkdir()
        path.write_bytes(samples.archive(members))
        before = sorted(tmp_path.rglob("*"))
        assert parse_file(path, "a.epub", Limits()).text == "inside"  # the member of that name, not the file
        assert sorted(tmp_path.rglob("*")) == before

    def test_copy_protected_epub(self, tmp_path: Path) -> None:
        members = samples.epub_members({"one.xhtml": "\x9a\x02\x11"})
        encryption = (
            '<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData><CipherData>'
            '<CipherReference URI="OEBPS/{}"/></CipherData></EncryptedData></encryption>'
        )
        members["META-INF/encryption.xml"] = encryption.format("one.xhtml")
        assert "DRM" in refused(tmp_path, samples.archive(members), "a.epub").given
        members = samples.epub_members({"one.xhtml": samples.page("<p>Fine.</p>")})
        members["META-INF/encryption.xml"] = encryption.format("font.otf")
        path = tmp_path / "b"
        path.write_bytes(samples.archive(members))
        assert parse_file(path, "b.epub", Limits()).text == "Fine."


ENTITIES = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">'
    "<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]>"
)
EXTERNAL = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'


class TestMarkup:
    @pytest.mark.parametrize("start, use", [(ENTITIES, "&c;"), (EXTERNAL, "&x;")])
    def test_entities_in_docx(self, start: str, use: str, tmp_path: Path) -> None:
        document = f"{start}<w:document {samples.W}><w:p><w:r><w:t>{use}</w:t></w:r></w:p></w:document>"
        error = refused(tmp_path, samples.archive({"word/document.xml": document}), "a.docx")
        assert "entities" in error.given

    @pytest.mark.parametrize("start, use", [(ENTITIES, "&c;"), (EXTERNAL, "&x;")])
    def test_entities_in_epub(self, start: str, use: str, tmp_path: Path) -> None:
        members = samples.epub_members({"one.xhtml": samples.page("<p>x</p>")}, title=use)
        members["OEBPS/book.opf"] = str(members["OEBPS/book.opf"]).replace('<?xml version="1.0"?>', start)
        assert "entities" in refused(tmp_path, samples.archive(members), "a.epub").given

    def test_entities_in_a_page_mean_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text(EXTERNAL + "<html><body><p>text &x; here</p></body></html>")
        assert "root:" not in parse_file(path, "a.html", Limits()).text

    @pytest.mark.parametrize("tag", ["div", "span", "x:y", "table"])
    def test_deep_html(self, tag: str, tmp_path: Path) -> None:
        content = b"<html><body>" + f"<{tag}>".encode() * 200_000 + b"x"
        assert "nested too deeply" in refused(tmp_path, content, "a.html").given

    def test_deep_docx(self, tmp_path: Path) -> None:
        body = "<w:x>" * 3000 + "</w:x>" * 3000
        assert "nested too deeply" in refused(tmp_path, samples.raw_docx(body), "a.docx").given

    def test_many_unclosed_but_flat_elements_are_fine(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("<html><body>" + "<p>word<b><a name=x>" * 5000)
        assert parse_file(path, "a.html", Limits()).text.count("word") == 5000

    @pytest.mark.parametrize(
        "text", ["<!--" * 50_000, "<" * 100_000, "<a " * 50_000, "<?xml " + "<!" * 50_000, "<!DOCTYPE[" * 50_000]
    )
    def test_unclosed_markup_ends(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("<html><body>text" + text)
        assert "text" in parse_file(path, "a.html", Limits()).text

    @pytest.mark.parametrize(
        "text", ["[" * 50_000, "*a" * 50_000, "_" * 50_000, "`" * 50_000 + "x", "![" * 50_000, "> " * 50_000]
    )
    def test_hostile_markdown_ends(self, text: str, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_text("# Head\n\ntext\n" + text)
        assert parse_file(path, "a.md", Limits()).title == "Head"

    def test_broken_xml(self, tmp_path: Path) -> None:
        assert "damaged" in refused(tmp_path, samples.raw_docx("<w:p>"), "a.docx").given
        members = samples.epub_members({})
        members["OEBPS/book.opf"] = "<package"
        assert "book.opf" in refused(tmp_path, samples.archive(members), "a.epub").given

    def test_missing_parts(self, tmp_path: Path) -> None:
        members = samples.epub_members({})
        del members["OEBPS/book.opf"]
        assert "package file" in refused(tmp_path, samples.archive(members), "a.epub").given


def test_a_parser_that_raises_anything_is_an_error_about_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> object:
        raise KeyError("spine")

    monkeypatch.setattr("app.documents.epub.parse", broken)
    assert "KeyError" in refused(tmp_path, samples.epub(), "a.epub").given


def test_samples_are_valid() -> None:
    with zipfile.ZipFile(io.BytesIO(samples.docx())) as packed:
        assert packed.testzip() is None


def test_a_missing_package_is_named_and_not_taken_for_the_files_fault(tmp_path: Path, monkeypatch) -> None:
    """The library's command line reads books with these parsers, and can be installed without their packages."""
    import sys

    for module in ("app.documents.pdf", "pypdfium2"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    error = refused(tmp_path, samples.two_pages(), "a.pdf")
    assert "a PDF" in error.given and "pypdfium2" in error.given and "pip install" in error.do
