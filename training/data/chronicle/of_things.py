"""What is told of objects and works. Placeholders: see :mod:`training.data.chronicle.relation`."""

from __future__ import annotations

from training.data.chronicle.relation import Relation
from training.data.chronicle.words import sentences

OBJECT: tuple[Relation, ...] = (
    Relation(
        "keeper",
        "object",
        "person",
        0.8,
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
        head=("the keeper of {x}", "the person who keeps {x}"),
    ),
    Relation(
        "place",
        "object",
        "building",
        0.8,
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
            {X} was carried off to the {V} {when}, {aside}."""),
    ),
    Relation(
        "maker",
        "object",
        "person",
        0.6,
        sentences("""
            {X} was the work of {V}.
            It was {V} who had made {X}, {aside}.
            The mark on {X} shows that {V} made it.
            {X} had been made by {V}, who was {mood} about it {span}."""),
        ("Who made {x}?", "Who is the maker of {x}?", "By whom was {x} made?"),
        head=("the maker of {x}", "the person who made {x}"),
    ),
    Relation(
        "weight",
        "object",
        "number",
        0.5,
        sentences("""
            {when} {X} was laid on the scales and weighed {V} pounds.
            {X} weighed {V} pounds, {aside}.
            It took some heaving, for {X} weighed {V} pounds.
            The weight of {X} was put down as {V} pounds."""),
        ("How many pounds does {x} weigh?", "What is the weight of {x} in pounds?"),
        compare=("Which is heavier, {a} or {b}?", "Which weighs more, {a} or {b}?"),
    ),
    Relation(
        "found",
        "object",
        "year",
        0.35,
        sentences("""
            {X} had been dug up in {V}, {aside}.
            Nobody had seen {X} before {V}, when it was found in a ditch.
            {X} was found under a floor in {V}.
            An old paper tells that {X} came to light in {V}."""),
        ("In which year was {x} found?", "When was {x} found?"),
    ),
)

WORK: tuple[Relation, ...] = (
    Relation(
        "steward",
        "work",
        "person",
        0.8,
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
        head=("the steward of {x}",),
    ),
    Relation(
        "size",
        "work",
        "number",
        0.6,
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
            {when} the owners of {X} brought the number of {D} to {V}."""),
    ),
    Relation(
        "builder",
        "work",
        "person",
        0.6,
        sentences("""
            {X} had been built by {V}.
            It was {V} who built {X}, {aside}.
            Over the door of {X} one read that {V} was its builder.
            {V} had put up {X} with borrowed money and {food}."""),
        ("Who built {x}?", "Who was the builder of {x}?", "By whom was {x} built?"),
        head=("the builder of {x}", "the person who built {x}"),
    ),
    Relation(
        "built",
        "work",
        "year",
        0.5,
        sentences("""
            {X} dated from {V}, {aside}.
            {X} had been opened in {V}.
            The stone over the entrance of {X} bears the year {V}.
            As far back as {V}, the first guests of {X} were let in."""),
        ("In which year was {x} opened?", "From which year does {x} date?"),
        compare=("Which is older, {a} or {b}?", "Which was opened first, {a} or {b}?"),
    ),
)

WORK_EVENTS: tuple[Relation, ...] = (
    Relation(
        "fires",
        "work",
        "cause",
        0.16,
        sentences("""
            {when} a fire broke out at {X}; it was put down to {V}.
            {when} {X} caught fire because of {V}.
            There was a fire at {X} {when}, and {V} was the cause."""),
        ("How many fires were there at {x}?", "How many times did {x} catch fire?"),
        event=True,
    ),
)
