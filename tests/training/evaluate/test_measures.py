"""Perplexity, examples, needles and keys on the command line: files in, JSON and tables out."""

from __future__ import annotations

import argparse
import json
import sys
from types import ModuleType

import pytest

from memlong.errors import ConfigError, DocumentError
from training import cli
from training.data.jsonl import write_jsonl
from training.evaluate import common, grids, icl

BOOK = " ".join(f"In year {year} the harbour master lost {year * 7 % 23} barrels of salt." for year in range(60))


def printed(capsys, *arguments: str):
    assert cli.main(["evaluate", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def books(tmp_path) -> list[str]:
    write_jsonl(tmp_path / "books.jsonl", [{"doc_id": "short", "text": "Short."}, {"doc_id": "a", "text": BOOK}])
    (tmp_path / "b.txt").write_text(BOOK[100:])
    return ["--books", str(tmp_path / "books.jsonl"), str(tmp_path / "b.txt"), "--contexts", "64,128", "--scored", "32"]


def test_perplexity(tiny, books, capsys):
    result = printed(capsys, "perplexity", "tiny", *books)
    assert result["query"] == "previous" and result["passages"] == 2
    systems = result["systems"]
    assert set(systems) == {"memory", "ngrams", "nothing", "window", "full", "original"}
    assert {cell["tokens"] for name in ("memory", "window", "full") for cell in systems[name].values()} == {64}
    assert "left_out" in systems["original"]["64"]
    one = printed(capsys, "perplexity", "tiny", *books, "--documents", "1", "--passages", "2", "--systems", "nothing")
    assert one["passages"] == 2 and set(one["systems"]) == {"nothing"}


def test_perplexity_as_a_table_says_how_it_was_retrieved(tiny, books, capsys):
    assert cli.main(["evaluate", "perplexity", "tiny", *books, "--query", "current"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "sees what it predicts" in lines[0] and "64 tokens scored" in lines[0]
    assert lines[2].split() == ["system", "64", "128"] and lines[3].startswith("memory")
    assert lines[-1].startswith("original at 128:")


def test_perplexity_refuses_books_that_are_too_short(tiny, books, capsys):
    assert cli.main(["evaluate", "perplexity", "tiny", *books[:2], "--contexts", "64k", "--systems", "nothing"]) == 2
    assert "longest context" in capsys.readouterr().err


@pytest.fixture
def ships(tmp_path) -> str:
    rows = [
        {"text": f"ship {i} was {'lost' if i % 2 else 'found'}", "label": i % 2, "label_text": ("good", "bad")[i % 2]}
        for i in range(16)
    ]
    write_jsonl(
        tmp_path / "mr.jsonl.zst", [row | {"split": "test" if i > 9 else "train"} for i, row in enumerate(rows)]
    )
    return str(tmp_path / "mr.jsonl.zst")


def test_icl(tiny, ships, capsys):
    told = ["icl", "tiny", "--data", ships, "--window", "2", "--memory-examples", "4", "--seeds", "2"]
    table = printed(capsys, *told)["mr"]
    assert list(table) == ["none", "2 in window", "4 in memory", "2 in window, 4 in memory"]
    assert all(len(row["seeds"]) == 2 for row in table.values())
    assert cli.main(["evaluate", *told]) == 0
    assert "always the commonest label" in capsys.readouterr().out


def test_a_task_takes_its_template_by_name_and_few_texts(ships, tmp_path):
    task = icl.task_of(ships, 3, None)
    assert task.template == icl.SENTIMENT and task.labels == ["bad", "good"]
    assert len(task.test) == 3 and len(task.train) == 10
    assert icl.task_of(ships, 0, r"{text}\nGood? {label}").asked("x") == "x\nGood?"
    write_jsonl(tmp_path / "odd.jsonl", [{"words": "x", "label": 1}])
    with pytest.raises(DocumentError, match="words"):
        icl.task_of(str(tmp_path / "odd.jsonl"), 3, None)


def test_hub_data_sets_name_their_labels(monkeypatch):
    class Part(list):
        features = {"label": argparse.Namespace(names=["negative", "positive"])}  # noqa: RUF012

    hidden = Part([{"sentence": "hidden", "label": -1}])
    train = Part([{"sentence": "bad", "label": 0}, {"sentence": "good", "label": 1}])
    parts = {"train": train, "validation": Part(train[1:]), "test": hidden}
    asked = []
    fake = ModuleType("datasets")
    fake.load_dataset = lambda *given: asked.append(given) or parts
    monkeypatch.setitem(sys.modules, "datasets", fake)
    task = icl.task_of("hub:glue:sst2", 0, None)
    assert asked == [("glue", "sst2")] and task.name == "sst2" and task.template == icl.SENTIMENT
    assert [(e.text, e.label) for e in task.test] == [("good", "positive")] and task.labels == ["negative", "positive"]
    del parts["validation"]
    with pytest.raises(DocumentError, match="with labels"):
        icl.task_of("hub:glue:sst2", 0, None)


GRID = ["--lengths", "200", "--depths", "0,1", "--capacities", "1,64", "--policies", "fifo", "--tries", "1"]


def test_kv_and_needle(tiny, capsys, tmp_path):
    for measure in ("kv", "needle"):
        rows = tmp_path / f"{measure}.jsonl"
        cells = printed(capsys, measure, "tiny", *GRID, "--answer-tokens", "2", "--rows", str(rows))
        assert [(cell["capacity"], cell["depth"]) for cell in cells] in (
            [(1, 0.0), (1, 1.0), (64, 0.0), (64, 1.0)],
            [(1, 0.0), (64, 0.0), (1, 1.0), (64, 1.0)],
        )
        held = {(cell["capacity"], cell["depth"]): cell["kept"] for cell in cells}
        assert held == {(1, 0.0): 1.0, (1, 1.0): 1.0, (64, 0.0): 0.0, (64, 1.0): 1.0}
        assert len(rows.read_text().splitlines()) == 4


def test_a_grid_as_a_table(tiny, capsys):
    assert cli.main(["evaluate", "kv", "tiny", *GRID, "--answer-tokens", "2"]) == 0
    _, heading, whole, small = capsys.readouterr().out.splitlines()
    assert heading.split() == ["length", "capacity", "policy", "0%", "100%"]
    assert whole.split()[:3] == ["200", "100%", "fifo"] and small.split()[:3] == ["200", "64", "fifo"]
    assert small.split()[3].endswith("/0") and small.split()[4].endswith("/100")


def test_a_needle_of_ones_own_in_a_text_of_ones_own(tiny, capsys, tmp_path):
    (tmp_path / "book.txt").write_text(BOOK)
    own = ["--needle", "The key is red.", "--question", "Which colour has the key?", "--expected", "red"]
    cells = printed(capsys, "needle", "tiny", *GRID, "--text", str(tmp_path / "book.txt"), *own, "--way", "passages")
    assert len(cells) == 4
    assert cli.main(["evaluate", "needle", "tiny", *GRID, *own[:2]]) == 2
    assert "Give all three" in capsys.readouterr().err
    assert cli.main(["evaluate", "needle", "tiny", *GRID, "--capacities", "2"]) == 2
    said = capsys.readouterr().err
    assert "At least one chunk" in said and "read" not in said, "refused before anything is read"
    assert cli.main(["evaluate", "needle", "tiny", *GRID, "--policies", "fifoo"]) == 2
    assert "fifoo" in capsys.readouterr().err


@pytest.mark.parametrize(("read", "wrong"), [(grids._shares, "0,1.5"), (grids._capacities, "0"), (grids._shares, "a")])
def test_wrong_lists_are_refused(read, wrong):
    with pytest.raises(argparse.ArgumentTypeError):
        read(wrong)


def test_settings_are_json_or_text():
    assert common.settings(["top_k=8", "policy=lru", "stored_layers=[2,3]"]) == {
        "top_k": 8,
        "policy": "lru",
        "stored_layers": (2, 3),
    }
    with pytest.raises(ConfigError):
        common.settings(["top_k"])


def test_the_command_of_a_saved_result_leaves_out_where_it_was_saved():
    told = ["evaluate", "kv", "m", "--save", "x/y.json", "--json", "--rows=z", "--tries", "2", "--rows", "r"]
    assert common._told(told) == ["evaluate", "kv", "m", "--json", "--tries", "2"]


def test_the_first_interrupt_stops_after_the_step_and_the_second_at_once(capsys):
    with common.Watch() as watch:
        assert watch("reading") is False
        watch._interrupt(2, None)
        assert watch("reading") is True
        with pytest.raises(KeyboardInterrupt):
            watch._interrupt(2, None)
    assert "Ctrl-C again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--save", "FILE/result.json"], "Nothing can be saved"),
        (["--rows", "FILE/rows.jsonl"], "Nothing can be saved"),
        (["--save", "FOLDER"], "is a folder"),
        (["--questions", "-1"], "--questions -1"),
        (["--limit", "-2"], "--limit -2"),
        (["perplexity", "--books", "none.txt", "--passages", "0"], "--passages 0"),
        (["icl", "--data", "none.jsonl", "--seeds", "0"], "--seeds 0"),
        (["needle", "--text", "none.txt", *"--needle x --question x --expected x".split()], "none.txt: No such file"),
        (["--top-k", "0"], "--top-k 0"),
        (["--top-k", "-1"], "--top-k -1"),
        (["--threads", "-1"], "--threads -1"),
        (["--answer-tokens", "0"], "--answer-tokens 0"),
        (["--capacity-tokens", "0,4k"], "--capacity-tokens 0"),
        (["--policy", "lrx"], "Did you mean 'lru'"),
        (["--memory", "topk=3"], "Did you mean 'top_k'"),
        (["--memory", "top_k"], "KEY=VALUE"),
        (["--memory", "top_k=many"], "top_k='many'"),
        (["--memory", "top_k=0"], "top_k=0"),
        (["--memory", "policy=lrx"], "Did you mean 'lru'"),
        (["--memory", "preset=owm"], "Did you mean 'own'"),
        (["--memory", "chunk_tokens=64", "window_tokens=100"], "window_tokens=100 with chunk_tokens=64"),
        (["--memory", "chunk_tokens=64", "capacity_tokens=32"], "capacity_tokens=32 with chunk_tokens=64"),
        (["perplexity", "--books", "none.txt", "--scored", "0"], "--scored 0"),
        (["perplexity", "--books", "none.txt", "--capacity-tokens", "0"], "--capacity-tokens 0"),
        (["perplexity", "--books", "none.txt", "--slide-tokens", "-5"], "--slide-tokens -5"),
        (["perplexity", "--books", "none.txt", "--newest", "-1"], "--newest -1"),
        (["perplexity", "--books", "none.txt", "--contexts", "0,1k"], "--contexts 0"),
        (["perplexity", "--books", "none.txt"], "Source 'none.txt'"),
        (["retrieval", "--source", "chronicle", "--at", "0,2"], "--at 0"),
        (["kv", "--tries", "0"], "--tries 0"),
        (["kv", "--lengths", "0"], "--lengths 0"),
        (["kv", "--answer-tokens", "0"], "--answer-tokens 0"),
        (["--retriever", "hashin"], "Did you mean 'hashing'"),
        (["--retriever", "sentence"], "sentence:MODEL"),
    ],
)
def test_what_would_cost_the_results_is_refused_before_anything_is_loaded(tmp_path, capsys, options, said):
    """The model does not exist: had it been looked for first, the refusal would be about that."""
    (tmp_path / "file").touch()
    places = {"FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path)}
    for word, place in places.items():
        options = [option.replace(word, place) for option in options]
    if options[0].startswith("--"):
        options = ["qa", "--source", "chronicle", "--tokens", "1000", *options]
    assert cli.main(["evaluate", options[0], str(tmp_path / "no-model"), *options[1:]]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--save", "--rows"])
@pytest.mark.parametrize("wrong", [["--top-k", "0"], ["--ways", "guess"], ["--type", "none"], []])
def test_a_refused_measurement_leaves_no_folder(tmp_path, option, wrong):
    """Whatever it is refused for: the last time because there is no such model."""
    model, result = str(tmp_path / "no-model"), str(tmp_path / "deep/er/result")
    assert cli.main(["evaluate", "qa", model, *"--source chronicle --tokens 1000".split(), option, result, *wrong]) == 2
    assert list(tmp_path.iterdir()) == []
