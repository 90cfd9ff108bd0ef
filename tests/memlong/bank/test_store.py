"""K-V slots: what is written comes back, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from memlong.bank.formats import FORMATS, PLAIN
from memlong.bank.quantise import dequantise, quantise
from memlong.bank.store import KVShape, KVStore
from memlong.config import STORE_DTYPES
from memlong.errors import BankError

SHAPE = KVShape(stored_layers=3, kv_heads=2, chunk_tokens=5, head_dim=4)


def kv(tokens: int = 5, seed: int = 0, shape: KVShape = SHAPE) -> tuple[Tensor, Tensor]:
    """Return random keys and values [S, G, T, D]."""
    made = torch.Generator().manual_seed(seed)
    size = (2, shape.stored_layers, shape.kv_heads, tokens, shape.head_dim)
    keys, values = torch.randn(size, generator=made)
    return keys, values


@pytest.mark.parametrize("dtype", PLAIN)
def test_gathers_what_was_written_in_the_order_asked_for(dtype: str) -> None:
    store = KVStore(4, SHAPE, dtype)
    for slot in (3, 0, 2):
        store.write(slot, *kv(seed=slot))
    keys_SNGCD, values_SNGCD = store.gather([2, 3, 2])
    assert keys_SNGCD.shape == (3, 3, 2, 5, 4)
    assert keys_SNGCD.dtype == PLAIN[dtype]
    for n, slot in enumerate([2, 3, 2]):
        keys, values = kv(seed=slot)
        assert torch.equal(keys_SNGCD[:, n], keys.to(PLAIN[dtype]))
        assert torch.equal(values_SNGCD[:, n], values.to(PLAIN[dtype]))


@pytest.mark.parametrize("dtype", FORMATS)
def test_positions_behind_a_short_chunk_are_zero_whatever_was_there(dtype: str) -> None:
    store = KVStore(1, SHAPE, dtype)
    store.write(0, *kv(5))
    store.write(0, *kv(2, seed=1))
    gathered = store.gather([0], torch.float32)
    for states in gathered:
        assert torch.count_nonzero(states[:, 0, :, 2:]) == 0
        assert torch.count_nonzero(states[:, 0, :, :2]) == states[:, 0, :, :2].numel()


def test_an_empty_gather_has_no_chunks() -> None:
    keys_SNGCD, values_SNGCD = KVStore(2, SHAPE).gather([], torch.float32)
    assert keys_SNGCD.shape == values_SNGCD.shape == (3, 0, 2, 5, 4)
    assert keys_SNGCD.dtype == torch.float32


def test_a_gather_is_a_copy() -> None:
    store = KVStore(1, SHAPE, "float32")
    store.write(0, *kv())
    store.gather([0]).keys_SNGCD.zero_()
    assert torch.equal(store.gather([0]).keys_SNGCD[:, 0], kv()[0])


@pytest.mark.parametrize("scale_dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [1e-6, 1e-3, 1.0, 100.0])
def test_int8_is_off_by_half_a_scale_at_most(scale_dtype: str, size: float) -> None:
    store = KVStore(1, SHAPE, "int8", scale_dtype=scale_dtype)
    keys, values = (states * size for states in kv())
    keys[0, 0, 0, 0] *= 50  # an outlier, which must blur its own token and head alone
    store.write(0, keys, values)
    gathered = store.gather([0], torch.float32)
    for found, states in zip(gathered, (keys, values)):
        scale = states.abs().amax(-1, keepdim=True) / 127
        if scale_dtype == "float16":
            scale = scale.clamp_min(torch.finfo(torch.float16).tiny) * (1 + 2**-10)
        assert torch.all((found[:, 0] - states).abs() <= scale / 2 * (1 + 1e-5))


@pytest.mark.parametrize("scale_dtype", ["float16", "float32"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
def test_k8v4_keeps_keys_as_int8_does_and_values_within_half_a_step_of_sixteen(scale_dtype: str, size: float) -> None:
    int8, k8v4 = (KVStore(1, SHAPE, name, scale_dtype=scale_dtype) for name in ("int8", "k8v4"))
    keys, values = (states * size for states in kv())
    values[0, 0, 0] += 7 * size  # far from zero: its own lowest number takes that up
    for store in (int8, k8v4):
        store.write(0, keys, values)
    found = k8v4.gather([0], torch.float32)
    assert torch.equal(found.keys_SNGCD, int8.gather([0], torch.float32).keys_SNGCD)
    lowest, highest = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    step = (highest - lowest) / 15
    rounding = values.abs().amax(-1, keepdim=True) * 2**-10 if scale_dtype == "float16" else 1e-5 * size
    assert torch.all((found.values_SNGCD[:, 0] - values).abs() <= step / 2 + rounding + 6.2e-5)


def test_k8v4_refuses_heads_of_an_odd_size() -> None:
    with pytest.raises(BankError, match="Heads of size 5"):
        KVStore(1, KVShape(1, 1, 4, 5), "k8v4")


def test_int8_keeps_zero_and_the_largest_number() -> None:
    states = torch.tensor([[0.0, -2.0, 1.0], [0.0, 0.0, 0.0]])
    steps, scale = quantise(states, torch.float32)
    assert steps.tolist()[0][:2] == [0, -127]
    assert torch.allclose(dequantise(steps, scale, torch.float32), states, atol=2 / 254)


@pytest.mark.parametrize(
    "dtype, scale_dtype, expected",
    [
        ("float32", "float16", 2 * 3 * 2 * 4 * 4),
        ("bfloat16", "float16", 2 * 3 * 2 * 4 * 2),
        ("int8", "float16", 2 * 3 * 2 * (4 + 2)),
        ("int8", "float32", 2 * 3 * 2 * (4 + 4)),
        ("k8v4", "float16", 3 * 2 * (4 + 2 + 2 + 4)),
        ("k8v4", "float32", 3 * 2 * (4 + 4 + 2 + 8)),
    ],
)
def test_bytes_are_known_before_and_after(dtype: str, scale_dtype: str, expected: int) -> None:
    assert SHAPE.bytes_per_token(dtype, scale_dtype) == expected
    store = KVStore(7, SHAPE, dtype, scale_dtype=scale_dtype)
    assert store.bytes_per_token == expected
    assert store.nbytes == 7 * SHAPE.chunk_tokens * expected


@pytest.mark.parametrize("dtype", FORMATS)
def test_resizing_keeps_what_it_is_told_to(dtype: str) -> None:
    store = KVStore(4, SHAPE, dtype)
    for slot in range(4):
        store.write(slot, *kv(seed=slot))
    before = store.gather([3, 1])
    assert store.resize(2, keep=[3, 1]) == {3: 0, 1: 1}
    assert store.slots == 2
    assert torch.equal(store.gather([0, 1]).values_SNGCD, before.values_SNGCD)
    store.resize(9, keep=[1])
    assert torch.equal(store.gather([0]).keys_SNGCD, before.keys_SNGCD[:, 1:])
    with pytest.raises(BankError, match="3 slots to keep"):
        store.resize(2, keep=[0, 1, 2])


@pytest.mark.parametrize(
    "keys, values",
    [
        (kv(6)[0], kv(6)[1]),  # too many tokens
        (kv(0)[0], kv(0)[1]),  # none
        (kv(5)[0], kv(4)[1]),
        (kv(5)[0][:2], kv(5)[1][:2]),  # a layer is missing
        (kv(5)[0][0], kv(5)[1][0]),
    ],
)
def test_wrong_shapes_are_refused(keys: Tensor, values: Tensor) -> None:
    with pytest.raises(BankError, match=r"\[3, 2, 1 to 5, 4\]"):
        KVStore(1, SHAPE).write(0, keys, values)


def test_keys_and_values_of_two_sizes_are_refused_by_name() -> None:
    keys, values = kv()
    with pytest.raises(BankError, match="Keys of size 4 and values of size 3"):
        KVStore(1, SHAPE).write(0, keys, values[..., :3])


def test_a_store_takes_tensors_of_its_own_kind_as_they_are() -> None:
    full, empty = KVStore(2, SHAPE, "k8v4"), KVStore(2, SHAPE, "k8v4")
    for slot in range(2):
        full.write(slot, *kv(seed=slot))
    empty.adopt(full.tensors)
    assert all(empty.tensors[name].data_ptr() == tensor.data_ptr() for name, tensor in full.tensors.items())
    assert torch.equal(empty.gather([1]).values_SNGCD, full.gather([1]).values_SNGCD)
    for wrong in ({"keys": full.tensors["keys"]}, KVStore(3, SHAPE, "k8v4").tensors, KVStore(2, SHAPE).tensors):
        with pytest.raises(BankError, match="Give tensors of a store"):
            empty.adopt(wrong)
    assert torch.equal(empty.gather([0]).values_SNGCD, full.gather([0]).values_SNGCD)


def test_settings_offer_every_format_there_is() -> None:
    assert set(STORE_DTYPES) == set(FORMATS)


def test_unknown_types_and_sizes_are_refused() -> None:
    with pytest.raises(BankError, match="Did you mean 'bfloat16'"):
        KVStore(1, SHAPE, "bfloat61")
    with pytest.raises(BankError, match="scale type"):
        KVStore(1, SHAPE, "int8", scale_dtype="bfloat16")
    with pytest.raises(BankError, match="0 slots"):
        KVStore(0, SHAPE)
    with pytest.raises(BankError, match="kv_heads=0"):
        KVShape(1, 0, 1, 1)


def test_gradients_do_not_reach_into_the_store() -> None:
    store = KVStore(1, SHAPE, "float32")
    store.write(0, *(states.requires_grad_() for states in kv()))
    assert not store.gather([0]).keys_SNGCD.requires_grad


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("home", ["cpu", "cuda"])
def test_chunks_travel_to_a_gpu_and_from_it(dtype: str, home: str) -> None:
    here, there = KVStore(3, SHAPE, dtype), KVStore(3, SHAPE, dtype, home)
    for slot in range(3):
        here.write(slot, *kv(seed=slot))
        there.write(slot, *(states.cuda() for states in kv(seed=slot)))
    for slots in ([2, 0], [1], [0, 1, 2]):  # the page-locked buffer shrinks and grows
        found, expected = there.gather(slots, torch.float32, "cuda"), here.gather(slots, torch.float32)
        assert found.keys_SNGCD.is_cuda
        assert torch.equal(found.keys_SNGCD.cpu(), expected.keys_SNGCD)
        assert torch.equal(found.values_SNGCD.cpu(), expected.values_SNGCD)
