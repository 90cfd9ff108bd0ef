"""The pretrained model and tokenizer of a recipe, and its configuration before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from memlong.errors import ModelError
from memlong.quiet import quiet
from memlong.retriever import Retriever, make_retriever
from memlong.retriever.hybrid import HybridRetriever

TOY = "toy"
_KEPT_SCORES = 1_000_000
_TOY_SIZE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}


def load_tokenizer(name: str) -> Any:
    """Return a model's tokenizer; "bundled-base" and "toy" have the bundled model's.

    Raises:
        ModelError: when it cannot be had.
    """
    from transformers import AutoTokenizer

    with _named(name):
        return AutoTokenizer.from_pretrained(_where(name))


def open_base_config(name: str) -> Any:
    """Return the model's transformers configuration.

    Raises:
        ModelError: when it cannot be had.
    """
    from transformers import AutoConfig, LlamaConfig

    if name == TOY:
        vocabulary = AutoConfig.from_pretrained(_where(name)).vocab_size
        return LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, **_TOY_SIZE)
    with _named(name):
        return AutoConfig.from_pretrained(_where(name))


def load_base(name: str, quantization: str = "none", half: bool = False) -> tuple[Any, Any]:
    """Return the pretrained model and its tokenizer; "bundled-base" is the bundled model's weights.

    Args:
        quantization: "none" or "4bit". half: whether frozen weights are held in bfloat16, on a GPU.

    Raises:
        ModelError: when they cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if name == TOY:
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(open_base_config(name)), load_tokenizer(name)
    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if half and cuda else torch.float32
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True}
    if quantization == "4bit":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    with quiet(), _named(name):
        model = AutoModelForCausalLM.from_pretrained(_where(name), **options)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # bitsandbytes packs weights when a layer first runs outside training, as it does to write memory; no
            # gradient passes through packed ones, and nothing says so.
            module.support_avx512bf16_for_cpu = False
    if cuda and quantization == "none":
        import os

        model = model.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    return model, load_tokenizer(name)


def write_toy(folder: Path) -> None:
    """Write the toy with its tokenizer into ``folder``: nobody else could make it to load what was trained on it."""
    model, tokenizer = load_base(TOY)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # safetensors lets nobody but the owner read what it writes.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)


def load_retriever(name: str) -> Retriever:
    """Return the retriever of a recipe; what it reads beside questions is kept, since they come up again."""
    found = make_retriever(name)
    if isinstance(found, HybridRetriever):
        found.keep_scores(_KEPT_SCORES)
    return found


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say of which model it is that something cannot be had."""
    try:
        yield
    except OSError as error:
        raise ModelError(f"Model {name!r} cannot be had ({error})", "A folder or a hub id", "Check it") from error


def _where(name: str) -> str:
    from memlong.model.bundled import bundled_model_folder

    return str(bundled_model_folder(None)) if name in (TOY, "bundled-base") else name
