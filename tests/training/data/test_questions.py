"""Questions and documents read from files, and the checks that join them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from memlong.errors import DocumentError
from training.data.jsonl import write_jsonl
from training.data.questions import (
    Question,
    SourceText,
    load_questions,
    load_with_documents,
    read_documents,
)

ROW: dict[str, Any] = {
    "id": "q1",
    "doc_id": "d1",
    "question": "Who?",
    "answers": ["Ada", "Ada L."],
    "source": "made up",
    "answerable": True,
    "type": "explicit",
    "evidence": [[4, 9]],
}
TEXT = "The rain fell on the roof of the mill all night."


def test_both_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    write_jsonl(
        path,
        [ROW, {"id": "q2", "doc_id": "d1", "question": "When?", "answers": ["May"], "context": "In May."}],
    )
    whole, passage = load_questions(path)
    assert whole == Question("q1", "d1", "Who?", ("Ada", "Ada L."), None, True, "explicit", ((4, 9),))
    assert passage.context == "In May." and passage.answerable and passage.evidence == ()
    assert load_questions(path, limit=1) == [whole]


def test_round_trip_through_a_row() -> None:
    question = Question("q", "d", "Why?", ("so",), "ctx", True, "two_hop", ((0, 2), (5, 9)))
    assert Question.from_dict(question.to_dict()) == question
    assert "context" not in Question("q", "d", "Why?", ("so",)).to_dict()


def test_unanswerable_rows_lose_their_plausible_answers() -> None:
    question = Question.from_dict({**ROW, "answerable": False})
    assert question.answers == () and not question.answerable


def test_choices_become_part_of_the_question() -> None:
    assert Question.from_dict({**ROW, "choices": ["Ada", "Bea"]}).question == "Who? Choose one: Ada; Bea."


@pytest.mark.parametrize("change", [{"answers": "Ada"}, {"evidence": [[1]]}, {"answers": 3}])
def test_a_bad_row_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        Question.from_dict({**ROW, **change})


def test_a_missing_field_is_named() -> None:
    with pytest.raises(DocumentError, match="doc_id"):
        Question.from_dict({key: value for key, value in ROW.items() if key != "doc_id"})


def _files(folder: Path, row: dict[str, Any]) -> tuple[Path, Path]:
    write_jsonl(folder / "q.jsonl", [row])
    write_jsonl(
        folder / "docs.jsonl.zst",
        [{"doc_id": "d0", "text": "other"}, {"doc_id": "d1", "title": "T", "text": TEXT}],
    )
    return folder / "q.jsonl", folder / "docs.jsonl.zst"


def test_questions_meet_their_documents(tmp_path: Path) -> None:
    questions, documents = load_with_documents(*_files(tmp_path, ROW))
    assert documents == {"d1": SourceText("d1", "T", TEXT)}
    start, end = questions[0].evidence[0]
    assert documents["d1"].text[start:end] == "rain "


def test_missing_documents_and_wrong_evidence_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="asked about are not"):
        load_with_documents(*_files(tmp_path, {**ROW, "doc_id": "gone"}))
    with pytest.raises(DocumentError, match="outside its document"):
        load_with_documents(*_files(tmp_path, {**ROW, "evidence": [[40, 400]]}))


def test_a_question_file_is_no_document_file(tmp_path: Path) -> None:
    questions, _ = _files(tmp_path, ROW)
    with pytest.raises(DocumentError, match="is not a document"):
        list(read_documents(questions))
