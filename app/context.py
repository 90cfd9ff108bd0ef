"""What every tab is given: settings, the shared engine, and the visitors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.engine import Engine, Loader
from app.sessions import Visit, Visits
from app.settings import Settings
from app.switching import Switch


@dataclass(frozen=True)
class App:
    """One running app.

    Attributes:
        settings: as started. engine: model, retriever, turns. visits: one state per open page.
        switch: loads another model in place.
    """

    settings: Settings
    engine: Engine
    visits: Visits
    switch: Switch

    @classmethod
    def make(cls, settings: Settings, loader: Loader | None = None) -> App:
        """Return an app whose engine has not begun to load."""
        engine = Engine(settings, loader)
        visits = Visits(settings, engine)
        return cls(settings, engine, visits, Switch(engine, visits))

    def visit(self, request: Any) -> Visit:
        """Return the visitor that a request of gradio comes from. Raises MemLongError when there are too many."""
        return self.visits.get(str(request.session_hash or "api"))
