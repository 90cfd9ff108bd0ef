"""Every format: text, order, places and titles survive; what is not text does not appear."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.documents.builder import Parsed
from app.documents.limits import Limits
from app.documents.parse import parse_file
from app.text import normalise
from tests.app.documents import samples

PARTS = {
    "txt": ["opening", "CHAPTER I", "CHAPTER II"],
    "md": ["The Lamp, Winter", "Wreck"],
    "pdf": ["page 1", "page 2"],
    "epub": ["1. Winter", "2. Wreck"],
    "docx": ["Winter", "Wreck"],
    "html": ["Winter", "Wreck"],
}
TITLES = {"txt": "The Lamp", "md": "The Lamp", "pdf": "The Lamp at Orrin", "docx": "The Lamp at Orrin"}
TITLES |= {"epub": "The Lamp", "html": "The Lamp & the Sea"}


def read(tmp_path: Path, content: bytes | str, name: str, limits: Limits | None = None) -> Parsed:
    path = tmp_path / "upload.bin"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return parse_file(path, name, limits or Limits())


def assert_covered(parsed: Parsed) -> None:
    edges = [0, *(end for _, end, _ in parsed.spans)]
    assert [start for start, _, _ in parsed.spans] == edges[:-1]
    assert edges[-1] == len(parsed.text)
    assert all(start < end and label for start, end, label in parsed.spans)


def part(parsed: Parsed, label: str) -> str:
    return next(parsed.text[start:end] for start, end, name in parsed.spans if name == label)


@pytest.mark.parametrize("kind", samples.ALL)
def test_text_places_and_title_come_through(kind: str, tmp_path: Path) -> None:
    parsed = read(tmp_path, samples.ALL[kind](), f"the_file.{kind}")
    assert parsed.kind == kind
    assert parsed.title == TITLES[kind]
    assert_covered(parsed)
    assert [label for _, _, label in parsed.spans] == PARTS[kind]
    positions = [parsed.text.index(paragraph) for paragraph in samples.PARAGRAPHS]
    assert positions == sorted(positions)
    first, last = PARTS[kind][-2], PARTS[kind][-1]
    assert samples.PARAGRAPHS[0] in part(parsed, first)
    assert samples.PARAGRAPHS[2] in part(parsed, last)
    assert not any("read as that" in warning for warning in parsed.warnings)


@pytest.mark.parametrize("kind", samples.ALL)
def test_content_decides_and_a_wrong_extension_is_mentioned(kind: str, tmp_path: Path) -> None:
    wrong = "pdf" if kind != "pdf" else "docx"
    parsed = read(tmp_path, samples.ALL[kind](), f"x.{wrong}")
    assert parsed.kind == ("txt" if kind == "md" else kind)
    assert any(f".{wrong}" in warning for warning in parsed.warnings)
    assert not any(f" a {words}" in warning for words in ("EPUB", "HTML") for warning in parsed.warnings)
    assert read(tmp_path, samples.ALL[kind](), "x").warnings == () or kind == "md"


class TestText:
    def test_title_of_last_resort_is_the_file_name(self, tmp_path: Path) -> None:
        assert read(tmp_path, "Some words. And more of them.", "war_and_peace.txt").title == "war and peace"

    @pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp1252"])
    def test_encodings(self, encoding: str, tmp_path: Path) -> None:
        text = "Le garçon déjà vu mangeait des pâtes à Orléans. " * 20
        assert read(tmp_path, text.encode(encoding), "a.txt").text == text.strip()

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    @pytest.mark.parametrize(
        "text",
        ["The keeper lit the lamp.", "Привет, мир. Это книга.", "שלום עולם. ספר על הים.", "Łódź -- \u201eśnieg\u201d."],
    )
    def test_two_bytes_a_letter_with_and_without_a_mark(self, text: str, encoding: str, tmp_path: Path) -> None:
        found = read(tmp_path, (text * 20).encode(encoding), "a.txt").text
        assert found == normalise(text * 20)

    def test_dense_accents_are_western(self, tmp_path: Path) -> None:
        text = "Café à la crème, déjà vu, naïve. " * 20
        assert read(tmp_path, text.encode("latin-1"), "a.txt").text == text.strip()

    def test_pages_of_blanks_may_come_first(self, tmp_path: Path) -> None:
        assert read(tmp_path, "\n" * 9000 + "Some words.", "a.txt").text == "Some words."

    def test_a_letter_cut_off_at_the_end_does_not_change_the_encoding(self, tmp_path: Path) -> None:
        assert read(tmp_path, ("né " * 9000).encode()[:-2], "a.txt").text.startswith("né né")

    def test_gutenberg_licence_is_left_out_and_said_so(self, tmp_path: Path) -> None:
        text = (
            "The Project Gutenberg eBook of Dracula\n\nTitle: Dracula\n\nAuthor: X\n\n"
            "*** START OF THE PROJECT GUTENBERG EBOOK DRACULA ***\n\nCHAPTER I\n\nThe book.\n\n"
            "*** END OF THE PROJECT GUTENBERG EBOOK DRACULA ***\n\nLicence terms."
        )
        parsed = read(tmp_path, text, "pg345.txt")
        assert parsed.title == "Dracula"
        assert parsed.text == "CHAPTER I\n\nThe book."
        assert "left out" in parsed.warnings[0]

    def test_contents_are_no_chapters_and_names_are_joined(self, tmp_path: Path) -> None:
        text = (
            "CONTENTS\n\nCHAPTER I\nCHAPTER II\n\nCHAPTER I\n\nThe Storm\n\nIt rose.\n\nPART "
            "TWO\n\nCHAPTER II. The Calm"
            "\n\nIt fell.\n\nChapter two was his favourite, he said.\n\nBook one, he thought.\n\nAct "
            "your age."
        )
        labels = [label for _, _, label in read(tmp_path, text, "a.txt").spans]
        assert labels == ["opening", "CHAPTER I: The Storm", "PART TWO, CHAPTER II. The Calm"]

    def test_numbers_alone_head_chapters_when_they_count_up(self, tmp_path: Path) -> None:
        text = "I\n\nOne.\n\nII\n\nTwo.\n\n7\n\nIII.\n\nThree.\n\nI\n\nOne.\n\nII\n\nTwo."
        parsed = read(tmp_path, text, "the_book.txt")
        assert [label for _, _, label in parsed.spans] == ["chapter I", "chapter II", "chapter III"]
        assert parsed.title == "the book"
        assert read(tmp_path, "I\n\nOne.\n\nII\n\nTwo.", "a.txt").spans == ()

    @pytest.mark.parametrize("first", ["I", "by A. Writer", "Translated by B. Writer", "1.", "CONTENTS", "A sentence."])
    def test_what_is_no_title(self, first: str, tmp_path: Path) -> None:
        assert read(tmp_path, f"{first}\n\nThe text begins here.", "the_book.txt").title == "the book"


class TestMarkdown:
    def test_marks_go_and_code_stays(self, tmp_path: Path) -> None:
        text = (
            '---\ntitle: "Front Matter"\n---\n\nSetext\n======\n\nA **bold** _word_, a '
            "[link](http://x/y), `code`,\n"
            "snake_case_name and ![img](a.png)2 * 3 * 4 &amp; more.[^1]\n\n```python\n# no heading\nx = "
            "'**'\n```\n\n"
            "- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<!-- gone -->\n> quoted\n\n#### "
            "Deep\n\n[ref]: http://z\n"
        )
        parsed = read(tmp_path, text, "a.md")
        assert parsed.title == "Front Matter"
        assert [label for _, _, label in parsed.spans] == ["Setext"]
        assert parsed.text == (
            "Setext\n\nA bold word, a link, code, snake_case_name and 2 * 3 * 4 & more.\n\n# no "
            "heading\nx = '**'\n\n"
            "- one\n- two\n\n| a | b |\n| 1 | 2 |\n\nquoted\n\nDeep"
        )

    def test_hard_breaks_stay(self, tmp_path: Path) -> None:
        assert read(tmp_path, "one  \ntwo\\\nthree", "a.md").text == "one\ntwo\nthree"


class TestPdf:
    def test_lines_become_paragraphs_across_pages_without_running_heads(self, tmp_path: Path) -> None:
        body = "the long line of a paragraph that goes on and on until the margin"
        pages = [
            ["The Lamp at Orrin", f"{n}a {body}", f"{n}b {body}", "ends here.", f"New start {n}", str(n)]
            for n in range(1, 6)
        ]
        parsed = read(tmp_path, samples.pdf(pages), "my_scan.pdf")
        assert parsed.title == "my scan"
        assert "Orrin" not in parsed.text
        assert part(parsed, "page 3").strip() == f"3a {body} 3b {body} ends here.\n\nNew start 3"

    def test_a_sentence_goes_on_over_the_page_border(self, tmp_path: Path) -> None:
        parsed = read(tmp_path, samples.pdf([["He walked to the"], ["harbour at night."]]), "a.pdf")
        assert parsed.text == "He walked to the harbour at night."
        assert part(parsed, "page 2") == "harbour at night."

    def test_pages_without_text_are_counted(self, tmp_path: Path) -> None:
        parsed = read(tmp_path, samples.pdf([["One."], [], ["Three."]]), "a.pdf")
        assert [label for _, _, label in parsed.spans] == ["page 1", "page 3"]
        assert "1 of 3 pages" in parsed.warnings[0]


class TestEpub:
    def test_ncx_fragments_cut_one_file_and_numerals_get_the_part_in_front(self, tmp_path: Path) -> None:
        body = (
            '<h2 id="a">I</h2><p>First.</p><p>More.</p><h2><a id="b"/>II</h2><p>Second<sup>'
            '<a href="#n">1</a></sup>.</p>'
        )
        ncx = (
            '<navPoint><navLabel><text>Part One</text></navLabel><content src="all.xhtml"/>'
            '<navPoint><navLabel><text>I</text></navLabel><content src="all.xhtml#a"/></navPoint>'
            '<navPoint><navLabel><text>II</text></navLabel><content src="all.xhtml#b"/></navPoint></navPoint>'
        )
        members = samples.epub_members({"all.xhtml": samples.page(f"<p>Before.</p>{body}")}, ncx=ncx)
        parsed = read(tmp_path, samples.archive(members), "a.epub")
        assert [label for _, _, label in parsed.spans] == ["Part One", "Part One, I", "Part One, II"]
        assert part(parsed, "Part One, II") == "II\n\nSecond."

    def test_headings_serve_where_there_is_no_contents(self, tmp_path: Path) -> None:
        members = samples.epub_members({"a b.xhtml": samples.page("<h1>Only</h1><p>Text.</p>"), "gone.xhtml": ""})
        del members["OEBPS/gone.xhtml"]
        members["OEBPS/book.opf"] = str(members["OEBPS/book.opf"]).replace("a b.xhtml", "a%20b.xhtml")
        parsed = read(tmp_path, samples.archive(members), "a.epub")
        assert [label for _, _, label in parsed.spans] == ["Only"]
        assert "1 of 2 parts" in parsed.warnings[1]


class TestDocx:
    def test_what_counts_and_what_does_not(self, tmp_path: Path) -> None:
        body = (
            "<w:p><w:r><w:t>Kept</w:t><w:tab/><w:t>text</w:t><w:br/><w:t>here</w:t></w:r><w:del><w:r>"
            "<w:delText>gone"
            "</w:delText></w:r></w:del><w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom><w:r>"
            "<w:instrText>PAGE"
            '</w:instrText><w:footnoteReference w:id="2"/></w:r></w:p>'
            '<mc:AlternateContent xmlns:mc="m"><mc:Choice><w:p><w:r><w:t>Box</w:t></w:r></w:p></mc:Choice>'
            "<mc:Fallback><w:p><w:r><w:t>Box</w:t></w:r></w:p></mc:Fallback></mc:AlternateContent>"
            '<w:p><w:pPr><w:pStyle w:val="berschrift1"/></w:pPr><w:r><w:t>Kapitel</w:t></w:r></w:p>'
            "<w:p><w:pPr><w:numPr/></w:pPr><w:r><w:t>item</w:t></w:r></w:p>"
        )
        notes = (
            f'<w:footnotes {samples.W}><w:footnote w:type="separator" w:id="0"><w:p/></w:footnote>'
            '<w:footnote w:id="2"><w:p><w:r><w:t>A note.</w:t></w:r></w:p></w:footnote></w:footnotes>'
        )
        styles = (
            f'<w:styles {samples.W}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style></w:styles>'
        )
        parsed = read(tmp_path, samples.raw_docx(body, footnotes=notes, styles=styles), "a.docx")
        assert parsed.text == "Kept text\nhere\n\nNote: A note.\n\nBox\n\nKapitel\n\n- item"
        assert [label for _, _, label in parsed.spans] == ["opening", "Kapitel"]
        assert parsed.title == "Kapitel"

    def test_tables_become_lines(self, tmp_path: Path) -> None:
        assert "Ship | Crew\nHalcyon | 14\n\n" in read(tmp_path, samples.docx(), "a.docx").text


class TestHtml:
    def test_lists_tables_breaks_and_entities(self, tmp_path: Path) -> None:
        body = (
            "<header>Shop</header><p>One<br>two &lt;b&gt; "
            "x<sup>2</sup></p><ol><li>a<li>b</ol><table><tr><td>1<td>2"
            "<tr><td>3<td><p>4</p></table><pre>a\n  b</pre><p hidden>no</p><p>wor<b>d</b></p>"
            "<table><tr><td><h2>Layout</h2><p>p1</p><p>p2</p></td></tr></table>"
        )
        parsed = read(tmp_path, f"<html><body>{body}</body></html>", "my.html")
        assert parsed.text == ("One\ntwo <b> x2\n\n1. a\n2. b\n\n1 | 2\n3 | 4\n\na\nb\n\nword\n\nLayout\n\np1\n\np2")
        assert parsed.title == "Layout"

    def test_declared_encoding_is_used(self, tmp_path: Path) -> None:
        raw = '<html><head><meta charset="koi8-r"></head><body><p>Привет</p></body></html>'.encode("koi8-r")
        assert read(tmp_path, raw, "a.html").text == "Привет"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
    def test_two_bytes_a_letter_are_a_page_too(self, encoding: str, tmp_path: Path) -> None:
        parsed = read(tmp_path, "<html><body><h1>Één</h1><p>Text here.</p></body></html>".encode(encoding), "a.html")
        assert (parsed.kind, parsed.text) == ("html", "Één\n\nText here.")

    def test_declarations_of_the_document_type_are_no_text(self, tmp_path: Path) -> None:
        head = '<?xml version="1.0"?><!DOCTYPE html [<!ENTITY x "y"> ]>'
        body = '<html xmlns="http://www.w3.org/1999/xhtml"><head><title/></head><body><p>Text.</p></body></html>'
        assert read(tmp_path, head + body, "a.html").text == "Text."
        members = samples.epub_members({"one.xhtml": head + body})
        assert read(tmp_path, samples.archive(members), "a.epub").text == "Text."

    def test_script_and_frame_are_left_out(self, tmp_path: Path) -> None:
        text = read(tmp_path, samples.html(), "a.html").text
        assert "alert" not in text
        assert "Home" not in text
