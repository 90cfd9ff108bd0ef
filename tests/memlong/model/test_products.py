"""The faster kernel for float32: the same results, only where it may run, and gone afterwards."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from memlong import hardware
from memlong.model import products
from memlong.model.products import fast_products


@pytest.fixture
def calls(monkeypatch):
    """Switch the kernel on, whatever this machine is fastest with, and count its calls."""
    counted = []

    def counting(input, weight, bias=None):
        counted.append(tuple(input.shape))
        return hardware.onednn_linear(input, weight, bias)

    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "onednn_linear", counting)
    return counted


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(160, 192), nn.SiLU(), nn.Linear(192, 160, bias=False), nn.Linear(160, 8))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_large_layers_give_what_they_gave(calls, model):
    rows = torch.randn(3, 40, 160)
    with torch.no_grad():
        before = model(rows)
        with fast_products(model):
            assert torch.allclose(model(rows), before, atol=1e-5)
            assert len(calls) == 2  # the last layer is too small
            model(rows[:1])
        assert len(calls) == 2  # too few rows
        torch.testing.assert_close(model(rows), before)
    assert not any("forward" in layer.__dict__ for layer in model)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_gradients_other_types_and_autocast_take_the_usual_way(calls, model):
    rows = torch.randn(100, 160)
    with fast_products(model):
        model(rows).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert model(rows).dtype == torch.bfloat16
    with torch.no_grad(), fast_products(model.to(torch.bfloat16)):
        model(rows.bfloat16())
    assert not calls


def test_nests_and_is_undone_after_an_error(calls, model):
    def broken():
        with fast_products(model), fast_products(model):
            assert "forward" in model[0].__dict__
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert "forward" not in model[0].__dict__


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs oneDNN")
def test_threads_share_a_model(calls, model):
    rows, errors = torch.randn(100, 160), []
    with torch.no_grad():
        wanted = model(rows)

    def run():
        try:
            for _ in range(20):
                with torch.no_grad(), fast_products(model):
                    assert torch.allclose(model(rows), wanted, atol=1e-5)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert "forward" not in model[0].__dict__


def test_the_choice_is_measured(monkeypatch):
    assert hardware.onednn_is_faster() in (True, False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    hardware.onednn_is_faster.cache_clear()
    try:
        assert not hardware.onednn_is_faster()
    finally:
        hardware.onednn_is_faster.cache_clear()
