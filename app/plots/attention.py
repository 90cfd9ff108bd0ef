"""Pictures of attention: which layer looked at which chunk, memory against local context, score against
mass.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import plotly.graph_objects as go

from app.plots.style import FONT_SIZE, LOCAL, MEMORY, MOST_CELLS, RAMP, TEXT, figure, plain, say

NOTHING = "Ask a question from memory, and where its answer looked is drawn here."
IGNORED, NOTICED = 0.005, 0.02
"""Mean attention mass under which a fetched chunk counts as ignored, and above which as noticed."""
PLACES = 2
"""Places that a chunk has to stand higher by attention than by score before its score counts as little."""
MARGIN = 0.05
"""Score beside the dots where all scores are alike."""


def layers_by_chunks(
    mass_LN: np.ndarray,
    layers: Sequence[int],
    chunks: Sequence[str],
    stored: Collection[int] = (),
    whose: str = "all tokens, mean over heads",
) -> go.Figure:
    """Draw attention mass [L, N] as a heat map.

    Args:
        layers: retrieval layers [L]. chunks: names of chunks [N]. stored: layers whose K-V the bank holds.
        whose: which token and head this is, in words.
    """
    fig = figure(
        "Which layer looked at which chunk",
        "chunk (number, document order)",
        "retrieval layer",
        "Each cell is one retrieval layer and one retrieved chunk; the stronger the blue, the larger the share of "
        "attention that falls on the chunk. A layer marked with * is a memory layer too: the bank stores its K-V "
        "pairs.",
        height=_height(layers),
    )
    if not mass_LN.size:
        return say(fig, NOTHING)
    mass_LN, layers, chunks = pooled(mass_LN, layers, chunks)
    short = [plain(name.split(" (")[0].removeprefix("chunk ")) for name in chunks]
    full = np.tile([plain(name) for name in chunks], (len(layers), 1))
    names = _marked(layers, stored)
    percent_LN = np.asarray(mass_LN, dtype=np.float32) * 100
    fig.add_trace(
        go.Heatmap(
            z=percent_LN,
            x=short, y=names, customdata=full,
            colorscale=RAMP, zmin=0, zmax=float(percent_LN.max()) or 1.0, xgap=2, ygap=2,
            colorbar={"title": {"text": "% of attention", "side": "right", "font": {"size": FONT_SIZE}},
                      "thickness": 12, "outlinewidth": 0},
            hovertemplate="layer %{y}<br>%{customdata}<br>%{z:.2f}% of attention<extra></extra>",
        )
    )  # fmt: skip
    fig.add_annotation(
        text=plain(whose), xref="paper", yref="paper", x=0, y=1.02, yanchor="bottom", xanchor="left", showarrow=False
    )
    fig.update_xaxes(type="category", showgrid=False)
    fig.update_yaxes(type="category", showgrid=False)
    return fig


def pooled(
    mass_LN: np.ndarray, layers: Sequence[int], chunks: Sequence[str]
) -> tuple[np.ndarray, Sequence[int], Sequence[str]]:
    """Return at most MOST_CELLS cells: neighbouring chunks share one that shows the largest of them."""
    most = max(1, MOST_CELLS // max(1, len(layers)))
    if len(chunks) <= most:
        return mass_LN, layers, chunks
    starts = np.linspace(0, len(chunks), most, endpoint=False).astype(int)
    ends = [*(starts[1:] - 1), len(chunks) - 1]
    names = [chunks[a] if a == b else f"{chunks[a]} to {chunks[b]}" for a, b in zip(starts, ends)]
    return np.maximum.reduceat(mass_LN, starts, axis=1), layers, names


def share_by_layer(share_L: np.ndarray, layers: Sequence[int], stored: Collection[int] = ()) -> go.Figure:
    """Draw local context against memory [L] for each retrieval layer."""
    fig = figure(
        "Local against memory, by layer",
        "% of attention",
        "retrieval layer",
        "Each bar is one retrieval layer's attention: blue goes to memory, grey to the local context (the question "
        "and the answer so far). Long blue bars are the layers that rely on memory; * marks memory layers.",
        height=_height(layers),
    )
    if not len(layers):
        return say(fig, NOTHING)
    memory = np.asarray(share_L, dtype=np.float32) * 100
    for name, values, colour in _parts(memory):
        fig.add_trace(
            go.Bar(
                x=values, y=_marked(layers, stored), name=name, orientation="h", marker={"color": colour},
                hovertemplate="layer %{y}<br>%{x:.1f}% on " + name + "<extra></extra>",
            )
        )  # fmt: skip
    fig.update_layout(barmode="stack")
    fig.update_xaxes(range=[0, 100])
    fig.update_yaxes(type="category", showgrid=False)
    return fig


def share_by_token(share_T: np.ndarray, tokens: Sequence[str], chosen: int | None = None) -> go.Figure:
    """Draw local context against memory [T] for each generated token, with the chosen one framed."""
    fig = figure(
        "Local against memory, by token",
        "generated token (in order)",
        "% of attention",
        "Each bar is one token of the answer: blue is the share of attention that went to memory while it was chosen. "
        "A token with much blue was taken from the book; one with little follows from what stands before it.",
    )
    if not len(tokens):
        return say(fig, NOTHING)
    places = list(range(1, len(tokens) + 1))
    _stack(fig, places, share_T, "token %{x}: %{customdata}", [plain(repr(token)) for token in tokens])
    if len(tokens) <= 40:
        texts = [plain(token.strip() or "_")[:14] for token in tokens]
        fig.update_xaxes(tickvals=places, ticktext=texts, tickangle=-60)
    if chosen is not None:
        fig.add_vrect(x0=chosen + 0.5, x1=chosen + 1.5, line={"color": TEXT, "width": 2}, fillcolor="rgba(0,0,0,0)")
    return fig


def score_against_mass(
    scores: Sequence[float], masses: Sequence[float], chunks: Sequence[str], chosen: int | None = None
) -> go.Figure:
    """Draw what the retriever thought of each chunk against what the model made of it.

    Args:
        scores: retrieval scores [N]. masses: mean attention mass [N]. chosen: one to mark.
    """
    fig = figure(
        "Score against attention mass",
        "retrieval score (best of this answer)",
        "% of attention (mean)",
        "Each mark is a retrieved chunk. A cross, low on the right: fetched with a good score, but ignored by "
        "the model. A diamond: two places or more higher by attention than by score. Attention is the mean over the "
        "layers and tokens shown.",
    )
    fig.update_layout(margin={"t": 112})  # on a phone, four names take three lines
    known = [i for i, score in enumerate(scores) if not np.isnan(score)]
    if not known:
        return say(fig, NOTHING)
    middle = float(np.median([scores[i] for i in known]))
    rises = {i: _above(scores, i, known) - _above(masses, i, known) for i in known}
    best = max(scores[i] for i in known)
    # Of one good score and three next to nothing, the middle is next to nothing too.
    good = {i for i in known if scores[i] >= middle and (best <= 0 or scores[i] >= best / 2)}
    kinds = {i: kind_of(i in good, masses[i], rises[i]) for i in known}
    for kind, symbol in (
        ("used", "circle"), ("fetched but ignored", "x"), ("little score, much attention", "diamond"),
        ("little of both", "circle-open"),
    ):  # fmt: skip
        mine = [i for i in known if kinds[i] == kind]
        if mine:
            fig.add_trace(
                go.Scatter(
                    x=np.array([scores[i] for i in mine], dtype=np.float32),
                    y=np.array([100 * masses[i] for i in mine], dtype=np.float32),
                    mode="markers", cliponaxis=False, name=kind, customdata=[plain(chunks[i]) for i in mine],
                    marker={"color": MEMORY, "symbol": symbol, "size": 12, "line": {"width": 2, "color": MEMORY}},
                    hovertemplate="%{customdata}<br>score %{x:.3f}<br>%{y:.2f}% of attention<extra>"
                    + f"{kind}</extra>",
                )
            )  # fmt: skip
    if chosen is not None and chosen in kinds:
        fig.add_annotation(x=scores[chosen], y=100 * masses[chosen], text=plain(chunks[chosen]), ax=0, ay=-28)
    fig.update_yaxes(rangemode="tozero")
    lowest, highest = min(scores[i] for i in known), max(scores[i] for i in known)
    if highest - lowest < 2 * MARGIN:  # of equal scores plotly would draw an axis from below 0 to above 1
        fig.update_xaxes(range=[lowest - MARGIN, highest + MARGIN])
    return fig


def _above(values: Sequence[float], one: int, known: Sequence[int]) -> int:
    """Return how many values are larger than one of them, as far as a picture tells: equal ones share a place."""
    return sum(round(values[i], 3) > round(values[one], 3) for i in known)


def kind_of(good: bool, mass: float, rise: int) -> str:
    """Say in words what became of a fetched chunk.

    Args:
        good: whether its score is in the better half, and no less than half of the best.
        rise: places that it stands higher by attention than by score.
    """
    if mass < IGNORED:
        return "fetched but ignored" if good else "little of both"
    return "little score, much attention" if rise >= PLACES and mass >= NOTICED else "used"


def _height(layers: Sequence[int]) -> int:
    """Return the height of a picture with a row for each layer, the same for all of them."""
    return max(300, min(620, 150 + 18 * len(layers)))


def _marked(layers: Sequence[int], stored: Collection[int]) -> list[str]:
    return [f"{layer} *" if layer in stored else str(layer) for layer in layers]


def _parts(memory: np.ndarray) -> tuple[tuple[str, np.ndarray, str], ...]:
    return ("memory", memory, MEMORY), ("local context", 100 - memory, LOCAL)


def _stack(
    fig: go.Figure, x: Sequence[object], share: np.ndarray, what: str, texts: Sequence[str] | None = None
) -> None:
    memory = np.asarray(share, dtype=np.float32) * 100
    for name, values, colour in _parts(memory):
        fig.add_trace(
            go.Bar(
                x=list(x), y=values, name=name, marker={"color": colour}, customdata=texts,
                hovertemplate=what + "<br>%{y:.1f}% on " + name + "<extra></extra>",
            )
        )  # fmt: skip
    fig.update_layout(barmode="stack")
    fig.update_yaxes(range=[0, 100])
