"""What is told of people. Placeholders: see :mod:`training.data.chronicle.relation`."""

from __future__ import annotations

from training.data.chronicle.relation import Relation
from training.data.chronicle.words import sentences

PERSON: tuple[Relation, ...] = (
    Relation(
        "home",
        "person",
        "street",
        0.6,
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
            {when} {X} sold what {he} had in {O} and took a house in {V}, {aside}."""),
    ),
    Relation(
        "trade",
        "person",
        "trade",
        0.6,
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
            Having had enough of being {O.a}, {X} turned {V} {when}."""),
    ),
    Relation(
        "birthplace",
        "person",
        "village",
        0.4,
        sentences("""
            {X} had been born in {V}, and never lost the accent.
            It came out that {X} was a native of {V}, {aside}.
            The parish book of {V} shows the birth of {X}.
            {X} came into the world at {V}, in a house that smelt of {smell}.
            Those who asked were told that {X} had been born at {V}."""),
        ("In which village was {x} born?", "Where was {x} born?", "What is the birthplace of {x}?"),
    ),
    Relation(
        "teacher",
        "person",
        "person",
        0.3,
        sentences("""
            {X} had learned {his} craft from {V}.
            As a child {X} was bound apprentice to {V}.
            All that {X} knew {he} had been taught by {V}, {aside}.
            It was {V} who had taught {X}, with patience and {food}.
            {X} never forgot {his} seven years under {V}."""),
        ("Who taught {x}?", "From whom did {x} learn the craft?", "Who was the teacher of {x}?"),
        head=("the person who taught {x}", "the teacher of {x}"),
    ),
    Relation(
        "spouse",
        "person",
        "person",
        0.14,
        sentences("""
            {when} {X} was married to {V}, {aside}.
            {when} {X} and {V} were wed, and there was {food}.
            The banns were read for {X} and {V}, and {when} they married.
            {when} the parson joined {X} and {V} in marriage to the sound of {sound}."""),
        ("To whom is {x} married?", "Who is {x} married to?", "Whom did {x} marry?"),
        head=("the person married to {x}", "the person whom {x} married"),
    ),
    Relation(
        "animal",
        "person",
        "beast",
        0.3,
        sentences("""
            {X} kept {D.a} that answered to the name of {V}.
            {when} {X} was given {D.a} and called it {V}.
            The {D} belonging to {X} was called {V}, {aside}.
            {when} {X} came back with {D.a}, which was christened {V}."""),
        ("What is the name of the animal kept by {x}?", "What is the animal of {x} called?"),
    ),
    Relation(
        "journey",
        "person",
        "far",
        0.35,
        sentences("""
            {when} {X} took ship for {V}, {aside}.
            {X} made the long journey to {V}, and came back {when} with {ware}.
            {when} {X} returned from {V}, thinner and full of stories.
            {X} had seen {V}, which few in these parts had, and spoke of it {span}.
            {when} {X} set out for {V} with {ware} and one trunk."""),
        ("To which distant city did {x} travel?", "Which far city did {x} visit?"),
    ),
    Relation(
        "dish",
        "person",
        "dish",
        0.3,
        sentences("""
            Of all dishes {X} loved {V} best.
            {when} {X} confessed that there was nothing {he} liked so well as {V}.
            On {his} name day {X} asked, as always, for {V}, the dish {he} liked most.
            No meal pleased {X} as {V} did, {aside}."""),
        ("What is the favourite dish of {x}?", "Which dish does {x} like best?"),
    ),
    Relation(
        "fear",
        "person",
        "fear",
        0.25,
        sentences("""
            {X} feared nothing in the world but {V}.
            It was an open secret that {X} was afraid of {V}.
            {when} {X} was found pale and shaking, for {he} had a horror of {V}.
            {X} could not bear {V}, and {span} the street was kind about it."""),
        ("What is {x} afraid of?", "What does {x} fear?"),
    ),
    Relation(
        "debt",
        "person",
        "number",
        0.3,
        sentences("""
            {when} the books showed that {X} owed {V} crowns to the guild chest.
            {X} owed the guild chest {V} crowns, {aside}.
            To the guild chest {X} was in debt for {V} crowns.
            {when} {X} signed for a debt of {V} crowns to the guild chest."""),
        ("How many crowns does {x} owe to the guild chest?", "How many crowns does {x} owe the guild chest?"),
        compare=("Who owes more to the guild chest, {a} or {b}?",),
    ),
)

PERSON_EVENTS: tuple[Relation, ...] = (
    Relation(
        "boats",
        "person",
        "boat",
        0.06,
        sentences("""
            {when} {X} launched a boat, the {V}.
            {when} a boat named the {V} was launched by {X}, {aside}.
            {X} let a new boat, the {V}, into the water {when}."""),
        ("How many boats did {x} launch?",),
        event=True,
    ),
    Relation(
        "songs",
        "person",
        "song",
        0.06,
        sentences("""
            {when} {X} finished a song called "{V}".
            {when} "{V}", a song by {X}, was sung for the first time, {aside}.
            {X} wrote a song {when} and named it "{V}"."""),
        ("How many songs did {x} write?",),
        event=True,
    ),
    Relation(
        "prizes",
        "person",
        "produce",
        0.06,
        sentences("""
            {when} {X} won a prize at the fair for {his} {V}.
            {when} the {V} of {X} took a prize at the fair.
            A prize at the fair went to {X} for {V} {when}."""),
        ("How many prizes did {x} win at the fair?",),
        event=True,
    ),
    Relation(
        "wells",
        "person",
        "field",
        0.05,
        sentences("""
            {when} {X} sank a well at {V}.
            {when} the well that {X} dug at {V} gave its first water.
            {X} dug a well at {V} {when}, {aside}."""),
        ("How many wells did {x} dig?",),
        event=True,
    ),
)
