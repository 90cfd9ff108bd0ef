"""What every tab is given: settings, the shared engine, and the visitors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.engine import Engine, Loader
from app.sessions import Visit, Visits
from app.settings import Settings


@dataclass(frozen=True)
class App:
    """One running app.

    Attributes:
        settings: as started. engine: model, retriever, turns. visits: one state per open page.
    """

    settings: Settings
    engine: Engine
    visits: Visits

    @classmethod
    def make(cls, settings: Settings, loader: Loader | None = None) -> App:
        """Return an app whose engine has not begun to load."""
        engine = Engine(settings, loader)
        return cls(settings, engine, Visits(settings, engine))

    def visit(self, request: Any) -> Visit:
        """Return the visitor that a request of gradio comes from. Raises MemLongError when there are too many."""
        return self.visits.get(str(request.session_hash or "api"))
