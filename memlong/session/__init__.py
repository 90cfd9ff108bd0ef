"""One reader's session: documents, bank and trace."""

from memlong.session.results import (
    Answer,
    AnswerDelta,
    DocumentState,
    Evidence,
    ReadEstimate,
    ReadProgress,
    ReadReport,
)
from memlong.session.session import Session

__all__ = [
    "Answer",
    "AnswerDelta",
    "DocumentState",
    "Evidence",
    "ReadEstimate",
    "ReadProgress",
    "ReadReport",
    "Session",
]
