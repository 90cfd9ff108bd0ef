"""Batches of questions whose answers are in memory: which question, which chunks, which tokens.

Every choice of a step depends on (seed, step) alone, so a run that is resumed repeats what it would have done.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from memlong.chunking import without_surrogates
from memlong.evaluation.answers import NOT_IN_TEXT
from memlong.prompt import answer_ids, encode_prompt
from training.config import TrainConfig
from training.data.passages import AskedChunk, Passages
from training.data.questions import CONTINUATION
from training.relevance import ScoredParts

IGNORED = -100  # label of a token that is not scored, as torch's cross-entropy has it


@dataclass(frozen=True)
class Drawn:
    """A question and the chunks its memory will hold, in document order.

    ``relevance_NC``: what their tokens have to do with it (see ``relevance.py``); None treats all alike.
    """

    doc_id: str
    asked: AskedChunk
    chunks: tuple[int, ...]
    relevance_NC: np.ndarray | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Batch:
    """Left-padded prompts with answers. ``labels_BA`` are the last A positions' targets, IGNORED where unscored.

    ``plain_B``: rows that are plain text to be continued.
    """

    ids_BT: Tensor
    mask_BT: Tensor
    labels_BA: Tensor
    plain_B: Tensor


class QuestionSampler:
    """Draws questions and memories from the documents unlocked so far.

    Args:
        config: curriculum and seed. documents: in the order they are unlocked. embeddings: doc_id -> [chunks, E].
        questions: doc_id -> [questions, E], embeddings of ``asked`` in order; both L2-normalised.
        parts: doc_id -> its scored parts; None treats all tokens alike, and ranks chunks by their own scores.

    The questions of ``sorted_steps`` steps are drawn together, sorted by length and dealt out in a random order, so
    that a step's rows are about equally long and hardly anything is computed for padding.
    """

    def __init__(
        self,
        config: TrainConfig,
        documents: Sequence[Passages],
        embeddings: Mapping[str, np.ndarray],
        questions: Mapping[str, np.ndarray],
        parts: Mapping[str, ScoredParts] | None = None,
    ) -> None:
        self.config, self.documents, self.parts = config, documents, parts
        self._together: tuple[int, list[Drawn], list[int]] | None = None
        self._pool = _one_thread()
        self._ahead: tuple[int, Future[tuple[list[Drawn], list[int]]]] | None = None
        self._resting = False
        self._scores = {doc.doc_id: questions[doc.doc_id] @ embeddings[doc.doc_id].T for doc in documents}

    def unlocked(self, step: int) -> Sequence[Passages]:
        """Return the documents that a step may ask about."""
        count = self.config.warm_documents + step // max(1, self.config.documents_every)
        return self.documents[:count]

    def draw(self, step: int) -> list[Drawn]:
        """Return the questions of one step; documents are drawn by the square root of their number of questions."""
        together, size = self.config.sorted_steps, self.config.batch_size
        first = step - step % together
        if self._together is None or self._together[0] != first:
            self._together = (first, *self._block(first))
        _, drawn, places = self._together
        place = places[step - first]
        return drawn[place * size : (place + 1) * size]

    def rest(self) -> None:
        """End the thread that draws ahead, after the question at hand; another ``draw`` starts one anew."""
        self._resting = True
        self._pool.shutdown()
        self._pool, self._ahead, self._resting = _one_thread(), None, False

    def _block(self, first: int) -> tuple[list[Drawn], list[int]]:
        """Return what is drawn together from step ``first`` on, and have the next such steps drawn meanwhile."""
        count, after = self.config.sorted_steps * self.config.batch_size, first + self.config.sorted_steps
        if self._ahead is not None and self._ahead[0] == first:
            drawn = self._ahead[1].result()
        else:
            drawn = self._draw_together(first, count)
        if after < self.config.steps:
            self._ahead = (after, self._pool.submit(self._draw_together, after, count))
        return drawn

    def _draw_together(self, first: int, count: int) -> tuple[list[Drawn], list[int]]:
        """Return the questions of all steps from ``first`` that share one draw, by length, and which part is whose."""
        rng = random.Random(f"{self.config.seed}:{first}")
        documents = self.unlocked(first)
        weights = [len(document.asked) ** 0.5 for document in documents]
        drawn = []
        for document in rng.choices(documents, weights=weights, k=count):
            if self._resting:
                break
            drawn.append(self._with_memory(document, self._pick(document, rng), first, rng))
        together = self.config.sorted_steps
        return sorted(drawn, key=_characters), rng.sample(range(together), together)

    def _pick(self, document: Passages, rng: random.Random) -> int:
        """Return a question's index: one without an answer as often as the recipe says, if there are both kinds."""
        without = [index for index, asked in enumerate(document.asked) if not asked.question.answerable]
        answered = [index for index, asked in enumerate(document.asked) if asked.question.answerable]
        if without and (not answered or rng.random() < self.config.unanswerable):
            return rng.choice(without)
        return rng.choice(answered)

    def retrieved(self, document: Passages, index: int, top_k: int) -> Drawn:
        """Return one question with what real retrieval fetches for it."""
        best = self._ranked(document, index)[:top_k]
        return self._drawn(document, index, best)

    def _ranked(self, document: Passages, index: int) -> list[int]:
        """Return the chunks that may be retrieved for a question, best first."""
        scores_N = self._scores[document.doc_id][index][: document.asked[index].before]
        ranked = [int(chunk) for chunk in np.argsort(-scores_N, kind="stable")]
        first = self.config.memory.rerank_candidates
        if self.parts is None or not first or document.asked[index].question.type == CONTINUATION:
            return ranked
        looked = self.parts[document.doc_id].ranked(index, ranked[:first], scores_N[ranked[:first]])
        return [*looked, *ranked[first:]]

    def _with_memory(self, document: Passages, index: int, step: int, rng: random.Random) -> Drawn:
        gold = list(document.asked[index].gold)
        if step < self.config.single_steps:
            return self._drawn(document, index, gold or self._ranked(document, index)[:1])
        chosen = self._ranked(document, index)[: rng.randint(1, self.config.max_chunks)]
        if not set(gold) <= set(chosen) and rng.random() >= self.config.miss_rate:
            others = [chunk for chunk in chosen if chunk not in gold]
            chosen = gold + others[: max(0, len(chosen) - len(gold))]
        return self._drawn(document, index, chosen)

    def _drawn(self, document: Passages, index: int, chosen: Sequence[int]) -> Drawn:
        asked, chunks = document.asked[index], tuple(sorted(chosen))
        if self.parts is None or asked.question.type == CONTINUATION or not chunks:
            return Drawn(document.doc_id, asked, chunks)
        if not self.config.memory.relevance_strength:
            return Drawn(document.doc_id, asked, chunks)
        found_NC = self.parts[document.doc_id].relevance(index, chunks, self.config.memory.chunk_tokens)
        return Drawn(document.doc_id, asked, chunks, found_NC)


def _one_thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix="questions")


def _characters(item: Drawn) -> int:
    asked = item.asked.question
    return len(asked.question) + len(asked.answers[0] if asked.answerable else NOT_IN_TEXT)


def collate(
    tokenizer: Any,
    drawn: Sequence[Drawn],
    max_answer_tokens: int,
    passages: Sequence[Sequence[str]] | None = None,
) -> Batch:
    """Return token ids and labels: the preferred answer is scored, the prompt with what was said before is not.

    Args:
        passages: texts put before each question; None puts none.
    """
    pairs = []
    for row, item in enumerate(drawn):
        question, texts = item.asked.question, passages[row] if passages else ()
        if question.type == CONTINUATION:
            pairs.append(_plain(tokenizer, [*texts, question.question], question.answers[0]))
            continue
        answer = answer_ids(tokenizer, question.answers[0] if question.answerable else NOT_IN_TEXT)
        prompt = encode_prompt(tokenizer, question.question, texts, question.history)
        pairs.append((prompt, answer[:max_answer_tokens]))
    width = max(len(prompt) + len(answer) for prompt, answer in pairs)
    scored = max(len(answer) for _, answer in pairs)
    ids = torch.zeros(len(pairs), width, dtype=torch.long)
    mask = torch.zeros(len(pairs), width, dtype=torch.long)
    labels = torch.full((len(pairs), scored), IGNORED, dtype=torch.long)
    for row, (prompt, answer) in enumerate(pairs):
        tokens = torch.tensor(prompt + answer)
        ids[row, width - len(tokens) :] = tokens
        mask[row, width - len(tokens) :] = 1
        labels[row, scored - len(answer) :] = torch.tensor(answer)
    plain = torch.tensor([item.asked.question.type == CONTINUATION for item in drawn])
    return Batch(ids, mask, labels, plain)


def _plain(tokenizer: Any, before: Sequence[str], text: str) -> tuple[list[int], list[int]]:
    """Return the ids of plain text and of how it goes on: no template, no end."""
    prompt = tokenizer(without_surrogates("\n\n".join(before)))["input_ids"]
    return list(prompt), list(tokenizer(without_surrogates(text), add_special_tokens=False)["input_ids"])
