"""Sources take turns, and of each as many documents are used as its name says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from memlong.errors import ConfigError, DocumentError
from training.data import sources
from training.data.questions import Document


def numbered(name: str, count: int) -> Callable[[Path], Iterator[Document]]:
    return lambda data: ((f"{name}{number}", "", []) for number in range(count))


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sources.SOURCES, "a", numbered("a", 4))
    monkeypatch.setitem(sources.SOURCES, "b", numbered("b", 3))


def order(*names: str) -> list[str]:
    return [document[0] for document in sources.interleave(names, Path("."))]


def test_sources_take_turns_until_all_are_used_up() -> None:
    assert order("a", "b") == ["a0", "b0", "a1", "b1", "a2", "b2", "a3"]


def test_a_number_limits_one_source() -> None:
    assert order("a", "b:1") == ["a0", "b0", "a1", "a2", "a3"]
    assert order("a:9") == ["a0", "a1", "a2", "a3"]


@pytest.mark.parametrize("name", ["a:", "a:0", "a:-1", "a:x", "c:2"])
def test_what_is_no_source_or_no_number_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        order(name)


@pytest.mark.parametrize("name", ["squad", "swapped", "squad-eval", "fairytale", "qamr", "nq", "books", "local"])
def test_a_data_folder_that_is_not_there_is_named_with_the_setting_that_chooses_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data=.*nowhere") as refused:
        next(sources.open_source(name, tmp_path / "nowhere"))
    assert "data=FOLDER" in refused.value.do
    with pytest.raises(DocumentError, match=r"no file .*\.jsonl"):
        next(sources.open_source(name, tmp_path))


@pytest.mark.parametrize("name", ["chronicle", "a"])
def test_a_source_that_reads_no_file_needs_no_data_folder(name: str, tmp_path: Path) -> None:
    assert next(sources.open_source(name, tmp_path / "nowhere"))
