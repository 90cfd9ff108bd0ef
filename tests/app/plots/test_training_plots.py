"""Rows and pictures of a run, on hand-made metrics."""

from __future__ import annotations

import json
import math

import pytest

from app.plots import training as plots
from app.rows.training import Step, held_out, parse, perplexity, running_mean, seconds_left, step_seconds
from tests.app.plots.figures import explained


def line(step: int, loss: float = 2.0, judged: float | None = None) -> str:
    evaluation = None if judged is None else {"loss": judged, "recall": 0.75}
    values = {
        "step": step, "steps": 10, "loss": loss, "learning_rate": 0.1, "documents": 2, "seconds": 1.5,
        "evaluation": evaluation,
    }  # fmt: skip
    return json.dumps(values) + "\n"


def test_lines_become_steps_and_half_a_line_waits() -> None:
    steps = parse(line(1) + line(2, judged=1.5) + line(3)[:20])
    assert [step.step for step in steps] == [1, 2]
    assert held_out(steps) == [steps[1]]
    assert (steps[1].held_out, steps[1].recall) == (1.5, 0.75)
    assert parse("") == ()
    assert [step.step for step in parse("no json\n[1]\n{}\n" + line(4))] == [4]


def test_steps_told_twice_count_once_and_the_newer_ones_win() -> None:
    steps = parse(line(1) + line(2) + line(3, loss=9.0) + line(2, loss=5.0) + line(3, loss=4.0))
    assert [(step.step, step.loss) for step in steps] == [(1, 2.0), (2, 5.0), (3, 4.0)]


def test_the_running_mean_forgets() -> None:
    assert running_mean([4.0, 2.0, 0.0, 6.0], over=2) == [4.0, 3.0, 1.0, 3.0]


def test_time_left_is_known_after_the_first_step() -> None:
    assert (step_seconds(()), seconds_left(())) == (None, None)
    steps = parse(line(1) + line(2))
    assert step_seconds(steps) == 1.5
    assert seconds_left(steps) == 12.0


def test_curves_show_losses_means_and_held_out_questions() -> None:
    steps = parse(line(1, 4.0) + line(2, 2.0, judged=1.5) + line(3, 3.0, judged=1.0))
    fig = plots.loss(steps)
    explained(fig)
    each, mean, judged = fig.data
    assert list(each.y) == [4.0, 2.0, 3.0]
    assert list(mean.y) == [4.0, 3.0, 3.0]
    assert (list(judged.x), list(judged.y)) == ([2, 3], [1.5, 1.0])
    assert fig.layout.xaxis.range[1] >= 10
    assert fig.layout.xaxis.dtick == 1, "half steps would be rounded to whole ones, told twice"
    fig = plots.perplexities(steps)
    explained(fig)
    assert math.isclose(fig.data[1].y[1], math.e, rel_tol=1e-6)
    assert fig.layout.yaxis.type == "log"
    assert perplexity(1e9) < 1e9


@pytest.mark.parametrize(
    ("first", "last", "some", "few"),
    [
        (70, 12, ["20", "50"], 9),
        (400, 3, ["5", "20", "50", "200"], 15),
        (60_000, 1.2, ["10", "1,000", "10,000"], 9),
        (17, 12, ["12", "13", "16"], 9),
        (1.4, 1.05, ["1.1", "1.2", "1.3"], 9),
        (7, 7, ["5", "10", "20"], 12),
    ],
)
def test_perplexities_are_told_in_full_numbers(first: float, last: float, some: list[str], few: int) -> None:
    axis = plots.perplexities(parse(line(1, math.log(first), judged=math.log(last)))).layout.yaxis
    assert set(some) <= set(axis.ticktext) and len(axis.ticktext) <= few, "plotly would write 2 for 20"
    assert [float(words.replace(",", "")) for words in axis.ticktext] == pytest.approx(list(axis.tickvals), abs=1e-4)


def test_long_runs_are_thinned_and_keep_their_ends() -> None:
    steps = [Step(i, 5000, 1.0, 0.1, 1, 1.0) for i in range(1, 5001)]
    each = plots.loss(steps).data[0]
    assert len(each.x) <= 600
    assert (each.x[0], each.x[-1]) == (1, 5000)


def test_one_step_is_a_point_and_none_says_what_to_do() -> None:
    assert plots.loss(parse(line(1))).data[0].mode == "markers"
    explained(plots.loss([]), empty=True)
    explained(plots.perplexities([]), empty=True)
