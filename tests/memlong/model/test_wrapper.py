"""MemoryModel: what it leaves behind (nothing), who writes and who reads, and what memory costs in precision."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from memlong.attention.context import MassObserver
from memlong.attention.register import bound_memory
from memlong.bank.bank import Bank
from memlong.bank.ledger import ChunkPlace
from memlong.bank.store import KVShape
from memlong.config import MemoryConfig
from memlong.errors import ModelError
from memlong.model.wrapper import MemoryModel, off

C = 8
Build = Callable[..., LlamaForCausalLM]


@pytest.fixture
def model(tiny_llama: Build) -> LlamaForCausalLM:
    return tiny_llama(layers=4, hidden=32, vocab=64).requires_grad_(False)


def wrap(model: nn.Module, **kwargs: Any) -> MemoryModel:
    settings = {"stored_layers": (1, 3), "chunk_tokens": C, "window_tokens": C} | kwargs.pop("settings", {})
    return MemoryModel(model, None, MemoryConfig(**settings), **kwargs)


def ids(rows: int = 1, tokens: int = C, seed: int = 0) -> Tensor:
    return torch.randint(3, 64, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def context(wrapped: MemoryModel, seed: int = 1, **kwargs: Any) -> Any:
    kv = wrapped.read(ids(2, seed=seed))
    return wrapped.memory(kv.keys_SBGTD, kv.values_SBGTD, [C, C], **kwargs)


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


@pytest.fixture
def nothing_left(model: LlamaForCausalLM) -> Iterator[None]:
    """Check after the test that the model is as it was before."""
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    own, modes = model.config._attn_implementation, [m.training for m in model.modules()]
    forwards = [m.forward.__qualname__ for m in model.modules()]
    yield
    assert model.config._attn_implementation == own and hooks(model) == 0 and bound_memory() is None
    assert [m.training for m in model.modules()] == modes
    assert [m.forward.__qualname__ for m in model.modules()] == forwards
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.usefixtures("nothing_left")
def test_use_leaves_no_trace(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model)
    plain = model(ids()).logits
    moved = wrapped.forward(ids(), context(wrapped, observer=MassObserver())).logits
    assert (moved - plain).abs().max() > 1e-2
    torch.testing.assert_close(model(ids()).logits, plain)


@pytest.mark.usefixtures("nothing_left")
def test_errors_inside_leave_no_trace(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model)
    memory = context(wrapped)
    with pytest.raises(IndexError):
        wrapped.read(ids() + 1000)
    with pytest.raises(IndexError):
        wrapped.forward(ids() + 1000, memory)

    def fail(*_: Any) -> None:
        raise RuntimeError("in the middle")

    handle = model.model.layers[2].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        wrapped.read(ids())
    with pytest.raises(RuntimeError, match="in the middle"):
        wrapped.forward(ids(), memory)
    handle.remove()


@pytest.mark.usefixtures("nothing_left")
def test_reading_runs_no_layer_above_the_highest_stored(model: LlamaForCausalLM) -> None:
    ran: list[str] = []
    named = {"lm_head": model.lm_head, "norm": model.model.norm}
    for index, layer in enumerate(model.model.layers):
        named |= {f"attention {index}": layer.self_attn.o_proj, f"mlp {index}": layer.mlp}
    handles = [m.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, m in named.items()]
    kv = wrap(model, settings={"stored_layers": (0, 2)}).read(ids(3))
    for handle in handles:
        handle.remove()
    assert ran == ["attention 0", "mlp 0", "attention 1", "mlp 1"]
    assert kv.keys_SBGTD.shape == kv.values_SBGTD.shape == (2, 3, 2, C, 8)


@pytest.mark.usefixtures("nothing_left")
def test_reading_to_the_end_runs_all_layers_and_reads_the_same(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model, settings={"stored_layers": (0, 2)})
    ended: list[str] = []
    handle = model.register_forward_hook(lambda *_: ended.append("model"))
    kv, whole = wrapped.read(ids(3)), wrapped.read_to_end(ids(3))
    handle.remove()
    assert ended == ["model"], "reading alone leaves the pass in the middle"
    torch.testing.assert_close(whole.keys_SBGTD, kv.keys_SBGTD)
    torch.testing.assert_close(whole.values_SBGTD, kv.values_SBGTD)


def test_reading_in_training_mode_is_without_dropout(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64, attention_dropout=0.5)
    wrapped = wrap(model)
    want = wrapped.read(ids(2))
    model.train()
    model.model.layers[0].eval()
    got = wrapped.read(ids(2))
    torch.testing.assert_close(got.keys_SBGTD, want.keys_SBGTD)
    assert not got.keys_SBGTD.requires_grad
    assert model.training and model.model.layers[1].training and not model.model.layers[0].training


@pytest.mark.usefixtures("nothing_left")
def test_threads_share_a_model(model: LlamaForCausalLM) -> None:
    """Two readers and two answerers at once get what each gets alone."""
    wrapped = wrap(model)
    memory = context(wrapped)
    jobs: list[Callable[[], Tensor]] = [
        lambda: wrapped.read(ids(2, seed=5)).keys_SBGTD,
        lambda: wrapped.read(ids(3, seed=6)).values_SBGTD,
        lambda: wrapped.forward(ids(seed=7), memory).logits,
        lambda: wrapped.forward(ids(seed=8)).logits,
    ]
    want, wrong = [job() for job in jobs], []

    def repeat(index: int) -> None:
        for _ in range(8):
            if not torch.allclose(jobs[index](), want[index], atol=1e-5):
                wrong.append(index)

    threads = [threading.Thread(target=repeat, args=(index,)) for index in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.usefixtures("nothing_left")
def test_minus_infinity_is_the_plain_model(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model)
    plain = wrapped.forward(ids()).logits
    memory = context(wrapped, strength=-math.inf)
    torch.testing.assert_close(wrapped.forward(ids(), memory).logits, plain)
    torch.testing.assert_close(wrapped.forward(ids(), off(context(wrapped))).logits, plain)
    learned = wrap(model, bias={1: torch.full((4,), -math.inf), 3: torch.full((4,), -math.inf)})
    torch.testing.assert_close(learned.forward(ids(), context(learned)).logits, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("nothing_left")
def test_strength_is_the_setting_plus_the_answers_own_plus_the_learned(model: LlamaForCausalLM) -> None:
    settings = {"memory_strength": 0.5}
    both = wrap(model, settings=settings)
    learned = wrap(model, bias={layer: torch.full((4,), 0.75) for layer in (1, 3)})
    want = wrap(model).forward(ids(), context(wrap(model), strength=0.75)).logits
    torch.testing.assert_close(both.forward(ids(), context(both, strength=0.25)).logits, want)
    torch.testing.assert_close(learned.forward(ids(), context(learned)).logits, want)
    only = learned.forward(ids(), context(learned, strength=0.75)).logits
    torch.testing.assert_close(only, wrap(model).forward(ids(), context(wrap(model), strength=1.5)).logits)


def test_an_adapter_reads_and_never_writes(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64)
    want = wrap(model).read(ids(2))
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    wrapped = wrap(adapted)
    got = wrapped.read(ids(2))
    torch.testing.assert_close(got.keys_SBGTD, want.keys_SBGTD)
    torch.testing.assert_close(got.values_SBGTD, want.values_SBGTD)
    memory = wrapped.memory(got.keys_SBGTD, got.values_SBGTD, [C, C])
    with torch.no_grad(), adapted.disable_adapter():
        original = wrapped.forward(ids(), memory).logits
    assert (wrapped.forward(ids(), memory).logits - original).abs().max() > 1e-3
    wrapped.forward(ids(), memory).logits.sum().backward()
    trained = {name for name, p in adapted.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained and all("lora_" in name for name in trained)


def test_adapted_weights_stand_in_while_answering_alone(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64).requires_grad_(False)
    plain = wrap(model)
    want, name = plain.read(ids(2)), "model.layers.0.self_attn.k_proj.weight"
    before = plain.forward(ids()).logits
    original = dict(model.named_parameters())[name].data
    wrapped = wrap(model, adapted={name: original * 1.5})
    after = wrapped.forward(ids()).logits
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(wrapped.read(ids(2)).keys_SBGTD, want.keys_SBGTD)
    torch.testing.assert_close(wrapped.forward(ids()).logits, after)
    with wrapped.original_weights():
        torch.testing.assert_close(wrapped.forward(ids()).logits, before)
    with pytest.raises(ModelError, match="no counterpart"):
        wrap(model, adapted={"model.layers.0.self_attn.k_proj.weight": torch.zeros(1)})


def test_a_thread_that_reads_does_not_take_the_adapter_from_one_that_answers(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64).requires_grad_(False)
    name = "model.layers.0.self_attn.k_proj.weight"
    wrapped = wrap(model, adapted={name: dict(model.named_parameters())[name].data * 1.5})
    wanted, said = wrapped.forward(ids()).logits, []
    other = threading.Thread(target=lambda: said.append(wrapped.forward(ids()).logits))
    with wrapped.original_weights():
        other.start()
        other.join(0.2)  # it waits for the adapted weights; without a lock it would be done with the wrong ones
    other.join()
    torch.testing.assert_close(said[0], wanted)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_weights_bias_and_memory(tiny_llama: Build, checkpointing: bool) -> None:
    grads = []
    for again in (False, checkpointing):
        model = tiny_llama(layers=4, hidden=32, vocab=64).train()
        if again:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        bias = {layer: torch.zeros(4, requires_grad=True) for layer in (1, 3)}
        wrapped = wrap(model, bias=bias)
        kv = wrapped.read(ids(2, seed=1))
        keys, values = kv.keys_SBGTD.clone().requires_grad_(), kv.values_SBGTD.clone().requires_grad_()
        with wrapped.attending() if again else nullcontext():
            out = wrapped.forward(ids(), wrapped.memory(keys, values, [C, C - 2]))
            out.logits.square().mean().backward()
        named = {"keys": keys, "values": values} | {f"bias {layer}": value for layer, value in bias.items()}
        named |= dict(model.named_parameters())
        grads.append({name: tensor.grad for name, tensor in named.items()})
        assert all(grad is not None and grad.any() for grad in grads[-1].values())
        assert not keys.grad[:, 1, :, C - 2 :].any()  # padding of a short chunk
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("only", ["q_proj", "k_proj", "v_proj", "bias"])
def test_gradients_are_right_where_one_part_alone_is_trained(tiny_llama: Build, only: str) -> None:
    """Queries without a gradient must not lead to the attention that has none."""
    grads = []
    for everything in (False, True):
        model = tiny_llama(layers=2, hidden=32, vocab=64).requires_grad_(everything)
        bias = {1: torch.zeros(4, requires_grad=everything)}
        wrapped = wrap(model, bias=bias, settings={"stored_layers": (1,)})
        part = bias[1] if only == "bias" else getattr(model.model.layers[1].self_attn, only).weight
        part.requires_grad_(True)
        wrapped.forward(ids(), context(wrapped)).logits.square().mean().backward()
        grads.append(part.grad)
    assert grads[0].abs().max() > 1e-4
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-4)


def test_attention_mass_is_seen_while_training_too(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64)
    wrapped = wrap(model)
    seen = []
    for grad in (True, False):
        observer = MassObserver()
        with torch.set_grad_enabled(grad):
            out = wrapped.forward(ids(), context(wrapped, observer=observer)).logits
        assert out.requires_grad is grad
        seen.append(observer.take())
    assert sorted(seen[0]) == sorted(seen[1]) == [1, 3]
    torch.testing.assert_close(seen[0], seen[1])


def test_checkpointing_without_memory_in_the_backward_pass_is_refused(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64).train()
    model.gradient_checkpointing_enable({"use_reentrant": False})
    wrapped = wrap(model)
    memory = context(wrapped)
    with pytest.raises(ModelError, match="computed again during the backward pass"):
        wrapped.forward(ids(), memory)
    with torch.no_grad():
        wrapped.forward(ids(), memory)


@pytest.mark.usefixtures("nothing_left")
def test_training_mode_drops_attention_to_memory_too(tiny_llama: Build) -> None:
    model = tiny_llama(layers=4, hidden=32, vocab=64, attention_dropout=0.5).requires_grad_(False)
    wrapped = wrap(model)
    memory = context(wrapped)
    calm = wrapped.forward(ids(), memory).logits
    model.train()
    torch.manual_seed(0)
    assert (wrapped.forward(ids(), memory).logits - calm).abs().max() > 1e-3


@pytest.mark.usefixtures("nothing_left")
def test_keywords_are_passed_on(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model)
    memory = context(wrapped)
    whole = wrapped.forward(ids(2), wrapped.stack_memory([_row(wrapped)] * 2)).logits
    last = wrapped.forward(ids(2), wrapped.stack_memory([_row(wrapped)] * 2), logits_to_keep=1).logits
    torch.testing.assert_close(last, whole[:, -1:])
    assert wrapped.forward(ids(), memory).past_key_values is None
    assert wrapped.forward(ids(), memory, use_cache=True).past_key_values.get_seq_length() == C


def _row(wrapped: MemoryModel) -> tuple[Tensor, Tensor, list[int]]:
    kv = wrapped.read(ids(2, seed=1))
    return kv.keys_SBGTD, kv.values_SBGTD, [C, C]


@pytest.mark.usefixtures("nothing_left")
def test_views_share_weights_and_differ_in_layers(model: LlamaForCausalLM) -> None:
    wrapped = wrap(model)
    view = wrapped.with_config(wrapped.config.replace(stored_layers=(2,), retrieval_layers=(2, 3), preset="paper"))
    assert view.base is wrapped.base and view.layout.stored_layers == (2,)
    alone = wrap(model, settings={"stored_layers": (2,)})
    torch.testing.assert_close(view.read(ids()).keys_SBGTD, alone.read(ids()).keys_SBGTD)
    assert wrapped.layout.stored_layers == (1, 3)


def test_fingerprints_tell_weights_apart(tiny_llama: Build) -> None:
    def build(seed: int) -> LlamaForCausalLM:
        return tiny_llama(layers=2, hidden=32, vocab=64, seed=seed)

    settings = {"stored_layers": (1,)}
    one, same, other = (wrap(build(seed), settings=settings).fingerprint() for seed in (0, 0, 1))
    assert one == same != other
    adapted = get_peft_model(build(0), LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    assert wrap(adapted, settings=settings).fingerprint() == one


@pytest.mark.parametrize("dtype, mean, most", [("float32", 1e-6, 1e-5), ("bfloat16", 0.01, 0.1), ("int8", 0.02, 0.15)])
def test_stores_of_fewer_bits_move_logits_little(model: LlamaForCausalLM, dtype: str, mean: float, most: float) -> None:
    """Relative to what memory itself does to the logits."""
    wrapped = wrap(model)
    kv = wrapped.read(ids(4, seed=1))
    bank = Bank.create(KVShape(2, 2, C, 8), 4, 64, dtype=dtype)
    for row in range(4):
        bank.write(ChunkPlace(0, row, (row, row + 1), C), np.eye(4, dtype=np.float32)[row], *kv.piece(row, 0, C))
    text = ids(tokens=16, seed=9)
    exact = wrapped.forward(text, wrapped.memory(kv.keys_SBGTD, kv.values_SBGTD, [C] * 4)).logits
    gathered = bank.gather([0, 1, 2, 3], wrapped.dtype, wrapped.device)
    kept = wrapped.forward(text, wrapped.memory(*gathered, bank.lengths([0, 1, 2, 3]))).logits
    effect = (exact - wrapped.forward(text).logits).abs()
    assert (kept - exact).abs().mean() < mean * effect.mean()
    assert (kept - exact).abs().max() < most * effect.max()
