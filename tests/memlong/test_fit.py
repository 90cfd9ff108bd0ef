"""Maps by least squares: exact where K-V are affine in one another, honest about the rest, and repeatable."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from memlong.config import MemoryConfig
from memlong.errors import Cancelled, ConfigError
from memlong.fit import HELD_OUT_EVERY, LayerFit, fit_maps, fit_report
from memlong.model.wrapper import MemoryModel

SIZES = {"chunk_tokens": 16, "window_tokens": 16, "read_batch_tokens": 64}
Build = Callable[..., LlamaForCausalLM]


def wrap(model: LlamaForCausalLM, tokenizer: Any = None, **settings: Any) -> MemoryModel:
    return MemoryModel(model, tokenizer, MemoryConfig(**(SIZES | settings)))


def ids(windows: int, vocab: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.randint(3, vocab, (16 * windows,), generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def linear(tiny_llama: Build) -> LlamaForCausalLM:
    """A Llama whose blocks add nothing: every layer's K-V are linear in the same normalised hidden state.

    Layer 0 keeps it whole (16 + 16 features of 32), so every other layer is an exact linear map of layer 0.
    """
    model = tiny_llama(layers=4, hidden=32, vocab=64, heads=4, kv_heads=2)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    return model


@pytest.mark.parametrize("preset", ["projected", "interpolated"])
def test_exact_maps_are_found(linear: LlamaForCausalLM, preset: str) -> None:
    stored = (0,) if preset == "projected" else (0, 2)
    model = wrap(linear, preset=preset, stored_layers=stored, retrieval_layers=(1, 2, 3))
    maps, fits = fit_maps(model, [ids(30)], ridge=1e-10)
    assert [fit.layer for fit in fits] == list(model.layout.mapped_layers)
    for fit in fits:
        assert fit.r2_keys == pytest.approx(1, abs=1e-5) and fit.r2_values == pytest.approx(1, abs=1e-5)
        assert fit.sources == model.layout.sources[fit.layer].layers
    # With exact maps every layer reads what it would have stored itself.
    chunk, text = ids(1, seed=1)[None], ids(1, seed=2)[None]
    own = wrap(linear, stored_layers=(1, 2, 3))
    mapped = model.with_config(model.config, maps)
    logits = []
    for each in (own, mapped):
        kv = each.read(chunk)
        memory = each.memory(kv.keys_SBGTD, kv.values_SBGTD, [16])
        with torch.no_grad():
            logits.append(each.forward(text, memory).logits)
    torch.testing.assert_close(logits[1], logits[0], atol=2e-3, rtol=1e-3)


def test_an_affine_offset_goes_into_the_bias(tiny_llama: Build) -> None:
    """Keys with a bias: layer 1 = affine in layer 0, with a constant that a map through the origin cannot give."""
    model = tiny_llama(layers=2, hidden=32, vocab=64, attention_bias=True)
    with torch.no_grad():
        model.model.layers[0].self_attn.o_proj.weight.zero_()
        model.model.layers[0].self_attn.o_proj.bias.zero_()
        model.model.layers[0].mlp.down_proj.weight.zero_()
        model.model.layers[1].self_attn.k_proj.bias.fill_(50.0)
    wrapped = wrap(model, preset="projected", stored_layers=(0,), retrieval_layers=(1,))
    maps, fits = fit_maps(wrapped, [ids(30)], ridge=1e-10)
    assert fits[0].r2_keys == pytest.approx(1, abs=1e-4)
    assert float(maps.bias["1"].detach()[:16].mean()) == pytest.approx(50, abs=5)


def test_r2_is_of_windows_that_were_not_fitted(tiny_llama: Build) -> None:
    """More weights than tokens fit anything they saw: only other windows show that the map learned nothing."""
    model = wrap(tiny_llama(layers=6, vocab=64), preset="projected", stored_layers=(1,), retrieval_layers=(5,))
    tokens = ids(3, seed=3)
    _, few = fit_maps(model, [tokens], ridge=1e-9)
    _, many = fit_maps(model, [ids(64, seed=4)], ridge=1e-2)
    assert few[0].r2_keys < many[0].r2_keys < 1
    assert (few[0].tokens, few[0].held_out_tokens) == (32, 16)
    assert (many[0].tokens, many[0].held_out_tokens) == (64 * 14, 64 * 2)
    maps, _ = fit_maps(model, [tokens], ridge=1e-9)
    kv = wrap(tiny_llama(layers=6, vocab=64), stored_layers=(1, 5)).read(tokens[:32].view(2, 16))
    x, y = (
        torch.cat([part[i].transpose(1, 2).flatten(2).flatten(0, 1) for part in (kv.keys_SBGTD, kv.values_SBGTD)], -1)
        for i in (0, 1)
    )
    assert (maps.apply_map(5, x) - y).square().mean() < 1e-3 * y.var()  # what it saw, it fits


def test_least_squares_agree_with_a_direct_solution(tiny_llama: Build) -> None:
    layers = {"stored_layers": (1, 4), "retrieval_layers": (2, 3, 5)}
    model = wrap(tiny_llama(layers=6, vocab=64), preset="interpolated", **layers)
    tokens = ids(16, seed=5)
    maps, fits = fit_maps(model, [tokens], ridge=1e-12)
    seen = [i for i in range(16) if (i + 1) % HELD_OUT_EVERY]
    kv = wrap(tiny_llama(layers=6, vocab=64), stored_layers=(1, 2, 3, 4, 5)).read(tokens.view(16, 16))
    rows = {
        layer: torch.cat([part[i].transpose(1, 2).flatten(2).double() for part in (kv.keys_SBGTD, kv.values_SBGTD)], -1)
        for i, layer in enumerate((1, 2, 3, 4, 5))
    }  # layer -> [windows, T, F]
    for layer, sources in ((2, (1, 4)), (3, (1, 4)), (5, (4,))):
        x = torch.cat([rows[s] for s in sources] + [torch.ones(16, 16, 1)], -1)
        fit_x, fit_y = x[seen].flatten(0, 1), rows[layer][seen].flatten(0, 1)
        solution = torch.linalg.lstsq(fit_x, fit_y).solution
        torch.testing.assert_close(maps.weight[str(layer)].data.double(), solution[:-1], atol=1e-3, rtol=1e-3)
        rest = [i for i in range(16) if i not in seen]
        target = rows[layer][rest].flatten(0, 1)
        wrong = (x[rest].flatten(0, 1) @ solution - target).square().sum(0)
        spread = (target - target.mean(0)).square().sum(0)
        r2 = [1 - float(w.sum() / s.sum()) for w, s in zip(wrong.chunk(2), spread.chunk(2), strict=True)]
        fit = next(fit for fit in fits if fit.layer == layer)
        assert [fit.r2_keys, fit.r2_values] == pytest.approx(r2, abs=1e-3)


def test_the_same_text_gives_the_same_maps_however_it_is_batched(tiny_llama: Build) -> None:
    settings = {"preset": "interpolated", "stored_layers": (1, 4), "retrieval_layers": (1, 2, 3, 4, 5)}
    results = []
    for batch in (16, 64, 64):
        model = wrap(tiny_llama(layers=6, vocab=64), read_batch_tokens=batch, **settings)
        results.append(fit_maps(model, [ids(7, seed=6), ids(3, seed=7)[:40]]))
    for (one, _), (other, _) in pairwise(results):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], value, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(results[1][0].weight["2"], results[2][0].weight["2"])
    assert [fit.tokens for fit in results[1][1]] == [fit.tokens for fit in results[2][1]]


def test_short_windows_are_padded_and_padding_is_not_counted(tiny_llama: Build) -> None:
    model = wrap(tiny_llama(layers=4, vocab=64), preset="projected", stored_layers=(1,), retrieval_layers=(2,))
    _, fits = fit_maps(model, [ids(1), ids(1)[:5], ids(1)[:3].tolist()])
    assert (fits[0].tokens, fits[0].held_out_tokens) == (21, 3)


def test_texts_are_tokenised(tiny_llama: Build, tiny_tokenizer: Any) -> None:
    model = wrap(tiny_llama(layers=4), tiny_tokenizer, preset="projected", stored_layers=(1,), retrieval_layers=(2, 3))
    text = "The harbour master of Brackwater kept a ledger of every ship. " * 8
    by_text, _ = fit_maps(model, [text])
    by_ids, _ = fit_maps(model, [tiny_tokenizer(text)["input_ids"]])
    torch.testing.assert_close(by_text.weight["3"], by_ids.weight["3"])
    torch.testing.assert_close(fit_maps(model, text)[0].weight["3"], by_ids.weight["3"])


def test_progress_and_cancel(tiny_llama: Build) -> None:
    model = wrap(tiny_llama(layers=4, vocab=64), preset="projected", stored_layers=(1,), retrieval_layers=(2,))
    told: list[float] = []
    fit_maps(model, [ids(10)], progress=lambda share, words: told.append(share))
    assert told == sorted(told) and told[-1] == 1.0
    with pytest.raises(Cancelled, match="of 10 windows"):
        fit_maps(model, [ids(10)], cancel=lambda: True)


def test_what_cannot_be_fitted_is_refused(tiny_llama: Build) -> None:
    model = wrap(tiny_llama(layers=4, vocab=64), preset="projected", stored_layers=(1,), retrieval_layers=(2,))
    with pytest.raises(ConfigError, match=r"Text of 1 window\."):
        fit_maps(model, [ids(1)])
    with pytest.raises(ConfigError, match="ridge=0"):
        fit_maps(model, [ids(4)], ridge=0)


def test_a_layout_without_maps_has_nothing_to_fit(tiny_llama: Build) -> None:
    maps, fits = fit_maps(wrap(tiny_llama(layers=4, vocab=64)), [ids(4)])
    assert not list(maps.parameters()) and fits == []
    assert "nothing to fit" in fit_report(fits)


def test_report_names_every_layer_and_the_mean() -> None:
    fits = [LayerFit(9, (8, 18), 0.9, 0.8, 25_000, 3_000), LayerFit(10, (8, 18), 0.7, 0.6, 25_000, 3_000)]
    lines = fit_report(fits).splitlines()
    assert lines[1].split() == ["9", "8,", "18", "0.900", "0.800"]
    assert lines[3].split() == ["mean", "0.800", "0.700"]
    assert "25,000 tokens fitted, measured on 3,000 others" in lines[4]
    assert len({len(line) for line in lines[:4]}) == 1
