"""Every benchmark at toy size: it runs, and its report holds what was promised. No speed is tested here."""

from __future__ import annotations

import gc
import json
import math
from argparse import Namespace
from collections.abc import Callable, Iterator

import pytest
import torch

from benchmarks import __main__ as listing
from benchmarks import bundled, common, decoding, policies, reading, search, table, training
from benchmarks.baseline import PublishedMemory
from benchmarks.setups import TINY, Setup, make_setup
from memlong.config import MemoryConfig
from memlong.model.wrapper import MemoryModel
from memlong.retriever.hashing import HashingRetriever


@pytest.fixture(scope="module", autouse=True)
def nothing_old_to_collect() -> Iterator[None]:
    """Leave what the tests before made to itself: the clock collects garbage before every single run, and beside the
    libraries' hundreds of thousands of objects a run at toy size is nothing."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def setup() -> Setup:
    return make_setup("cpu", 0, TINY)


@pytest.fixture
def tiny_memory(tiny_llama: Callable, tiny_tokenizer) -> Callable[..., MemoryModel]:
    def build(**changes) -> MemoryModel:
        settings = {"chunk_tokens": 32, "window_tokens": 32, "top_k": 2, "read_batch_tokens": 64} | changes
        return MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(**settings))

    return build


def numbers_in(value: object) -> Iterator[float]:
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, int | float):
        yield float(value)


def check(name: str, found: dict, targets: common.Targets, missing: tuple[str, ...] = ()) -> dict:
    """Return the report after it went through JSON; every target has a value and every number is one."""
    report = json.loads(json.dumps(common.report(name, "cpu", found, targets)))
    assert set(report["targets"]) == set(targets) - set(missing)
    assert all(math.isfinite(number) for number in numbers_in(report["numbers"]))
    assert set(report) == {"benchmark", "command", "date", "machine", "versions", "targets", "numbers"}
    return report


def test_reading(setup: Setup) -> None:
    options = Namespace(device="cpu", seed=0, tokens=256, stored=(128, 512), repeats=1)
    found = reading.measure(setup, options)
    # Of a text no longer than the short one there is one number, under the short one's own length.
    report = check("reading", found, reading.targets(256), (f"read_vs_baseline_{reading.SHORT}",))
    assert report["numbers"]["read_vs_baseline_256"] == report["numbers"]["read_vs_baseline"]
    assert found["model_plus_bank_megabytes"] > 10


def test_decoding(setup: Setup) -> None:
    options = Namespace(device="cpu", local=32, stored=256, steps=2, repeats=1)
    report = check("decoding", decoding.measure(setup, options), decoding.TARGETS)
    assert report["numbers"]["retrieved_tokens"] == TINY.top_k * TINY.chunk_tokens


def test_search() -> None:
    found = {str(chunks): search.measure(chunks, 16, 3) for chunks in (100, 300)}
    report = check("search", found, {})
    assert set(report["numbers"]["300"]) == {"search", "search_batch", "trigger", "add", "evict"}


def test_policies() -> None:
    from memlong.retriever.hashing import HashingRetriever

    found = policies.measure(HashingRetriever(64), Namespace(tokens=3_000, seed=1, repeats=1, device="cpu"))
    report = check("policies", found, policies.TARGETS)
    assert report["numbers"]["chunks"] == 12 and report["numbers"]["replays"] == 15
    made, texts = policies.book(3_000, 1)
    assert len(texts) == 12 and len(made.questions) == report["numbers"]["questions"] > 0


@pytest.mark.parametrize("preset", ["own", "paper"])
def test_bundled(tiny_memory: Callable[..., MemoryModel], preset: str) -> None:
    model = tiny_memory(preset=preset, store_dtype="int8")
    options = Namespace(device="cpu", model="tiny", tokens=128, answer_tokens=4, repeats=1)
    report = check("bundled", bundled.measure(model, HashingRetriever(), options), bundled.TARGETS)
    assert math.isclose(sum(report["numbers"]["read_shares"].values()), 1, rel_tol=1e-3)


def test_the_limit_counts_what_reading_runs(tiny_memory: Callable[..., MemoryModel]) -> None:
    model = tiny_memory(preset="own", stored_layers=(1, 3), retrieval_layers=(1, 3))
    names = {name for name, module in model.base.named_modules() if module in bundled.linear_layers(model)}
    whole = {
        name for name, _ in model.base.named_modules() if name.startswith(tuple(f"model.layers.{i}." for i in "012"))
    }
    assert names - whole == {"model.layers.3.self_attn.k_proj", "model.layers.3.self_attn.v_proj"}
    assert len(names) == 3 * 7 + 2


def test_training(tiny_memory: Callable[..., MemoryModel]) -> None:
    options = Namespace(device="cpu", seed=0, batch=2, window=32, top_k=2, chunk=32, repeats=1)
    trainer = training.make_trainer(tiny_memory(), options)
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    report = check("training", training.measure(trainer, options), training.TARGETS)
    assert report["numbers"]["tokens_in_memory"] == 64
    assert any(not torch.equal(before[name], value) for name, value in trainer.parameters.items())


def test_plain_and_memory_steps_learn_from_the_same_tokens(tiny_memory: Callable[..., MemoryModel]) -> None:
    options = Namespace(device="cpu", seed=0, batch=2, window=32, top_k=2, chunk=32, repeats=1)
    trainer = training.make_trainer(tiny_memory(), options)
    trainer.model = trainer.model.with_config(trainer.model.config.replace(memory_strength=-1e9))
    loss = trainer._loss(trainer.sampler.draw(trainer.step), trainer.memory)
    assert torch.isclose(loss, training.question_loss(trainer), rtol=1e-3)  # bfloat16, rounded in other places


def test_the_published_method_keeps_what_fits(setup: Setup) -> None:
    size = TINY.chunk_tokens
    memory = PublishedMemory(setup, 4 * size)
    logits = memory.read(setup.text(6 * size))
    assert logits.shape == (6 * size, TINY.vocab) and logits.dtype == torch.float32
    assert memory.index.ntotal * size == memory.keys_1HSD.shape[2] <= 4 * size


def test_the_published_method_reads_the_same_whether_it_drops_its_logits_or_not(setup: Setup) -> None:
    text = setup.text(3 * TINY.chunk_tokens)
    keeping, dropping = (PublishedMemory(setup, len(text)) for _ in range(2))
    keeping.read(text)
    dropping.read_dropping(text)
    torch.testing.assert_close(keeping.keys_1HSD, dropping.keys_1HSD, rtol=0, atol=0)
    torch.testing.assert_close(keeping.values_1HSD, dropping.values_1HSD, rtol=0, atol=0)


def test_missed_targets_are_told() -> None:
    report = common.report("x", "cpu", {"up": 1.0, "down": 3.0}, {"up": ("at least", 2), "down": ("at most", 3)})
    assert not report["targets"]["up"]["met"] and report["targets"]["down"]["met"]


def test_every_benchmark_has_its_file_and_every_result_its_benchmark() -> None:
    folder = table.README.parent
    assert all((folder / f"{name}.py").is_file() for name in listing.NAMES)
    assert all(report["benchmark"] == name and report["targets"] is not None for name, report in table.load().items())
    assert {"reading", "decoding", "search", "bundled"} <= set(table.load())


def test_the_readme_shows_the_results_as_they_are() -> None:
    assert table.README.read_text("utf-8") == table.filled(table.README.read_text("utf-8"), table.load())


def test_the_table_names_what_falls_short() -> None:
    report = common.report("x", "cpu", {"up": 1.0}, {"up": ("at least", 2)})
    told = table.rows({"x": report})
    assert "| x | `up` | 1 | at least 2 | **no** |" in told
    assert "| reading | | not measured yet | | |" in told
