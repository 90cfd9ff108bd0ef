"""Long documents with planted facts: chronicles of invented places, with exact questions and answers."""

from training.data.chronicle.ask import TYPES
from training.data.chronicle.build import Chronicle, make_chronicle

__all__ = ["TYPES", "Chronicle", "make_chronicle"]
