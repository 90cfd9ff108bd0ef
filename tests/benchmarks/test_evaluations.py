"""The page of evaluations shows what was saved, as it is now."""

from __future__ import annotations

from benchmarks.evaluations import FOLDER, load, page


def record(**changes):
    memory = {"top_k": 2, "chunk_tokens": 256}
    return {
        "command": "python -m training evaluate qa bundled",
        "date": "2026-01-01",
        "model": "bundled",
        "adapter": True,
        "number_type": "bfloat16",
        "retriever": "hybrid",
        "memory": memory,
        "complete": True,
        "table": ["type  F1", "all  0.5"],
    } | changes


def test_every_record_has_its_command_and_table():
    text = page({"qa-squad": record(), "needle": record(adapter=False, complete=False)})
    assert text.count("## ") == 2 and text.count("type  F1\nall  0.5\n```") == 2
    assert "bundled with adapter" in text and "bundled without adapter" in text
    assert text.count("stopped before its end") == 1


def test_the_page_is_that_of_the_results():
    records = load()
    assert records, "evaluations are kept with the benchmarks' results"
    assert (FOLDER / "README.md").read_text("utf-8") == page(records)
