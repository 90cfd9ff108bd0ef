"""Which of the questions of a trace belong together: one that is asked in steps leaves several."""

from __future__ import annotations

from memlong.trace.events import QuestionAsked


class Origins:
    """Tells for one question after the other which of what people asked it belongs to.

    What a question asks first depends on its words alone: where that comes once more, the question was asked again.
    """

    def __init__(self) -> None:
        self._number, self._words, self._first, self._goes_on = -1, "", "", False

    def of(self, event: QuestionAsked) -> tuple[int, str]:
        """Return which one ``event`` belongs to, counted from 0, and that one's words; events come in their order."""
        words = event.step_of or event.question
        if not self._goes_on or words != self._words or event.question == self._first:
            self._number, self._words, self._first = self._number + 1, words, event.question
        self._goes_on = bool(event.step_of)  # one that is asked as it stands is the last of its steps
        return self._number, self._words
