"""Pictures of experiments: policies against each other, needles, and what an answer owes to each chunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.plots.style import DOCUMENTS, EVICTED, LOCAL, MEMORY, figure, say

_TALL = 380
_LOOKS = {
    "trigger_count": (MEMORY, "circle", "solid"),
    "trigger_bands": (DOCUMENTS[2], "square", "dash"),
    "fifo": (DOCUMENTS[6], "diamond", "dot"),
    "lru": (DOCUMENTS[1], "triangle-up", "dashdot"),
    "decayed_count": (DOCUMENTS[3], "x", "longdash"),
}


def recall_by_capacity(rows: Sequence[tuple[str, float, float]]) -> go.Figure:
    """Draw how much each policy kept, by capacity.

    Args:
        rows: (policy, capacity as a share of what was read in %, recall in %).
    """
    fig = figure(
        "What each policy still held",
        "capacity (% of what was read)",
        "wanted chunks still held (%)",
        "Each line is one policy: of all chunks that a bank without limits would have fetched, how many were still "
        "there. Higher is better; 100 less it is the regret.",
        height=_TALL,
    )
    if not rows:
        return say(fig, "Replay the policies, and they are compared here.")
    for policy in dict.fromkeys(row[0] for row in rows):
        points = sorted((share, recall) for name, share, recall in rows if name == policy)
        _line(fig, policy, [share for share, _ in points], [recall for _, recall in points])
    return _compared(fig)


def recall_over_time(curves: Sequence[tuple[str, Sequence[tuple[int, float]]]], words: str = "") -> go.Figure:
    """Draw how recall went while the text was read.

    Args:
        curves: (policy, (chunks read, recall in % until then)). words: the capacity, for the title.
    """
    fig = figure(
        f"While reading{words}",
        "chunks read",
        "held until then (%)",
        "Where a line begins to fall, its policy has let go of chunks that later text would have fetched.",
        height=_TALL,
    )
    if not curves:
        return say(fig, "Replay the policies, and their course is drawn here.")
    for policy, points in curves:
        _line(fig, policy, [at for at, _ in points], [recall for _, recall in points], markers=False)
    return _compared(fig)


def needle_grid(depths: Sequence[float], capacities: Sequence[int], outcome: np.ndarray) -> go.Figure:
    """Draw what became of the needle.

    Args:
        depths: in %. capacities: in tokens. outcome: [capacities, depths], 0 answered, 1 found, 2 held, 3 evicted;
            not a number where it was not tried.
    """
    fig = figure(
        "Found or lost",
        "depth of the sentence (% of the text)",
        "capacity (tokens)",
        "Each cell is one hiding place: blue was answered, pale blue was found but not said, palest blue was held but "
        "not found, orange was evicted before the question came.",
        height=300,
    )
    if not len(depths):
        return say(fig, "Hide a sentence, and its fate is drawn here.")
    words = ["answered", "found, not said", "held, not found", "evicted"]
    texts = [["" if np.isnan(value) else words[int(value)] for value in row] for row in outcome]
    across, up = [f"{depth:.0f}" for depth in depths], [f"{capacity:,}" for capacity in capacities]
    colours = [MEMORY, "#9dbfe6", "#d3e2f4", EVICTED]
    scale = [[edge, colour] for at, colour in enumerate(colours) for edge in (at / 4, (at + 1) / 4)]
    fig.add_trace(
        go.Heatmap(
            x=across,
            y=up,
            z=outcome,
            text=texts,
            zmin=-0.5,
            zmax=3.5,
            colorscale=scale,
            showscale=False,
            xgap=3,
            ygap=3,
            hovertemplate="depth %{x}%<br>%{y} tokens<br>%{text}<extra></extra>",
        )
    )
    # Words of a heat map shrink to fit their cells: on a phone nobody could read them, and grey ones on orange nowhere.
    cells = [(i, j) for i, row in enumerate(texts) for j, told in enumerate(row) if told]
    fig.add_trace(
        go.Scatter(
            x=[across[j] for _, j in cells],
            y=[up[i] for i, _ in cells],
            text=[texts[i][j].replace(" ", "<br>", 1) for i, j in cells],
            mode="text",
            textfont={"size": 11, "color": ["#ffffff" if outcome[i][j] == 0 else "#000000" for i, j in cells]},
            hoverinfo="skip",
            showlegend=False,
        )
    )
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_yaxes(type="category", showgrid=False)
    return fig


def owed_to_chunks(rows: Sequence[tuple[str, float]]) -> go.Figure:
    """Draw how the answer's log-probability moves when one chunk is taken out of memory.

    Args:
        rows: (what was taken out, log-probability without it less that with all), most needed first.
    """
    fig = figure(
        "What the answer owes to each chunk",
        "change of log-probability (nats)",
        "taken out of memory",
        "Each bar is the same answer with one chunk taken out: far to the left it could not have been given without "
        "that chunk; near zero the chunk was not needed; to the right it only distracted.",
        height=max(260, 120 + 34 * len(rows)),
    )
    if not rows:
        return say(fig, "Choose an answer and weigh its chunks.")
    names, moves = zip(*reversed(rows), strict=True)
    fig.add_trace(
        go.Bar(
            x=list(moves),
            y=list(names),
            orientation="h",
            marker={"color": MEMORY},
            hovertemplate="%{y}: %{x:+.2f} nats<extra></extra>",
        )
    )
    fig.update_yaxes(type="category")
    return fig


def _compared(fig: go.Figure) -> go.Figure:
    """Put the policies' names below the picture: above it, a phone's five lines of them cover the title."""
    fig.update_yaxes(range=[0, 104])
    fig.update_layout(legend={"y": 0, "yref": "container", "yanchor": "bottom"}, margin={"t": 48})
    return fig


def _line(fig: go.Figure, policy: str, x: Sequence[float], y: Sequence[float], markers: bool = True) -> None:
    colour, symbol, dash = _LOOKS.get(policy, (LOCAL, "circle", "solid"))
    fig.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            name=policy,
            mode="lines+markers" if markers else "lines",
            line={"color": colour, "width": 2, "dash": dash},
            marker={"symbol": symbol, "size": 9},
            hovertemplate=f"{policy}<br>%{{x}}: %{{y:.0f}}%<extra></extra>",
        )
    )
