"""The command line, in process, on a tiny model in a folder."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from memlong import cli
from memlong.cli import main
from memlong.config import AskOptions
from memlong.errors import ConfigError
from memlong.session import Answer, Session
from memlong.session.results import Evidence, Pointed

QUESTION = "Where stood the brass lantern?"


@pytest.fixture
def model_folder(tmp_path: Path, tiny_llama, tiny_tokenizer) -> Path:
    folder = tmp_path / "model"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def book(tmp_path: Path) -> Path:
    days = [f"On day {day} the harbour master wrote of ships from port {day}." for day in range(40)]
    path = tmp_path / "log.txt"
    path.write_text(" ".join([*days[:20], "The brass lantern stood in the cellar.", *days[20:]]))
    return path


def options(folder: Path) -> list[str]:
    return ["--model", str(folder), "--retriever", "hashing", "--chunk-tokens", "32", "--json"]


def test_ask_prints_the_answer_with_its_evidence(model_folder, book, capsys):
    capacity = ["--capacity-tokens", "320", "--policy", "trigger_bands", "--max-tokens", "5"]
    assert main(["ask", str(book), QUESTION, *options(model_folder), *capacity]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"answer", "retrieved", "evicted", "chunks_read", "chunks_kept", "seconds"} <= set(said)
    assert {"chunk_id", "span", "score", "trigger_count", "attention_mass", "text"} <= set(said["retrieved"][0])
    assert set(said["seconds"]) == {"embed", "search", "gather", "prefill", "decode"}
    assert said["chunks_read"] == said["chunks_kept"] + len(said["evicted"]) and said["evicted"]
    text = book.read_text()
    assert all(item["text"] == text[slice(*item["span"])] for item in said["retrieved"])


def test_evidence_for_people_is_listed_under_what_it_was_found_for(model_folder, book, capsys, monkeypatch):
    real = Session.ask

    def in_steps(session: Session, question: str, options: AskOptions) -> Answer:
        answer = real(session, question, options)
        step = replace(answer, question="Who kept it?", asked="Who kept it?", retrieved=answer.retrieved[:2])
        return replace(answer, steps=(step,), asked="Where did she stand?")

    plain = ["ask", str(book), QUESTION, *options(model_folder)[:-1], "--max-tokens", "2", "--top-k", "3"]
    assert main(plain) == 0
    assert "Found for" not in capsys.readouterr().out
    monkeypatch.setattr(Session, "ask", in_steps)
    assert main(plain) == 0
    said = capsys.readouterr().out
    own, of_step = said.split("Found for Who kept it?")
    assert "(Asked first: Who kept it?" in own and "Found for Where did she stand?" in own
    assert [re.findall(r"^\[(\d)\]", part, re.MULTILINE) for part in (own, of_step)] == [["1", "2", "3"], ["1", "2"]]


def test_words_that_are_hardly_the_answer_are_not_told_of(capsys):
    item = Evidence(0, 1, 0.5, None, 0, 1, 0, "log", "", (0, 9), "the lamp.", pointed=(Pointed((4, 8), "lamp", 0.83),))
    cli._print_evidence(item)
    cli._print_evidence(replace(item, pointed=(Pointed((4, 8), "lamp", 0.004),)))
    assert re.findall("pointed at.*", capsys.readouterr().out) == ["pointed at: lamp (83%)"]


def test_a_saved_book_is_asked_without_reading_it_again(model_folder, book, tmp_path, capsys):
    saved = str(tmp_path / "saved")
    assert main(["read", str(book), "--save", saved, *options(model_folder)]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["ask", "--load", saved, QUESTION, *options(model_folder), "--max-tokens", "3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["chunks_kept"] == report["chunks_kept"]
    assert "lantern" in said["retrieved"][0]["text"]


def test_a_loaded_session_takes_its_chunk_size_with_it_and_another_capacity(model_folder, book, tmp_path, capsys):
    saved = str(tmp_path / "saved")
    assert main(["read", str(book), "--save", saved, *options(model_folder)]) == 0
    report = json.loads(capsys.readouterr().out)
    plain = ["--model", str(model_folder), "--retriever", "hashing", "--json", "--max-tokens", "2"]
    small = ["--capacity-tokens", "160", "--policy", "fifo"]
    assert main(["ask", "--load", saved, QUESTION, *plain, *small]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["chunks_kept"] == 5 and len(said["evicted"]) == report["chunks_kept"] - 5
    assert main(["ask", "--load", saved, QUESTION, *plain]) == 0
    assert json.loads(capsys.readouterr().out)["chunks_kept"] == report["chunks_kept"]


def test_another_chunk_size_keeps_a_window_about_as_long(model_folder):
    for size, window in ((32, 256), (96, 288), (512, 512)):
        chosen = argparse.Namespace(model=str(model_folder), chunk_tokens=size)
        assert cli._model(chosen).config.window_tokens == window
    with pytest.raises(ConfigError, match="from 1"):
        cli._model(argparse.Namespace(model=str(model_folder), chunk_tokens=0))


def test_wrong_paths_and_names_are_refused_before_a_model_is_loaded(book, tmp_path, capsys):
    """With a model that does not exist, the first error is about what was wrong besides."""
    nowhere = ["--model", str(tmp_path / "no-model")]
    (tmp_path / "blank.txt").write_text(" \n")
    for words, said in (
        (["ask", str(tmp_path / "none.txt"), QUESTION], "none.txt"),
        (["ask", "--load", str(tmp_path / "none"), QUESTION], "Nothing is saved"),
        (["read", str(tmp_path), "--save", str(tmp_path / "s")], str(tmp_path)),
        (["ask", str(tmp_path / "blank.txt"), QUESTION], "blank.txt is empty"),
        (["read", str(book), "--save", str(book / "saved")], "Nothing can be saved"),
        (["read", str(book), "--save", ""], "A folder of its own"),
        (["ask", str(book), QUESTION, "--policy", "fif"], "'fifo'"),
        (["ask", str(book), QUESTION, "--top-k", "0"], "top_k=0"),
        (["ask", str(book), QUESTION, "--chunk-tokens", "0"], "chunk_tokens=0"),
        (["ask", str(book), QUESTION, "--chunk-tokens", "64", "--capacity-tokens", "32"], "at least one chunk"),
        (["read", str(book), "--save", str(tmp_path / "s"), "--capacity-tokens", "0"], "capacity_tokens=0"),
        (["ask", str(book), " "], "An empty question"),
        (["ask", str(book), QUESTION, "--trace", str(book / "trace.jsonl")], "Nothing can be saved"),
        (["ask", str(book), QUESTION, "--trace", str(tmp_path)], "is a folder"),
        (["ask", "--load", str(tmp_path), "Who", "kept", "it?"], "3 texts and --load"),
        (["ask", str(book), QUESTION, "--retriever", "hashin"], "Did you mean 'hashing'"),
        (["ask", str(book), QUESTION, "--retriever", "sentence"], "sentence:MODEL"),
    ):
        assert main([*words, *nowhere]) == 2
        assert said in capsys.readouterr().err
    assert main(["fit", "no-model", str(tmp_path / "none.txt")]) == 2
    assert "none.txt" in capsys.readouterr().err
    assert main(["fit", "no-model", str(book), "--out", str(book / "maps")]) == 2
    assert "Nothing can be saved" in capsys.readouterr().err


def test_refusals_are_words_and_a_status_not_a_traceback(model_folder, book, tmp_path, capsys):
    assert main(["ask", str(book), *options(model_folder)]) == 2
    assert "BOOK and QUESTION" in capsys.readouterr().err
    assert main(["ask", str(tmp_path / "none.txt"), QUESTION, *options(model_folder)]) == 2
    assert "none.txt" in capsys.readouterr().err
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.4 and no more")
    assert main(["ask", str(tmp_path / "torn.pdf"), QUESTION, *options(model_folder)]) == 2
    assert "torn.pdf" in capsys.readouterr().err
    assert main(["ask", str(book), QUESTION, *options(model_folder), "--policy", "fif"]) == 2
    assert "fifo" in capsys.readouterr().err


def test_help_needs_neither_torch_nor_a_model():
    code = """
import sys, memlong.cli
try: memlong.cli.main(['--help'])
except SystemExit: pass
assert 'torch' not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0 and "ask" in done.stdout, done.stderr


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_letters_that_the_output_has_not_are_written_as_numbers(tmp_path, form):
    """File names of other systems, and output in an alphabet of its own: the last line must come all the same."""
    from memlong.trace.events import DocumentOpened
    from memlong.trace.recorder import Recorder

    recorder = Recorder()
    title = "caf\udce9 \xe9 \U0001f600"
    recorder.append(DocumentOpened(doc_id=0, title=title, n_tokens=1, n_chunks=1, n_characters=1))
    recorder.save_jsonl(tmp_path / "trace.jsonl")
    for encoding in ("utf-8", "ascii", "cp1252"):
        done = subprocess.run(
            [sys.executable, "-m", "memlong", "replay", str(tmp_path / "trace.jsonl"), *form],
            capture_output=True,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert done.returncode == 0, done.stderr
        said = done.stdout.decode(encoding)
        assert json.loads(said)["documents"][0]["title"] == title if form else "caf\\udce9" in said


def test_a_trace_is_replayed_without_a_model(model_folder, book, tmp_path, capsys):
    trace, saved = str(tmp_path / "trace.jsonl"), str(tmp_path / "saved")
    small = ["--capacity-tokens", "160", "--trace", trace]
    assert main(["read", str(book), "--save", saved, *options(model_folder), *small]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["replay", trace, "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert len(state["chunks"]) == report["chunks_kept"] == 5 and len(state["evicted"]) == report["evicted"]
    assert state["documents"][0]["status"] == "done" and state["capacity_tokens"] == 160
    assert main(["replay", saved, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == state
    step = min(gone["step"] for gone in state["evicted"]) - 1
    assert main(["replay", trace, "--step", str(step), "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert not before["evicted"] and len(before["chunks"]) == 8  # a window of chunks, just before the first leave
    assert main(["replay", trace]) == 0
    said = capsys.readouterr().out
    assert "5 chunks held" in said
    for chunk in state["chunks"]:  # people count from 1
        assert f"chunk {chunk['chunk_id'] + 1}: characters {chunk['span'][0]}-" in said
    assert main(["replay", trace, "--step", str(state["steps"])]) == 2
    assert f"0 to {state['steps'] - 1}" in capsys.readouterr().err
    (tmp_path / "empty.jsonl").touch()
    assert main(["replay", str(tmp_path / "empty.jsonl")]) == 2
    assert "holds no event" in capsys.readouterr().err
    assert main(["replay", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err


def test_any_sentence_transformers_model_is_named_with_the_word_sentence(model_folder, book, tmp_path, capsys):
    """A folder that holds none: the library is asked for it, and its refusal told."""
    plain = ["--model", str(model_folder), "--chunk-tokens", "32"]
    assert main(["ask", str(book), QUESTION, *plain, "--retriever", f"sentence:{tmp_path / 'none'}"]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_chunks_that_the_embedder_takes_in_parts_are_reported(model_folder, book, tmp_path, capsys, monkeypatch):
    from memlong.retriever.base import TooLong
    from memlong.retriever.hashing import HashingRetriever

    monkeypatch.setattr(HashingRetriever, "check", lambda self, texts: [TooLong(0, 9, 3)] if texts else [])
    saved = ["--save", str(tmp_path / "saved"), *options(model_folder)[:-1]]
    assert main(["read", str(book), *saved]) == 0
    assert "had to be embedded in parts" in capsys.readouterr().out


def test_fitted_maps_are_loaded_from_any_folder(model_folder, book, tmp_path, capsys, monkeypatch):
    """The model is named from where the command runs, and the maps are used from somewhere else."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    book.write_text(book.read_text() * 4)
    assert main(["fit", model_folder.name, str(book), "--out", "maps"]) == 0
    assert "Saved in maps" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "elsewhere")
    options = ["--model", "../maps", "--retriever", "hashing", "--max-tokens", "2", "--json"]
    assert main(["ask", str(book), QUESTION, *options]) == 0
    assert json.loads(capsys.readouterr().out)["chunks_kept"] > 0
