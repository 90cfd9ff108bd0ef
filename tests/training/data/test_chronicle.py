"""Chronicles: answers are exact, nothing contradicts them, one seed gives one book everywhere."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest

from memlong.errors import ConfigError
from memlong.evaluation.answers import contains_answer, normalise
from training.data.chronicle import TYPES, Chronicle, make_chronicle
from training.data.chronicle.cli import main
from training.data.questions import Question, load_questions

SENTENCE = re.compile(r'(?:Chapter \d+\.[^\n]*|[^.?!\n]+[.?!]"?)')


@lru_cache
def book(seed: int = 7, tokens: int = 20_000, split: str = "eval") -> Chronicle:
    return make_chronicle(seed, tokens, split)  # type: ignore[arg-type]


def evidence(made: Chronicle, question: Question) -> list[str]:
    return [made.text[start:end] for start, end in question.evidence]


def of_type(made: Chronicle, kind: str) -> list[Question]:
    return [question for question in made.questions if question.type == kind]


BOOKS = [(7, 20_000, "eval"), (11, 6_000, "train"), (3, 1_500, "eval")]


@pytest.mark.parametrize("which", BOOKS)
def test_statements_hold_subject_and_value_where_their_spans_say(which: tuple[int, int, str]) -> None:
    made = book(*which)
    assert made.statements
    for statement in made.statements:
        start, end = statement.span
        text = made.text[start:end]
        assert text[-1] in '."' and text[0].isupper() | (text[0] == '"')
        assert statement.fact.subject.label.lower() in text.lower()
        assert statement.fact.values[statement.index].label in text
    starts = [statement.span[0] for statement in made.statements]
    assert starts == sorted(starts)


@pytest.mark.parametrize("which", BOOKS)
def test_answers_stand_in_their_evidence(which: tuple[int, int, str]) -> None:
    made = book(*which)
    for question in made.questions:
        if question.type in ("single_fact", "changed_fact", "two_hop"):
            assert question.answers[0] in evidence(made, question)[-1], question
        elif question.type == "comparing":
            assert contains_answer(" ".join(evidence(made, question)), question.answers[:1]), question
        elif question.type == "counting":
            assert question.answers[1] == str(len(set(question.evidence))), question
        else:
            assert not question.answerable and not question.answers and not question.evidence


@pytest.mark.parametrize("which", BOOKS)
def test_the_last_telling_of_a_fact_is_the_one_asked_for(which: tuple[int, int, str]) -> None:
    made = book(*which)
    last: dict[int, tuple[int, int]] = {}
    for statement in made.statements:
        last[id(statement.fact)] = statement.span
    decisive = set(last.values())
    for question in made.questions:
        if question.type not in ("counting", "unanswerable"):
            assert set(question.evidence) <= decisive, question
    changed = of_type(made, "changed_fact")
    assert all(len(question.evidence) == 1 for question in changed)


def test_no_sentence_contradicts_a_fact() -> None:
    """Outside its own statements, no sentence names a subject with any value of the same relation."""
    made = book()
    values: dict[str, set[str]] = {}
    for statement in made.statements:
        if statement.fact.relation.value not in ("number", "year"):
            values.setdefault(statement.fact.relation.name, set()).add(statement.fact.values[statement.index].label)
    own = {
        (statement.span[0], statement.fact.subject.label, statement.fact.relation.name) for statement in made.statements
    }
    stated = {statement.span[0]: statement for statement in made.statements}
    relations_of: dict[str, set[str]] = {}
    for fact_subject, relation in {(s.fact.subject.label, s.fact.relation.name) for s in made.statements}:
        relations_of.setdefault(fact_subject, set()).add(relation)
    for match in SENTENCE.finditer(made.text):
        start = match.start() + len(match.group()) - len(match.group().lstrip())
        sentence = match.group().lower()
        for subject, relations in relations_of.items():
            if subject.lower() not in sentence:
                continue
            for relation in relations:
                if (start, subject, relation) in own:
                    continue
                found = [
                    value
                    for value in values.get(relation, ())
                    if contains_answer(sentence, [value]) and value != subject
                ]
                # A sentence that tells something else of two people may name a value of this relation.
                other = stated.get(start)
                told = {other.fact.subject.label, *(v.label for v in other.fact.values)} if other else set()
                assert not set(found) - told, (subject, relation, found, match.group())


def test_filler_holds_no_numbers_and_names_one_person_at_most() -> None:
    made = book()
    people = {s.fact.subject.label for s in made.statements if s.fact.subject.kind == "person"}
    inside = [range(*statement.span) for statement in made.statements]
    covered = {start for span in inside for start in span}
    for match in SENTENCE.finditer(made.text):
        middle = (match.start() + match.end()) // 2
        if middle in covered or "Chapter" in match.group() or "The Year" in match.group():
            continue
        assert sum(person in match.group() for person in people) <= 1, match.group()
        assert not re.search(r"\d", match.group()), match.group()


@pytest.mark.parametrize("which", BOOKS)
def test_unanswerable_facts_are_never_stated(which: tuple[int, int, str]) -> None:
    from training.data.chronicle.relations import RELATIONS

    made = book(*which)
    told = {(s.fact.subject.label, s.fact.relation.name) for s in made.statements}
    told |= {(s.fact.last.label, "spouse") for s in made.statements if s.fact.relation.name == "spouse"}
    subjects = {
        label.lower(): label
        for s in made.statements
        for label in (s.fact.subject.label, *(v.label for v in s.fact.values if v.entity))
    }
    patterns = [
        (
            relation.name,
            re.compile(re.escape(wording).replace(r"\{x\}", "(.+)").replace(r"\{d\}", ".+"), re.I),
        )
        for relation in RELATIONS
        for wording in relation.questions
    ]
    for question in of_type(made, "unanswerable"):
        asked = [
            (name, match.group(1))
            for name, pattern in patterns
            if (match := pattern.fullmatch(question.question))
            if match.group(1).lower() in subjects
        ]
        assert asked, question
        assert all((subjects[subject.lower()], name) not in told for name, subject in asked), question


def test_two_hops_are_chains_whose_middle_is_not_named() -> None:
    made = book()
    chains = of_type(made, "two_hop")
    assert len(chains) >= 10
    for question in chains:
        first, second = evidence(made, question)
        shared = [
            s.fact.subject.label
            for s in made.statements
            if s.fact.subject.kind == "person" and s.fact.subject.label in first and s.fact.subject.label in second
        ]
        shared += [
            v.label
            for s in made.statements
            for v in s.fact.values
            if v.entity and v.label in first and v.label in second
        ]
        assert shared, question
        assert any(label not in question.question for label in shared), question


def test_comparisons_name_the_winner() -> None:
    made = book(7, 80_000)
    by_label = {(s.fact.subject.answers, s.fact.relation.name): s.fact.last.number for s in made.statements}
    questions = of_type(made, "comparing")
    assert questions
    for question in questions:
        sides = [s.fact for span in question.evidence for s in made.statements if s.span == span]
        pick = min if sides[0].relation.name == "built" else max
        winner = pick(sides, key=lambda fact: by_label[fact.subject.answers, fact.relation.name] or 0)
        assert question.answers == winner.subject.answers


@pytest.mark.parametrize("seed", [1, 2])
def test_every_type_is_asked_in_a_long_book_and_most_in_a_short_one(seed: int) -> None:
    assert set(Counter(q.type for q in book(seed, 20_000).questions)) == set(TYPES)
    assert len(Counter(q.type for q in book(seed, 2_000).questions)) >= 4


def test_questions_are_not_ambiguous() -> None:
    made = book(7, 80_000)
    answers: dict[str, set[tuple[str, ...]]] = {}
    for question in made.questions:
        answers.setdefault(question.question, set()).add(question.answers)
    assert all(len(found) == 1 for found in answers.values())
    assert len({question.id for question in made.questions}) == len(made.questions)


def words_of(made: Chronicle) -> set[str]:
    """All invented words: subjects, named values and the town."""
    named = {"street", "village", "person", "beast", "far", "building", "boat", "song", "field"}
    found = set(made.title.split()[-1:])
    for statement in made.statements:
        fact = statement.fact
        name = {"person": slice(None), "object": slice(-1, None), "work": slice(1, 2)}[fact.subject.kind]
        found.update(fact.subject.label.split()[name])
        if fact.relation.value in named:
            label = fact.values[statement.index].label.split()
            found.update(label if fact.values[statement.index].entity else label[:1])
    return found


def test_names_of_training_and_evaluation_are_disjoint() -> None:
    from training.data.chronicle.names import split_of

    train = set().union(*(words_of(book(seed, 20_000, "train")) for seed in range(4)))
    evaluation = set().union(*(words_of(book(seed, 20_000, "eval")) for seed in range(4)))
    assert len(train) > 500 and len(evaluation) > 500
    assert not {word.lower() for word in train} & {word.lower() for word in evaluation}
    assert all(split_of(word) == "train" for word in train)
    assert all(split_of(word) == "eval" for word in evaluation)


def fingerprint(made: Chronicle) -> str:
    return hashlib.sha256((made.text + repr([q.to_dict() for q in made.questions])).encode()).hexdigest()


def test_the_same_seed_gives_the_same_book_in_other_processes() -> None:
    code = (
        "import hashlib; from training.data.chronicle import make_chronicle; m = make_chronicle(7, 6000); "
        "print(hashlib.sha256((m.text + repr([q.to_dict() for q in m.questions])).encode()).hexdigest())"
    )
    root = Path(__file__).resolve().parents[3]
    expected = fingerprint(make_chronicle(7, 6_000))
    for hash_seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert out.stdout.strip() == expected
    assert fingerprint(make_chronicle(8, 6_000)) != expected


@pytest.mark.parametrize("tokens", [200, 500, 2_000, 20_000])
def test_the_length_is_met(tokens: int) -> None:
    length = len(make_chronicle(5, tokens).text)
    goal = tokens * 3.9
    assert abs(length - goal) < max(0.02 * goal, 450)


def test_the_length_is_met_in_counted_tokens() -> None:
    made = make_chronicle(5, 6_000, count_tokens=lambda text: len(text.split()))
    assert abs(len(made.text.split()) - 6_000) < 0.01 * 6_000


def test_prose_seldom_repeats_itself() -> None:
    """Of all runs of eight words, at most 4 in 100 stood in the text before; no sentence returns often."""
    words = book(7, 80_000).text.lower().split()
    runs = Counter(tuple(words[i : i + 8]) for i in range(len(words) - 7))
    assert sum(count - 1 for count in runs.values()) / (len(words) - 7) < 0.04
    sentences = Counter(normalise(match.group()) for match in SENTENCE.finditer(book(7, 80_000).text))
    long = [count for text, count in sentences.items() if len(text.split()) > 6]
    assert sum(count - 1 for count in long) / len(long) < 0.02


def test_no_template_is_left_open() -> None:
    made = book(7, 80_000)
    assert not re.search(r"[{}<>|]", made.text + " ".join(q.question for q in made.questions))
    assert "  " not in made.text and " ," not in made.text and ".." not in made.text


def test_too_short_and_unknown_are_refused() -> None:
    with pytest.raises(ConfigError, match="200 tokens and more"):
        make_chronicle(1, 50)
    with pytest.raises(ConfigError, match="split"):
        make_chronicle(1, 500, "test")  # type: ignore[arg-type]


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, questions = tmp_path / "c.txt", tmp_path / "q.jsonl"
    assert main(["--tokens", "2000", "--seed", "3", "--out", str(text), "--questions", str(questions)]) == 0
    made = make_chronicle(3, 2_000)
    assert text.read_text(encoding="utf-8") == made.text
    assert load_questions(questions) == list(made.questions)
    assert made.title in capsys.readouterr().out
    assert main(["--tokens", "5", "--out", str(text)]) == 2


@pytest.mark.parametrize("place", ["file/x.txt", "file/deep/x.txt", "."])
@pytest.mark.parametrize("option", ["--out", "--questions"])
def test_places_that_cannot_be_written_are_refused(
    option: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.jsonl").mkdir()
    places = {"--out": tmp_path / "a.txt", "--questions": tmp_path / "b.jsonl"}
    places[option] = tmp_path / ("folder.jsonl" if place == "." else place.replace("txt", "jsonl"))
    assert main(["--tokens", "2000", *(str(word) for pair in places.items() for word in pair)]) == 2
    assert "cannot be written" in (said := capsys.readouterr().err) and "Choose another place" in said


def test_command_line_counts_with_a_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    out = tmp_path / "c.txt"
    assert main(["--tokens", "3000", "--tokenizer", str(tmp_path), "--out", str(out)]) == 0
    assert abs(len(out.read_text(encoding="utf-8").split()) - 3000) < 45
    assert main(["--tokenizer", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "tokenizer.json" in capsys.readouterr().err
