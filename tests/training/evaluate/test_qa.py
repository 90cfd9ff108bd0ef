"""Which questions are asked, how answers are tabled, and what the command line prints."""

from __future__ import annotations

import argparse
import json

import pytest

from memlong.errors import ConfigError
from training import cli, evaluate
from training.data.jsonl import write_jsonl
from training.evaluate import common, qa


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return parser.parse_args(arguments)


def test_a_chronicle_is_asked_every_type_alike():
    chosen = parse("qa", "m", "--source", "chronicle", "--seed", "3", "--tokens", "6000", "--questions", "12")
    ((_, text, asked),) = qa.documents(chosen)
    kinds = [question.type for question in asked]
    assert {"single_fact", "changed_fact", "two_hop", "unanswerable"} <= set(kinds)
    assert max(kinds.count(kind) for kind in kinds) <= 2 and len(text) > 20_000


def test_named_types_alone_are_asked():
    chosen = parse("qa", "m", "--source", "chronicle", "--tokens", "6000", "--type", "two_hop,single_fact")
    ((_, _, asked),) = qa.documents(chosen)
    assert {question.type for question in asked} == {"two_hop", "single_fact"}
    with pytest.raises(ConfigError, match="two_hops"):
        list(qa.documents(parse("qa", "m", "--source", "chronicle", "--tokens", "6000", "--type", "two_hops")))


@pytest.fixture
def files(tmp_path) -> list[str]:
    """Questions in two files (one of them twice, once without its evidence), and their two documents."""
    text = "Bram kept the lamp. Ada kept the rope. " * 4
    known = [
        {"id": "1", "doc_id": "a", "question": "Who kept the lamp?", "answers": ["Bram"], "evidence": [[0, 19]]},
        {"id": "2", "doc_id": "b", "question": "Who kept the rope?", "answers": ["Ada"], "type": "other"},
    ]
    again = [
        {"id": "3", "doc_id": "a", "question": "Who kept the lamp?", "answers": ["Bram"], "context": "Bram kept it."},
        {"id": "4", "doc_id": "a", "question": "Who sold the lamp?", "answers": [], "answerable": False},
    ]
    write_jsonl(tmp_path / "q1.jsonl", known)
    write_jsonl(tmp_path / "q2.jsonl.zst", again)
    write_jsonl(tmp_path / "d.jsonl", [{"doc_id": "a", "text": text}, {"doc_id": "b", "text": text * 3}])
    q1, q2, d = (str(tmp_path / name) for name in ("q1.jsonl", "q2.jsonl.zst", "d.jsonl"))
    return ["--source", q1, "--source", q2, "--documents", d]


def test_questions_of_several_files_are_asked_once_and_unanswerable_ones_too(files):
    first, second = qa.documents(parse("qa", "m", *files))
    assert [(q.question, q.type, q.evidence) for q in first[2]] == [
        ("Who kept the lamp?", "all", ((0, 19),)),
        ("Who sold the lamp?", "all", ()),
    ]
    assert [q.answers for q in second[2]] == [("Ada",)]
    kinds = [[q.type for q in asked] for _, _, asked in qa.documents(parse("qa", "m", *files, "--type"))]
    assert kinds == [["extractive", "unanswerable"], ["other"]]
    with pytest.raises(ConfigError, match="without --documents"):
        list(qa.documents(parse("qa", "m", *files[:4])))


def test_qa_prints_json_for_programs(tiny, files, capsys, tmp_path):
    rows, saved = tmp_path / "other" / "rows.jsonl", tmp_path / "deep" / "saved.json"
    told = ["--json", "--rows", str(rows), "--save", str(saved), "--ways", "memory,nothing"]
    assert cli.main(["evaluate", "qa", "tiny", *files, *told, "--memory", "policy=fifo"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert set(table) == {"all"} and set(table["all"]) == {"memory", "nothing"}
    row = table["all"]["memory"]
    assert row["questions"] == 3 and row["unanswerable"] == 1 and row["evidence_kept"] == 1.0
    assert {"exact", "f1", "said_so", "wrongly_said_so", "evidence_recall"} <= set(row)
    assert "evidence_recall" not in table["all"]["nothing"]
    assert len(rows.read_text().splitlines()) == 6
    record = json.loads(saved.read_text())
    assert record["result"] == table and record["complete"] and record["memory"]["policy"] == "fifo"
    assert record["command"].startswith("python -m training")


def test_qa_prints_a_table_by_capacity(tiny, files, capsys):
    told = ["--capacity-tokens", "32,4k", "--policy", "fifo", "--ways", "memory"]
    assert cli.main(["evaluate", "qa", "tiny", *files, *told]) == 0
    heading, small, large = capsys.readouterr().out.splitlines()
    assert heading.split()[:4] == ["type", "way", "questions", "exact"]
    assert small.startswith("32 tokens") and large.startswith("4,096 tokens")
    # The lamp stands in the first sentence too, which a bank of two chunks has long let go.
    assert small.split()[-2] == "0.00" and large.split()[-2] == "1.00"


def test_rows_of_a_chronicle_are_split_by_depth_alone_unless_types_are_asked_for(tiny, capsys):
    told = ["--source", "chronicle", "--tokens", "900", "--questions", "6", "--ways", "memory", "--answer-tokens", "2"]
    assert cli.main(["evaluate", "qa", "tiny", *told, "--by", "depth", "--json"]) == 0
    assert all(name.endswith("%") or name == "place not known" for name in json.loads(capsys.readouterr().out))
    assert cli.main(["evaluate", "qa", "tiny", *told, "--by", "depth", "--type", "two_hop", "--json"]) == 0
    assert all(name.startswith("two_hop, ") for name in json.loads(capsys.readouterr().out))


def test_what_does_not_exist_is_refused(tiny, files, capsys):
    assert cli.main(["evaluate", "qa", "tiny", *files, "--ways", "memoir"]) == 2
    assert "memoir" in capsys.readouterr().err
    assert cli.main(["evaluate", "qa", "tiny", *files, "--memory", "polcy=fifo"]) == 2
    assert "policy" in capsys.readouterr().err
    assert cli.main(["evaluate", "qa", "tiny", *files, "--memory", "fifo"]) == 2
    assert "KEY=VALUE" in capsys.readouterr().err


def test_ctrl_c_prints_what_was_done(tiny, files, capsys, monkeypatch):
    def call(watch: common.Watch, words: str) -> bool:
        if "1 of 2 questions" in words:
            watch._interrupt(2, None)
        return watch.stopped

    monkeypatch.setattr(common.Watch, "__call__", call)
    assert cli.main(["evaluate", "qa", "tiny", *files, "--ways", "memory", "--json"]) == common.STOPPED
    printed = capsys.readouterr()
    assert json.loads(printed.out)["all"]["memory"]["questions"] == 1 and "Stopped" in printed.err


def test_names_of_the_library_are_those_of_the_command_line():
    from memlong.evaluation.qa import GROUPS

    assert tuple(GROUPS) == qa.BY


def test_lists_of_numbers():
    assert common.numbers("16k,1024,4k") == [1024, 4096, 16384]
    for wrong in ("", "1,,2", "-4", "many"):
        with pytest.raises(argparse.ArgumentTypeError):
            common.numbers(wrong)


def test_what_retrieval_finds_is_tabled_without_reading(files, tiny, capsys):
    sizes = ["--memory", "chunk_tokens=8", "window_tokens=8", "--retriever", "hashing", "--device", "cpu"]
    command = ["evaluate", "retrieval", "tiny", *files, *sizes, "--at", "1,50"]
    assert cli.main([*command, "--json"]) == 0
    table = json.loads(capsys.readouterr().out)
    assert table["all"]["questions"] == 1 and table["all"]["at 50"] == 1
    assert cli.main(command) == 0
    assert "at 50" in capsys.readouterr().out
