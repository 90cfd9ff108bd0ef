"""The writer: strings facts and filler together, and notes where each fact stands.

Repetition is kept low in two ways: word lists are drawn like packs of cards, and of several candidate
sentences the one is taken that repeats the fewest runs of eight words.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

from training.data.chronicle.grammar import Grammar
from training.data.chronicle.relations import RELATIONS
from training.data.chronicle.seasons import FIELDS, MONTHS, SEASONS, WATER, WEATHER
from training.data.chronicle.town import COLOUR, GOSSIP, TOPICS
from training.data.chronicle.words import WORDS, sentences
from training.data.chronicle.world import CHARS_PER_STATEMENT, Entity, Fact, World

RUN = 8
"""Length of the word runs whose repetition is kept low."""

_CANDIDATES = 5
_ENTRY = 4  # statements in one paragraph at most, or it reads like a list
_REMEMBERED = 300_000

_YEAR_NAMES = sentences("""
    the Year of the <Long|Late|Hard|White> <Frost|Thaw|Rain|Fog>
    the Year of the <Drowned|Silver|Golden|Empty|Borrowed> <Meadow|Harvest|Orchard|Nets>
    the Year of <Two|Many|Few|Broken> <Moons|Candles|Fairs|Quarrels|Ferries>
    the Year of the {beast}
    the <Quiet|Loud|Crooked|Patient|Thirsty|Generous|Restless> Year
    the Year of {ware} and {ware}
    the Year of the {plant}""")

_WHEN = sentences("""
    in {month}
    early in {month}
    late in {month}
    in the first week of {month}
    in the last days of {month}
    on the <second|fourth|ninth|tenth|eleventh|sixteenth|twentieth|twenty-first> of {month}
    that {season}
    in the {season} of {year}
    before the {season} was out
    half-way through the {season}""")

_OPENINGS = sentences("""
    {season} came, and with it {sound}, {food} and the smell of {smell}.
    In {season} the {spot} was {tint} and the {folk} were {mood}.
    Of this {season} the clerk has noted first of all {quarrel}.
    The {season} began with {beast.a} on the {spot}, {aside}.
    With the {season} came {ware}, {bird} and <talk|hope|rumours> of {hope}.
    {season} found the {folk} by the {spot}, {mood} and full of {food}.""")

_PREFACE = sentences("""
    Here is set down what befell in {town}, year by year, as the clerks of the town saw and heard it. Where
        things changed, the later entry holds. What is not written here the clerks did not know.
    This book was kept by the clerks of {town}, one after another, by the same window. They wrote
        what they saw and what they were told. Where an entry is overtaken by another, the later one is right.
    The clerks of {town} have written this chronicle so that it should be known who lived here and what
        they had and did. Let the reader trust the later entry over the earlier one.""")


@dataclass(frozen=True, slots=True)
class Statement:
    """One telling of a fact: the value ``index`` of the fact, at ``span``, characters of the text."""

    fact: Fact
    index: int
    span: tuple[int, int]


class Writer:
    """Writes a world as prose of about ``chars`` characters, within one sentence or so of them."""

    def __init__(self, world: World, rng: random.Random, chars: int) -> None:
        self._world = world
        self._rng = rng
        self._chars = chars
        lists = {
            **WORDS,
            **WEATHER,
            **TOPICS,
            "fields": FIELDS,
            "water": WATER,
            "gossip": GOSSIP,
            "colour": COLOUR,
            "when": _WHEN,
            "openings": _OPENINGS,
            "preface": _PREFACE,
            "year_names": _YEAR_NAMES,
        }
        for relation in RELATIONS:
            lists[f"first {relation.name}"] = relation.first
            lists[f"change {relation.name}"] = relation.change
        self._grammar = Grammar(lists, rng)
        self._parts: list[str] = []
        self._length = 0
        self._runs: set[tuple[str, ...]] = set()
        self._oldest: deque[tuple[str, ...]] = deque()
        self._told: list[Statement] = []
        self._known: list[Entity] = []
        self._year_names: set[str] = set()
        self._bound: dict[str, str] = {}

    def write(self) -> tuple[str, str, list[Statement]]:
        """Return title, text and statements in the order of the text."""
        world = self._world
        title = f"The Chronicle of {world.town}"
        preface = self._grammar.sentence(self._grammar.draw("preface"), {"town": world.town})
        self._put(f"{title}\n\n{preface}\n\n")
        self._known = _people_of(world)
        due = sorted((time, i, j) for i, fact in enumerate(world.facts) for j, time in enumerate(fact.times))
        for season in range(world.seasons):
            if season % 4 == 0:
                self._heading(season // 4)
            now = [(world.facts[i], j) for time, i, j in due if int(time) == season]
            share = (self._chars - self._length) / (world.seasons - season)
            self._season(season, now, share - CHARS_PER_STATEMENT * len(now))
        return title, "".join(self._parts).rstrip() + "\n", self._told

    def _heading(self, year: int) -> None:
        name = self._grammar.expand(self._grammar.draw("year_names"))
        for _ in range(_CANDIDATES):
            if name not in self._year_names:
                break
            name = self._grammar.expand(self._grammar.draw("year_names"))
        self._year_names.add(name)
        small = ("of", "the", "and", "a", "with")
        shown = " ".join(word if word in small else word[:1].upper() + word[1:] for word in name.split())
        number = self._world.first_year + year
        self._put(f"Chapter {year + 1}. The Year {number}, called {shown}\n\n")

    def _season(self, season: int, now: list[tuple[Fact, int]], filler: float) -> None:
        """Write a season: its facts in the order of time among about ``filler`` characters of prose."""
        name = SEASONS[season % 4]
        self._bound = {"season": name, "year": str(self._world.first_year + season // 4)}
        entries = _entries(now)
        paragraphs = max(1, round(filler / 420), len(entries))
        # Spread the entries over the paragraphs: those without one are filler alone.
        places = sorted(self._rng.sample(range(paragraphs), len(entries)))
        topics = [*TOPICS, "fields", "water", name, name]
        self._rng.shuffle(topics)
        for number in range(paragraphs):
            facts = entries[places.index(number)] if number in places else []
            room = filler / (paragraphs - number)
            kinds = ["openings"] if number == 0 and room > 60 else []
            filler -= self._paragraph(kinds, topics[number % len(topics)], facts, room)

    def _paragraph(self, kinds: list[str], topic: str, facts: list[tuple[Fact, int]], room: float) -> int:
        """Write the facts among about ``room`` characters of filler; return the filler's length."""
        filler = [self._fresh(kind) for kind in kinds]
        subject = facts[-1][0].subject if facts else None
        talk = [self._fresh("gossip", subject)] if subject in self._known and self._rng.random() < room / 600 else []
        room -= sum(map(len, talk))
        while room - sum(map(len, filler)) > 55:
            gossip = self._known and self._rng.random() < 0.03
            filler.append(self._fresh("gossip", self._rng.choice(self._known)) if gossip else self._fresh(topic))
        if not filler and not facts:
            return 0
        written = sum(len(text) + 1 for text in (*filler, *talk))
        place = self._rng.randint(0, len(filler))
        for text in filler[:place]:
            self._put(text + " ")
        for fact, index in facts:
            written += self._tell(fact, index)
        for text in (*talk, *filler[place:]):
            self._put(text + " ")
        self._end_paragraph()
        return written

    def _fresh(self, kind: str, person: Entity | None = None) -> str:
        """Return the least repetitive of a few candidate sentences, and remember its runs of words."""
        best, best_runs, fewest = "", list[tuple[str, ...]](), 10**9
        for _ in range(_CANDIDATES):
            bound = dict(self._bound)
            if person:
                bound.update(_pronouns(person), P=person.label)
            text = self._grammar.sentence(self._grammar.draw(kind), bound)
            words = text.lower().split()
            runs = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
            repeated = sum(run in self._runs for run in runs)
            if repeated < fewest:
                best, best_runs, fewest = text, runs, repeated
            if not repeated:
                break
        for run in best_runs:
            if run not in self._runs:
                self._runs.add(run)
                self._oldest.append(run)
        while len(self._oldest) > _REMEMBERED:
            self._runs.discard(self._oldest.popleft())
        return best

    def _tell(self, fact: Fact, index: int) -> int:
        """Write one statement, now and then with a remark after it; return the characters of the remark."""
        subject = fact.subject
        bound = {
            **self._bound,
            **_pronouns(subject),
            "X": subject.label,
            "V": fact.values[index].label,
            "O": fact.values[index - 1].label,
            "D": fact.detail,
            "month": self._rng.choice(MONTHS[self._bound["season"]]),
        }
        kind = "change" if _is_change(fact, index) else "first"
        text = self._grammar.sentence(self._grammar.draw(f"{kind} {fact.relation.name}"), bound)
        self._told.append(Statement(fact, index, (self._length, self._length + len(text))))
        self._put(text + " ")
        if self._rng.random() > 0.2:
            return 0
        remark = self._fresh("colour") + " "
        self._put(remark)
        return len(remark)

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _end_paragraph(self) -> None:
        last = self._parts.pop()
        self._length -= len(last)
        self._put(last.rstrip() + "\n\n")


def _is_change(fact: Fact, index: int) -> bool:
    return index > 0 and not fact.relation.event


def _pronouns(entity: Entity) -> dict[str, str]:
    return dict(zip(("he", "his", "him"), entity.pronouns, strict=True))


def _entries(now: list[tuple[Fact, int]]) -> list[list[tuple[Fact, int]]]:
    """Return the tellings of a season by whom they are about, at most four together, in the order of time.

    What somebody made, keeps or built goes with what else is told of that person, if anything is.
    """
    subjects = {fact.subject.label for fact, _ in now}
    entries: dict[str, list[list[tuple[Fact, int]]]] = {}
    for fact, index in now:
        value = fact.values[index].label
        about = value if fact.relation.head and value in subjects else fact.subject.label
        groups = entries.setdefault(about, [[]])
        if len(groups[-1]) == _ENTRY:
            groups.append([])
        groups[-1].append((fact, index))
    return [group for groups in entries.values() for group in groups]


def _people_of(world: World) -> list[Entity]:
    """Return the people that some fact names, in a fixed order; only they turn up in gossip."""
    named = {fact.subject.label for fact in world.facts}
    named |= {value.label for fact in world.facts for value in fact.values if value.entity}
    return [person for person in world.people if person.label in named]
