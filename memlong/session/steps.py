"""A question in steps: what it needs to have found first is asked before it, and stands in its place.

Asking oneself what must be known first: Press et al. 2022 (arXiv 2210.03350). Here the retriever says which words of a
question stand for it, and each step retrieves for itself, so its evidence, triggers and attention can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from memlong.config import AskOptions
from memlong.retriever.base import Step
from memlong.session.answering import Answering
from memlong.session.follow_up import standing_alone
from memlong.session.results import Answer, AnswerDelta, Evidence, told

if TYPE_CHECKING:
    from memlong.session.session import Session

_WORD = re.compile(r"\w+")
_MOST_WORDS = 12  # of what is found: it takes the place of a few words
_STEP_TOKENS = 32  # of a step's answer: a name that a short answer cuts off is none

Deltas = Generator[AnswerDelta, None, Answer]


@dataclass
class StepwiseAnswering:
    """One question on its way to an answer, and what had to be found for it first.

    Attributes:
        session: whose memory. question, options: as asked. cancel: asked once per token.
    """

    session: Session
    question: str
    options: AskOptions
    cancel: Callable[[], bool]
    _alone: str = ""  # the question as it is asked without those before it
    _steps: list[Answer] = field(default_factory=list)
    _left: int = 0
    _seconds: float = 0.0  # of looking for steps

    def stream(self) -> Iterator[AnswerDelta | Answer]:
        """Yield the growing answer, one delta a token, and the finished :class:`Answer` last; steps come first."""
        self._left = self.session.config.question_steps - 1 if self.options.answer_from != "nothing" else 0
        earlier = [asked for asked, _ in self.session.turns] if self.options.follow_ups else []
        self._alone = standing_alone(self.question, earlier)
        asked = yield from self._resolve(self._alone)
        if self._steps and self.cancel():
            yield self._stopped()  # nobody waits for the question itself any more, and no turn of words came of it
            return
        answer = yield from self._answer(asked, self.options, told(self._steps))
        self.session.turns.append((self.question, answer.text))
        yield self._joined(answer)

    def _resolve(self, question: str) -> Generator[AnswerDelta, None, str]:
        """Return the question with what must be found first in its place, as far as it is found in the steps left."""
        while self._left > 0 and not self.cancel():
            step = self._first_step(question)
            if step is None:
                break
            self._left -= 1
            inner = yield from self._resolve(step.question)
            if self.cancel():
                break
            # Greedily, whatever the answer is sampled with: a name that is looked up is no matter of taste.
            # Chunks that somebody wants are for the question: as many as a step fetches would leave it none of its own.
            options = self.options.replace(max_tokens=_STEP_TOKENS, history=0, temperature=0.0, stop=(), forced=())
            answer = yield from self._answer(inner, options, told(self._steps), step=True)
            self._steps.append(answer)
            found = answer.text.strip().rstrip(".")
            if self.cancel() or answer.low_evidence or not _stands_in(found, answer.retrieved):
                break
            start, end = step.span
            question = f"{question[:start]}{found}{question[end:]}"
        return question

    def _first_step(self, question: str) -> Step | None:
        seconds = self.session.seconds
        before = seconds.get("embed", 0.0)
        step: Step | None = self.session.timed("embed", self.session.retriever.first_step, question)
        self._seconds += seconds["embed"] - before
        return step

    def _answer(self, asked: str, options: AskOptions, told: tuple[tuple[str, str], ...], step: bool = False) -> Deltas:
        """Yield the growing answer of a step, or of the question itself, and return it."""
        session = self.session
        session.asked += 1
        of = self._alone if step or asked != self._alone else ""
        for item in Answering(session, session.asked - 1, asked, options, of).deltas(self.cancel):
            if isinstance(item, Answer):
                return item
            if step:
                yield AnswerDelta("", "", 0, item.evidence, (*told, (asked, item.text)))
            else:
                yield replace(item, steps=told)
        raise AssertionError("an answer ends with itself")

    def _stopped(self) -> Answer:
        """Return the answer of a question that was stopped in its steps: it has no words, and was not asked itself."""
        last = self._steps[-1]
        nothing = replace(
            last,
            text="",
            retrieved=(),
            evicted=(),
            seconds=dict.fromkeys(last.seconds, 0.0),
            n_tokens=0,
            stop_reason="cancelled",
            memory_mass=None,
            logprob=0.0,
            token_texts=(),
            token_ids=(),
            asked="",
        )
        return replace(self._joined(nothing), low_evidence=False)

    def _joined(self, answer: Answer) -> Answer:
        """Return the answer of the last question as that of the one that was asked."""
        parts = (*self._steps, answer)
        seconds = {name: sum(part.seconds[name] for part in parts) for name in answer.seconds}
        seconds["embed"] += self._seconds
        return replace(
            answer,
            question=self.question,
            steps=tuple(self._steps),
            evicted=tuple(chunk_id for part in parts for chunk_id in part.evicted),
            seconds=seconds,
            low_evidence=any(part.low_evidence for part in parts),
        )


def _stands_in(found: str, evidence: tuple[Evidence, ...]) -> bool:
    """Return whether these few words stand in a chunk that was fetched: what does not is no name from the text."""
    words = _words(found)
    if not 0 < len(words) <= _MOST_WORDS:
        return False
    wanted = f" {' '.join(words)} "
    return any(wanted in f" {' '.join(_words(item.text))} " for item in evidence)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
