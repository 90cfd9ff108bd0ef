"""Pictures of a training run: loss, and perplexity, step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app.plots.style import DOCUMENTS, LOCAL, MEMORY, figure, say
from app.rows.training import SMOOTHED_OVER, Step, held_out, perplexity, running_mean

NOTHING = "Start a run, and its curve is drawn here after the first step."
NO_STEP = "The curve of this run is drawn here after its first step."
HELD_OUT = DOCUMENTS[1]
_MOST_POINTS = 600
_FEW_STEPS = 10


def loss(steps: Sequence[Step], nothing: str = NOTHING) -> go.Figure:
    """Draw the loss of every step, its mean, and that on held-out questions; ``nothing``: said before a first step."""
    fig = figure(
        "Loss",
        "optimiser step",
        "nats per answer token",
        f"Grey is every step, blue the mean of {SMOOTHED_OVER} steps, rose the loss on questions never trained "
        "on. Lower is better; rose rising while blue falls means that questions are being learnt by heart.",
    )
    if not steps:
        return say(fig, nothing)
    kept = _thin(steps)
    fig.add_trace(_line(kept, [step.loss for step in kept], "each step", {"color": LOCAL, "width": 1}))
    _means_and_held_out(fig, steps, lambda value: value)
    fig.update_yaxes(rangemode="tozero")
    return fig


def perplexities(steps: Sequence[Step], nothing: str = NOTHING) -> go.Figure:
    """Draw the perplexity of the running mean, and on held-out questions; ``nothing``: said before a first step."""
    fig = figure(
        "Perplexity",
        "optimiser step",
        "perplexity (log scale)",
        "Between how many tokens the model hesitates at each token of an answer, on average: 1 would be certain. Blue "
        "is training, rose held-out questions.",
    )
    if not steps:
        return say(fig, nothing)
    _means_and_held_out(fig, steps, perplexity)
    fig.update_yaxes(type="log", **_full_numbers(fig))
    return fig


def _full_numbers(fig: go.Figure) -> dict[str, Any]:
    """Return some ticks of a log axis: plotly writes only the first digit of those between two decades."""
    values = np.concatenate([trace.y for trace in fig.data]).astype(float)
    low, high = values.min(), values.max()
    if high < 10 * low and not np.isclose(low, high):
        wanted = (high - low) / 6
        power = np.floor(np.log10(wanted))
        step = next(digit * 10**power for digit in (1, 2, 5, 10) if digit * 10**power >= wanted)
        ticks = list(step * np.arange(np.floor(low / step), np.ceil(high / step) + 1))
    else:
        digits = (1,) if high > 1000 * low else (1, 2, 5)
        first, last = np.floor(np.log10([low, high]))
        powers = np.arange(first - 1, last + 2)  # one point alone has a decade on both sides
        ticks = [digit * 10**power for power in powers for digit in digits]
    ticks = [tick for tick in ticks if tick > 0]
    return {"tickvals": ticks, "ticktext": [f"{tick:,.4f}".rstrip("0").rstrip(".") for tick in ticks]}


def _means_and_held_out(fig: go.Figure, steps: Sequence[Step], scale: Callable[[float], float]) -> None:
    last = max(steps[-1].steps, steps[-1].step)
    fig.update_xaxes(range=[0, 1.02 * last], tickformat=",d")
    if last <= _FEW_STEPS:  # plotly would mark half steps, and write 1, 2, 2, 3, 3 under them
        fig.update_xaxes(dtick=1)
    means = dict(zip((step.step for step in steps), running_mean([step.loss for step in steps]), strict=True))
    kept = _thin(steps)
    blue = {"color": MEMORY, "width": 2}
    fig.add_trace(_line(kept, [scale(means[step.step]) for step in kept], "training, mean", blue))
    judged = held_out(steps)
    if judged:
        values = [scale(step.held_out or 0.0) for step in judged]
        trace = _line(judged, values, "held out", {"color": HELD_OUT, "width": 2})
        trace.update(mode="lines+markers", marker={"size": 8, "symbol": "diamond", "color": HELD_OUT})
        fig.add_trace(trace)


def _line(steps: Sequence[Step], values: Sequence[float], name: str, line: dict[str, Any]) -> go.Scatter:
    # One point draws no line.
    mode = "lines" if len(steps) > 1 else "markers"
    return go.Scatter(
        x=np.array([step.step for step in steps], dtype=np.int32), y=np.array(values, dtype=np.float32), name=name,
        mode=mode, line=line, marker={"color": line["color"]},
        hovertemplate="step %{x:,}<br>%{y:.3f} " + name + "<extra></extra>",
    )  # fmt: skip


def _thin(steps: Sequence[Step]) -> list[Step]:
    """Return at most _MOST_POINTS of them, the first and the last included."""
    if len(steps) <= _MOST_POINTS:
        return list(steps)
    picked = np.linspace(0, len(steps) - 1, _MOST_POINTS).round().astype(int)
    return [steps[i] for i in picked]
