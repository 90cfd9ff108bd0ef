"""Spaces without one: defaults from the environment, and lent GPUs as forked workers that pickle in and out."""

from __future__ import annotations

import multiprocessing
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app import spaces
from app.settings import from_command_line
from memlong.config import MemoryConfig

ROOT = Path(__file__).resolve().parents[2]
FAKE_ENVIRONMENT = {"SPACE_ID": "somebody/something"}
ZERO = {**FAKE_ENVIRONMENT, "SPACES_ZERO_GPU": "true"}


def lend(function: Callable[..., Any], refuse: list[str]) -> Callable[..., Any]:
    """Return ``function`` run in a forked process, arguments and result pickled: what ZeroGPU does, less the GPU."""

    def work(pipe: Any) -> None:
        pipe.send(function(*pipe.recv()))

    def call(*arguments: Any) -> Any:
        if refuse:
            raise RuntimeError(refuse[0])
        mine, its = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=work, args=(its,))
        process.start()
        its.close()
        mine.send(arguments)
        result = mine.recv()
        process.join()
        calls.append(len(arguments[1]))
        return result

    return call


calls: list[int] = []  # windows of every call


@pytest.fixture
def zero(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Pretend to be on ZeroGPU; yields a list whose first item, if any, is why no GPU is lent."""
    refuse: list[str] = []
    module = types.ModuleType("spaces")
    module.GPU = lambda duration: lambda function: lend(function, refuse)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", module)
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    calls.clear()
    spaces.prepare()
    yield refuse
    spaces._read_windows = None
    spaces._MODELS.clear()


@pytest.fixture
def model(tiny_llama: Callable[..., Any], tiny_tokenizer: Any) -> Any:
    from memlong.model.wrapper import MemoryModel

    config = MemoryConfig(chunk_tokens=32, window_tokens=64, store_dtype="float32")
    return MemoryModel(tiny_llama(layers=4, hidden=32), tiny_tokenizer, config)


def test_the_guide_names_what_is_true() -> None:
    guide = (ROOT / "docs" / "spaces.md").read_text("utf-8")
    assert (ROOT / "README.md").read_text("utf-8").startswith(guide.split("```yaml\n")[1].split("```")[0])
    block = dict(re.findall(r"^(\w+): *(.*)$", guide.split("---")[1], re.MULTILINE))
    assert (block["sdk"], block["app_file"]) == ("gradio", "app.py")
    assert f"gradio=={block['sdk_version']}\n" in (ROOT / "constraints.txt").read_text("utf-8")
    assert len(block["short_description"]) <= 60, "Spaces refuse longer ones"
    found = spaces.defaults(FAKE_ENVIRONMENT)
    for name, words in (("sessions", "6 visitors"), ("capacity", "65,536"), ("upload_mb", "| 50 |")):
        assert f"`MEMLONG_{name.upper()}` | {words.lstrip('| ')}" in guide
        assert str(found[name]) in words.replace(",", "")
    assert f"{spaces.READ_TOKENS:,} tokens" in guide
    assert f"{spaces.SECONDS} seconds" in guide


def test_nothing_changes_anywhere_else(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    assert spaces.gpu(len) is len
    spaces.prepare()
    config = model.config
    assert spaces.offloaded(model) is model
    assert "read" not in vars(model)
    assert model.config is config
    assert spaces.defaults({}) == {}


def test_a_space_is_reached_from_outside_and_shares_its_memory(tmp_path: Path) -> None:
    found = spaces.defaults(FAKE_ENVIRONMENT, tmp_path)
    assert found["host"] == "0.0.0.0"
    assert found["data_dir"] == tmp_path / "memlong"
    assert "data_dir" not in spaces.defaults(FAKE_ENVIRONMENT, tmp_path / "none")
    settings = from_command_line([], {**FAKE_ENVIRONMENT, "MEMLONG_CAPACITY": "4096"})
    assert (settings.capacity, settings.sessions) == (4096, found["sessions"])
    assert not settings.changes_allowed


def test_where_gpus_are_lent_weights_stay_on_the_processor() -> None:
    settings = from_command_line([], ZERO)
    assert settings.device == "cpu"


def test_a_lent_gpu_reads_what_the_processor_would(zero: list[str], model: Any) -> None:
    import torch

    ids = torch.randint(3, 200, (3, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[2, 25:] = 0
    expected = model.read(ids, mask)
    lent = spaces.offloaded(model)
    made = lent.read(ids, mask)
    assert calls == [3]
    for name in ("keys_SBGTD", "values_SBGTD"):
        torch.testing.assert_close(getattr(made, name)[:, :2], getattr(expected, name)[:, :2])
        torch.testing.assert_close(getattr(made, name)[:, 2, :, :25], getattr(expected, name)[:, 2, :, :25])
    assert lent.config.read_batch_tokens == spaces.READ_TOKENS
    view = lent.with_config(lent.config.replace(top_k=2))
    view.read(ids)
    assert calls == [3, 3]


def test_adapted_weights_do_not_read_on_the_gpu_either(zero: list[str], model: Any) -> None:
    import torch

    from memlong.model.wrapper import MemoryModel

    name, value = next((n, p) for n, p in model.base.named_parameters() if "k_proj" in n and ".1." in n)
    original = model.read(torch.arange(3, 20)[None])
    adapted = MemoryModel(model.model, model.tokenizer, model.config, adapted={name: value.detach() * 2})
    made = spaces.offloaded(adapted).read(torch.arange(3, 20)[None])
    # Close, not equal: copied weights lie elsewhere in memory, and some kernels then add in another order.
    torch.testing.assert_close(made.keys_SBGTD, original.keys_SBGTD)
    with torch.no_grad():
        value.mul_(2)
        try:
            assert (model.read(torch.arange(3, 20)[None]).keys_SBGTD - original.keys_SBGTD).abs().max() > 1e-3
        finally:
            value.div_(2)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_number_types_survive_the_way(dtype: str, model: Any) -> None:
    import torch

    states = torch.randn(2, 1, 2, 3, 4, generator=torch.Generator().manual_seed(1)).to(getattr(torch, dtype))
    back = spaces.unpack((spaces._pack(states), spaces._pack(states.transpose(3, 4))), model)
    assert torch.equal(back.keys_SBGTD, states)
    assert torch.equal(back.values_SBGTD, states.transpose(3, 4))


def test_without_a_gpu_reading_goes_on(zero: list[str], model: Any, caplog: pytest.LogCaptureFixture) -> None:
    import torch

    lent = spaces.offloaded(model)
    zero.append("no quota left")
    ids = torch.arange(3, 20)[None]
    assert lent.read(ids).keys_SBGTD.shape[3] == 17
    assert calls == []
    assert "no quota left" in caplog.text
    assert spaces.read_windows("another model", [[3]], None) is None


def test_a_whole_book_is_read_through_lent_gpus(zero: list[str], model: Any, long_text: str) -> None:
    from memlong.retriever.hashing import HashingRetriever
    from memlong.session.session import Session

    plain = Session(model, HashingRetriever())
    plain.read(long_text)
    session = Session(spaces.offloaded(model), HashingRetriever())
    session.read(long_text)
    assert calls
    assert len(session.bank) == len(plain.bank) > 0
    question = "Where did the brass lantern stand?"
    assert session.ask(question, max_tokens=8).text == plain.ask(question, max_tokens=8).text
