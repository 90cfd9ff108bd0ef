"""One of two processes of a stage: ``python -m tests.training.stages.two_processes OUT`` with gloo's variables set."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(out: Path, model: str, text: str, rows: int) -> None:
    """Train some steps, half of them after resuming, and write this rank's losses, rows and weights."""
    import torch
    from transformers import AutoTokenizer, LlamaForCausalLM

    from memlong.retriever.hashing import HashingRetriever
    from training.recipes import stage1_toy
    from training.run import export
    from training.stages.build import build
    from training.stages.trainer import StageTrainer

    rank = int(os.environ.get("RANK", "0"))
    recipe = stage1_toy()
    memory = recipe.memory.replace(chunk_tokens=16, window_tokens=32, capacity_tokens=96, store_dtype="float32")
    changed = type(recipe).from_dict(
        recipe.to_dict()
        | {
            "memory": memory,
            "text": text,
            "batch_size": rows,
            "steps": 4,
            "eval_every": 4,
            "threads": 1,
            "arithmetic": "float32",
        }
    )

    def made() -> StageTrainer:
        plain = LlamaForCausalLM.from_pretrained(model)
        return build(changed, out / "run", plain, AutoTokenizer.from_pretrained(model), HashingRetriever(64))

    trainer = made()
    losses: list[float] = []
    places = []
    for step in range(changed.steps):
        if step == changed.steps // 2:
            trainer.save()
            trainer = made()
            assert trainer.resume() and trainer.step == step
        here = [trainer.plan.at(trainer.first_row + row, step) for row in range(rows)]
        places.append([[place.document, place.window] for place in here])
        losses.append(trainer.train_step()[0])
        trainer.step += 1
    judged = trainer.evaluate()
    held = [[record.n_tokens for record in row.bank.records()] for row in trainer.memory.rows]
    weights = {name: float(value.double().abs().sum()) for name, value in trainer.shared.snapshot()[0].items()}
    export(trainer, out / "export")
    shares = type(trainer.shared).__name__
    result = {"losses": losses, "places": places, "held": held, "weights": weights, "rows": trainer.first_row}
    result |= {"judged": judged["loss"], "shares": shares}
    (out / f"rank{rank}.json").write_text(json.dumps(result))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
