"""Windows of one document are consecutive in their row, whatever the rows, the epochs and where a run resumes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from training.stages.rows import Place, RowPlan

WINDOWS = st.lists(st.integers(1, 7), min_size=1, max_size=12)


@given(WINDOWS, st.integers(1, 4), st.integers(1, 3), st.integers(0, 5))
def test_windows_of_a_document_follow_each_other(windows: list[int], batch: int, ranks: int, seed: int) -> None:
    plan = RowPlan(windows, batch * ranks, seed)
    for row in range(batch * ranks):
        before = None
        for step in range(3 * sum(windows)):
            place = plan.at(row, step)
            if before is None or before.window + 1 == windows[before.document]:
                assert place.window == 0
            else:
                assert place == Place(before.document, before.window + 1)
            before = place


@given(WINDOWS, st.integers(1, 5), st.integers(0, 5), st.integers(0, 60))
def test_a_resumed_plan_goes_on_where_it_was(windows: list[int], rows: int, seed: int, step: int) -> None:
    """A fresh plan (another worker, another process, after a kill) says the same, whatever it was asked before."""
    used = RowPlan(windows, rows, seed)
    for earlier in range(step):
        used.at(0, earlier)
    for row in range(rows):
        assert used.at(row, step) == RowPlan(windows, rows, seed).at(row, step)


@given(WINDOWS, st.integers(1, 4), st.integers(0, 5))
def test_rows_share_out_every_document_in_an_epoch(windows: list[int], rows: int, seed: int) -> None:
    plan = RowPlan(windows, rows, seed)
    seen: set[int] = set()
    for row in range(rows):
        mine = [plan.at(row, step).document for step in range(sum(windows))]
        seen |= set(mine)
    assert seen == set(range(len(windows)))
