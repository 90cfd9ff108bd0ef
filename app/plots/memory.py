"""Pictures of the bank: how full it was, what left it, how often chunks were triggered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app.plots.style import EVICTED, FONT_SIZE, LOCAL, MEMORY, figure, here, say

MOST_POINTS = 400
_FEW_CHUNKS = 5


def occupancy(
    fills: Sequence[tuple[int, int, int, int, int | None]], step: int | None = None, now: int | None = None
) -> go.Figure:
    """Draw how full the bank was and what had been evicted.

    Args:
        fills: (step, chunks written, chunks evicted, tokens held, capacity in tokens or None), by rising
            step.
        step: where the view was wound back to; None is now.
        now: the last event, up to which the bank has been as it last became; None is that of ``fills``.
    """
    fig = figure(
        "Occupancy and evictions over time",
        "session clock (events)",
        "tokens in the bank",
        "The blue area is what the bank holds; where it meets the dotted line the bank is full, and the "
        "orange line (right axis) counts the chunks that had to leave.",
    )
    if not fills:
        return say(fig, "Read a document, and the bank fills here.")
    # A capacity that was changed before anything was read never held anything, and would flatten all that follows.
    empty = next((at for at, fill in enumerate(fills) if fill[1]), len(fills))
    kept = _thin(fills[max(empty - 1, 0) :])
    if now is not None and now > kept[-1][0]:
        kept = [*kept, (now, *kept[-1][1:])]
    steps, written, evicted, tokens, capacity = (np.array(column, dtype=np.float32) for column in zip(*kept))
    hover = "event %{x:,}<br>%{y:,} tokens held<br>%{customdata:,} chunks read<extra></extra>"
    fig.add_trace(
        go.Scatter(
            x=steps, y=tokens, name="held", mode="lines", line={"color": MEMORY, "width": 2, "shape": "hv"},
            fill="tozeroy", fillcolor="rgba(43,108,176,0.18)", customdata=written, hovertemplate=hover,
        )
    )  # fmt: skip
    if not np.isnan(capacity).all():
        turns = np.r_[True, np.diff(capacity) != 0]
        turns[-1] = True  # drawn up to now
        fig.add_trace(
            go.Scatter(
                x=steps[turns], y=capacity[turns], name="capacity", mode="lines",
                line={"color": LOCAL, "dash": "dot", "width": 2, "shape": "hv"},
                hovertemplate="capacity %{y:,}<extra></extra>",
            )
        )  # fmt: skip
    fig.add_trace(
        go.Scatter(
            x=steps, y=evicted, name="evicted", yaxis="y2", mode="lines",
            line={"color": EVICTED, "width": 2, "shape": "hv"},
            hovertemplate="%{y:,} chunks evicted<extra></extra>",
        )
    )  # fmt: skip
    most = max(float(evicted.max()), 4.0)
    fig.update_layout(
        yaxis={"rangemode": "tozero"},
        yaxis2={
            "title": {"text": "chunks evicted", "font": {"size": FONT_SIZE}}, "overlaying": "y",
            "side": "right", "showgrid": False,
            "range": [0, most * 1.1], "automargin": True,
        },
    )  # fmt: skip
    if step is not None:
        here(fig, step, "looked at")
    return fig


def trigger_counts(bars: Sequence[tuple[str, int, int]]) -> go.Figure:
    """Draw how many chunks were triggered how often.

    Args:
        bars: (trigger count or range of counts, chunks held, chunks that left).
    """
    fig = figure(
        "How often chunks were triggered",
        "trigger count (times among the top-k)",
        "chunks",
        "Each bar counts the chunks with that many triggers: blue ones are in memory, orange ones have left. "
        "A good policy has its orange on the left.",
    )
    if not bars:
        return say(fig, "Read a document, and its chunks are counted here.")
    names, held, left = zip(*bars)
    for name, counts, colour in (("in memory", held, MEMORY), ("left", left, EVICTED)):
        fig.add_trace(
            go.Bar(
                x=names, y=counts, name=name, marker={"color": colour},
                hovertemplate=f"%{{y:,}} chunks {name}, triggered %{{x}} times<extra></extra>",
            )
        )  # fmt: skip
    fig.update_layout(barmode="stack")
    fig.update_xaxes(type="category")
    fig.update_yaxes(rangemode="tozero")
    if max(map(sum, zip(held, left))) <= _FEW_CHUNKS:  # plotly would mark fifths of a chunk
        fig.update_yaxes(dtick=1)
    return fig


def _thin(
    fills: Sequence[tuple[int, int, int, int, int | None]],
) -> list[tuple[int, int, int, int, int | None]]:
    """Return at most MOST_POINTS of them, the last one included."""
    if len(fills) <= MOST_POINTS:
        return list(fills)
    picked = np.linspace(0, len(fills) - 1, MOST_POINTS).round().astype(int)
    return [fills[i] for i in picked]
