"""What every picture has to have."""

from __future__ import annotations

from typing import Any

from app.plots.style import how_to_read


def explained(fig: Any, empty: bool = False) -> None:
    """Assert title, axis names and a sentence; and for an empty picture, words about what to do."""
    assert fig.layout.title.text
    assert fig.layout.xaxis.title.text
    assert fig.layout.yaxis.title.text
    assert {"zoomin", "lasso"} <= set(fig.layout.modebar.remove), "few stops for the keyboard"
    assert len(how_to_read(fig)) > 40
    assert how_to_read(fig).endswith(".")
    if empty:
        assert not fig.data
        assert any(len(note.text) > 15 for note in fig.layout.annotations)
