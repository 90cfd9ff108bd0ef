"""Metrics for short answers: exact match, word F1, containment, and "the text does not say".

Normalisation, exact match and F1 follow the official evaluation scripts of SQuAD: version 1.1 (Rajpurkar et
al. 2016, arXiv 1606.05250, ``evaluate-v1.1.py``) for answerable questions and version 2.0 (Rajpurkar et al.
2018, arXiv 1806.03822, ``evaluate-v2.0.py``) for unanswerable ones, where the right answer is to abstain. A
model abstains in words rather than with an empty string, so :func:`abstains` recognises the usual wordings.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from memlong.errors import ConfigError

NOT_IN_TEXT = "The text does not say."
"""What a model is trained to answer when the text holds no answer."""

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation + "\u2018\u2019\u201c\u201d\u2013\u2014")
_ABSTAINS = re.compile(
    r"""^(?:
        (?:sorry\s+)? (?:
            (?:text|document|passage|story|book|chronicle|context|it|this)
                \s (?:(?:does|did)\s?(?:not|nt)|never) \s
                (?:say|tell|mention|state|specify|contain|give|provide|reveal|include)\w*
          | (?:(?:that|it|this|answer|information|name|date|place|number)\s)?
                (?:(?:is|was)\s)? (?:not|never) \s
                (?:explicitly\s)?
                (?:stated|mentioned|said|told|given|specified|known|provided|in\s(?:text|document|story))
          | (?:i\s)? (?:do|can)\s?(?:not|nt) \s (?:know|tell|say|find|answer)
          | (?:i\s)? cannot \s (?:know|tell|say|find|answer)
          | (?:there\sis\s)? no \s (?:answer|information|mention)
          | (?:unanswerable|not\sanswerable)
          | (?:unknown|nothing|none)$
        )
    )\b.*$""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class AnswerScore:
    """Scores of one prediction, each between 0 and 1: ``exact``, word ``f1``, ``contains``; and whether it
    ``abstained``.
    """

    exact: float
    f1: float
    contains: float
    abstained: bool


def normalise(text: str) -> str:
    """Return ``text`` in lower case, without punctuation and articles, with single blanks.

    As in SQuAD 1.1, except that curly quotes and long dashes count as punctuation too: a model may write them
    where the answer has the plain ones.
    """
    without = _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))
    return " ".join(without.split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1.0 when the normalised prediction equals one of the normalised answers, else 0.0.

    With no answers at all the question is unanswerable, and abstaining is what scores 1.0.

    Raises:
        ConfigError: ``answers`` is one string instead of a sequence of strings.
    """
    if not _checked(answers):
        return float(abstains(prediction))
    found = normalise(prediction)
    return float(any(found == normalise(answer) for answer in answers))


def word_f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best word F1 of the prediction over the answers, between 0 and 1.

    With c common words (counted with repetition), p predicted and g expected words:
    precision c/p, recall c/g, F1 = 2 * precision * recall / (precision + recall) = 2c / (p + g).
    When either side has no words left, F1 is 1 if both have none, else 0 (SQuAD 2.0).
    With no answers at all the question is unanswerable, and abstaining is what scores 1.0.

    Raises:
        ConfigError: ``answers`` is one string instead of a sequence of strings.
    """
    if not _checked(answers):
        return float(abstains(prediction))
    words = normalise(prediction).split()
    return max(_f1(words, normalise(answer).split()) for answer in answers)


def contains_answer(text: str, answers: Iterable[str]) -> bool:
    """Return whether one of the answers stands in ``text`` as whole words, both normalised.

    Used for long predictions and to see whether a retrieved passage holds the answer. An answer that
    normalises to nothing is contained in nothing.
    """
    padded = f" {normalise(text)} "
    words = (normalise(answer) for answer in answers)
    return any(answer and f" {answer} " in padded for answer in words)


def abstains(prediction: str) -> bool:
    """Return whether the prediction is empty or says that the text does not tell."""
    words = normalise(prediction)
    return not words or _ABSTAINS.match(words) is not None


def score_answer(prediction: str, answers: Sequence[str], answerable: bool = True) -> AnswerScore:
    """Score one prediction.

    For an unanswerable question every score is 1 when the prediction abstains and 0 otherwise, whatever
    ``answers`` holds (SQuAD 2.0 lists plausible but wrong answers there).

    Raises:
        ConfigError: the question is answerable and no answer is given, or ``answers`` is one string.
    """
    abstained = abstains(prediction)
    if not answerable:
        return AnswerScore(float(abstained), float(abstained), float(abstained), abstained)
    if not _checked(answers):
        raise ConfigError(
            "An answerable question came without answers",
            "At least one acceptable answer is needed",
            "Give the answers, or mark the question as unanswerable",
        )
    contained = float(contains_answer(prediction, answers))
    return AnswerScore(exact_match(prediction, answers), word_f1(prediction, answers), contained, abstained)


def _f1(predicted: list[str], expected: list[str]) -> float:
    if not predicted or not expected:
        return float(predicted == expected)
    common = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * common / (len(predicted) + len(expected))


def _checked(answers: Sequence[str]) -> Sequence[str]:
    if isinstance(answers, str):
        # A bare string would be taken for a list of one-letter answers.
        raise ConfigError(
            f"The answers are one string, {answers!r}",
            "A list or tuple of strings is allowed",
            "Put the answer into a list",
        )
    return answers
