"""Conversations: every answer is learned once, after all that was said before it, and nothing else is scored."""

from __future__ import annotations

from pathlib import Path

import pytest

from memlong.errors import DocumentError
from memlong.evaluation.answers import NOT_IN_TEXT
from memlong.prompt import answer_ids
from training.data.jsonl import write_jsonl
from training.data.passages import cut
from training.data.questions import FREE_FORM, Question, load_questions
from training.data.sources import open_source
from training.questions import IGNORED, Drawn, collate

TEXT = "The lamp was kept by Bram of the harbour. The rope was kept by Sefa, his sister. " * 6
TURNS = [
    {"question": "Who kept the lamp?", "answers": ["Bram did."], "evidence": [[0, 41]]},
    {"question": "Who sold it?", "answers": [], "answerable": False},
    {"question": "And who kept the rope?", "answers": ["His sister, whose name was Sefa."], "evidence": [[42, 81]]},
]
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who kept the lamp?"},
    {"role": "assistant", "content": "Bram did."},
    {"role": "user", "content": "And the rope?"},
    {"role": "assistant", "content": "Sefa."},
]


def written(folder: Path, rows: list[dict]) -> Path:
    write_jsonl(folder / "questions.jsonl", rows)
    return folder / "questions.jsonl"


def test_turns_become_questions_that_know_what_was_said(tmp_path):
    path = written(tmp_path, [{"id": "c", "doc_id": "d", "turns": TURNS}])
    first, second, third = load_questions(path)
    assert [q.id for q in (first, second, third)] == ["c/0", "c/1", "c/2"] and first.history == ()
    assert second.history == (("Who kept the lamp?", "Bram did."),)
    assert third.history == (*second.history, ("Who sold it?", NOT_IN_TEXT))
    assert third.type == FREE_FORM and not second.answerable
    assert Question.from_dict(third.to_dict()) == third


def test_messages_are_turns(tmp_path):
    path = written(tmp_path, [{"id": "c", "doc_id": "d", "messages": MESSAGES}])
    first, second = load_questions(path)
    assert (first.question, first.answers) == ("Who kept the lamp?", ("Bram did.",))
    assert second.history == (("Who kept the lamp?", "Bram did."),) and second.answers == ("Sefa.",)


@pytest.mark.parametrize("messages", [[], MESSAGES[:2], MESSAGES[2:], [{"content": "x"}, {"content": "y"}]])
def test_other_messages_are_refused(messages, tmp_path):
    path = written(tmp_path, [{"id": "c", "doc_id": "d", "messages": messages}])
    with pytest.raises(DocumentError, match="user and assistant in turn"):
        load_questions(path)


def test_only_the_last_answer_is_scored_and_all_that_was_said_is_seen(tmp_path, tiny_tokenizer):
    asked = load_questions(written(tmp_path, [{"id": "c", "doc_id": "d", "turns": TURNS}]))
    passages = cut(tiny_tokenizer, "d", TEXT, asked, 16)
    assert [bool(a.gold) for a in passages.asked] == [True, False, True]
    drawn = [Drawn("d", each, (0,)) for each in passages.asked]
    batch = collate(tiny_tokenizer, drawn, 24)
    for row, question in enumerate(asked):
        labels = batch.labels_BA[row]
        wanted = answer_ids(tiny_tokenizer, question.answers[0] if question.answers else NOT_IN_TEXT)[:24]
        assert labels[labels != IGNORED].tolist() == wanted
        said = tiny_tokenizer.decode(batch.ids_BT[row][batch.mask_BT[row] == 1].tolist(), skip_special_tokens=True)
        for earlier, answer in question.history:
            assert earlier in said and answer in said
        assert said.count("assistant") == len(question.history) + 1


def test_a_free_form_answer_of_unknown_evidence_is_kept(tiny_tokenizer):
    unknown = Question("q", "d", "Who?", ("Bram, who kept it.",), type=FREE_FORM)
    extractive = Question("e", "d", "Who?", ("Bram, who kept it.",), evidence=((0, 41),))
    kept = cut(tiny_tokenizer, "d", TEXT, [unknown, extractive], 16).asked
    assert [(each.question.id, each.gold) for each in kept] == [("q", ())]


@pytest.mark.parametrize("count", [1, 2, 30])
def test_local_files_have_a_held_out_side(count, tmp_path):
    write_jsonl(tmp_path / "documents.jsonl", [{"doc_id": f"d{n}", "text": TEXT} for n in range(count)])
    written(tmp_path, [{"id": f"c{n}", "doc_id": f"d{n}", "turns": TURNS} for n in range(count)])
    train, held = ({d[0] for d in open_source(name, tmp_path)} for name in ("local", "local-eval"))
    assert train and held and train | held == {f"d{n}" for n in range(count)}
    assert count == 1 or not train & held
    assert len(held) <= max(1, count // 4)
