"""What a map on a page has to be told so that it shows other cells: all of them, or only those that changed.

A step of the replay slider changes a handful of some thousand cells. Sent whole, every step would cost the same as
the first picture, and the page would paint every cell again.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.plots.style import DOCUMENTS
from app.rows.cells import DELETED, Cells
from app.text import one_line

WHOLE = -1
"""The base of a value that holds every cell."""

_SERIALS = itertools.count(1)  # one for all pages: two values that are made at once never have the same


@dataclass(frozen=True)
class Sent:
    """What a page's map shows once it has taken everything sent.

    Attributes:
        serial: of the last value. cells, colour: what it told.
    """

    serial: int
    cells: Cells
    colour: str


def pack(cells: Cells, titles: Mapping[int, str], colour: str = "attention", serial: int = 0) -> dict[str, Any]:
    """Return all cells as base64 of little-endian arrays.

    What the page works out itself is left out: ids that count 0, 1, 2 ..., and the place on the colour ramp, but for
    attention. Documents and places in them are runs of (document, first place, cells) where that is shorter.
    """
    runs = _runs(cells)
    short = 3 * len(runs) * 4 < 6 * len(cells)
    return {
        "base": WHOLE,
        "serial": serial,
        "at": "",
        "state": _base64(cells.states),
        "level": _base64(cells.levels) if colour == "attention" else "",
        "count": _base64(cells.counts),
        "runs": _base64(runs.astype(np.int32)) if short else "",
        "doc": "" if short else _base64(cells.docs),
        "index": "" if short else _base64(cells.indices),
        "ids": "" if _plain(cells) else _base64(cells.chunk_ids),
    } | _about(cells, titles)


def changes(sent: Sent | None, cells: Cells, titles: Mapping[int, str], colour: str) -> dict[str, Any]:
    """Return what turns the map that was sent into these cells: the changed ones, or all where most are."""
    serial = next(_SERIALS)
    old = None if sent is None or sent.colour != colour else sent.cells
    if old is None or not len(cells) or not _same_places(old, cells):
        return pack(cells, titles, colour, serial)
    levels = colour == "attention"
    other = (old.states != cells.states) | (old.counts != cells.counts) | (old.chunk_ids != cells.chunk_ids)
    at = np.flatnonzero(other | (old.levels != cells.levels) if levels else other)
    if 2 * len(at) > len(cells):
        return pack(cells, titles, colour, serial)
    return {
        "base": sent.serial if sent else WHOLE,
        "serial": serial,
        "at": _base64(at.astype(np.uint32)),
        "state": _base64(cells.states[at]),
        "level": _base64(cells.levels[at]) if levels else "",
        "count": _base64(cells.counts[at]),
        "ids": _base64(cells.chunk_ids[at]),
    } | _about(cells, titles)


def _about(cells: Cells, titles: Mapping[int, str]) -> dict[str, Any]:
    shown = {int(doc) for doc in np.unique(cells.docs)}
    return {
        "n": len(cells),
        "recent": list(cells.recent),
        "low": cells.low,
        "high": cells.high,
        "palette": DOCUMENTS,
        "documents": [[doc, one_line(titles.get(doc, "conversation"), 60)] for doc in sorted(shown)],
    }


def _same_places(old: Cells, new: Cells) -> bool:
    return np.array_equal(old.docs, new.docs) and np.array_equal(old.indices, new.indices)


def _plain(cells: Cells) -> bool:
    known = cells.states <= DELETED
    return bool((cells.chunk_ids[known] == np.flatnonzero(known)).all())


def _runs(cells: Cells) -> np.ndarray:
    """Return rows of (document, first place in it, cells) for cells whose places count up by one."""
    if not len(cells):
        return np.zeros((0, 3), np.int64)
    docs, places = cells.docs.astype(np.int64), cells.indices.astype(np.int64)
    starts = np.flatnonzero(np.r_[True, (np.diff(docs) != 0) | (np.diff(places) != 1)])
    lengths = np.diff(np.r_[starts, len(cells)])
    return np.stack([docs[starts], places[starts], lengths], axis=1)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(values.astype(values.dtype.newbyteorder("<")).tobytes()).decode("ascii")
