"""Documents of every format, built on the spot."""

from __future__ import annotations

import io
import zipfile
import zlib

PARAGRAPHS = (
    "It was the third winter of the lamp-keeper's service, and the sea had not once been kind.",
    "Her brother Anselm wrote every month; his letters came by the grain boat and smelt of tar.",
    "Nobody in Port Orrin knew that the lamp had gone out for an hour on the night of the wreck.",
)


def pdf(pages: list[list[str]], title: str = "", stream: bytes | None = None) -> bytes:
    """Return a PDF, a line of text per string; ``stream`` replaces the content of the first page."""
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
        b"<< /Title (" + title.encode("latin-1") + b") >>",
    ]
    kids = []
    for index, lines in enumerate(pages):
        drawn = b"BT /F1 12 Tf 72 720 Td 14 TL\n"
        for line in lines:
            safe = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
            drawn += b"(" + safe.encode("cp1252") + b") Tj T*\n"
        content = zlib.compress(stream if stream is not None and index == 0 else drawn + b"ET")
        kids.append(f"{len(objects) + 1} 0 R")
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            b"/Contents %d 0 R >>" % (len(objects) + 2)
        )
        objects.append(b"<< /Length %d /Filter /FlateDecode >>\nstream\n" % len(content) + content + b"\nendstream")
    objects[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>".encode()
    return _pdf_file(objects, b"/Root 1 0 R /Info 4 0 R")


def encrypted_pdf() -> bytes:
    """Return a PDF whose encryption dictionary no empty password opens."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [] /Count 0 >>",
        b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -1340 /O <" + b"41" * 32 + b"> /U <" + b"42" * 32 + b"> >>",
    ]
    return _pdf_file(objects, b"/Root 1 0 R /Encrypt 3 0 R /ID [<" + b"43" * 16 + b"> <" + b"43" * 16 + b">]")


def _pdf_file(objects: list[bytes], trailer: bytes) -> bytes:
    out = bytearray(b"%PDF-1.5\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer\n<< /Size %d " % (len(objects) + 1) + trailer + b" >>\nstartxref\n%d\n%%%%EOF\n" % start
    return bytes(out)


def archive(members: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a ZIP archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return file.getvalue()


CONTAINER = (
    '<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">'
    '<rootfiles><rootfile full-path="OEBPS/book.opf" '
    'media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def page(body: str, title: str = "") -> str:
    """Return an XHTML page; an empty title is written as ``<title/>``, which HTML parsers stumble over."""
    head = f"<title>{title}</title>" if title else "<title/>"
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head>{head}</head><body>{body}</body></html>'
    )


def epub_members(
    chapters: dict[str, str], title: str = "The Lamp", nav: str | None = None, ncx: str | None = None
) -> dict[str, bytes | str]:
    """Return the members of an EPUB: ``chapters`` maps file names to XHTML, in spine order."""
    items = "".join(
        f'<item id="c{i}" href="{name}" media-type="application/xhtml+xml"/>' for i, name in enumerate(chapters)
    )
    if nav:
        items += '<item id="nav" href="nav.xhtml" properties="nav" media-type="application/xhtml+xml"/>'
    if ncx:
        items += '<item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{title}</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    members: dict[str, bytes | str] = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": package,
    }
    members |= {f"OEBPS/{name}": text for name, text in chapters.items()}
    if nav:
        members["OEBPS/nav.xhtml"] = page(f'<nav epub:type="toc">{nav}</nav>')
    if ncx:
        members["OEBPS/toc.ncx"] = (
            '<?xml version="1.0"?><!DOCTYPE ncx PUBLIC "-//NISO//DTD ncx 2005-1//EN" '
            '"http://www.daisy.org/z3986/2005/ncx-2005-1.dtd">'
            f'<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>{ncx}</navMap></ncx>'
        )
    return members


def epub() -> bytes:
    """Return a book of two chapters with a navigation page."""
    return archive(
        epub_members(
            {
                "one.xhtml": page(f"<h1>Winter</h1><p>{PARAGRAPHS[0]}</p><p>{PARAGRAPHS[1]}</p>"),
                "two.xhtml": page(f"<h1>Wreck</h1><p>{PARAGRAPHS[2]}</p>", title="x"),
            },
            nav=('<ol><li><a href="one.xhtml">1. Winter</a></li><li><a href="two.xhtml">2. Wreck</a></li></ol>'),
        )
    )


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def raw_docx(body: str, **parts: str) -> bytes:
    """Return a minimal DOCX from WordprocessingML; ``parts`` are further files of ``word/``."""
    members: dict[str, bytes | str] = {
        "[Content_Types].xml": "<Types/>",
        "word/document.xml": f"<?xml version='1.0'?><w:document {W}><w:body>{body}</w:body></w:document>",
    }
    return archive(members | {f"word/{name}.xml": content for name, content in parts.items()})


def docx() -> bytes:
    """Return a document written by python-docx: title, headings, list, table."""
    import docx as python_docx

    document = python_docx.Document()
    document.core_properties.title = "The Lamp at Orrin"
    document.add_heading("Winter", 1)
    document.add_paragraph(PARAGRAPHS[0])
    document.add_paragraph(PARAGRAPHS[1])
    document.add_heading("Wreck", 2)
    table = document.add_table(rows=2, cols=2)
    for row, cells in zip(table.rows, (("Ship", "Crew"), ("Halcyon", "14")), strict=True):
        for cell, text in zip(row.cells, cells, strict=True):
            cell.text = text
    document.add_paragraph(PARAGRAPHS[2])
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def html() -> bytes:
    """Return a page with a frame, a script and two chapters."""
    return (
        "<!DOCTYPE html><html><head><title>The Lamp &amp; the Sea</title><style>p{}</style></head><body>"
        "<nav><a href=x>Home</a></nav><script>alert('no')</script>"
        f"<h1>Winter</h1><p>{PARAGRAPHS[0]}</p><p>{PARAGRAPHS[1]}</p><h2>Wreck</h2><p>{PARAGRAPHS[2]}</p>"
        "</body></html>"
    ).encode()


def txt() -> bytes:
    """Return hard-wrapped text with two chapters."""
    import textwrap

    wrapped = [textwrap.fill(text, 60) for text in PARAGRAPHS]
    return "\n\n".join(["The Lamp", "CHAPTER I", *wrapped[:2], "CHAPTER II", wrapped[2]]).encode()


def md() -> bytes:
    """Return Markdown with two chapters."""
    one, two, three = PARAGRAPHS
    return f"# The Lamp\n\n## Winter\n\n{one}\n\n*{two}*\n\n## Wreck\n\n{three}\n".encode()


def two_pages() -> bytes:
    """Return a PDF of two pages."""
    return pdf([[PARAGRAPHS[0], PARAGRAPHS[1]], [PARAGRAPHS[2]]], title="The Lamp at Orrin")


ALL = {"txt": txt, "md": md, "pdf": two_pages, "epub": epub, "docx": docx, "html": html}
