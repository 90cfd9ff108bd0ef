"""Loading by name, folder, number type, quantisation and adapter; and every refusal."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from memlong.bank.formats import FORMATS
from memlong.bank.store import KVShape
from memlong.config import MemoryConfig
from memlong.errors import ConfigError, ModelError
from memlong.model import adapter as adapters
from memlong.model import locate
from memlong.model.estimate import estimate
from memlong.model.layout import resolve_layout
from memlong.model.load import load_model
from memlong.model.part import read_maps, read_part, write_part
from memlong.model.sources import KVMaps

MEMORY = MemoryConfig(chunk_tokens=16, window_tokens=32, preset="own", capacity_tokens=64)
PLAIN = {"device": "cpu", "dtype": "fp32"}
IDS = torch.arange(3, 20)[None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_llama, tiny_tokenizer) -> Path:
    """A tiny model as save_pretrained leaves it."""
    path = tmp_path_factory.mktemp("model")
    tiny_llama(layers=4).save_pretrained(path)
    tiny_tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def lora(tmp_path_factory, tiny_llama) -> Path:
    """A LoRA adapter on the upper layers that changes what they answer."""
    from peft import LoraConfig, get_peft_model

    path = tmp_path_factory.mktemp("lora")
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], layers_to_transform=[2, 3])
    model = get_peft_model(tiny_llama(layers=4), config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.3)
    model.save_pretrained(path)
    return path


def logits(model, ids=IDS):
    with torch.no_grad():
        return model.forward(ids).logits.float()


def test_a_folder_gives_its_model(folder, tiny_llama):
    steps: list[tuple[float, str]] = []
    model = load_model(folder, MEMORY, progress=lambda *step: steps.append(step), **PLAIN)
    with torch.no_grad():
        expected = tiny_llama(layers=4)(IDS, position_ids=torch.arange(1, 18)[None]).logits
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert model.config == MEMORY
    assert model.name == str(folder)
    assert [share for share, _ in steps] == sorted(share for share, _ in steps)
    assert steps[-1][0] == 1.0
    assert not model.base.training


def test_loading_is_quiet(folder, capfd, caplog):
    load_model(folder, MEMORY, **PLAIN)
    printed = capfd.readouterr()
    assert printed.out + printed.err + caplog.text == ""


@pytest.mark.parametrize(("dtype", "expected"), [("bf16", torch.bfloat16), ("float32", torch.float32)])
def test_the_number_type_is_the_one_asked_for(folder, dtype, expected):
    assert load_model(folder, MEMORY, device="cpu", dtype=dtype).dtype == expected


@pytest.mark.parametrize(("quantization", "least"), [("8bit", 0.99), ("4bit", 0.8)])
def test_quantised_weights_answer_alike(folder, quantization, least, caplog):
    plain = load_model(folder, MEMORY, **PLAIN)
    with caplog.at_level(logging.INFO):
        small = load_model(folder, MEMORY, device="cpu", quantization=quantization)
        like = torch.nn.functional.cosine_similarity(logits(plain).flatten(), logits(small).flatten(), dim=0)
        stored = small.read(IDS)
    assert float(like) > least
    assert small.parameters_bytes() < plain.parameters_bytes() / 1.5
    assert stored.keys_SBGTD.shape == plain.read(IDS).keys_SBGTD.shape
    assert "MatMul8bitLt" not in caplog.text


def test_4_bit_weights_of_any_width_answer_alike(tiny_llama, tiny_tokenizer, tmp_path):
    tiny_llama(hidden=72, head_dim=18, initializer_range=0.05).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    plain = load_model(tmp_path, MEMORY, **PLAIN)
    small = load_model(tmp_path, MEMORY, device="cpu", quantization="4bit")
    like = torch.nn.functional.cosine_similarity(logits(plain).flatten(), logits(small).flatten(), dim=0)
    assert float(like) > 0.8
    assert small.read(IDS).keys_SBGTD.shape == plain.read(IDS).keys_SBGTD.shape


def test_the_estimate_is_what_is_taken(folder):
    for options in ({"dtype": "fp32"}, {"dtype": "bf16"}):
        model = load_model(folder, MEMORY, device="cpu", **options)
        expected = estimate(folder, config=MEMORY, device="cpu", **options)
        assert expected.weights_bytes == model.parameters_bytes()
        stored = model.read(IDS)
        bank = MEMORY.replace(store_dtype="float32")
        per_token = estimate(folder, config=bank, device="cpu").bank_bytes_per_token
        numbers = stored.keys_SBGTD.numel() + stored.values_SBGTD.numel()
        assert per_token == 4 * numbers // IDS.numel()
    four, eight, plain = (estimate(folder, name, MEMORY, dtype="bf16").weights_bytes for name in ("4bit", "8bit", None))
    assert four < eight < plain
    for store_dtype in FORMATS:
        shape = KVShape(stored_layers=3, kv_heads=2, chunk_tokens=4, head_dim=16)
        found = estimate(folder, config=MEMORY.replace(store_dtype=store_dtype)).bank_bytes_per_token
        assert found == shape.bytes_per_token(store_dtype)
    sentences = estimate(folder, config=MEMORY.replace(chunk_ends="sentences", store_dtype="float32"))
    assert sentences.bank_bytes_per_token == 1.125 * per_token, "as many more slots"


@pytest.mark.parametrize("merge", [True, False])
def test_adapters_answer_and_originals_read(folder, lora, merge, monkeypatch):
    if not merge:
        monkeypatch.setattr(adapters, "_free_bytes", lambda device: 0)
    plain = load_model(folder, MEMORY, **PLAIN)
    adapted = load_model(folder, MEMORY, adapter=lora, **PLAIN)
    assert hasattr(adapted.model, "disable_adapter") is not merge
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    reference = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), lora)
    with torch.no_grad():
        expected = reference(input_ids=IDS, position_ids=torch.arange(1, 18)[None]).logits
    torch.testing.assert_close(logits(adapted), expected, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits(plain), expected, atol=1e-2)
    torch.testing.assert_close(adapted.read(IDS).keys_SBGTD, plain.read(IDS).keys_SBGTD)
    torch.testing.assert_close(logits(adapted), expected, atol=1e-4, rtol=1e-4)  # reading left them on


def test_adapters_run_beside_quantised_weights(folder, lora):
    plain = load_model(folder, MEMORY, device="cpu", quantization="8bit")
    adapted = load_model(folder, MEMORY, device="cpu", quantization="8bit", adapter=lora)
    assert hasattr(adapted.model, "disable_adapter")
    assert not torch.allclose(logits(adapted), logits(plain), atol=1e-2)
    torch.testing.assert_close(adapted.read(IDS).keys_SBGTD, plain.read(IDS).keys_SBGTD)


def test_the_estimate_counts_the_adapter(folder, lora, tmp_path):
    spec = load_model(folder, MEMORY, **PLAIN).spec
    export(tmp_path / "export", str(folder), lora, MEMORY, spec)
    for dtype in ("fp32", "bf16"):
        model = load_model(tmp_path / "export", device="cpu", dtype=dtype)
        found = estimate(tmp_path / "export", device="cpu", dtype=dtype)
        assert found.weights_bytes == model.parameters_bytes()
        assert found.weights_bytes > estimate(folder, config=MEMORY, device="cpu", dtype=dtype).weights_bytes
    beside, without = (estimate(name, "8bit", MEMORY, device="cpu") for name in (tmp_path / "export", folder))
    numbers = sum(value.numel() for value in load_file(lora / "adapter_model.safetensors").values())
    assert beside.weights_bytes == without.weights_bytes + 4 * numbers


def export(folder: Path, base: str, lora: Path, config: MemoryConfig, spec) -> KVMaps:
    """Write what training exports: settings, maps, head biases and an adapter."""
    maps = KVMaps(resolve_layout(config, 4), spec.kv_heads, spec.head_dim)
    for parameter in maps.parameters():
        parameter.data.normal_(std=0.1)
    write_part(folder, config, base, maps, {3: torch.arange(4.0)})
    assert len({path.stat().st_mode for path in folder.iterdir()}) == 1, "whoever may read one file may read the other"
    shutil.copytree(lora, folder / "adapter")
    return maps


def test_an_export_brings_settings_maps_biases_and_adapter(folder, lora, tmp_path):
    spec = load_model(folder, MEMORY, **PLAIN).spec
    config = MEMORY.replace(preset="interpolated", stored_layers=(1, 3))
    maps = export(tmp_path / "export", str(folder), lora, config, spec)
    model = load_model(tmp_path / "export", **PLAIN)
    assert model.config == config
    assert model.name == str(tmp_path / "export")
    assert model.maps is not None
    assert model.bias is not None
    assert not any(parameter.requires_grad for parameter in model.maps.parameters())
    for name, value in maps.state_dict().items():
        torch.testing.assert_close(model.maps.state_dict()[name], value)
    torch.testing.assert_close(model.bias[3], torch.arange(4.0))
    with_adapter = load_model(folder, config, adapter=tmp_path / "export", **PLAIN)
    torch.testing.assert_close(logits(model), logits(with_adapter))
    without = load_model(tmp_path / "export", adapter="none", **PLAIN)
    assert not torch.allclose(logits(model), logits(without), atol=1e-2)
    # Settings that need no maps ignore them; settings that need others are refused.
    assert load_model(tmp_path / "export", MEMORY, **PLAIN).maps is None
    with pytest.raises(ModelError, match="does not fit these layers"):
        load_model(tmp_path / "export", config.replace(stored_layers=(0, 3)), **PLAIN)


def test_an_export_and_its_base_may_move_together_and_tell_no_place(folder, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(folder, here / "models" / "base")
    monkeypatch.chdir(here)
    for part in ("runs/part", "models", "models/base/part"):
        write_part(Path(part), MEMORY.replace(top_k=7), "models/base")
        assert str(tmp_path) not in Path(part, "memory.json").read_text()
    monkeypatch.chdir(tmp_path)
    here.rename(tmp_path / "there")
    for part in ("runs/part", "models", "models/base/part"):
        assert load_model(tmp_path / "there" / part, **PLAIN).config.top_k == 7
    write_part(tmp_path / "empty", MEMORY, str(tmp_path / "empty"))
    with pytest.raises(ModelError, match="no base model is named"):
        load_model(tmp_path / "empty", **PLAIN)


def test_a_folder_called_bundled_is_not_taken_for_the_bundled_model(tmp_path, monkeypatch):
    (tmp_path / "bundled").mkdir()
    monkeypatch.chdir(tmp_path)
    write_part(tmp_path / "part", MEMORY, "bundled")
    assert read_part(tmp_path / "part").base == "bundled"


def test_settings_in_a_models_own_folder_count(copy):
    write_part(copy, MEMORY.replace(top_k=7), "")
    assert load_model(copy, **PLAIN).config.top_k == 7


def test_an_adapters_folder_names_its_base(folder, lora, tmp_path):
    path = Path(shutil.copytree(lora, tmp_path / "lora"))
    settings = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": str(folder)}))
    assert not torch.allclose(
        logits(load_model(path, MEMORY, **PLAIN)), logits(load_model(folder, MEMORY, **PLAIN)), atol=1e-2
    )
    (path / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": None}))
    with pytest.raises(ModelError, match="no base model is named"):
        load_model(path)


def test_bundled_takes_our_part_where_there_is_one(folder, lora, tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "bundled_model_folder", lambda data_dir, progress: folder)
    monkeypatch.setattr(locate, "BUNDLED_PART", tmp_path / "absent")
    plain = load_model("bundled", **PLAIN)
    assert plain.config == MemoryConfig()
    assert plain.name == "bundled"
    spec = plain.spec
    export(tmp_path / "part", "bundled", lora, MEMORY.replace(preset="paper"), spec)
    monkeypatch.setattr(locate, "BUNDLED_PART", tmp_path / "part")
    trained = load_model("bundled", **PLAIN)
    assert trained.config.preset == "paper"
    assert not torch.allclose(logits(trained), logits(plain), atol=1e-2)
    torch.testing.assert_close(logits(load_model("bundled-base", **PLAIN)), logits(plain))
    torch.testing.assert_close(logits(load_model(tmp_path / "part", **PLAIN)), logits(trained))


def test_converting_takes_most_of_a_first_start(folder, tmp_path, monkeypatch):
    def convert(data_dir, tell):
        tell(0.5, "half converted")
        tell(1.0, "converted")
        return folder

    monkeypatch.setattr(locate, "bundled_model_folder", convert)
    monkeypatch.setattr(locate, "BUNDLED_PART", tmp_path / "absent")
    steps: list[tuple[float, str]] = []
    load_model("bundled", progress=lambda *step: steps.append(step), **PLAIN)
    assert (0.4, "half converted") in steps
    shares = [share for share, _ in steps]
    assert shares == sorted(shares)
    assert min(shares[2:]) >= 0.8
    assert shares[-1] == 1.0


def test_the_data_folder_comes_before_the_hub(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "models" / "some-model")
    assert load_model("nobody/some-model", MEMORY, data_dir=tmp_path, **PLAIN).name == "nobody/some-model"


def refused(match: str, *args: object, **options: object) -> ModelError:
    with pytest.raises(ModelError, match=match) as caught:
        load_model(*args, **{**PLAIN, **options})  # type: ignore[arg-type]
    assert caught.value.allowed
    assert caught.value.do
    return caught.value


def test_models_that_are_not_there_are_refused(tmp_path):
    refused("neither on this machine nor can the hub", "nobody/no-such-model", data_dir=tmp_path)
    refused("There is no folder", "/nowhere/at/all")
    refused("holds no model", tmp_path)
    (tmp_path / "weights.safetensors").touch()
    refused("is a file", tmp_path / "weights.safetensors")
    part = {"version": 1, "memory": {}, "base": "../gone"}
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "memory.json").write_text(json.dumps(part))
    assert "memory.json" in refused("is for the model in '../gone'", tmp_path / "part").do
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "memory.json").write_text("{}")
    assert str(tmp_path / "export") in refused("holds no model", tmp_path).do


def test_pickles_are_refused_unread(copy):
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    refused("There are no weights", copy)
    torch.save(weights, copy / "pytorch_model.bin")
    assert "can run code" in refused("pickle files", copy).given


def test_pickled_adapters_are_refused_unread(folder, lora, tmp_path):
    path = Path(shutil.copytree(lora, tmp_path / "lora"))
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    refused("no adapter_model.safetensors", folder, adapter=path)
    refused("There is no adapter", folder, adapter=tmp_path)


def test_an_adapter_of_another_model_is_refused(lora, tmp_path, tiny_llama, tiny_tokenizer):
    tiny_llama(layers=4, hidden=32).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    refused("could not be loaded", tmp_path, adapter=lora)


def test_damaged_and_incomplete_weights_are_refused(copy):
    weights = load_file(copy / "model.safetensors")
    lacking = {name: value for name, value in weights.items() if "layers.2" not in name}
    save_file(lacking, copy / "model.safetensors", metadata={"format": "pt"})
    refused("lack 9 tensors", copy)
    (copy / "model.safetensors").write_bytes(b"\x10" * 64)
    refused("damaged", copy)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"model_type": "t5"}, "encoder-decoder"),
        ({"model_type": "vit"}, "does not write text"),
        ({"model_type": "unheard-of"}, "does not know"),
        ({"model_type": "own-code", "auto_map": {"AutoConfig": "code.Config"}}, "own program code"),
    ],
)
def test_other_architectures_are_refused(copy, settings, match):
    (copy / "config.json").write_text(json.dumps(settings))
    refused(match, copy)


def test_a_missing_tokenizer_is_refused(copy):
    for path in copy.glob("*token*"):
        path.unlink()
    refused("no usable tokenizer", copy)


def test_wrong_options_are_refused(folder):
    refused("Did you mean 'quantization'", folder, quantisation="8bit")
    refused("Known: 4bit, 8bit", folder, quantization="3bit")
    refused("Unknown device", folder, device="gpu9")
    with pytest.raises(ConfigError, match="stored_layers"):
        load_model(folder, MEMORY.replace(stored_layers=(9,)), **PLAIN)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ('{"version": 2, "memory": {}, "base": ""}', "version 2"),
    ],
)
def test_damaged_settings_are_refused(tmp_path, text, match):
    (tmp_path / "memory.json").write_text(text)
    with pytest.raises(ModelError, match=match):
        read_part(tmp_path)


def test_unknown_settings_are_refused(tmp_path):
    (tmp_path / "memory.json").write_text('{"version": 1, "memory": {"top_kk": 4}, "base": ""}')
    with pytest.raises(ConfigError, match="Did you mean 'top_k'"):
        read_part(tmp_path)


def test_maps_must_be_whole_and_of_this_model(folder, tmp_path):
    spec = load_model(folder, MEMORY, **PLAIN).spec
    layout = resolve_layout(MEMORY.replace(preset="projected"), 4)
    assert read_maps(tmp_path, layout, spec) == (None, None)
    (tmp_path / "maps.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match="damaged"):
        read_maps(tmp_path, layout, spec)
    save_file({"weight.2": torch.zeros(2, 2)}, tmp_path / "maps.safetensors")
    with pytest.raises(ModelError, match="does not fit"):
        read_maps(tmp_path, layout, spec)
    save_file({"head_bias.3": torch.zeros(9)}, tmp_path / "maps.safetensors")
    with pytest.raises(ModelError, match=r"head_bias\.3"):
        read_maps(tmp_path, layout, spec)
