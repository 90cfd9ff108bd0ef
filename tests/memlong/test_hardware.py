"""Devices by name, and number types by measurement."""

from __future__ import annotations

import pytest
import torch

from memlong import hardware
from memlong.errors import ModelError
from memlong.hardware import fastest_dtype, product_seconds, resolve_device

CPU = torch.device("cpu")


def test_devices_by_name():
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(ModelError, match="Did you mean 'cuda'"):
        resolve_device("cude")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ModelError, match="Usable: cpu"):
        resolve_device("cuda:0")


def test_a_gpu_beyond_those_here_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ModelError, match="Usable: cpu, cuda:0, cuda:1"):
        resolve_device("cuda:2")


def test_products_are_timed():
    assert 0 < product_seconds(CPU, torch.float32)[0] < float("inf")


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.5, torch.bfloat16), (0.9, torch.float32), (5.0, torch.float32)])
def test_the_smaller_type_must_be_clearly_faster(monkeypatch, bfloat16, chosen):
    seconds = {torch.bfloat16: bfloat16, torch.float32: 1.0}
    monkeypatch.setattr(hardware, "product_seconds", lambda device, *dtypes: tuple(map(seconds.get, dtypes)))
    dtype, reason = fastest_dtype(CPU)
    assert dtype == chosen
    assert f"{bfloat16:.1f} times" in reason


def test_a_machine_that_is_busy_for_a_while_does_not_decide_the_type(monkeypatch):
    clock, calls = [0.0], []

    def multiply(left, right):
        calls.append(left.dtype)
        busy = 4.0 if len(calls) <= 16 else 1.0  # half of all products
        clock[0] += busy * (0.5 if left.dtype == torch.bfloat16 else 1.0)
        return left

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr(hardware, "perf_counter", lambda: clock[0])
    seconds = product_seconds.__wrapped__(CPU, torch.bfloat16, torch.float32)
    assert len(calls) == 32 and seconds == (0.5, 1.0)


@pytest.mark.parametrize(("capability", "chosen"), [((9, 0), torch.bfloat16), ((7, 5), torch.float16)])
def test_gpus_go_by_generation(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fastest_dtype(torch.device("cuda:0"))[0] == chosen
