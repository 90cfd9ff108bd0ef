"""All relations a chronicle can tell."""

from __future__ import annotations

from training.data.chronicle.of_people import PERSON, PERSON_EVENTS
from training.data.chronicle.of_things import OBJECT, WORK, WORK_EVENTS
from training.data.chronicle.relation import Relation

EVENTS: tuple[Relation, ...] = (*PERSON_EVENTS, *WORK_EVENTS)
RELATIONS: tuple[Relation, ...] = (*PERSON, *OBJECT, *WORK, *EVENTS)
BY_NAME: dict[str, Relation] = {relation.name: relation for relation in RELATIONS}
