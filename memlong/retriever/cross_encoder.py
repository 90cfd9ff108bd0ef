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

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from numpy import asarray
from torch import Tensor, nn

from memlong.chunking import without_surrogates
from memlong.retriever.base import Vectors
from memlong.retriever.encoder import mean_pooling
from memlong.retriever.updates import updated

BUNDLED = Path(__file__).resolve().parents[2] / "assets" / "cross_encoder"
WEIGHTS = "cross_encoder.safetensors"
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
        self._encoder, units = updated(encoder, folder / WEIGHTS, {UNIT: 1}, "rank")
        weight_1E, bias_1 = units[UNIT]
        self._weight_E, self._bias = weight_1E.flatten(), float(bias_1)

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
