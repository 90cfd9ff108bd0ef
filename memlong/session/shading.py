"""Where inside its chunks an answer looked: the answer is written once more, with the attention of every memory token.

Shapes: H query heads, C tokens of a chunk, M memory tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from memlong.attention.context import MassObserver, MemoryContext
from memlong.chunking import CONTEXT_CHARACTERS, Token, iter_tokens
from memlong.model.cache import growing_cache
from memlong.prompt import encode_prompt
from memlong.session.relevance import Query, memory_of, pointed_chunks

if TYPE_CHECKING:
    from memlong.session.session import Session


@dataclass(frozen=True)
class Shading:
    """Attention on single tokens of memory, after one more token of the answer.

    Attributes:
        index: that token's place in the answer.
        mass: chunk id -> share of its attention on each token of the chunk [C], mean over retrieval layers and heads.
    """

    index: int
    mass: Mapping[int, np.ndarray]


def shade(
    session: Session,
    question: str,
    token_ids: Sequence[int],
    memories: Sequence[Sequence[int]],
    retrieved_at: Collection[int] = (),
) -> Iterator[Shading]:
    """Yield for every token of an answer where inside its chunks the model looked when it chose the token.

    Nothing of the session changes: no trigger is counted, nothing is written into the trace.

    Args:
        question: asked without earlier turns, answered from memory, nothing forced into it. token_ids: of the answer.
        memories: the chunks that were in memory when each token was chosen, in the order they were joined.
        retrieved_at: tokens before which memory was searched anew, beside those whose chunks are others.

    Raises:
        BankError: for a chunk that is not held any more.
    """
    model, prompt = session.model, encode_prompt(session.tokenizer, question)
    cache, run = growing_cache(), list(prompt)
    context: MemoryContext | None = None
    held: tuple[int, ...] = ()
    asked = Query(session.embed_query(question), question)
    pointed = pointed_chunks(session, asked, memories[0]) if memories else ()
    for index, (token, wanted) in enumerate(zip(token_ids, memories, strict=True)):
        if tuple(wanted) != held or index in retrieved_at:
            said = session.tokenizer.decode(list(token_ids[:index]), skip_special_tokens=True)
            vector_E = session.embed_query(f"{question} {said}") if index else asked.vector_E
            query = replace(asked, vector_E=vector_E, pointed=pointed)
            context, held = memory_of(session, query, list(wanted)), tuple(wanted)
        start = len(prompt) + index - len(run) if index else 0
        with torch.no_grad():
            if len(run) > 1:  # all but the last token of the prompt: nobody asks where these looked
                model.forward(_row(session, run[:-1]), context, past_key_values=cache, start=start, logits_to_keep=1)
                start += len(run) - 1
            seen = replace(context, chunk_tokens=1, observer=MassObserver()) if context else None
            model.forward(_row(session, run[-1:]), seen, past_key_values=cache, start=start, logits_to_keep=1)
        yield Shading(index, _split(seen, context, held))
        run = [token]


def tokens_of(session: Session, chunk_id: int) -> list[str]:
    """Return the text of each token of a chunk that is held, in order; "" for one that shares its character.

    The chunk is cut as it was when it was read, with the text around it.
    """
    record = session.bank.get(chunk_id)
    text, (start, end) = session.documents[record.doc_id].text, record.span
    first, last = max(0, start - CONTEXT_CHARACTERS), min(len(text), end + CONTEXT_CHARACTERS)
    around = iter_tokens(session.tokenizer, text[first:last])
    mine: list[Token] = [token for token in around if start <= first + token[1] < end][: record.n_tokens]
    # What a tokenizer drops (blanks) belongs to the token before it, so that the pieces join to the whole text.
    cuts = [start, *(first + token[1] for token in mine[1:]), end]
    return [text[a:b] for a, b in pairwise(cuts)]


def _row(session: Session, ids: Sequence[int]) -> torch.Tensor:
    return torch.tensor([list(ids)], device=session.model.device)


def _split(
    seen: MemoryContext | None, context: MemoryContext | None, chunk_ids: Sequence[int]
) -> dict[int, np.ndarray]:
    """Return the observed mass by chunk; padding of short chunks is part of it, and zero."""
    if seen is None or context is None or seen.observer is None:
        return {}
    layers = [mass_BHTM[0, :, -1].double().mean(dim=0) for mass_BHTM in seen.observer.take().values()]
    mass_M = torch.stack(layers).mean(dim=0).cpu().numpy()
    return dict(zip(chunk_ids, mass_M.reshape(len(chunk_ids), context.chunk_tokens), strict=True))
