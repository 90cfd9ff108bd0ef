"""Answering: retrieve, decode, count what memory was worth, and say when it was worth little.

Shapes: H query heads, N chunks, L retrieval layers, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from memlong.abstaining import Abstaining
from memlong.attention.context import MassObserver
from memlong.bank.bank import Hit
from memlong.chunking import Chunk
from memlong.config import AskOptions
from memlong.errors import BankError, ConfigError
from memlong.generate import GeneratedToken, Generation, Hooks, Retrieved, end_tokens
from memlong.pointing import Pointing
from memlong.session.layers import Looked
from memlong.session.prompting import prompt_of
from memlong.session.reading import read_windows, store_chunk
from memlong.session.relevance import (
    Query,
    doubt_about,
    log_odds_of,
    memory_of,
    pointed_at,
    pointed_chunks,
    reranked,
    told_later,
)
from memlong.session.results import Answer, AnswerDelta, Evidence, Pointed
from memlong.spelling import Spelling, whole_words
from memlong.trace import events

if TYPE_CHECKING:
    from memlong.session.session import Session

CONVERSATION = "conversation"
_MOST_SHARE = 10.0  # times: what is ten times less likely than what it follows is no later telling of it


def refuse(session: Session, question: str, options: AskOptions) -> None:
    """Refuse a question that cannot be asked, before anything is noted.

    Raises:
        ConfigError: for an empty question. BankError: for documents or forced chunks that are not here.
    """
    if not question.strip():
        raise ConfigError("An empty question", "A question in words", "Type one")
    unknown = set(options.documents or ()) - set(session.present)
    if unknown:
        raise BankError(
            f"Documents {sorted(unknown)} are not here",
            f"Known: {sorted(session.present)}",
            "Ask one of these, or all",
        )
    for chunk_id in options.forced:
        session.bank.get(chunk_id)


@dataclass
class _Fetched:
    """One chunk as this answer met it; scores are the best of all its retrievals."""

    chunk_id: int
    score: float
    before: int
    count: int
    evidence: Evidence
    mass: float = 0.0
    superseded: bool = False
    pointed: tuple[Pointed, ...] = ()


@dataclass
class Answering:
    """One question on its way to an answer.

    Attributes:
        session: whose memory. answer_id: counts up. question, options: as asked.
        step_of: the question that this one is a step of; "" for one that is asked as it stands.
    """

    session: Session
    answer_id: int
    question: str
    options: AskOptions
    step_of: str = ""
    fetched: dict[int, _Fetched] = field(default_factory=dict)
    evicted: list[int] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    _query: Query = field(default_factory=lambda: Query(np.zeros(0), ""))
    _spelling: Spelling = field(init=False)
    _abstaining: Abstaining = field(init=False)
    _pointing: Pointing = field(init=False)
    _doubted: bool = False
    _pointed: Collection[int] | None = None

    def __post_init__(self) -> None:
        tokenizer, config = self.session.tokenizer, self.session.config
        self._spelling = Spelling(tokenizer, config.spelling_strength)
        self._abstaining = Abstaining(tokenizer, config.abstention, config.abstention_strength)
        ends = end_tokens(self.session.model)
        silence = (config.abstention, config.abstention_strength)
        self._pointing = Pointing(tokenizer, config.pointing_strength, ends, *silence)
        told = self.session.turns[-self.options.history :] if self.options.history else ()
        for text in (self.question, *(part for turn in told for part in turn)):
            self._spelling.learn(text)

    def deltas(self, cancel: Callable[[], bool]) -> Iterator[AnswerDelta | Answer]:
        """Yield the growing answer, one delta a token, and the finished :class:`Answer` last."""
        session, options = self.session, self.options
        top_k = options.top_k or session.config.top_k
        session.recorder.append(
            events.QuestionAsked(
                answer_id=self.answer_id,
                question=self.question,
                answer_from=options.answer_from,
                top_k=top_k,
                documents=options.documents,
                step_of=self.step_of,
            )
        )
        timings = dict(session.seconds)
        first = self._fetch(self.question, "question") if options.answer_from != "nothing" else []
        prompt, room = self._prompt(first if options.answer_from in ("passages", "both") else [])
        waiting = [first]
        generation = Generation(
            session.model,
            prompt,
            options,
            Hooks(lambda newest: self._memory(newest, waiting), self._spill, cancel, self._adjust),
            room,
        )
        tokens: list[GeneratedToken] = []
        shown = ""
        for token in generation.tokens():
            tokens.append(token)
            self._note(token)
            delta, shown = token.text[len(shown) :], token.text
            yield AnswerDelta(shown, delta, len(tokens), self.evidence(len(tokens)))
        self.seconds = {
            name: session.seconds.get(name, 0.0) - timings.get(name, 0.0) for name in ("embed", "search", "gather")
        }
        # The first retrieval runs inside neither phase; later ones inside decoding are told apart by their own names.
        self.seconds |= generation.seconds
        yield self._finish(generation, tokens)

    def evidence(self, n_tokens: int) -> tuple[Evidence, ...]:
        """Return what was fetched so far, best score first, with attention mass averaged over tokens."""
        ordered = sorted(self.fetched.values(), key=lambda chunk: (-chunk.score, chunk.chunk_id))
        looked = self.options.record_attention and self.options.answer_from in ("memory", "both") and n_tokens
        return tuple(
            _with(chunk, rank, chunk.mass / n_tokens if looked else None) for rank, chunk in enumerate(ordered, start=1)
        )

    def _memory(self, newest: str, waiting: list[list[int]]) -> Retrieved | None:
        """Return memory for the next tokens: the question's chunks first, then those of question and newest text."""
        session, options = self.session, self.options
        if options.answer_from not in ("memory", "both"):
            return None
        ids = waiting.pop() if waiting else self._fetch(f"{self.question} {newest}", "newest")
        if not ids:
            return None
        ordered = session.in_document_order(ids)
        observer = MassObserver() if options.record_attention else None
        asked = (session, self._query, ordered, options.memory_strength, observer)
        return Retrieved(session.timed("gather", memory_of, *asked), tuple(ordered))

    def _adjust(self, logits_V: Tensor, text: str, tokens: Sequence[int]) -> Tensor:
        logits_V = self._abstaining.adjust(self._spelling.adjust(logits_V, text, tokens), tokens)
        return self._pointing.adjust(logits_V, tokens)

    def _fetch(self, text: str, query: str) -> list[int]:
        """Search with a text, trigger what was found, and remember it as evidence; return chunk ids, best first."""
        session, options = self.session, self.options
        if not len(session.bank):
            return []
        embedding = session.embed_query(text)
        self._query = Query(embedding, self.question, options.forced, self._pointed)
        documents = set(options.documents) if options.documents is not None else None
        forced = [Hit(c, float(embedding @ session.bank.embedding(c))) for c in dict.fromkeys(options.forced)]
        if forced and session.config.rerank_candidates:
            forced = reranked(session, embedding, self.question, forced)
        top_k = (options.top_k or session.config.top_k) - len(forced)
        hits: list[Hit] = []
        if top_k > 0:
            # Text that continues the answer searches anew; what is found is read with the question all the same.
            apart = {*options.masked, *options.forced}
            hits = session.search(embedding, top_k, documents, apart, self.question)
        hits = sorted([*hits, *forced], key=lambda hit: (-hit.score, hit.chunk_id))
        before = {hit.chunk_id: session.bank.get(hit.chunk_id).trigger_count for hit in hits}
        triggered = session.trigger(hits)
        session.recorder.append(events.Retrieved(query=query, query_id=self.answer_id, doc_id=None, hits=triggered))
        for hit in triggered:
            known = self.fetched.get(hit.chunk_id)
            if known is None:
                evidence = session.evidence_of(hit.chunk_id)
                text = session.documents[evidence.doc_id].text
                self._spelling.learn(whole_words(text, evidence.span))
                self.fetched[hit.chunk_id] = _Fetched(
                    hit.chunk_id, hit.score, before[hit.chunk_id], hit.trigger_count, evidence
                )
            else:
                known.score, known.count = max(known.score, hit.score), hit.trigger_count
        ids = [hit.chunk_id for hit in triggered]
        if ids and session.config.recency_strength and options.answer_from in ("memory", "both"):
            later = session.timed("search", told_later, session, self._query, ids)
            for chunk_id, count in zip(ids, later, strict=True):
                self.fetched[chunk_id].superseded = bool(count)
        if query == "question":
            # Now: chunks may leave while the answer is written.
            self._pointed = session.timed("search", pointed_chunks, session, self._query, ids)
            self._query = replace(self._query, pointed=self._pointed)
            self._doubted = session.timed("search", doubt_about, session, self._query, ids) > 0
            self._abstaining.log_odds = session.timed("search", log_odds_of, session, self._query, ids)
            self._point(ids)
        return ids

    def _point(self, ids: Sequence[int]) -> None:
        """Find the words of these chunks that may be the answer; what was told anew later leaves its share to them.

        Where nothing else is pointed at, nothing was told anew: the later chunk says something else.
        """
        found, nowhere = self.session.timed("search", pointed_at, self.session, self._query, ids)
        valid = {chunk_id: each for chunk_id, each in found.items() if not self.fetched[chunk_id].superseded} or found
        whole, rest = (sum(p.likely for places in each.values() for p in places) for each in (found, valid))
        share = min(whole / rest, _MOST_SHARE) if rest else 1.0
        likely: dict[str, float] = {}
        for chunk_id, places in valid.items():
            self.fetched[chunk_id].pointed = tuple(replace(place, likely=share * place.likely) for place in places)
            for place in self.fetched[chunk_id].pointed:
                words = " ".join(place.text.split())  # where lines end in a text says nothing of the answer
                likely[words] = likely.get(words, 0.0) + place.likely
        if found:
            self._abstaining.log_odds = None  # who points at words has looked closer
        wanted = set(ids) & set(self._query.forced)  # nobody doubts a chunk that somebody wants
        self._pointing.expect(likely, nowhere if found and not wanted else None)

    def _prompt(self, fetched: Sequence[int]) -> tuple[list[int], int]:
        """Return the prompt with the passages fetched, and the room it has as local context.

        Passages come on top of the local context: what is in the bank already must not be spilled into it again.
        """
        session, asked = self.session, (self.options, self.session.turns)
        bare, room = prompt_of(session, self.question, (), *asked), session.model.local_tokens
        prompt = prompt_of(session, self.question, fetched, *asked) if fetched else bare
        if len(prompt) == len(bare):
            return bare, room
        wider = room + len(prompt) - len(bare)
        return prompt, min(wider, session.model.spec.max_positions or wider)

    def _note(self, token: GeneratedToken) -> None:
        """Add a token's attention to its chunks, and put it into the trace."""
        recorder = self.session.recorder
        memory_mass, per_chunk = None, None
        if token.mass is not None:
            mass_LHN = token.mass.mass_LHN.double()
            share_N = mass_LHN.mean(dim=(0, 1)).tolist()
            memory_mass = sum(share_N)
            per_chunk = tuple(zip(token.chunk_ids, share_N, strict=True))
            for chunk_id, mass in per_chunk:
                self.fetched[chunk_id].mass += mass
            look = Looked(self.answer_id, token.index, token.mass.layers, token.chunk_ids, mass_LHN)
            self.session.layers.note(look)
        recorder.append(
            events.TokenGenerated(
                answer_id=self.answer_id,
                index=token.index,
                token_id=token.token_id,
                text=self.session.tokenizer.decode([token.token_id]),
                logprob=token.logprob,
                memory_mass=memory_mass,
                chunk_mass=per_chunk,
            )
        )

    def _spill(self, ids: list[int]) -> None:
        """Store the local context's oldest chunk with its own text, as part of the conversation."""
        session = self.session
        document = session.conversation()
        text = str(session.tokenizer.decode(ids))
        start = len(document.text)
        document.text += text
        document.n_tokens += len(ids)
        chunk = Chunk(document.chunks_total, (start, len(document.text)), tuple(ids))
        document.chunks_total += 1
        document.chunks_read += 1
        embedding: np.ndarray = session.timed("embed", session.retriever.embed_documents, [text])[0]
        # Stored K-V are written by the original weights and depend on their window alone, so it is read once more.
        kv = session.timed("prefill", read_windows, session.model, [[chunk]])
        store_chunk(session, document, chunk, embedding, kv.piece(0, 0, len(ids)), window=chunk.index)
        self.evicted += session.evict()

    def _finish(self, generation: Generation, tokens: Sequence[GeneratedToken]) -> Answer:
        session, config = self.session, self.session.config
        evidence = self.evidence(len(tokens))
        masses = [item.attention_mass for item in evidence if item.attention_mass is not None]
        memory_mass = sum(masses) if masses else None
        best = max((item.score for item in evidence), default=0.0)
        if config.low_score is None:
            least = session.retriever.low_score(config.chunk_tokens, config.rerank_candidates > 0)
            unlikely = best < least or self._doubted
        else:
            unlikely = best < config.low_score
        unseen = memory_mass is not None and memory_mass < config.low_mass
        low = self.options.answer_from != "nothing" and (unlikely or unseen)
        text = generation.text.strip()
        answer = Answer(
            answer_id=self.answer_id,
            question=self.question,
            text=text,
            retrieved=evidence,
            evicted=tuple(self.evicted),
            chunks_read=session.chunks_read,
            chunks_kept=len(session.bank),
            seconds=self.seconds,
            n_tokens=len(tokens),
            stop_reason=generation.stop_reason,
            memory_mass=memory_mass,
            logprob=sum(token.logprob for token in tokens),
            low_evidence=low,
            answer_from=self.options.answer_from,
            reading=session.reading_in_words(),
            token_texts=tuple(session.tokenizer.decode([t.token_id]) for t in tokens),
            token_ids=tuple(token.token_id for token in tokens),
            asked=self.question,
        )
        session.recorder.append(
            events.AnswerFinished(
                answer_id=self.answer_id,
                text=text,
                stop_reason=generation.stop_reason,
                seconds=dict(self.seconds),
                n_tokens=len(tokens),
                memory_mass=memory_mass,
                low_evidence=low,
            )
        )
        return answer


def _with(chunk: _Fetched, rank: int, mass: float | None) -> Evidence:
    base = chunk.evidence
    return Evidence(
        base.chunk_id,
        rank,
        chunk.score,
        mass,
        chunk.before,
        chunk.count,
        base.doc_id,
        base.title,
        base.place,
        base.span,
        base.text,
        chunk.superseded,
        chunk.pointed,
    )
