"""A question and a part of a chunk read together: how much speaks for the answer standing there.

Two vectors made apart only say what each text is about. A cross-encoder (Nogueira and Cho 2019, arXiv 1901.04085)
sees both at once, but has to run anew for every pair, so it reads only the best parts of the chunks that vectors found.

Ours is MiniLM with low-rank updates of its layers (Hu et al. 2021, arXiv 2106.09685) and one linear unit on the mean of
its last states. It was trained so that the logit of a part that holds the evidence stands above those of the others
and above 0, and that of a question that the text does not answer below 0 for every part; ``training/rank`` has the
code and ``assets/cross_encoder`` the weights.

Shapes: n pairs, T tokens, E states.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from numpy import asarray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from memlong.chunking import without_surrogates
from memlong.errors import RetrieverError
from memlong.retriever.base import Vectors
from memlong.retriever.encoder import mean_pooling

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "cross_encoder"
WEIGHTS = "cross_encoder.safetensors"
DOWN, UP = ".lora_A", ".lora_B"  # [rank, in] and [out, rank] of a linear layer
UNIT = "score"  # .weight [1, E] and .bias [1] of the linear unit
_AT_ONCE = 32  # pairs in one forward pass


class CrossEncoder:
    """MiniLM with the updates of a folder, reading pairs.

    Args:
        encoder: MiniLM, which is left as it is; its embeddings are shared. tokenizer: its own, copied.
        folder: with the updates. max_tokens: of a pair; a longer one loses the end of its longer text.

    Raises:
        RetrieverError: when the folder has no such weights, or those of another model.
    """

    def __init__(self, encoder: nn.Module, tokenizer: Any, folder: Path = BUNDLED, max_tokens: int = 512) -> None:
        # Its own: calling a tokenizer sets how it pads and cuts off, and vectors may be made in another thread.
        self._tokenizer, self._max_tokens = deepcopy(tokenizer), max_tokens
        self._encoder = deepcopy(encoder, {id(shared): shared for shared in [encoder.get_submodule("embeddings")]})
        weights = load_updates(folder / WEIGHTS, "rank")
        unit = [weights.pop(f"{UNIT}.weight", None), weights.pop(f"{UNIT}.bias", None)]
        if unit[0] is None or unit[1] is None:
            raise refused_updates(folder / WEIGHTS, f"no {UNIT}.weight or {UNIT}.bias", "rank")
        self._weight_E, self._bias = unit[0].float().flatten(), float(unit[1])
        apply_updates(self._encoder, weights, folder / WEIGHTS, "rank")

    def logits(self, question: str, texts: Sequence[str]) -> Vectors:
        """Return one logit per text, [n]: above 0 for evidence."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        found_n = torch.zeros(len(texts))
        for start in range(0, len(order), _AT_ONCE):
            rows = order[start : start + _AT_ONCE]
            found_n[rows] = self._forward(question, [texts[row] for row in rows])
        return asarray(found_n.numpy())

    def _forward(self, question: str, texts: Sequence[str]) -> Tensor:
        clean = [without_surrogates(text) for text in texts]
        batch = self._tokenizer(
            [without_surrogates(question)] * len(clean), clean,
            padding=True, truncation="longest_first", max_length=self._max_tokens, return_tensors="pt",
        )  # fmt: skip
        device = next(self._encoder.parameters()).device
        with torch.inference_mode():
            states_nTE = self._encoder(**batch.to(device)).last_hidden_state
            pooled_nE = mean_pooling(states_nTE.float(), batch["attention_mask"].to(device))
            return (pooled_nE.cpu() @ self._weight_E) + self._bias


def apply_updates(encoder: nn.Module, weights: Mapping[str, Tensor], source: Path, command: str) -> None:
    """Add low-rank updates to linear layers, and put other weights (of norms) in place.

    Args:
        weights: NAME.lora_A and NAME.lora_B of linear layers, and whole parameters by their names.
        source, command: for the error: the file, and the training command that writes such ones.

    Raises:
        RetrieverError: for weights that do not fit the encoder.
    """
    own = dict(encoder.named_parameters())
    for name, given in weights.items():
        if name.endswith(DOWN) and name.removesuffix(DOWN) + UP in weights:
            continue
        stem, low = name.removesuffix(UP), name.endswith(UP)
        target, down = own.get(f"{stem}.weight" if low else name), weights.get(stem + DOWN) if low else None
        if target is None or (low and down is None):
            raise refused_updates(source, f"{name}, which fits nothing", command)
        update = given.float() if down is None else given.float() @ down.float()
        if update.shape != target.shape:
            found = f"{name} of the shape {list(update.shape)} for {list(target.shape)}"
            raise refused_updates(source, found, command)
        with torch.no_grad():
            target.copy_(update if down is None else target.float() + update.to(target.device))


def load_updates(path: Path, command: str) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        RetrieverError: when it cannot be read.
    """
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RetrieverError(
            f"{path} could not be read ({type(error).__name__})",
            f"A safetensors file as 'python -m training {command}' writes it",
            "Fetch the project's assets again, or choose the retriever 'minilm', which takes none",
        ) from error


def refused_updates(path: Path, found: str, command: str) -> RetrieverError:
    """Return the refusal of weights that are not updates of MiniLM."""
    return RetrieverError(
        f"{path} has {found}",
        f"Updates of all-MiniLM-L6-v2 as 'python -m training {command}' writes them",
        "Train them again, or fetch the project's assets again",
    )
