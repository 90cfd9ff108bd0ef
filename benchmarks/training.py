"""One training step with memory against the same step without: the bundled model, its adapter, its optimiser.

Numbers (ratios of time for the same tokens; 1 means that memory costs nothing):
- question_step_vs_plain: a step of the trainer (draw questions, fetch their chunks' K-V, forward, backward, update)
  over a step on the same questions without memory;
- window_step_vs_plain: the same for one window of ``--window`` tokens of plain text beside ``--top-k`` chunks;
- data_share: drawing questions and making token ids of them, over the whole step;
- memory_share: fetching stored K-V and laying them out for the layers, over the whole step.
K-V of the documents are read once, before anything is measured, as training does.
"""

from __future__ import annotations

import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import common
from benchmarks.setups import made_up_words
from memlong.attention.context import MemoryContext
from memlong.config import MemoryConfig
from memlong.hardware import fastest_dtype
from memlong.model.load import load_model
from memlong.model.wrapper import MemoryModel
from memlong.retriever import make_retriever
from training.adapters import add_adapter
from training.cache import DocumentMemory
from training.config import TrainConfig
from training.data.passages import Passages, cut
from training.data.questions import Question
from training.loop import HeldOut, Trainer
from training.questions import IGNORED, Batch, QuestionSampler, collate
from training.recipes import recipe

TARGETS: common.Targets = {
    "question_step_vs_plain": ("at most", 1.35),
    "window_step_vs_plain": ("at most", 1.35),
    "data_share": ("at most", 0.05),
}
FACTS = 90  # of a document
STEP = 500  # far behind the first steps, which see one chunk only


def main() -> None:
    """Measure and report."""
    parser = common.arguments("training", __doc__)
    parser.add_argument("--model", default="bundled-base", help="bundled-base, a hub id or a folder")
    parser.add_argument("--batch", type=int, default=8, help="questions of a step")
    parser.add_argument("--window", type=int, default=1024, help="tokens of a window of plain text")
    parser.add_argument("--top-k", type=int, default=4, help="chunks that a window sees")
    parser.add_argument("--chunk", type=int, default=256, help="tokens of a chunk")
    options = parser.parse_args()
    common.prepare()
    trainer = make_trainer(load_model(options.model, device=options.device, dtype="fp32"), options)
    found = measure(trainer, options)
    common.publish(common.report("training", options.device, found, TARGETS), options.json, options.save)


def make_trainer(model: MemoryModel, options: Namespace) -> Trainer:
    """Return a trainer of the recipe ``mini`` on made-up documents, which are in memory when it comes."""
    size = options.chunk
    memory = MemoryConfig(chunk_tokens=size, window_tokens=size, top_k=options.top_k, store_dtype="int8")
    config = replace(recipe("mini"), memory=memory, batch_size=options.batch, max_chunks=options.top_k)
    assert isinstance(config, TrainConfig)
    documents = [document(model.tokenizer, number, size) for number in range(2)]
    retriever = make_retriever("hashing")
    asked = {d.doc_id: retriever.embed_documents([a.question.question for a in d.asked]) for d in documents}
    chunks = {d.doc_id: retriever.embed_documents(d.texts) for d in documents}
    lowest = MemoryModel(model.base, model.tokenizer, memory).layout.retrieval_layers[0]
    adapted = add_adapter(model.base, config, tuple(range(lowest, model.spec.layers)))
    trained = MemoryModel(adapted, model.tokenizer, memory)
    kept = DocumentMemory(trained, documents)
    for each in documents:
        kept.read(each.doc_id)
    sampler = QuestionSampler(config, documents, chunks, asked)
    trainer = Trainer(config, trained, sampler, kept, HeldOut([], kept), Path(tempfile.mkdtemp()))
    trainer.step = STEP
    return trainer


def document(tokenizer: Any, number: int, chunk_tokens: int) -> Passages:
    """Return a document of made-up facts, each of them asked for."""
    names = [word.capitalize() for word in made_up_words(3 * FACTS)]
    text, questions = "", []
    for fact in range(FACTS):
        who, what, where = (names[(number + fact + part * FACTS) % len(names)] for part in range(3))
        start = len(text)
        text += f"In the year {fact} of the harbour {who} kept the {what} in the old house at {where}. "
        span = (start, len(text) - 1)
        questions.append(Question(f"{number}-{fact}", f"d{number}", f"Who kept the {what}?", (who,), evidence=(span,)))
    return cut(tokenizer, f"d{number}", text, questions, chunk_tokens)


def measure(trainer: Trainer, options: Namespace) -> dict[str, Any]:
    """Return all numbers."""
    model = trainer.model
    generator = torch.Generator().manual_seed(options.seed)
    window = torch.randint(5, model.spec.vocab_size, (1, options.window + 1), generator=generator).to(model.device)
    some = trainer.sampler.documents[0]
    chunks = range(min(options.top_k, len(some.chunks)))

    def stacked(rows: Sequence[tuple[str, Sequence[int]]]) -> MemoryContext:
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16(trainer)):  # as the trainer fetches
            return model.stack_memory([trainer.memory.rows(*row) for row in rows])

    def fetched() -> MemoryContext:
        return stacked([(item.doc_id, item.chunks) for item in trainer.sampler.draw(trainer.step)])

    def over_window(memory: bool) -> None:
        context = stacked([(some.doc_id, chunks)]) if memory else None
        learn(trainer, loss(trainer, window[:, :-1], window[:, 1:], context))

    contenders: dict[str, Callable[[], Any]] = {
        "questions": trainer.train_step,
        "questions_plain": lambda: learn(trainer, question_loss(trainer)),
        "window": lambda: over_window(True),
        "window_plain": lambda: over_window(False),
        "data": lambda: drawn(trainer),
        "memory": fetched,
    }
    for run in contenders.values():
        run()
    seconds = common.take_turns(contenders, options.repeats, options.device)
    tokens = int(drawn(trainer).mask_BT.sum())
    return {
        "question_step_vs_plain": seconds["questions"] / seconds["questions_plain"],
        "window_step_vs_plain": seconds["window"] / seconds["window_plain"],
        "data_share": seconds["data"] / seconds["questions"],
        "memory_share": seconds["memory"] / seconds["questions"],
        "tokens_of_a_question_step": tokens,
        "tokens_in_memory": len(chunks) * trainer.config.memory.chunk_tokens,
        "tokens_per_second": {
            "questions": tokens / seconds["questions"],
            "questions_plain": tokens / seconds["questions_plain"],
            "window": options.window / seconds["window"],
            "window_plain": options.window / seconds["window_plain"],
        },
        "bfloat16": bfloat16(trainer),
    }


def question_loss(trainer: Trainer) -> Tensor:
    """Return the loss of the trainer's questions without memory."""
    batch, device = drawn(trainer), trainer.model.device
    return loss(trainer, batch.ids_BT.to(device), batch.labels_BA.to(device), None, batch.mask_BT.to(device))


def drawn(trainer: Trainer) -> Batch:
    """Return the token ids of the trainer's next questions."""
    return collate(trainer.model.tokenizer, trainer.sampler.draw(trainer.step), trainer.config.max_answer_tokens)


def loss(
    trainer: Trainer, ids_BT: Tensor, labels_BA: Tensor, memory: MemoryContext | None, mask_BT: Tensor | None = None
) -> Tensor:
    """Return the mean loss of ``labels_BA`` over the last positions of token ids, as the trainer computes it."""
    model, scored = trainer.model, labels_BA.shape[1]
    # A window predicts the token after each of its own; the last token of an answer is an input as well.
    extra = 0 if mask_BT is None else 1
    model.model.train()
    with torch.autocast(model.device.type, torch.bfloat16, enabled=bfloat16(trainer)):
        out: Any = model.forward(ids_BT, memory, mask_BT, logits_to_keep=scored + extra)
        logits = out.logits[:, :scored].float()
        return functional.cross_entropy(logits.flatten(0, 1), labels_BA.flatten(), ignore_index=IGNORED)


def learn(trainer: Trainer, mean: Tensor) -> None:
    """Go one step down a loss, as the trainer does."""
    trainer.optimizer.zero_grad(set_to_none=True)
    mean.backward()
    torch.nn.utils.clip_grad_norm_(trainer.parameters.values(), trainer.config.clip_norm)
    trainer.optimizer.step()


def bfloat16(trainer: Trainer) -> bool:
    """Whether the trainer's forward pass runs in bfloat16."""
    return fastest_dtype(trainer.model.device)[0] == torch.bfloat16


if __name__ == "__main__":
    main()
