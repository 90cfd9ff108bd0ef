"""Which parts of chunks are read beside a question, and which of them count as evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memlong.errors import ConfigError
from memlong.retriever.parts import cut_parts, token_spans
from tests.training.test_loop import documents
from training.data import sources
from training.data.jsonl import read_jsonl, write_jsonl
from training.data.passages import cut
from training.data.questions import Question
from training.rank import pairs as making
from training.rank.config import RankConfig, Source, parse_source
from training.rank.documents import held_out_origins, origin, read_source
from training.rank.pairs import (
    PAIRS,
    PartSpan,
    answer_spans,
    evidence_spans,
    holds_evidence,
    load_pairs,
    pair_sets,
    part_spans,
)

PART = PartSpan((100, 200), (80, 220))


@pytest.mark.parametrize(
    ("span", "answer", "fact"),
    [
        ((120, 130), True, True),
        ((100, 200), True, True),
        ((199, 205), False, True),  # all of it around the part only
        ((95, 105), False, True),
        ((70, 110), False, False),  # a quarter in the part, and out of what stands around it
        ((75, 110), False, False),
        ((78, 190), True, True),  # longer than the part, and covers most of it
        ((40, 150), False, False),  # longer than the part, and covers half of it
        ((30, 151), True, True),
        ((76, 96), False, False),
        ((120, 224), True, True),  # longer than the part
        ((130, 224), False, False),  # 70 of 94 characters
        ((130, 217), False, True),  # 70 of 87, but all with what stands around
        ((145, 212), False, True),
        ((150, 300), False, False),
        ((148, 222), False, False),
        ((160, 210), False, True),
        ((122, 221), False, False),  # 78 of 99
        ((102, 221), True, True),
        ((125, 218), False, True),
        ((138, 221), False, False),
        ((121, 220), False, True),
        ((122, 220), False, True),
        ((116, 221), True, True),
    ],
)
def test_what_holds_the_evidence(span, answer, fact):
    assert holds_evidence(PART, [span], states_facts=False) is answer
    assert holds_evidence(PART, [span], states_facts=True) is fact


def test_most_of_a_fact_in_the_part_itself_is_enough():
    # 41 of 50 characters, although its last ones are not even around the part.
    assert holds_evidence(PartSpan((100, 200), (100, 200)), [(159, 209)], states_facts=True)
    assert not holds_evidence(PartSpan((100, 200), (100, 200)), [(161, 211)], states_facts=True)
    assert not holds_evidence(PART, [], states_facts=True)
    assert holds_evidence(PART, [(0, 5), (120, 130)], states_facts=False)


def test_evidence_is_the_answer_in_it_or_the_sentence_that_states_the_fact():
    text = "Bram met Sefa. Sefa kept the lamp. Bram slept."
    question = Question("q", "d", "Who kept the lamp?", ("Ludo", "Sefa"), evidence=((15, 34), (35, 46)))
    assert evidence_spans(text, question, states_facts=False) == [(15, 19), (35, 46)]
    assert evidence_spans(text, question, states_facts=True) == [(15, 34), (35, 46)]
    assert evidence_spans(text, replace(question, answerable=False), states_facts=True) == []


def test_answers_stand_where_their_words_do():
    text = "Bram met Sefa. Sefa and old Sefarin kept the lamp. Bram slept by Old Sefa."
    question = Question("q", "d", "Who?", (" ", "old Sefa", "Sefa"), evidence=((0, 51), (51, 74)))
    assert answer_spans(text, question) == [(9, 13), (15, 19), (69, 73)], "no part of a longer name"
    assert answer_spans(text, replace(question, answers=("old Sefarin", "Sefa"))) == [(24, 35)]
    assert answer_spans(text, replace(question, answers=("nobody",))) == []
    assert answer_spans(text, replace(question, evidence=())) == []


def test_spans_of_parts_are_where_their_texts_stand(tiny_tokenizer):
    (doc_id, text, questions), *_ = documents(1)
    passages = cut(tiny_tokenizer, doc_id, text, questions, 96, whole_sentences=True)
    assert len(passages.chunks) > 1
    for chunk, inside in zip(passages.chunks, passages.texts):
        parts = cut_parts(tiny_tokenizer, inside, chunk.n_tokens)
        spans = part_spans(token_spans(tiny_tokenizer, inside, chunk.n_tokens), parts, chunk.span)
        assert [text[slice(*span.own)] for span in spans] == list(parts.texts)
        assert [text[slice(*span.around)] for span in spans] == list(parts.around)
        assert len(parts.texts) > 2 and parts.texts != parts.around


def test_questions_have_the_parts_of_the_chunks_they_find(config, pairs):
    learned = pairs.training["keepers"]
    answered = [each for each in learned if each.answerable]
    assert len(answered) > 20 and len(learned) > len(answered)
    for each in answered:
        thing = each.question.removeprefix("Who kept the item ").rstrip("?")
        chunks = [candidate.chunk for candidate in each.candidates]
        assert len(set(chunks)) == config.candidates and max(map(chunks.count, chunks)) <= config.parts
        assert each.positives
        for positive in each.positives:
            # One keeper is named once a document, and the answer is what a part must hold.
            assert f"item {thing}" in positive.text or positive.chunk in each.gold
    best = [thing in each.candidates[0].text for each in answered for thing in [each.question[13:-1]]]
    assert sum(best) > 0.8 * len(best)  # words find the sentence


def test_what_the_text_does_not_answer_has_no_positive(pairs):
    without = [each for each in pairs.training["keepers"] if not each.answerable]
    assert without
    assert not [each for each in without if each.positives or any(one.holds for one in each.candidates)]
    assert all(each.candidates for each in without)


def test_evidence_that_retrieval_misses_is_added(config, tiny_tokenizer, retriever, monkeypatch):
    # Beside a sentence about lamps the question's own words say nothing of who answers it.
    text = "Sefa went to sea and came home. " + "The lamp was kept in the house by the lamp keeper. " * 30
    question = Question("q", "d", "Who kept the lamp?", ("Sefa",), evidence=((0, 31),))
    monkeypatch.setitem(sources.SOURCES, "keepers", lambda data: iter([("d", text, [question])]))
    rows = list(making.make_rows(config, tiny_tokenizer, retriever, lambda words: None))
    (found,) = pair_sets(rows).training["keepers"]
    assert not any(each.holds for each in found.candidates)
    assert found.positives == found.rescued and len(found.rescued) <= 2
    assert all(each.text.startswith("Sefa") and each.chunk == 0 for each in found.rescued)


def test_an_answer_that_no_part_holds_is_judged_by_and_not_learned_from():
    asked = {
        "question": "Who?", "type": "extractive", "answerable": True, "gold": [0], "candidates": [[0, 0, 3, False]],
        "rescued": [], "stands": [[0, 4]],
    }  # fmt: skip
    row = {"source": "s", "doc_id": "d", "text": "Bram slept.", "asked": [asked, asked | {"answerable": False}]}
    sets = pair_sets([row | {"held_out": False}, row | {"held_out": True}])
    assert [each.answerable for each in sets.training["s"]] == [False]
    assert [each.answerable for each in sets.held_out["s"]] == [True, False]
    assert sets.held_out["s"][0].candidates == ((0, "Bra", False, 0),)
    assert sets.held_out["s"][0].text == "Bram slept." and sets.held_out["s"][0].stands == ((0, 4),)


def test_pairs_are_made_once_and_again_for_other_settings(config, tiny_tokenizer, retriever, tmp_path, monkeypatch):
    made: list[str] = []
    real = making.rank_document
    monkeypatch.setattr(making, "rank_document", lambda *given: made.append(given[-1][0]) or real(*given))

    def load(changed: RankConfig):
        return load_pairs(changed, tiny_tokenizer, retriever, tmp_path, lambda words: None)

    first = load(config)
    assert made == [f"d{number}" for number in range(6)]
    assert load(replace(config, steps=99, pairs=3)) == first and len(made) == 6
    fewer = load(replace(config, sources=("keepers:3:2",)))
    assert len(made) == 9 and len(fewer.training["keepers"]) == 6


def test_pairs_of_another_form_are_made_anew(config, tiny_tokenizer, retriever, tmp_path):
    def load():
        return load_pairs(config, tiny_tokenizer, retriever, tmp_path, lambda words: None)

    first = load()
    header, *rows = read_jsonl(tmp_path / PAIRS)
    # As they were before rows said where answers stand.
    del header["form"]
    for row in rows:
        for each in row["asked"]:
            del each["stands"]
    write_jsonl(tmp_path / PAIRS, [header, *rows])
    assert load() == first


def test_held_out_documents_are_the_last_and_all_made_of_them(config, pairs):
    documents = {
        "a": [(f"a{number}", "", []) for number in range(20)],
        "b": [(f"a{number}~{seed}", "", []) for seed in range(2) for number in range(17)],
        "c": [("c0", "", [])],
    }
    apart = held_out_origins(documents, 3)
    assert apart == {"a17", "a18", "a19", "a14", "a15", "a16"}
    assert origin("a19~2") in apart and origin("a2~1") not in apart
    learned, judged = pairs.training["keepers"], pairs.held_out["keepers"]
    # One of six: "at most a fifth".
    assert all("item 5" in each.question for each in judged if each.answerable) and judged
    assert not [each for each in learned if "item 5" in each.question]


def test_longer_chronicles_and_counts(tmp_path):
    chronicles = read_source(parse_source("chronicle-300:3:5"), tmp_path)
    assert [len(text) // 900 for _, text, _ in chronicles] == [1, 1, 1]
    assert len({doc_id for doc_id, _, _ in chronicles}) == 3
    assert parse_source("nq") == Source("nq") and parse_source("nq:4:9") == Source("nq", 4, 9)
    with pytest.raises(ConfigError, match="nope"):
        read_source(Source("nope"), tmp_path)


@pytest.mark.parametrize("text", ["nq:0", "nq:x", "nq:1:2:3", "nq:", "nq:3:-1"])
def test_numbers_of_sources_are_whole(text):
    with pytest.raises(ConfigError, match="NAME:DOCUMENTS"):
        RankConfig(sources=(text,), weights=(1.0,))
