"""Peaks of a GPU's memory: what is measured and in which order, with a counter in the GPU's place; and on one."""

from __future__ import annotations

import pytest
import torch

from benchmarks import peak, reading, setups
from memlong.errors import BankError

STORED = (64, 128, 256)  # of TINY's 16 tokens a chunk


@pytest.fixture
def counter(monkeypatch):
    """Count in megabytes: each reset begins at 1, each look adds one."""
    seen = {"now": 0, "resets": 0}

    def reset():
        seen["now"], seen["resets"] = 1_000_000, seen["resets"] + 1

    def look():
        seen["now"] += 1_000_000
        return seen["now"]

    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", look)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return seen


@pytest.fixture
def small(monkeypatch):
    made = setups.make_setup
    monkeypatch.setattr(setups, "make_setup", lambda device, seed: made("cpu", seed, setups.TINY))
    monkeypatch.setattr(peak, "STORED_ON_GPU", STORED)
    monkeypatch.setattr(peak, "_BEYOND_GPU", STORED[-1])


def test_each_size_is_stored_read_into_and_asked_of_with_a_peak_of_its_own(counter, small, monkeypatch):
    places, whole = [], reading.full_session

    def full_session(setup, tokens, **changes):
        session = whole(setup, tokens, **changes)
        places.append((len(session.bank), changes["bank_device"]))
        return session

    monkeypatch.setattr(reading, "full_session", full_session)
    found = peak.while_reading("cuda", 256, 0)
    assert places == [(4, "model"), (8, "model"), (16, "cpu")]
    assert counter["resets"] == 4 and found["peak_over_model_plus_bank"] > 0
    assert list(found["stored_tokens"]) == ["64", "128", "256"]
    for stored, each in found["stored_tokens"].items():
        assert each["gpu_peak_gb"] == 0.002 and each["bank_gb"] > 0
        assert each["bank"] == ("host memory" if stored == "256" else "gpu")


def test_a_bank_that_does_not_fit_is_told_of_and_the_others_are_measured(counter, small, monkeypatch):
    whole = reading.full_session

    def full_session(setup, tokens, **changes):
        if tokens == STORED[1]:
            raise BankError("Too much", "Less", "Take less")
        return whole(setup, tokens, **changes)

    monkeypatch.setattr(reading, "full_session", full_session)
    stored = peak.while_reading("cuda", 256, 0)["stored_tokens"]
    assert stored["128"] == {"bank": "model", "refused": "Too much. Less. Take less."}
    assert "gpu_peak_gb" in stored["64"] and "gpu_peak_gb" in stored["256"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU, and torch sees none here")
def test_a_gpu_tells_its_peaks(monkeypatch):
    made = setups.make_setup
    monkeypatch.setattr(setups, "make_setup", lambda device, seed: made(device, seed, setups.TINY))
    monkeypatch.setattr(peak, "STORED_ON_GPU", STORED)
    stored = peak.while_reading("cuda", 256, 0)["stored_tokens"]
    assert all(each["gpu_peak_gb"] > 0 for each in stored.values())
