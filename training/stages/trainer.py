"""The loop of a language-model stage, on one process or several.

Every process has its own rows; ``processes.py`` says how they share weights. Which windows a row sees is a function of
the step, and what its bank holds a function of these windows: so a run resumes exactly, by reading the begun documents
once more.

Shapes: B rows of this process, T tokens of a window, V vocabulary.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional

from memlong.errors import MemLongError
from memlong.model.wrapper import MemoryModel
from training import checkpoint
from training.data.packed import PackedText
from training.loop import Report, in_bfloat16
from training.questions import IGNORED
from training.rate import learning_rate
from training.stages.config import StageConfig
from training.stages.memory import BatchMemory, padded
from training.stages.processes import shared
from training.stages.rows import RowPlan
from training.stepping import Stepping


@dataclass(frozen=True)
class Parts:
    """What a stage is put together from: the model, its trained parameters by name, texts, and the embedder."""

    model: MemoryModel
    parameters: dict[str, nn.Parameter]
    text: PackedText
    held_out: PackedText
    retriever: Any


class StageTrainer(Stepping[Report]):
    """Trains the upper layers to read what the lower ones wrote.

    Args:
        config: the recipe. parts: the model and its data. folder: for checkpoints and metrics.
    """

    def __init__(self, config: StageConfig, parts: Parts, folder: Path) -> None:
        self.config, self.parts, self.folder = config, parts, folder
        self.model = parts.model
        self.accelerator = Accelerator(cpu=parts.model.device.type == "cpu")
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        self.shared = shared(self.accelerator, config)
        self.parameters = self.shared.adopt(parts.model, parts.parameters)
        self.plan = RowPlan(parts.text.windows(), config.batch_size * processes, config.seed)
        self.first_row, self.processes = rank * config.batch_size, processes
        self.memory = self._memory(config.batch_size)
        self.step, self.best = 0, math.inf
        self._bfloat16 = self._all(in_bfloat16(config.arithmetic, self.model.device))
        self.config = replace(config, arithmetic="bfloat16" if self._bfloat16 else "float32")
        if config.checkpointing:
            self.model.base.gradient_checkpointing_enable({"use_reentrant": False})
            self.model.base.enable_input_require_grads()
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self) -> bool:
        """Continue from the folder's checkpoint if there is one, and say whether there was."""
        found = checkpoint.find(self.folder / "checkpoint")
        if found is None:
            return False
        weights, states, state = checkpoint.read(found, self.parameters)
        self.shared.restore(weights, states)
        self.step, self.best = int(state["step"]), float(state.get("best") or math.inf)
        self._read_again()
        return True

    @property
    def tells(self) -> bool:
        """Whether this is the main process."""
        return bool(self.accelerator.is_main_process)

    def ends(self, asked: bool) -> bool:
        """Return whether any process was asked to stop."""
        return self._any(asked)

    def advance(self) -> Report:
        """Take one step, judge where it is due, and report it."""
        started = time.perf_counter()
        rate = learning_rate(self.config, self.step + 1)
        loss, tokens = self.train_step()
        self.step += 1
        seconds = time.perf_counter() - started
        evaluation = self._judge() if self.step % self.config.eval_every == 0 else None
        return Report(
            self.step,
            self.config.steps,
            loss,
            rate,
            len(self.parts.text.documents),
            seconds,
            evaluation,
            tokens / seconds,
        )

    def save(self, name: str = "checkpoint") -> None:
        """Write a checkpoint that :meth:`resume` continues exactly."""
        weights, states = self.shared.snapshot()
        if self.accelerator.is_main_process:
            extra = {"config": self.config.to_dict(), "best": self.best if math.isfinite(self.best) else None}
            checkpoint.write(self.folder / name, self.step, weights, states, extra)
        self.accelerator.wait_for_everyone()

    def train_step(self) -> tuple[float, int]:
        """Learn from ``accumulate`` windows of every row; return the mean loss per token and the tokens, of all rows.

        Raises:
            MemLongError: when the loss is not finite; the windows are saved for inspection and nothing is updated.
        """
        for group in self.shared.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.step + 1)
        self.model.model.train()
        first, parts = self.step * self.config.accumulate, self.config.accumulate
        total = torch.zeros((), device=self.model.device)
        tokens = self._sum(sum(self._predicted(first + part) for part in range(parts)))
        for part in range(parts):
            windows = self._next(first + part)
            # Memory must be there for the backward pass too, where activations are computed again.
            with self.model.attending():
                loss, _ = self._loss(windows, self.memory)
                self._refuse_infinite(loss, windows)
                self.shared.backward(loss * (self.processes / tokens), last=part == parts - 1)
            self.memory.read(range(len(windows)), windows)
            total += loss.detach()
        self.shared.update()
        return self._sum(float(total)) / tokens, int(tokens)

    def evaluate(self) -> dict[str, float]:
        """Return the loss per token over the first windows of held-out documents, with memory and without."""
        self.model.model.eval()
        memory, text = self._memory(1), self.parts.held_out
        sums, left = np.zeros(3), self.config.eval_windows
        with torch.no_grad():
            for document, windows in enumerate(text.windows()):
                memory.rows[0].clear()
                for number in range(min(windows, left)):
                    window = [text.window(document, number)]
                    loss, count = self._loss(window, memory)
                    plain, _ = self._loss(window, None)
                    sums += (float(loss), float(plain), count)
                    memory.read([0], window)
                left -= min(windows, left)
                if not left:
                    break
        return {"loss": float(sums[0] / sums[2]), "loss_without_memory": float(sums[1] / sums[2])}

    def _judge(self) -> dict[str, float]:
        result = self.evaluate()
        if result["loss"] < self.best:
            self.best = result["loss"]
            self.save("best")
        return result

    def _next(self, step: int) -> list[np.ndarray]:
        """Return the windows of this process's rows; banks of rows whose document starts are cleared."""
        windows = []
        for row in range(self.config.batch_size):
            place = self.plan.at(self.first_row + row, step)
            if place.window == 0:
                self.memory.rows[row].clear()
            windows.append(self.parts.text.window(place.document, place.window))
        return windows

    def _predicted(self, step: int) -> int:
        """Return the tokens that this process's rows predict: a window's first one is not scored."""
        places = (self.plan.at(self.first_row + row, step) for row in range(self.config.batch_size))
        return sum(len(self.parts.text.window(place.document, place.window)) - 1 for place in places)

    def _read_again(self) -> None:
        """Bring every row's bank to where it was: its document so far, retrievals (which count) included.

        Where all processes must read together, all read as often as the one that has most to read.
        """
        step, done = self.step * self.config.accumulate, 0
        for row, memory in enumerate(self.memory.rows):
            place = self.plan.at(self.first_row + row, step)
            memory.clear()
            for window in range(place.window):
                memory.retrieve()
                self.memory.read([row], [self.parts.text.window(place.document, window)])
            done += place.window
        if self.shared.reads_to_end:
            for _ in range(self._most(done) - done):
                self.model.read_to_end(torch.zeros(1, 1, dtype=torch.long, device=self.model.device))

    def _memory(self, rows: int) -> BatchMemory:
        return BatchMemory(self.model, self.parts.retriever, rows, self.shared.reads_to_end)

    def _loss(self, windows: list[np.ndarray], memory: BatchMemory | None) -> tuple[Tensor, int]:
        """Return the summed loss of next tokens and their number; a window's first token is not scored."""
        ids, mask = padded(windows)
        labels = ids[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORED)
        device = self.model.device
        context = memory.context(range(len(windows))) if memory else None
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            out: Any = self.model.forward(
                ids.to(device), context, attention_mask=None if bool(mask.all()) else mask.to(device)
            )
            logits = out.logits[:, :-1].float()
            loss = functional.cross_entropy(
                logits.flatten(0, 1), labels.to(device).flatten(), ignore_index=IGNORED, reduction="sum"
            )
        return loss, int(mask[:, 1:].sum())

    def _refuse_infinite(self, loss: Tensor, windows: list[np.ndarray]) -> None:
        finite = torch.isfinite(loss.detach()).float()
        if float(self.accelerator.reduce(finite, reduction="mean")) == 1.0:
            return
        bad = self.folder / f"non-finite-{self.step}-{self.accelerator.process_index}.json"
        bad.write_text(json.dumps([self.model.tokenizer.decode(window.tolist()) for window in windows], indent=1))
        raise MemLongError(
            f"The loss of step {self.step} is {loss.item()}",
            "A finite loss",
            f"Look at {bad.name}, lower the learning rate and resume from the last checkpoint",
        )

    def _all(self, agreed: bool) -> bool:
        """Whether every process says so: one that measured otherwise must not compute otherwise."""
        return not self._any(not agreed)

    def _any(self, stop: bool) -> bool:
        """Whether any process says so; asked to stop, all do at the same step."""
        return self._sum(float(stop)) > 0

    def _sum(self, number: float) -> float:
        """Return the sum over all processes."""
        return float(self.accelerator.reduce(torch.tensor(float(number), device=self.model.device)))

    def _most(self, number: int) -> int:
        """Return the largest number of all processes."""
        return int(self.accelerator.gather(torch.tensor([number], device=self.model.device)).max())
