"""What can be told of people, objects and works, how it is worded, and how it is asked.

In statements ``{X}`` is the subject, ``{V}`` the value, ``{O}`` the value before, ``{D}`` a detail of the fact and
``{when}`` a phrase of time; in questions ``{x}`` is the subject, or a phrase for it ("the maker of the bell Orlath").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.data.chronicle.words import sentences

Kind = Literal["person", "object", "work"]


@dataclass(frozen=True, slots=True)
class Relation:
    """One thing that can be told of a kind of subject.

    ``value``: where values come from: a kind of name, "person", "number", "year", or a list of ``VALUES``.
    ``share``: how many of the subjects it is told of. ``change``: wordings for a later value; empty when it never
    changes.
    ``head``: wordings for the value, a person, by way of the subject; they begin two-hop questions.
    ``compare``: wordings of a question which of ``{a}`` and ``{b}`` has more of it; for years, which was first.
    ``event``: each statement is one more event, to be counted; the value names the event.
    """

    name: str
    subject: Kind
    value: str
    share: float
    first: tuple[str, ...]
    questions: tuple[str, ...]
    change: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    compare: tuple[str, ...] = ()
    event: bool = False


PERSON: tuple[Relation, ...] = (
    Relation(
        "home", "person", "street", 0.6,
        sentences("""
            {when} {X} took <rooms|a narrow house|two rooms and a loft> in {V}.
            It was in {V} that {X} made {his} home, {aside}.
            {when} the key of a house in {V} was handed to {X}.
            Anyone who wanted {X} in those days had to knock at a door in {V}.
            {X} lived in {V}, up <three|four|two> flights of stairs that smelt of {smell}.
            Letters for {X} were to be left in {V}, where {he} had {his} lodging."""),
        ("In which street does {x} live?", "Where does {x} live?", "In which street is the home of {x}?"),
        sentences("""
            {when} {X} gave up the rooms in {O} and moved to {V}.
            {X} moved house: {his} bed and {thing.a} went by barrow to {V}, {when}.
            {when} {X} left {O} for good and settled in {V}.
            Tired of {quarrel}, {X} went to live in {V} {when}.
            {when} {X} sold what {he} had in {O} and took a house in {V}, {aside}.""")),
    Relation(
        "trade", "person", "trade", 0.6,
        sentences("""
            {X} earned {his} bread as {V.a}.
            {when} {X} was entered in the rolls as {V.a}.
            The town had need of {V.a}, and {X} was one.
            {X} worked as {V.a}, {aside}.
            {when} {X} hung out the sign of {V.a}.
            By trade {X} was {V.a}, and few had cause to complain."""),
        ("What is the trade of {x}?", "What does {x} do for a living?", "Which trade does {x} follow?"),
        sentences("""
            {when} {X} gave up {his} old trade and became {V.a}.
            {X} was {O.a} no longer: {when} {he} set up as {V.a}.
            {when} {X} put {his} tools away and began to work as {V.a}, {aside}.
            Having had enough of being {O.a}, {X} turned {V} {when}.""")),
    Relation(
        "birthplace", "person", "village", 0.4,
        sentences("""
            {X} had been born in {V}, and never lost the accent.
            It came out that {X} was a native of {V}, {aside}.
            The parish book of {V} shows the birth of {X}.
            {X} came into the world at {V}, in a house that smelt of {smell}.
            Those who asked were told that {X} had been born at {V}."""),
        ("In which village was {x} born?", "Where was {x} born?", "What is the birthplace of {x}?")),
    Relation(
        "teacher", "person", "person", 0.3,
        sentences("""
            {X} had learned {his} craft from {V}.
            As a child {X} was bound apprentice to {V}.
            All that {X} knew {he} had been taught by {V}, {aside}.
            It was {V} who had taught {X}, with patience and {food}.
            {X} never forgot {his} seven years under {V}."""),
        ("Who taught {x}?", "From whom did {x} learn the craft?", "Who was the teacher of {x}?"),
        head=("the person who taught {x}", "the teacher of {x}")),
    Relation(
        "spouse", "person", "person", 0.14,
        sentences("""
            {when} {X} was married to {V}, {aside}.
            {when} {X} and {V} were wed, and there was {food}.
            The banns were read for {X} and {V}, and {when} they married.
            {when} the parson joined {X} and {V} in marriage to the sound of {sound}."""),
        ("To whom is {x} married?", "Who is {x} married to?", "Whom did {x} marry?"),
        head=("the person married to {x}", "the person whom {x} married")),
    Relation(
        "animal", "person", "beast", 0.3,
        sentences("""
            {X} kept {D.a} that answered to the name of {V}.
            {when} {X} was given {D.a} and called it {V}.
            The {D} belonging to {X} was called {V}, {aside}.
            {when} {X} came back with {D.a}, which was christened {V}."""),
        ("What is the name of the animal kept by {x}?", "What is the animal of {x} called?")),
    Relation(
        "journey", "person", "far", 0.35,
        sentences("""
            {when} {X} took ship for {V}, {aside}.
            {X} made the long journey to {V}, and came back {when} with {ware}.
            {when} {X} returned from {V}, thinner and full of stories.
            {X} had seen {V}, which few in these parts had, and spoke of it {span}.
            {when} {X} set out for {V} with {ware} and one trunk."""),
        ("To which distant city did {x} travel?", "Which far city did {x} visit?")),
    Relation(
        "dish", "person", "dish", 0.3,
        sentences("""
            Of all dishes {X} loved {V} best.
            {when} {X} confessed that there was nothing {he} liked so well as {V}.
            On {his} name day {X} asked, as always, for {V}, the dish {he} liked most.
            No meal pleased {X} as {V} did, {aside}."""),
        ("What is the favourite dish of {x}?", "Which dish does {x} like best?")),
    Relation(
        "fear", "person", "fear", 0.25,
        sentences("""
            {X} feared nothing in the world but {V}.
            It was an open secret that {X} was afraid of {V}.
            {when} {X} was found pale and shaking, for {he} had a horror of {V}.
            {X} could not bear {V}, and {span} the street was kind about it."""),
        ("What is {x} afraid of?", "What does {x} fear?")),
    Relation(
        "debt", "person", "number", 0.3,
        sentences("""
            {when} the books showed that {X} owed {V} crowns to the guild chest.
            {X} owed the guild chest {V} crowns, {aside}.
            To the guild chest {X} was in debt for {V} crowns.
            {when} {X} signed for a debt of {V} crowns to the guild chest."""),
        ("How many crowns does {x} owe to the guild chest?", "How many crowns does {x} owe the guild chest?"),
        compare=("Who owes more to the guild chest, {a} or {b}?",)),
)

OBJECT: tuple[Relation, ...] = (
    Relation(
        "keeper", "object", "person", 0.8,
        sentences("""
            {when} {X} was given into the care of {V}.
            The keeper of {X} was {V}, {aside}.
            {when} the council named {V} keeper of {X}.
            {X} was in the keeping of {V}, who polished it {span}.
            It fell to {V} to be the keeper of {X}."""),
        ("Who is the keeper of {x}?", "In whose keeping is {x}?", "Who keeps {x}?"),
        sentences("""
            {when} {O} gave {X} up, and the new keeper was {V}.
            {when} {X} passed from {O} into the keeping of {V}.
            The council took {X} from its old keeper and {when} entrusted it to {V}.
            {when} {V} became the keeper of {X}, {aside}."""),
        head=("the keeper of {x}", "the person who keeps {x}")),
    Relation(
        "place", "object", "building", 0.8,
        sentences("""
            {X} stood in the {V}, {aside}.
            {when} {X} was set up in the {V}.
            Visitors were shown {X}, which had its place in the {V}.
            {when} {X} was carried into the {V} to the sound of {sound}.
            In the {V}, under a cloth, was {X}."""),
        ("Where is {x}?", "In which building is {x}?", "Where does {x} have its place?"),
        sentences("""
            {when} {X} was moved from the {O} to the {V}.
            Because of the damp, {X} was taken to the {V} {when}.
            {when} {X} left the {O} on a sledge and found a new place in the {V}.
            {X} was carried off to the {V} {when}, {aside}.""")),
    Relation(
        "maker", "object", "person", 0.6,
        sentences("""
            {X} was the work of {V}.
            It was {V} who had made {X}, {aside}.
            The mark on {X} shows that {V} made it.
            {X} had been made by {V}, who was {mood} about it {span}."""),
        ("Who made {x}?", "Who is the maker of {x}?", "By whom was {x} made?"),
        head=("the maker of {x}", "the person who made {x}")),
    Relation(
        "weight", "object", "number", 0.5,
        sentences("""
            {when} {X} was laid on the scales and weighed {V} pounds.
            {X} weighed {V} pounds, {aside}.
            It took some heaving, for {X} weighed {V} pounds.
            The weight of {X} was put down as {V} pounds."""),
        ("How many pounds does {x} weigh?", "What is the weight of {x} in pounds?"),
        compare=("Which is heavier, {a} or {b}?", "Which weighs more, {a} or {b}?")),
    Relation(
        "found", "object", "year", 0.35,
        sentences("""
            {X} had been dug up in {V}, {aside}.
            Nobody had seen {X} before {V}, when it was found in a ditch.
            {X} was found under a floor in {V}.
            An old paper tells that {X} came to light in {V}."""),
        ("In which year was {x} found?", "When was {x} found?")),
)

WORK: tuple[Relation, ...] = (
    Relation(
        "steward", "work", "person", 0.8,
        sentences("""
            {when} {V} was made steward of {X}.
            The steward of {X} was {V}, {aside}.
            {X} had {V} for its steward.
            {when} the owners chose {V} as steward of {X}."""),
        ("Who is the steward of {x}?", "Who is steward at {x}?"),
        sentences("""
            {when} {O} was dismissed, and {V} became steward of {X}.
            {when} {V} followed {O} as steward of {X}.
            {X} changed hands: the new steward, {when}, was {V}.
            {when} the owners of {X} named {V} steward, {aside}."""),
        head=("the steward of {x}",)),
    Relation(
        "size", "work", "number", 0.6,
        sentences("""
            {X} had {V} {D}, {aside}.
            {when} a visitor counted {V} {D} at {X}.
            There were {V} {D} at {X}, not one of them idle.
            {when} {X} was said to have {V} {D}."""),
        ("How many {d} does {x} have?", "How many {d} are there at {x}?"),
        sentences("""
            {when} {X} was altered, and had {V} {D} from then on.
            After the works that were done {when}, {X} had {V} {D}.
            {X} had {O} {D} before, but {when} there were {V}.
            {when} the owners of {X} brought the number of {D} to {V}.""")),
    Relation(
        "builder", "work", "person", 0.6,
        sentences("""
            {X} had been built by {V}.
            It was {V} who built {X}, {aside}.
            Over the door of {X} one read that {V} was its builder.
            {V} had put up {X} with borrowed money and {food}."""),
        ("Who built {x}?", "Who was the builder of {x}?", "By whom was {x} built?"),
        head=("the builder of {x}", "the person who built {x}")),
    Relation(
        "built", "work", "year", 0.5,
        sentences("""
            {X} dated from {V}, {aside}.
            {X} had been opened in {V}.
            The stone over the entrance of {X} bears the year {V}.
            As far back as {V}, the first guests of {X} were let in."""),
        ("In which year was {x} opened?", "From which year does {x} date?"),
        compare=("Which is older, {a} or {b}?", "Which was opened first, {a} or {b}?")),
)

EVENTS: tuple[Relation, ...] = (
    Relation(
        "boats", "person", "boat", 0.06,
        sentences("""
            {when} {X} launched a boat, the {V}.
            {when} a boat named the {V} was launched by {X}, {aside}.
            {X} let a new boat, the {V}, into the water {when}."""),
        ("How many boats did {x} launch?",), event=True),
    Relation(
        "songs", "person", "song", 0.06,
        sentences("""
            {when} {X} finished a song called "{V}".
            {when} "{V}", a song by {X}, was sung for the first time, {aside}.
            {X} wrote a song {when} and named it "{V}"."""),
        ("How many songs did {x} write?",), event=True),
    Relation(
        "prizes", "person", "produce", 0.06,
        sentences("""
            {when} {X} won a prize at the fair for {his} {V}.
            {when} the {V} of {X} took a prize at the fair.
            A prize at the fair went to {X} for {V} {when}."""),
        ("How many prizes did {x} win at the fair?",), event=True),
    Relation(
        "wells", "person", "field", 0.05,
        sentences("""
            {when} {X} sank a well at {V}.
            {when} the well that {X} dug at {V} gave its first water.
            {X} dug a well at {V} {when}, {aside}."""),
        ("How many wells did {x} dig?",), event=True),
    Relation(
        "fires", "work", "cause", 0.16,
        sentences("""
            {when} a fire broke out at {X}; it was put down to {V}.
            {when} {X} caught fire because of {V}.
            There was a fire at {X} {when}, and {V} was the cause."""),
        ("How many fires were there at {x}?", "How many times did {x} catch fire?"), event=True),
)

RELATIONS: tuple[Relation, ...] = (*PERSON, *OBJECT, *WORK, *EVENTS)
BY_NAME: dict[str, Relation] = {relation.name: relation for relation in RELATIONS}
