"""Questions on a chronicle: exact answers, and as evidence the statements that decide them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from training.data.chronicle.grammar import number_words
from training.data.chronicle.prose import Statement
from training.data.chronicle.relation import Relation
from training.data.chronicle.relations import RELATIONS
from training.data.chronicle.world import Entity, Fact, Value, World
from training.data.questions import Question

TYPES: tuple[str, ...] = ("single_fact", "changed_fact", "two_hop", "counting", "comparing", "unanswerable")

Span = tuple[int, int]


class Bridge(NamedTuple):
    """A question that takes two facts.

    Attributes:
        text: the question. person: characters of the words that stand for somebody it does not name.
        value: the answer. first, second: the fact that names the person, and the one that is asked for.
    """

    text: str
    person: Span
    value: Value
    first: Fact
    second: Fact


class Asker:
    """Asks what can be asked of a world, each fact in one of its wordings."""

    def __init__(self, world: World, told: list[Statement], rng: random.Random, doc_id: str) -> None:
        self._world = world
        self._rng = rng
        self._doc_id = doc_id
        self._spans = {(id(statement.fact), statement.index): statement.span for statement in told}
        self._of: dict[tuple[str, str], Fact] = {}
        for fact in world.facts:
            self._of[fact.subject.label, fact.relation.name] = fact
            if fact.relation.name == "spouse" and fact.last.entity:
                # Told once, true of both.
                self._of[fact.last.label, "spouse"] = fact

    def ask(self) -> tuple[Question, ...]:
        """Return all questions in a shuffled but fixed order; ids count up in that order."""
        made = [*self._facts(), *self._two_hops(), *self._counts(), *self._comparisons()]
        made += self._unanswerable(limit=max(1, len(made) // 4))
        self._rng.shuffle(made)
        return tuple(
            Question(f"{self._doc_id}-{number}", self._doc_id, text, answers, None, bool(answers), kind, evidence)
            for number, (kind, text, answers, evidence) in enumerate(made, start=1)
        )

    def _facts(self) -> Iterator[tuple[str, str, tuple[str, ...], tuple[Span, ...]]]:
        for (subject, _), fact in self._of.items():
            if not fact.relation.event:
                kind = "single_fact" if fact.steady else "changed_fact"
                value = self._value_for(subject, fact)
                yield (
                    kind,
                    self._word(fact.relation, subject, fact.detail),
                    value.answers,
                    (self._last(fact),),
                )

    def bridges(self) -> Iterator[Bridge]:
        """Ask for a fact of a person who is named only by another fact; both never changed."""
        for (subject, _), first in self._of.items():
            if not first.relation.head or not first.steady:
                continue
            person = self._value_for(subject, first)
            seconds = (
                [
                    fact
                    for (label, name), fact in self._of.items()
                    if label == person.label and fact.steady and name != first.relation.name
                ]
                if person.entity
                else []
            )
            if seconds:
                second = self._rng.choice(seconds)
                value = self._value_for(person.label, second)
                if value.label == subject:
                    continue
                head = self._rng.choice(first.relation.head).replace("{x}", subject)
                text = self._word(second.relation, head, second.detail)
                start = text.lower().index(head.lower())
                yield Bridge(text, (start, start + len(head)), value, first, second)

    def _two_hops(self) -> Iterator[tuple[str, str, tuple[str, ...], tuple[Span, ...]]]:
        for bridge in self.bridges():
            evidence = self._last(bridge.first), self._last(bridge.second)
            yield "two_hop", bridge.text, bridge.value.answers, evidence

    def _counts(self) -> Iterator[tuple[str, str, tuple[str, ...], tuple[Span, ...]]]:
        for fact in self._world.facts:
            if fact.relation.event:
                count = len(fact.values)
                spans = tuple(self._spans[id(fact), index] for index in range(count))
                text = self._word(fact.relation, fact.subject.label, fact.detail)
                yield "counting", text, (number_words(count), str(count)), spans

    def _comparisons(self) -> Iterator[tuple[str, str, tuple[str, ...], tuple[Span, ...]]]:
        for relation in RELATIONS:
            if not relation.compare:
                continue
            facts = [fact for fact in self._world.facts if fact.relation is relation and fact.steady]
            self._rng.shuffle(facts)
            for a, b in zip(facts[::2], facts[1::2], strict=False):
                x, y = a.last.number, b.last.number
                if x is None or y is None or x == y:
                    continue
                # The earlier year makes the older one.
                winner = a if (x > y) != (relation.value == "year") else b
                text = self._rng.choice(relation.compare).format(a=a.subject.label, b=b.subject.label)
                yield "comparing", text, winner.subject.answers, (self._last(a), self._last(b))

    def _unanswerable(self, limit: int) -> list[tuple[str, str, tuple[str, ...], tuple[Span, ...]]]:
        """Ask for facts that are told of others but not of this subject, which the text does mention."""
        named = {label for label, _ in self._of} | {
            value.label for fact in self._world.facts for value in fact.values if value.entity
        }
        told = {fact.relation.name for fact in self._world.facts}
        subjects = [s for s in (*self._world.people, *self._world.objects, *self._world.works) if s.label in named]
        gaps = [
            (subject, relation)
            for subject in subjects
            for relation in RELATIONS
            if relation.subject == subject.kind
            and relation.name in told
            and not relation.event
            and (subject.label, relation.name) not in self._of
        ]
        self._rng.shuffle(gaps)
        return [
            ("unanswerable", self._word(relation, subject.label, subject.detail), (), ())
            for subject, relation in islice(gaps, limit)
        ]

    def _word(self, relation: Relation, subject: str, detail: str) -> str:
        text = self._rng.choice(relation.questions).replace("{x}", subject).replace("{d}", detail)
        return text[:1].upper() + text[1:]

    def _value_for(self, subject: str, fact: Fact) -> Value:
        """Return the value of the fact as seen from the subject: of a marriage, the other one."""
        if fact.relation.name == "spouse" and subject == fact.last.label:
            other: Entity = fact.subject
            return Value(other.label, other.answers, other)
        return fact.last

    def _last(self, fact: Fact) -> Span:
        return self._spans[id(fact), len(fact.values) - 1]
