"""JSON lines: round trips, and a clear refusal of every kind of damage."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from memlong.errors import DocumentError
from training.data.jsonl import read_jsonl, write_jsonl

ROWS = [{"id": "a", "text": "one\ntwo \u2028 three"}, {"id": "b", "n": 3, "list": [1, [2, 3]]}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.jsonl.zst"])
def test_round_trip(tmp_path: Path, name: str) -> None:
    assert write_jsonl(tmp_path / name, ROWS) == 2
    assert list(read_jsonl(tmp_path / name)) == ROWS


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=5))
def test_any_text_round_trips(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    path = tmp_path_factory.mktemp("any") / "x.jsonl.zst"
    write_jsonl(path, rows, level=1)
    assert list(read_jsonl(path)) == rows


def test_a_large_window_and_several_frames_are_read(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=26)
    compressor = zstandard.ZstdCompressor(compression_params=parameters)
    path = tmp_path / "x.jsonl.zst"
    path.write_bytes(b"".join(compressor.compress(b'{"n": %d}\n' % n) for n in range(3)))
    assert [row["n"] for row in read_jsonl(path)] == [0, 1, 2]


def test_blank_lines_are_passed_over_and_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"a": 1}\n\n  \n{"a": 2}')
    assert [row["a"] for row in read_jsonl(path)] == [1, 2]


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": \n', "Line 2"),
        ("x.jsonl", b"[1, 2]\n", "is a list"),
        ("x.jsonl", b'{"a": "\xff\xfe"}\n', "not UTF-8"),
        ("x.jsonl.zst", b"not compressed", "not valid zstd"),
        ("x.jsonl.zst", zstandard.compress(b'{"a": 1}\n' * 1000)[:-4], "cut off"),
        ("x.csv", b"a,b\n", "not a JSON lines file"),
    ],
)
def test_damage_is_named_in_three_parts(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DocumentError, match=words) as caught:
        list(read_jsonl(tmp_path / name))
    assert caught.value.allowed and caught.value.do


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="There is no file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_writing_refuses_other_names(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"x\.json is not"):
        write_jsonl(tmp_path / "x.json", ROWS)
