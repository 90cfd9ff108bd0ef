"""What an answer owes to each chunk: its log-probability when memory holds other chunks than were retrieved.

Nothing of the session changes: no trigger is counted, nothing is written into the trace.

Shapes: A answer tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from memlong.prompt import answer_ids, encode_prompt
from memlong.session.session import Session


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


def answer_logprob(session: Session, question: str, answer: str | Sequence[int], chunk_ids: Sequence[int]) -> float:
    """Return the log-probability of ``answer`` when memory holds just these chunks (none: no memory at all).

    Args:
        answer: its tokens as they were generated, or a text: then as the tokenizer cuts it, its end included. A model
            may cut a word otherwise than the tokenizer does, and the same text in other tokens is far less likely.

    Raises:
        BankError: for a chunk that is not held.
    """
    tokenizer, model = session.tokenizer, session.model
    said = answer_ids(tokenizer, answer) if isinstance(answer, str) else list(answer)
    if not said:
        return 0.0  # the one answer without words
    ids = torch.tensor([[*encode_prompt(tokenizer, question), *said]], device=model.device)
    context = None
    if chunk_ids:
        ordered = session.in_document_order(chunk_ids)
        gathered = session.bank.gather(ordered, model.dtype, model.device)
        context = model.memory(gathered.keys_SNGCD, gathered.values_SNGCD, session.bank.lengths(ordered))
    with torch.no_grad():
        logits_1AV = model.forward(ids, context, logits_to_keep=len(said) + 1).logits[:, :-1].float()
    logprobs_A = logits_1AV.log_softmax(dim=-1)[0].gather(1, ids[0, -len(said) :, None])
    return float(logprobs_A.sum())


def leave_one_out(
    session: Session, question: str, answer: str | Sequence[int], chunk_ids: Sequence[int]
) -> Iterator[Counterfactual]:
    """Yield the answer with all of these chunks, without each of them, and without memory.

    Chunks that left the bank since are passed over.
    """
    held = session.in_document_order(c for c in chunk_ids if c in session.bank)
    choices: list[tuple[int | None, list[int]]] = [(None, held)]
    choices += [(out, [chunk_id for chunk_id in held if chunk_id != out]) for out in held]
    if len(held) > 1:
        choices.append((None, []))
    for left_out, kept in choices:
        yield Counterfactual(left_out, tuple(kept), answer_logprob(session, question, answer, kept))
