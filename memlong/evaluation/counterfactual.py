"""What an answer owes to each chunk: its log-probability when memory holds other chunks than were retrieved.

Nothing of the session changes: no trigger is counted, nothing is written into the trace.

Shapes: A answer tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from memlong.attention.context import MassObserver, MemoryContext
from memlong.config import AskOptions
from memlong.model.cache import growing_cache
from memlong.model.wrapper import MemoryModel
from memlong.prompt import answer_ids
from memlong.session.prompting import prompt_of
from memlong.session.relevance import Query, memory_of
from memlong.session.session import Session

TOKEN_BY_TOKEN = 32
"""Tokens of an answer that are weighed one by one, as they were written: in bfloat16 a product of several tokens at
once rounds otherwise, which moves short answers by a tenth of a nat. In a longer one it is lost among the rest."""


@dataclass(frozen=True)
class Counterfactual:
    """One answer under one memory.

    Attributes:
        left_out: the chunk that was taken out, or None. chunk_ids: what memory held, in document order.
        logprob: natural logarithm of the probability of the answer; see :func:`answer_logprob`.
    """

    left_out: int | None
    chunk_ids: tuple[int, ...]
    logprob: float


def answer_logprob(
    session: Session,
    question: str,
    answer: str | Sequence[int],
    chunk_ids: Sequence[int],
    *,
    options: AskOptions | None = None,
    turns: Sequence[tuple[str, str]] = (),
) -> float:
    """Return the log-probability of ``answer`` when memory holds just these chunks (none: no memory at all).

    Memory is the same for all of its tokens. While an answer is written it may change (``retrieve_every``), and what
    the answer's own tokens were given then adds up to another number.

    Args:
        answer: its tokens as they were generated, or a text: then as the tokenizer cuts it, its end included. A model
            may cut a word otherwise than the tokenizer does, and the same text in other tokens is far less likely.
        chunk_ids: best first, in case the model has no positions for the text of all of them.
        options: how it was asked: ``memory_strength``, ``history``, and ``answer_from``, by which the text of these
            chunks stands in the prompt too, or alone, and ``forced``. None takes memory as it is, and no earlier turns.
        turns: (question, answer) pairs of the conversation before it, oldest first.

    Raises:
        BankError: for a chunk that is not held.
    """
    tokenizer, model, options = session.tokenizer, session.model, options or AskOptions()
    said = answer_ids(tokenizer, answer) if isinstance(answer, str) else list(answer)
    if not said:
        return 0.0  # the one answer without words
    passages = chunk_ids if options.answer_from in ("passages", "both") else ()
    prompt = prompt_of(session, question, passages, options, turns)
    context = None
    if chunk_ids and options.answer_from in ("memory", "both"):
        ordered = session.in_document_order(chunk_ids)
        observer = MassObserver() if options.record_attention else None  # who looks on takes other paths
        query = Query(session.embed_query(question), question, options.forced)
        context = memory_of(session, query, ordered, options.memory_strength, observer)
    pieces = [[token] for token in said] if len(said) <= TOKEN_BY_TOKEN else [said]
    return _logprob(model, prompt, pieces, context)


def _logprob(
    model: MemoryModel, prompt: list[int], pieces: Sequence[list[int]], context: MemoryContext | None
) -> float:
    """Return the log-probability of what follows a prompt, run in these pieces; the last token is not run."""
    cache, run, start, total = growing_cache(), prompt[:], 0, 0.0
    for piece in pieces:
        run += piece[:-1]
        ids = torch.tensor([run], device=model.device)
        with torch.no_grad():
            out = model.forward(ids, context, past_key_values=cache, start=start, logits_to_keep=len(piece))
        if context is not None and context.observer is not None:
            context.observer.take_last()
        logprobs_AV = out.logits[0].float().log_softmax(dim=-1)
        total += float(logprobs_AV.gather(1, torch.tensor(piece, device=model.device)[:, None]).sum())
        start, run = start + len(run), piece[-1:]
    return total


def leave_one_out(
    session: Session,
    question: str,
    answer: str | Sequence[int],
    chunk_ids: Sequence[int],
    *,
    options: AskOptions | None = None,
    turns: Sequence[tuple[str, str]] = (),
) -> Iterator[Counterfactual]:
    """Yield the answer with all of these chunks, without each of them, and without memory.

    Chunks that left the bank since are passed over. See :func:`answer_logprob` for the arguments.
    """
    held = [chunk_id for chunk_id in chunk_ids if chunk_id in session.bank]
    outs = session.in_document_order(held)
    choices: list[tuple[int | None, list[int]]] = [(None, held)]
    choices += [(out, [chunk_id for chunk_id in held if chunk_id != out]) for out in outs]
    if len(held) > 1:
        choices.append((None, []))
    for left_out, kept in choices:
        logprob = answer_logprob(session, question, answer, kept, options=options, turns=turns)
        yield Counterfactual(left_out, tuple(session.in_document_order(kept)), logprob)
