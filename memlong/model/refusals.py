"""What libraries raise while a model is loaded, as errors that a person can act on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from memlong.errors import MemLongError, ModelError

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


@contextmanager
def refusals(model: str) -> Iterator[None]:
    """Turn errors of transformers, the hub's client and safetensors into ModelErrors."""
    try:
        yield
    except MemLongError:
        raise
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, ImportError, SafetensorError) as error:
        raise _translated(model, error) from error


def _translated(model: str, error: Exception) -> ModelError:
    text = " ".join(str(error).split())
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if "CUDA out of memory" in text or "OutOfMemoryError" in kinds:
        return ModelError(
            f"{model!r} does not fit into the GPU's memory",
            "Weights smaller than that",
            "Use quantization='4bit', a smaller model, or device='cpu'",
        )
    if "GatedRepoError" in kinds or "gated repo" in text:
        return ModelError(
            f"{model!r} is given out only to those who accepted its conditions",
            "A logged-in account that accepted them",
            "Accept them on the model's page, then run 'hf auth login'",
        )
    if "trust_remote_code" in text:
        return ModelError(
            f"{model!r} comes with its own program code",
            "Models that transformers itself knows: code from a model's folder is never run",
            "Choose a model of a known architecture",
        )
    if "does not recognize this architecture" in text or "Unrecognized model" in text:
        return ModelError(
            f"{model!r} has an architecture that transformers does not know: {text[:160]}",
            "Decoder-only models of transformers (Llama, Mistral, Qwen, Phi-3, Gemma, OLMo ...)",
            "Choose one of them, or update transformers",
        )
    if "SafetensorError" in kinds:
        given = f"The weights of {model!r} are damaged ({text[:160]})"
        return ModelError(given, "Whole files", "Fetch the model again")
    if "does not appear to have a file named" in text and "safetensors" in text:
        return _only_pickles(model, "its repository has no safetensors")
    if isinstance(error, OSError) and not Path(model).expanduser().exists():
        return ModelError(
            f"{model!r} is neither on this machine nor can the hub deliver it now ({type(error).__name__})",
            "A folder, a hub id that exists, or 'bundled', which needs no network",
            "Check the spelling and the network, or choose 'bundled'",
        )
    return ModelError(
        f"{model!r} could not be loaded ({type(error).__name__}: {text[:240]})",
        "A decoder-only model that transformers can load",
        "Fetch it again, or choose another model",
    )


def refuse_config(model: str, config: Any) -> None:
    """Refuse what has no causal language model.

    Raises:
        ModelError: for encoder-decoders and encoders.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{model!r} is an encoder-decoder ({config.model_type})",
            "Decoder-only models",
            "Choose a causal language model such as 'bundled'",
        )
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{model!r} is a {config.model_type} model, which does not write text",
            "Causal language models",
            "Choose a causal language model such as 'bundled'",
        )


def refuse_pickles(folder: str) -> None:
    """Refuse a folder whose weights exist only as pickle files, which can run code when read.

    Raises:
        ModelError: likewise when there are no weights at all.
    """
    path = Path(folder)
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in path.glob(pattern))
    if pickles:
        raise _only_pickles(folder, pickles[0])
    raise ModelError(f"There are no weights in {folder!r}", "model.safetensors", "Fetch the model again")


def _only_pickles(model: str, why: str) -> ModelError:
    return ModelError(
        f"The weights of {model!r} are pickle files ({why}), which can run code when they are read",
        "Weights as safetensors",
        "Convert them on a machine you can spare: load them there and save_pretrained(folder)",
    )


def refuse_missing(model: str, missing: set[str]) -> None:
    """Refuse a checkpoint that lacks weights: transformers would fill them with random numbers and go on."""
    if missing:
        some = ", ".join(sorted(missing)[:3])
        raise ModelError(
            f"The weights of {model!r} lack {len(missing)} tensors ({some})",
            "A complete causal language model",
            "Fetch the model again, or choose one that was trained to write text",
        )
