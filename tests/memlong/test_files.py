"""Folders are whole or not there, whatever happens while they are made."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from memlong.files import files_hash, is_whole, sha256, whole_folder


def fill(target, text="weights"):
    with whole_folder(target, source="a test") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file.bin").write_text(text)


def test_a_finished_folder_is_whole(tmp_path):
    fill(tmp_path / "models" / "one")
    assert is_whole(tmp_path / "models" / "one")
    assert (tmp_path / "models" / "one" / "deep" / "file.bin").read_text() == "weights"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["one"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_files_may_be_read_by_whom_the_user_lets(tmp_path):
    before = os.umask(0o027)
    try:
        with whole_folder(tmp_path / "one") as folder:
            (folder / "weights").write_text("x")
            (folder / "weights").chmod(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "one" / "weights").stat().st_mode & 0o777 == 0o640


def test_an_error_leaves_nothing(tmp_path):
    def fail():
        with whole_folder(tmp_path / "one") as folder:
            (folder / "file.bin").write_text("half")
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_nothing_that_is_taken_for_whole(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from memlong.files import whole_folder\n"
        "with whole_folder(Path(sys.argv[1]) / 'one') as folder:\n"
        "    (folder / 'file.bin').write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "one").exists()
    (left,) = tmp_path.iterdir()
    os.utime(left, (0, 0))  # long ago
    fill(tmp_path / "one")
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("damage", ["shorten", "remove", "manifest"])
def test_a_damaged_folder_is_made_again(tmp_path, damage):
    target = tmp_path / "one"
    fill(target)
    file = target / "deep" / "file.bin"
    if damage == "shorten":
        file.write_text("w")
    elif damage == "remove":
        file.unlink()
    else:
        (target / "complete.json").write_text("{")
    assert not is_whole(target)
    fill(target)
    assert is_whole(target)
    assert file.read_text() == "weights"


def test_of_two_at_once_the_first_wins(tmp_path):
    target = tmp_path / "one"
    started, finish = threading.Event(), threading.Event()

    def slow():
        with whole_folder(target) as folder:
            (folder / "file.bin").write_text("second")
            started.set()
            finish.wait()

    thread = threading.Thread(target=slow)
    thread.start()
    started.wait()
    fill(target, "first")
    finish.set()
    thread.join()
    assert is_whole(target)
    assert (target / "deep" / "file.bin").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_hashes_follow_the_content(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"a")
    two.write_bytes(b"b")
    assert sha256(one) == hashlib.sha256(b"a").hexdigest() == files_hash([one])
    both = files_hash([one, two])
    two.write_bytes(b"cc")
    assert files_hash([one, two]) != both
