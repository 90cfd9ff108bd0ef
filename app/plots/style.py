"""What all pictures share: colours, transparent grounds and mid-grey text, which both themes can carry.

Blue and orange stay apart for every kind of colour blindness; green (pinned) never stands without a frame or
a word beside it.
"""

from __future__ import annotations

import textwrap
from typing import Any

import plotly.graph_objects as go

LOCAL, MEMORY, EVICTED, PINNED = "#8a8f98", "#2b6cb0", "#d97706", "#15803d"
TEXT, GRID = "#7d838c", "rgba(138,143,152,0.28)"  # of saved pictures; on the page app.css colours words
RAMP = [[0.0, "rgba(43,108,176,0.05)"], [1.0, "rgba(36,104,182,1)"]]  # rises on a light and on a dark ground
FONT_SIZE = 13
MOST_CELLS = 10_000  # of one picture: above that, redrawing takes longer than a fifth of a second
# Zooming takes a mouse, and each button is one more stop for whoever goes by keyboard: download and reset remain.
_TOOLS = ["zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale"]

# What our kinds of pictures use of plotly's own template, which would add 7 kB to every one of them.
_AXIS = {"ticks": "", "title": {"standoff": 15}, "zerolinewidth": 2}
_TEMPLATE = go.layout.Template(
    layout={"autotypenumbers": "strict", "hovermode": "closest", "xaxis": _AXIS, "yaxis": _AXIS},
    data={
        "heatmap": [go.Heatmap(colorbar={"outlinewidth": 0, "ticks": ""})],
        "bar": [go.Bar(marker={"line": {"color": "#e5ecf6", "width": 0.5}})],
    },
)

DOCUMENTS = ("#2b6cb0", "#cc79a7", "#56b4e9", "#b39b00", "#7b5ea7", "#1a9e9e", "#8c6d4f", "#6b7fd7")
"""Colours of documents, by id, over and over; none is that of an evicted or a pinned chunk."""


def figure(title: str, x: str, y: str, how: str, height: int = 320) -> go.Figure:
    """Return an empty figure with a title, axis names with units, and a sentence on how to read it."""
    axis: dict[str, Any] = {"gridcolor": GRID, "zerolinecolor": GRID, "linecolor": GRID, "automargin": True}
    # In one go: each update of a figure is checked against all that a layout can hold.
    return go.Figure(
        layout={
            "template": _TEMPLATE,
            "title": {
                "text": f"<b>{title}</b>", "font": {"size": 15}, "x": 0, "xref": "container", "xanchor": "left",
                "y": 1, "yref": "container", "yanchor": "top", "pad": {"l": 10, "t": 14},
            },
            "margin": {"l": 58, "r": 16, "t": 74, "b": 48},
            "height": height,
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"color": TEXT, "size": FONT_SIZE},
            "legend": {
                "orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "xanchor": "left", "bgcolor": "rgba(0,0,0,0)",
            },
            "hoverlabel": {"align": "left"},
            "bargap": 0.08,
            "meta": {"how": how},
            "dragmode": False,
            "modebar": {"remove": _TOOLS, "bgcolor": "rgba(0,0,0,0)", "color": TEXT, "activecolor": MEMORY},
            "xaxis": {"title": {"text": x, "font": {"size": FONT_SIZE}}, **axis},
            "yaxis": {"title": {"text": y, "font": {"size": FONT_SIZE}}, **axis},
        }
    )  # fmt: skip


def how_to_read(fig: go.Figure) -> str:
    """Return the sentence that goes under a figure."""
    return str(fig.layout.meta["how"])


def say(fig: go.Figure, words: str) -> go.Figure:
    """Write into an empty figure what to do to fill it; axes would promise data, so they go."""
    lines = "<br>".join(textwrap.wrap(words, 30))  # as wide as a phone shows
    fig.add_annotation(text=lines, xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False, font={"size": 14})
    fig.update_xaxes(showgrid=False, zeroline=False, showticklabels=False)
    fig.update_yaxes(showgrid=False, zeroline=False, showticklabels=False)
    return fig


def plain(text: object) -> str:
    """Return text as plotly shows it: its few tags (it knows ``<b>`` and links) must not come from a
    document.
    """
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def here(fig: go.Figure, x: float, words: str) -> None:
    """Mark the step that a view was wound back to."""
    fig.add_vline(x=x, line={"color": TEXT, "dash": "dot", "width": 2})
    fig.add_annotation(x=x, y=1, yref="paper", text=words, showarrow=False, yanchor="top", xanchor="left", xshift=4)
