"""Load a language model and give it a memory."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from memlong.config import MemoryConfig
from memlong.errors import ModelError, unknown_name
from memlong.hardware import resolve_device
from memlong.model.adapter import attach, can_merge, merged
from memlong.model.architecture import inspect
from memlong.model.dtypes import NumberTypes, choose_types
from memlong.model.estimate import parameter_count
from memlong.model.layout import resolve_layout
from memlong.model.locate import Located, Progress, locate, open_config
from memlong.model.part import adapter_in, read_maps
from memlong.model.refusals import refusals, refuse_missing, refuse_pickles
from memlong.model.wrapper import MemoryModel
from memlong.quiet import quiet

NO_ADAPTER = "none"


@dataclass(frozen=True)
class LoadOptions:
    """How a model is loaded.

    Attributes:
        dtype: "auto" (measured), bf16, fp16 or fp32. quantization: None, "8bit" or "4bit" (bitsandbytes).
        adapter: folder of a PEFT adapter or of a training export; None takes the model's own, "none" takes
            none.
        device: auto, cpu, cuda, cuda:1, mps. data_dir: the data folder; None for the default.
        progress: called with the share done (0 to 1) and words for a person.
    """

    dtype: str | torch.dtype = "auto"
    quantization: str | None = None
    adapter: str | Path | None = None
    device: str = "auto"
    data_dir: Path | None = None
    progress: Progress | None = None


def load_model(name: str | Path = "bundled", config: MemoryConfig | None = None, **options: Any) -> MemoryModel:
    """Return a model with a memory.

    Only safetensors are read and no code that comes with a model is run.

    Args:
        name: "bundled", "bundled-base" (the same weights without our training), a hub id, or a folder: of a
            model,
            of a PEFT adapter, or exported by training.
        config: settings of the memory; None takes the model's ``memory.json``, or the defaults.
        options: fields of :class:`LoadOptions`.

    Raises:
        ModelError: when the model cannot be had, is not a decoder, or comes as pickle files.
        ConfigError: for layers that the model does not have.
    """
    wanted = _options(options)
    tell = wanted.progress or (lambda share, words: None)
    device = resolve_device(wanted.device)
    begun = 0.0

    def first(share: float, words: str) -> None:
        # Converting a bundled model takes most of its first start; when it is there already, nothing is told of it.
        nonlocal begun
        begun = 0.8 * share
        tell(begun, words)

    found = locate(str(name), wanted.data_dir, first)

    def tell_rest(share: float, words: str) -> None:
        tell(begun + (1 - begun) * share, words)

    tell_rest(0.0, f"Opening {found.name}")
    base_config = open_config(found)
    types = choose_types(wanted.dtype, wanted.quantization, device, parameter_count(base_config))
    tokenizer = _tokenizer(found)
    tell_rest(0.2, f"Loading {found.name} ({types.weights})")
    model = _weights(found, types, wanted.quantization, device)
    model.config._name_or_path = found.name
    settings = config or (found.part.config if found.part else MemoryConfig(store_dtype=types.bank))
    spec = inspect(model)
    maps, bias = None, None
    if found.part is not None:
        maps, bias = read_maps(found.part.folder, resolve_layout(settings, spec.layers), spec)
    adapted, adapter = None, _adapter(found, wanted.adapter)
    if adapter is not None:
        tell_rest(0.8, "Putting the adapter on")
        model = attach(model, adapter, device)
        if can_merge(model):
            model, adapted = merged(model)
    tell(1.0, f"{found.name} is ready")
    return MemoryModel(
        model,
        tokenizer,
        settings,
        maps=maps.to(device, types.arithmetic).requires_grad_(False) if maps is not None else None,
        bias={layer: values.to(device) for layer, values in bias.items()} if bias else None,
        adapted=adapted,
    )


def _tokenizer(found: Located) -> Any:
    from transformers import AutoTokenizer

    tokenizer: Any = None
    reason = "no tokenizer files"
    with quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(found.weights, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError) as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if not tokenizer or not len(tokenizer):
        raise ModelError(
            f"{found.name!r} has no usable tokenizer ({reason})",
            "A model with its tokenizer.json beside it",
            "Put the tokenizer's files into the model's folder",
        )
    return tokenizer


def _weights(found: Located, types: NumberTypes, quantization: str | None, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM

    refuse_pickles(found.weights)
    arguments: dict[str, Any] = {"dtype": types.arithmetic, "device_map": {"": str(device)}}
    if quantization is not None:
        arguments["quantization_config"] = _bitsandbytes(quantization, types.arithmetic)
    with quiet(), refusals(found.weights):
        model, info = AutoModelForCausalLM.from_pretrained(
            found.weights,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **arguments,
        )
    refuse_missing(found.name, set(info["missing_keys"]))
    if quantization == "4bit":
        _take_any_width(model)
    return model.eval()


def _take_any_width(model: torch.nn.Module) -> None:
    """Have layers of odd widths multiply the plain way: bitsandbytes packs weights for processors with bfloat16.

    The packing takes outputs in blocks of 32 and inputs in those that were quantised together, and stops at others.
    """
    layer: Any  # bitsandbytes' own kind, which has what a Linear has not
    for layer in model.modules():
        if getattr(layer, "support_avx512bf16_for_cpu", False):
            state = layer.weight.quant_state
            outputs, inputs = state.shape
            layer.support_avx512bf16_for_cpu = outputs % 32 == 0 and inputs % state.blocksize == 0


def _bitsandbytes(quantization: str, arithmetic: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    # The 8-bit product logs a line each time it converts its input.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=arithmetic,
    )


def _adapter(found: Located, asked: str | Path | None) -> Path | None:
    if asked is None:
        return found.adapter
    if str(asked) == NO_ADAPTER:
        return None
    folder = Path(asked).expanduser()
    adapter = adapter_in(folder)
    if adapter is None:
        raise ModelError(
            f"There is no adapter in {str(asked)!r}",
            "A folder with adapter_config.json, or one that has it under adapter/",
            "Check the path",
        )
    return adapter


def _options(options: dict[str, Any]) -> LoadOptions:
    known = {field.name for field in fields(LoadOptions)}
    for key in options:
        if key not in known:
            raise unknown_name("option", key, known, ModelError)
    return LoadOptions(**options)
