"""The training loop: read documents into memory, draw questions, learn to answer them from memory."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from memlong.attention.context import MemoryContext
from memlong.errors import MemLongError
from memlong.hardware import fastest_dtype
from memlong.model.wrapper import MemoryModel
from training import checkpoint
from training.adapters import trainable
from training.cache import DocumentMemory
from training.config import TrainConfig
from training.data.passages import Passages
from training.fitting import extra_parameters
from training.focus import EvidenceFinder, focus_loss, focused
from training.questions import IGNORED, Drawn, QuestionSampler, collate
from training.rate import learning_rate
from training.relevance import stack_relevance
from training.stepping import Stepping


@dataclass(frozen=True)
class Report:
    """What a step tells whoever watches: one JSON line in ``metrics.jsonl`` and one call of ``on_report``."""

    step: int
    steps: int
    loss: float
    learning_rate: float
    documents: int
    seconds: float
    evaluation: dict[str, float] | None = None
    tokens_per_second: float = 0.0


@dataclass(frozen=True)
class HeldOut:
    """What the run is judged by: questions with what real retrieval fetches, and the memory of their documents."""

    questions: Sequence[Drawn]
    memory: DocumentMemory


class Trainer(Stepping[Report]):
    """Trains an adapter over a memory of documents.

    Args:
        config: the recipe. model: its inner model carries the adapter. sampler: draws training questions.
        memory: K-V of the training documents. held_out: what it is evaluated on.
        folder: for checkpoints and metrics.
    """

    def __init__(
        self,
        config: TrainConfig,
        model: MemoryModel,
        sampler: QuestionSampler,
        memory: DocumentMemory,
        held_out: HeldOut,
        folder: Path,
    ) -> None:
        self.config, self.model, self.sampler, self.memory = config, model, sampler, memory
        self.held_out, self.folder = held_out, folder
        self.parameters = trainable(model.model) | extra_parameters(model, config.train_bias)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(),
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            betas=(0.9, 0.95),
        )
        self.step = 0
        self._finder = EvidenceFinder(model.tokenizer, sampler.documents)
        self._tokens, self._scored = 0, 0  # of the last batch: prompts and answers; answers
        self._bfloat16 = in_bfloat16(config.arithmetic, model.device)
        if self._bfloat16:
            halve_frozen(model.model)
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one, and say whether there was."""
        found = checkpoint.find(self.folder / "checkpoint")
        if found is None:
            return False
        self.step = int(checkpoint.load(found, self.parameters, self.optimizer)["step"])
        return True

    def rest(self) -> None:
        """End what is drawn ahead."""
        self.sampler.rest()

    def advance(self) -> Report:
        """Take one step, evaluate where it is due, and report it."""
        started = time.perf_counter()
        rate = learning_rate(self.config, self.step + 1)
        loss = self.train_step()
        self.step += 1
        speed = self._tokens / (time.perf_counter() - started)
        evaluation = self.evaluate() if self.step % self.config.eval_every == 0 else None
        return Report(
            self.step,
            self.config.steps,
            loss,
            rate,
            len(self.sampler.unlocked(self.step)),
            time.perf_counter() - started,
            evaluation,
            speed,
        )

    def save(self) -> None:
        """Write a checkpoint that :meth:`resume` continues exactly."""
        checkpoint.save(
            self.folder / "checkpoint",
            self.step,
            self.parameters,
            self.optimizer,
            {"config": self.config.to_dict()},
        )

    def train_step(self) -> float:
        """Draw, learn, and return the mean loss per answer token.

        Raises:
            MemLongError: when the loss is not finite; the questions are saved for inspection and nothing is updated.
        """
        drawn = self.sampler.draw(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step + 1)
        self.model.model.train()
        loss = self._loss(drawn, self.memory)
        if not math.isfinite(loss.item()):
            bad = self.folder / f"non-finite-{self.step}.json"
            bad.write_text(json.dumps([vars_of(item) for item in drawn], indent=1))
            raise MemLongError(
                f"The loss of step {self.step} is {loss.item()}",
                "A finite loss",
                f"Look at {bad.name}, lower the learning rate and resume from the last checkpoint",
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), self.config.clip_norm)
        self.optimizer.step()
        return float(loss.item())

    def evaluate(self, batch: int = 16) -> dict[str, float]:
        """Return the loss per answer token on held-out questions with real retrieval, and how often it hit.

        Hits are counted where a right chunk is known.
        """
        self.model.model.eval()
        questions = self.held_out.questions
        total, count = 0.0, 0
        with torch.no_grad():
            for start in range(0, len(questions), batch):
                part = questions[start : start + batch]
                total += float(self._loss(part, self.held_out.memory)) * self._scored
                count += self._scored
        hits = [bool(set(d.asked.gold) & set(d.chunks)) for d in questions if d.asked.gold]
        return {"loss": total / max(count, 1), "recall": sum(hits) / max(len(hits), 1)}

    def _loss(self, drawn: Sequence[Drawn], memory: DocumentMemory) -> torch.Tensor:
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self._bfloat16):
            return self._mean_loss(drawn, memory)

    def _mean_loss(self, drawn: Sequence[Drawn], memory: DocumentMemory) -> torch.Tensor:
        context, passages = None, None
        if self.config.answer_from == "passages":
            passages = [memory.texts(item.doc_id, item.chunks) for item in drawn]
        else:
            for item in drawn:
                memory.read(item.doc_id)
            context = self.model.stack_memory([memory.rows(item.doc_id, item.chunks) for item in drawn])
            context = self._graded(context, drawn)
        batch = collate(self.model.tokenizer, drawn, self.config.max_answer_tokens, passages)
        if context is not None and self.config.focus_weight and torch.is_grad_enabled():
            context = focused(context, self._finder, drawn, batch, self.config.focus_layers)
        self._tokens, self._scored = int(batch.mask_BT.sum()), int((batch.labels_BA != IGNORED).sum())
        device, answers = self.model.device, batch.labels_BA.shape[1]
        out: Any = self.model.forward(
            batch.ids_BT.to(device),
            context,
            attention_mask=batch.mask_BT.to(device),
            logits_to_keep=answers + 1,
        )
        labels = batch.labels_BA.to(device)
        logits = out.logits[:, :-1].float().flatten(0, 1)
        losses = functional.cross_entropy(logits, labels.flatten(), ignore_index=IGNORED, reduction="none")
        losses_BA = losses.view_as(labels)
        answered, plain = (_mean(losses_BA[rows], labels[rows]) for rows in (~batch.plain_B, batch.plain_B))
        loss = answered + self.config.text_weight * plain
        if context is not None and context.focus is not None:
            loss = loss + self.config.focus_weight * focus_loss(context.focus).to(loss.device)
        return loss

    def _graded(self, context: MemoryContext, drawn: Sequence[Drawn]) -> MemoryContext:
        settings = self.config.memory
        if not settings.relevance_strength:
            return context
        rows = [item.relevance_NC for item in drawn]
        chunks, size = max(len(item.chunks) for item in drawn), settings.chunk_tokens
        relevance_BM = stack_relevance(rows, chunks, size, settings.relevance_strength)
        return replace(context, relevance_BM=relevance_BM.to(self.model.device))


def _mean(losses: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean of the scored tokens; zero where there are none."""
    return losses.sum() / max(1, int((labels != IGNORED).sum()))


def in_bfloat16(arithmetic: str, device: torch.device) -> bool:
    """Whether the forward pass runs in bfloat16; "auto" measures, since some processors are slower in it."""
    if arithmetic == "auto":
        return fastest_dtype(device)[0] == torch.bfloat16
    return arithmetic == "bfloat16"


def halve_frozen(model: torch.nn.Module) -> None:
    """Hold frozen matrices in bfloat16: autocast would convert them anew at every step, and loses as much."""
    tied = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad and id(module.weight) not in tied:
            module.weight.data = module.weight.data.bfloat16()


def vars_of(item: Drawn) -> dict[str, Any]:
    """Return a drawn question as JSON values."""
    return {"doc_id": item.doc_id, "chunks": list(item.chunks), "question": item.asked.question.to_dict()}


def shorten(document: Passages, questions: int) -> list[int]:
    """Return evenly spread indices of at most ``questions`` of a document's questions."""
    total = len(document.asked)
    return sorted({index * total // questions for index in range(min(questions, total))})
