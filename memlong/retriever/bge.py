"""BGE-M3 through FlagEmbedding: multilingual, 1,024 numbers, 8,192 tokens; wants a GPU.

FlagEmbedding loads the model and turns states into dense vectors; batching is ours. Its own ``encode`` runs
the first batch of every call twice, takes any RuntimeError for a lack of memory (shrinking the batch to
nothing and ending in an unrelated AttributeError), fails on an empty list and has no bfloat16 on a CPU.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from memlong.errors import RetrieverError
from memlong.hardware import fastest_dtype, resolve_device
from memlong.paths import data_dir as default_data_dir
from memlong.quiet import quiet
from memlong.retriever.encoder import EncoderRetriever, default_batch, refusals, weights_fingerprint

HUB_ID = "BAAI/bge-m3"
# The repository also holds an ONNX copy as large as the model itself.
_PATTERNS = ["*.json", "*.safetensors", "*.model", "pytorch_model.bin"]


class BGERetriever(EncoderRetriever):
    """A BGE-M3 model's dense vectors.

    Args:
        model: hub id or folder. device: one device: auto, cpu, cuda, cuda:1, mps.
        dtype: number type of weights; None takes the fastest one here.
        batch_size: texts per forward pass; None for 8 on a CPU and 64 elsewhere.
        max_tokens: tokens embedded at once, at most what the model has positions for.
        data_dir: the data folder, looked at before the hub; None for the default.

    Raises:
        RetrieverError: when the model cannot be had.
    """

    name = "bge-m3"

    def __init__(
        self,
        model: str = HUB_ID,
        device: str = "auto",
        dtype: torch.dtype | None = None,
        batch_size: int | None = None,
        max_tokens: int = 8192,
        data_dir: Path | None = None,
    ) -> None:
        place = resolve_device(device)
        folder = bge_folder(model, data_dir)
        self._flag = _load(folder, place)
        inner = self._flag.model
        inner.to(device=place, dtype=dtype or fastest_dtype(place)[0]).eval()
        super().__init__(self._flag.tokenizer, self._dense, place, batch_size or default_batch(place))
        config = inner.model.config
        self.dim = int(config.hidden_size)
        # XLM-R starts counting positions behind its padding id, so that many are lost.
        self.max_tokens = min(max_tokens, int(config.max_position_embeddings) - int(config.pad_token_id) - 1)
        self.fingerprint = f"{self.name}:{weights_fingerprint(folder, str(folder))}:cls"

    def low_score(self, chunk_tokens: int, reranked: bool = False) -> float:
        """Return the score that ``Retriever.low_score`` describes."""
        return 0.4  # its scores lie higher than others'; a guess, not measured

    def _dense(self, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        batch = {"input_ids": ids_BT, "attention_mask": mask_BT}
        outputs = self._flag.model(batch, return_dense=True, return_sparse=False, return_colbert_vecs=False)
        vectors_BE: Tensor = outputs["dense_vecs"]
        return vectors_BE


def bge_folder(model: str = HUB_ID, data_dir: Path | None = None, download: bool = True) -> Path:
    """Return a local folder of the model: the given one, the data folder's, the hub cache's or a download.

    Raises:
        RetrieverError: when there is none and it cannot be fetched.
    """
    given = Path(model).expanduser()
    kept = (data_dir or default_data_dir()) / "models" / model.rpartition("/")[2]
    for folder in (given, kept):
        if (folder / "config.json").is_file():
            return folder
    from huggingface_hub import snapshot_download

    with quiet(), refusals(model):
        return Path(snapshot_download(model, allow_patterns=_PATTERNS, local_files_only=not download))


def _load(folder: Path, place: torch.device) -> Any:
    with quiet(), refusals(str(folder)):
        try:
            from FlagEmbedding import BGEM3FlagModel  # seconds and 500 MB: only for those who use it
        except ImportError as error:
            raise RetrieverError(
                f"FlagEmbedding cannot be imported ({error})",
                "The retriever 'bge-m3' needs it",
                "Install it with 'pip install FlagEmbedding', or choose the retriever 'minilm'",
            ) from error
        # One device by name: without it FlagEmbedding takes all GPUs and starts a pool of processes.
        return BGEM3FlagModel(str(folder), use_fp16=False, devices=[str(place)], trust_remote_code=False)
