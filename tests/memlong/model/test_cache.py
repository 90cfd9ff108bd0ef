"""The cache that grows in place against the one that copies."""

from __future__ import annotations

import torch
from transformers import DynamicCache

from memlong.model.cache import growing_cache


def _states(tokens: int, seed: int, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, 3, tokens, 4, generator=random), torch.randn(rows, 3, tokens, 4, generator=random)


def test_it_holds_what_the_copying_cache_holds() -> None:
    mine, plain = growing_cache(), DynamicCache()
    for seed, tokens in enumerate((5, 1, 1, 70, 1, 300, 2)):
        for layer in (0, 1):
            for own, other in zip(
                mine.update(*_states(tokens, 10 * seed + layer), layer),
                plain.update(*_states(tokens, 10 * seed + layer), layer),
                strict=True,
            ):
                assert torch.equal(own, other)
    assert mine.get_seq_length() == plain.get_seq_length() == 380


def test_a_token_is_written_in_place() -> None:
    cache = growing_cache()
    cache.update(*_states(10, 0), 0)
    place = cache.layers[0].keys.data_ptr()
    for seed in range(1, 50):
        cache.update(*_states(1, seed), 0)
    assert cache.layers[0].keys.data_ptr() == place


def test_shortening_and_picking_rows_keeps_what_is_left() -> None:
    mine, plain = growing_cache(), DynamicCache()
    for cache in (mine, plain):
        cache.update(*_states(9, 0), 0)
        cache.crop(-4)
        cache.update(*_states(2, 1), 0)
        cache.batch_select_indices(torch.tensor([1]))
        cache.update(*_states(3, 2, rows=1), 0)
    assert torch.equal(mine.layers[0].keys, plain.layers[0].keys)
    assert torch.equal(mine.layers[0].values, plain.layers[0].values)


def test_reset_empties_it() -> None:
    cache = growing_cache()
    cache.update(*_states(9, 0), 0)
    cache.reset()
    assert cache.get_seq_length() == 0
    assert cache.update(*_states(2, 1), 0)[0].shape[2] == 2
