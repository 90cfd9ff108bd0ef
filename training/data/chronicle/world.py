"""The invented world: people, objects, works, and the facts told of them, with the time of every telling."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from training.data.chronicle.grammar import number_words
from training.data.chronicle.names import NameMaker
from training.data.chronicle.of_people import PERSON
from training.data.chronicle.of_things import OBJECT, WORK
from training.data.chronicle.relation import Relation
from training.data.chronicle.relations import BY_NAME, EVENTS
from training.data.chronicle.values import BUILDING_KINDS, OBJECT_KINDS, STREET_KINDS, VALUES, WORK_KINDS

CHARS_PER_STATEMENT = 105
"""Mean length of a statement in characters, measured; decides how many facts fit."""

_CHANGES = (0.35, 0.12)
"""Share of changeable facts that change once more, and of those that change again."""


_TOGETHER = 0.7
"""Share of facts told in the season in which their subject comes up; the others are told at any time."""


_BESIDE = 0.8
"""Share of makers, keepers, teachers ... that are named in the season in which they come up themselves."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A person, object or work. ``label``: how the text calls it; ``answers``: how an answer may call it."""

    kind: str
    label: str
    answers: tuple[str, ...]
    pronouns: tuple[str, str, str] = ("it", "its", "it")
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a fact: its ``label`` in the text, acceptable ``answers``, the entity or number it is."""

    label: str
    answers: tuple[str, ...]
    entity: Entity | None = None
    number: int | None = None


@dataclass(slots=True)
class Fact:
    """Everything told of one relation of one subject: values in the order of time, the last one counting.

    ``times`` are in seasons since the beginning. Of an event relation all values hold, one per event.
    """

    subject: Entity
    relation: Relation
    values: list[Value]
    times: list[float]
    detail: str = ""

    @property
    def last(self) -> Value:
        """The value that holds at the end."""
        return self.values[-1]

    @property
    def steady(self) -> bool:
        """Whether it was told once and never changed."""
        return len(self.values) == 1 and not self.relation.event


@dataclass(slots=True)
class World:
    """``seasons``: length in seasons. ``facts``: what is told; what is not in there is told nowhere."""

    town: str
    first_year: int
    seasons: int
    people: list[Entity] = field(default_factory=list)
    objects: list[Entity] = field(default_factory=list)
    works: list[Entity] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)


class WorldMaker:
    """Makes a world for a text of ``chars`` characters from one generator."""

    def __init__(self, rng: random.Random, split: str, chars: int) -> None:
        self._rng = rng
        self._names = NameMaker(rng, split)
        self._chars = chars
        years = max(1, round(chars / 12_000))
        self.world = World(self._names.word("town"), rng.randrange(1190, 1790), 4 * years)
        self._seasons: dict[str, int] = {}
        self._values: dict[str, Callable[[Relation], Value]] = {
            "street": lambda _: self._named("street", STREET_KINDS),
            "building": lambda _: self._named("building", BUILDING_KINDS),
            "person": lambda _: self._person_value(),
            "number": lambda relation: self._number(relation),
            "year": lambda _: _plain(str(self.world.first_year - rng.randrange(2, 180))),
        }

    def make(self) -> World:
        """Return the world: subjects first, then facts, then as many of them as the text can hold."""
        world, chars = self.world, self._chars
        world.people = [self._person() for _ in range(max(3, chars // 3000))]
        world.objects = [self._object() for _ in range(max(2, chars // 7000))]
        world.works = [self._work() for _ in range(max(2, chars // 9000))]
        facts: list[Fact] = []
        for subjects, relations in ((world.people, PERSON), (world.objects, OBJECT), (world.works, WORK)):
            for subject in subjects:
                facts += [
                    self._fact(subject, relation)
                    for relation in relations
                    if relation.name != "spouse" and self._rng.random() < relation.share
                ]
        facts += self._marriages()
        for relation in EVENTS:
            for subject in world.people if relation.subject == "person" else world.works:
                if self._rng.random() < relation.share:
                    facts.append(self._events(subject, relation))
        world.facts = self._fitting(facts)
        return world

    def _person(self) -> Entity:
        woman = self._rng.random() < 0.5
        first, last = self._names.word("woman" if woman else "man"), self._names.word("surname")
        pronouns = ("she", "her", "her") if woman else ("he", "his", "him")
        return Entity("person", f"{first} {last}", (f"{first} {last}", first), pronouns)

    def _object(self) -> Entity:
        name = self._names.word("object")
        label = f"the {self._rng.choice(OBJECT_KINDS)} {name}"
        return Entity("object", label, (label, name))

    def _work(self) -> Entity:
        kind = self._rng.choice(list(WORK_KINDS))
        name = self._names.word("work")
        return Entity("work", f"the {name} {kind}", (f"the {name} {kind}", name), detail=WORK_KINDS[kind])

    def _fact(self, subject: Entity, relation: Relation) -> Fact:
        count = 1
        if relation.change:
            draw = self._rng.random()
            count += (draw < _CHANGES[0]) + (draw < _CHANGES[1])
        values: list[Value] = []
        while len(values) < count:
            value = self._value(relation)
            if value.entity != subject and all(value.label != other.label for other in values):
                values.append(value)
        detail = self._rng.choice(VALUES["creature"]) if relation.name == "animal" else subject.detail
        # Whoever made, keeps or taught is told of beside it, more often than not.
        beside = values[0].entity if relation.head and self._rng.random() < _BESIDE else None
        return Fact(subject, relation, values, self._times(count, beside or subject), detail)

    def _events(self, subject: Entity, relation: Relation) -> Fact:
        count = self._rng.randint(2, 5)
        values = [self._value(relation) for _ in range(count)]
        while len({value.label for value in values}) < count:
            values = [self._value(relation) for _ in range(count)]
        return Fact(subject, relation, values, self._times(count))

    def _marriages(self) -> list[Fact]:
        relation = BY_NAME["spouse"]
        people = list(self.world.people)
        self._rng.shuffle(people)
        couples = max(1, int(len(people) * relation.share))
        return [
            Fact(people[2 * i], relation, [_of(people[2 * i + 1])], self._times(1, people[2 * i]))
            for i in range(couples)
        ]

    def _times(self, count: int, subject: Entity | None = None) -> list[float]:
        """Return times in order. Much of what is told of a subject is told when it first comes up, as people do."""
        times = sorted(self._rng.random() * self.world.seasons for _ in range(count))
        if subject is None:
            return times
        season = self._seasons.setdefault(subject.label, self._rng.randrange(self.world.seasons))
        if self._rng.random() < _TOGETHER:
            times[0] = season + self._rng.random()
            times[1:] = sorted(times[0] + self._rng.random() * (self.world.seasons - times[0]) for _ in times[1:])
        return times

    def _value(self, relation: Relation) -> Value:
        if maker := self._values.get(relation.value):
            return maker(relation)
        if relation.value in VALUES:
            return _plain(self._rng.choice(VALUES[relation.value]))
        return _plain(self._names.word(relation.value))

    def _named(self, kind: str, suffixes: tuple[str, ...]) -> Value:
        return _plain(f"{self._names.word(kind)} {self._rng.choice(suffixes)}")

    def _person_value(self) -> Value:
        return _of(self._rng.choice(self.world.people))

    def _number(self, relation: Relation) -> Value:
        number = self._rng.randint(*{"weight": (11, 980), "debt": (7, 640)}.get(relation.name, (3, 96)))
        words = number_words(number)
        return Value(words, (words, str(number)), number=number)

    def _fitting(self, facts: list[Fact]) -> list[Fact]:
        """Return as many facts as fill half of the text, taken in turn from each relation."""
        self._rng.shuffle(facts)
        rank: dict[str, int] = {}
        order: list[tuple[int, int]] = []
        for position, fact in enumerate(facts):
            rank[fact.relation.name] = rank.get(fact.relation.name, 0) + 1
            order.append((rank[fact.relation.name], position))
        room = self._chars // (2 * CHARS_PER_STATEMENT)
        kept: list[Fact] = []
        for _, position in sorted(order):
            if len(facts[position].values) <= room:
                kept.append(facts[position])
                room -= len(facts[position].values)
        return kept


def _plain(label: str) -> Value:
    return Value(label, (label,), number=int(label) if label.isdigit() else None)


def _of(entity: Entity) -> Value:
    return Value(entity.label, entity.answers, entity)
