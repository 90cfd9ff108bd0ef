"""What a run prints, and what it says beforehand that it will take."""

from __future__ import annotations

from training.estimate import estimate
from training.loop import Report
from training.recipes import recipe
from training.watch import tell


def test_a_step_is_told_in_numbers_that_a_person_reads(capsys) -> None:
    values = {"step": 2, "steps": 4, "loss": 4.4991, "seconds": 4.04, "tokens_per_second": 30.2, "documents": 1}
    judged = {"loss": 6.143171310424805, "recall": 1.0}
    tell(Report(**values, learning_rate=1e-3, evaluation=judged))
    line = capsys.readouterr().out
    assert "step 2/4  loss 4.499" in line and line.endswith("held out: loss 6.143, recall 1.000\n")
    tell(Report(**values, learning_rate=1e-3, evaluation=None))
    assert "held out" not in capsys.readouterr().out


def test_documents_that_a_cache_holds_take_no_memory_of_their_own(tiny_llama, monkeypatch) -> None:
    from training import estimate as module

    monkeypatch.setattr(module, "open_base_config", lambda name: tiny_llama(layers=30).config)
    plain, cached = (estimate(recipe("tiny").override(changes)) for changes in ({}, {"cache": "somewhere"}))
    assert plain.bank > 0 and cached.bank == 0
    assert (plain.weights, plain.activations) == (cached.weights, cached.activations)
