"""What training a small scorer takes, whatever it scores: steps with one optimiser, refused losses, exact resume.

``rank`` and ``decompose`` are such runs.
"""

from __future__ import annotations

import json
import math
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from memlong.errors import MemLongError
from training import checkpoint
from training.adapters import trainable
from training.metrics import forget_after
from training.rate import cosine_rate
from training.stepping import R, Stepping


class ScorerTrainer(Stepping[R]):
    """Trains what of a scorer is to be trained.

    Args:
        config: the settings. scorer: what learns. folder: for checkpoints and metrics.
    """

    def __init__(self, config: Any, scorer: nn.Module, folder: Path) -> None:
        self.config, self.folder, self.step = config, folder, 0
        self.parameters = trainable(scorer)
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=config.learning_rate, weight_decay=0.0)
        folder.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def losses(self) -> Iterator[tuple[Tensor, list[dict[str, Any]]]]:
        """Yield what this step's loss is the sum of, and what was drawn for each as JSON values."""

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one, and say whether there was.

        Raises:
            PersistError: when the checkpoint holds other parameters.
        """
        found = checkpoint.find(self.folder / "checkpoint")
        if found is not None:
            self.step = int(checkpoint.load(found, self.parameters, self.optimizer)["step"])
        forget_after(self.folder, self.step)
        return found is not None

    def save(self) -> None:
        """Write a checkpoint that :meth:`resume` continues exactly."""
        about = {"config": self.config.to_dict()}
        checkpoint.save(self.folder / "checkpoint", self.step, self.parameters, self.optimizer, about)

    @property
    def due(self) -> bool:
        """Whether to measure after the step just taken."""
        return self.step % self.config.eval_every == 0 or self.step == self.config.steps

    def train_step(self) -> float:
        """Draw, learn, and return the loss.

        Raises:
            MemLongError: when it is not finite; what was drawn is saved for inspection and nothing is updated.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = cosine_rate(self.config, self.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for loss, drawn in self.losses():
            if not math.isfinite(loss.item()):
                bad = self.folder / f"non-finite-{self.step + 1}.json"
                bad.write_text(json.dumps(drawn, indent=1))
                raise MemLongError(
                    f"The loss of step {self.step + 1} is {loss.item()}",
                    "A finite loss",
                    f"Look at {bad.name}, lower the learning rate and resume from the last checkpoint",
                )
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        self.optimizer.step()
        return total
