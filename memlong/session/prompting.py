"""The prompt of a question: earlier turns and, where passages are asked for, the text of chunks before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memlong.config import AskOptions
from memlong.prompt import encode_prompt

if TYPE_CHECKING:
    from memlong.session.session import Session


def prompt_of(
    session: Session,
    question: str,
    passages: Sequence[int],
    options: AskOptions,
    turns: Sequence[tuple[str, str]],
) -> list[int]:
    """Return the prompt's token ids. The worst passages are left out where the model has no positions for all.

    Args:
        passages: ids of held chunks whose text stands before the question, best first.
        turns: (question, answer) pairs so far, oldest first; ``options.history`` says how many of them are told.

    Raises:
        BankError: for a chunk that is not held.
    """
    history = turns[-options.history :] if options.history else ()
    most = session.model.spec.max_positions
    for kept in range(len(passages), 0, -1):
        ordered = session.in_document_order(passages[:kept])
        texts = [session.evidence_of(chunk_id).text.strip() for chunk_id in ordered]
        prompt = encode_prompt(session.tokenizer, question, texts, history)
        if most is None or len(prompt) + options.max_tokens <= most:
            return prompt
    return encode_prompt(session.tokenizer, question, (), history)
