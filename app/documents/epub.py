"""EPUB: the chapters in spine order, named by the book's own table of contents.

The container names the package file (OPF); its manifest maps ids to files, its spine orders them. EPUB 3 has
a navigation page, EPUB 2 an NCX; either maps places (file and fragment) to chapter names.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from app.documents import refusals
from app.documents.archive import Archive
from app.documents.builder import Builder, Parsed
from app.documents.decode import decode
from app.documents.html import add_blocks
from app.documents.limits import Limits
from app.documents.markup import blocks, declared_encoding, open_tags, parse_html

CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml", "")
_NUMERAL = re.compile(r"(?:[IVXLCDM]{1,7}|\d{1,3})\.?")
_LABEL_CHARACTERS = 80

Contents = dict[str, dict[str, str]]  # file -> fragment ("" for its start) -> chapter name


@dataclass
class _Package:
    title: str = ""
    spine: list[str] = field(default_factory=list)
    navigation: str = ""
    ncx: str = ""


def parse(path: Path, stem: str, limits: Limits) -> Parsed:
    """Read an EPUB; see :class:`app.documents.registry.Parser`."""
    builder = Builder(limits)
    with Archive(path, "EPUB", limits) as archive:
        package = _package(archive)
        _refuse_rights(archive, package)
        contents = _contents(archive, package, limits)
        if not contents:
            builder.warn("The book has no table of contents; its headings were used.")
        builder.title = package.title
        missing = 0
        for name in package.spine:
            if name == package.navigation and name not in contents:
                continue  # the table of contents itself
            if name not in archive:
                missing += 1
                continue
            _add_file(builder, archive, name, contents)
        if missing:
            builder.warn(f"{missing} of {len(package.spine)} parts of the book are missing from the file.")
    return builder.result("epub", stem)


def _xml(archive: Archive, name: str) -> Element:
    try:
        root: Element = fromstring(archive.read(name))
    except DefusedXmlException as error:
        raise refusals.entities(archive.words) from error
    except (ParseError, LookupError) as error:  # LookupError: an encoding nobody knows
        raise refusals.broken(archive.words, f"{posixpath.basename(name)[:40]} cannot be parsed") from error
    return root


def _local(element: Any) -> str:
    tag = element.tag
    return tag.rsplit("}", 1)[-1].lower() if isinstance(tag, str) else ""


def _find(root: Element, name: str) -> Iterator[Element]:
    return (element for element in root.iter() if _local(element) == name)


def _resolve(base: str, href: str) -> tuple[str, str]:
    """Return (member name, fragment) of a reference found in ``base``."""
    try:
        parts = urlsplit(href)
    except ValueError:
        return "", ""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(parts.path))) if parts.path else base
    return target, unquote(parts.fragment)


def _package(archive: Archive) -> _Package:
    root_file = ""
    if CONTAINER in archive:
        for element in _find(_xml(archive, CONTAINER), "rootfile"):
            root_file = root_file or element.get("full-path", "")
    if root_file not in archive:
        root_file = next((name for name in archive.names() if name.lower().endswith(".opf")), "")
    if not root_file:
        raise refusals.broken(archive.words, "its package file is missing")
    root = _xml(archive, root_file)
    package = _Package(title=next((element.text or "" for element in _find(root, "title")), ""))
    manifest: dict[str, tuple[str, str]] = {}
    for item in _find(root, "item"):
        name, _ = _resolve(root_file, item.get("href", ""))
        manifest[item.get("id", "")] = (name, item.get("media-type", ""))
        if "nav" in item.get("properties", "").split():
            package.navigation = name
        if item.get("media-type") == "application/x-dtbncx+xml":
            package.ncx = name
    for reference in _find(root, "itemref"):
        name, kind = manifest.get(reference.get("idref", ""), ("", ""))
        if name and kind in _PAGES:
            package.spine.append(name)
    package.spine = list(dict.fromkeys(package.spine))  # a chapter named twice is read once
    return package


def _refuse_rights(archive: Archive, package: _Package) -> None:
    """Refuse copy-protected books. Fonts are often encrypted in free books too: only chapters count."""
    if _ENCRYPTION in archive:
        for reference in _find(_xml(archive, _ENCRYPTION), "cipherreference"):
            if _resolve("", reference.get("URI", ""))[0] in package.spine:
                raise refusals.rights_managed()


def _contents(archive: Archive, package: _Package, limits: Limits) -> Contents:
    contents: Contents = {}
    if package.navigation in archive:
        text, _ = decode(archive.read(package.navigation), "utf-8")
        tree = parse_html(open_tags(text), limits)
        lists = tree.css("nav")
        for nav in [n for n in lists if "toc" in (n.attributes.get("epub:type") or "toc")][:1]:
            for link in nav.css("a"):
                above = _item_above(link)
                _enter(
                    contents,
                    package.navigation,
                    link.attributes.get("href") or "",
                    link.text(deep=True),
                    above,
                )
    if not contents and package.ncx in archive:
        root = _xml(archive, package.ncx)
        stack = [(root, "")]
        while stack:
            element, above = stack.pop()
            if _local(element) == "navpoint":
                label = next((text.text or "" for text in _find(element, "text")), "")
                source = next((place.get("src", "") for place in _find(element, "content")), "")
                _enter(contents, package.ncx, source, label, above)
                above = " ".join(label.split())
            stack.extend((child, above) for child in reversed(element))
    return contents


def _item_above(link: Any) -> str:
    """Return the name of the entry that the entry of ``link`` is listed under."""
    node, items = link.parent, 0
    while node is not None and node.tag != "nav":
        if node.tag == "li":
            items += 1
            if items == 2:
                first = node.css_first("a,span")
                return " ".join(first.text(deep=True).split()) if first is not None else ""
        node = node.parent
    return ""


def _enter(contents: Contents, base: str, href: str, label: str, above: str) -> None:
    name, fragment = _resolve(base, href)
    label = " ".join(label.split())
    if _NUMERAL.fullmatch(label) and above and len(above) + len(label) < _LABEL_CHARACTERS:
        label = f"{above}, {label}"  # "II" alone says little
    if name and label:
        contents.setdefault(name, {}).setdefault(fragment, label)


def _add_file(builder: Builder, archive: Archive, name: str, contents: Contents) -> None:
    raw = archive.read(name)
    text, _ = decode(raw, declared_encoding(raw))
    tree = parse_html(open_tags(text), builder.limits)
    places = contents.get(name, {})
    if places.get(""):
        builder.start(places[""])
    named = bool(contents)
    for block in blocks(tree, places):
        if block.anchor:
            builder.start(places[block.anchor])
        elif named:
            builder.add(block.text, glue=block.glue)
        else:
            add_blocks(builder, [block])
