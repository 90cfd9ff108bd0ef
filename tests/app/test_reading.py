"""What a visitor does with documents, without a page."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from app import reading
from app.context import App
from app.documents import Limits
from app.samples import samples
from app.sessions import Visit
from app.shelf import from_text, part_words
from app.tabs.cards import card, shelf
from app.tabs.pieces import error_box
from app.tabs.read import _emptied, _read_waiting, act, picture
from memlong.chunking import PageSpan
from memlong.errors import DocumentError, MemLongError


def test_a_document_is_estimated_read_and_reported(visit: Visit, long_text: str) -> None:
    item = reading.add_text(visit, long_text, "Log", Limits())
    assert item.state == "waiting"
    assert item.estimate is not None
    assert item.estimate.n_chunks == -(-item.estimate.n_tokens // 32)
    assert item.estimate.seconds is not None, "the engine measured its speed when it warmed up"
    for seconds, words in ((0.04, "<span>less than a second to read<"), (3.2, "<span>about 3.2 s to read<")):
        item.estimate = replace(item.estimate, seconds=seconds)
        assert words in card(item)
    seen = [each.state for each in reading.read_all(visit, show_every=0) if each]
    assert seen[0] == "reading"
    assert seen[-1] == "done"
    assert item.report is not None
    assert item.report.chunks_read == item.report.chunks_kept == item.estimate.n_chunks
    assert "chunks kept" in card(item)


def test_stop_keeps_what_was_read_and_resume_goes_on(visit: Visit, long_text: str) -> None:
    item = reading.add_text(visit, long_text, "Log", Limits())
    steps = reading.read_all(visit, show_every=0)
    next(steps)
    next(steps)
    reading.stop(visit)
    assert [each.state for each in steps if each][-1] == "stopped"
    assert item.report is not None
    kept = item.report.chunks_read
    assert 0 < kept < item.estimate.n_chunks  # type: ignore[union-attr]
    assert "Resume" in card(item)
    list(reading.read_all(visit))
    assert item.state == "done"
    assert len(item.doc_ids) == 1, "it was gone on with, not begun again"
    assert item.report.chunks_read == item.estimate.n_chunks  # type: ignore[union-attr]


def test_stop_can_be_pressed_as_long_as_something_is_read(visit: Visit, long_text: str) -> None:
    reading.add_text(visit, long_text, "Log", Limits())
    *_, stop = picture(visit)
    assert not stop.interactive, "what waits is not being read"
    assert all(picture(visit)[-1].interactive for _ in reading.read_all(visit, show_every=0))
    assert not picture(visit)[-1].interactive


def test_what_needs_no_reading_says_so(visit: Visit, long_text: str) -> None:
    with pytest.raises(DocumentError, match="Nothing waits to be read"):
        list(_read_waiting(visit))
    sample = samples()[0]
    reading.add_sample(visit, sample.name).document = from_text(long_text, sample.title, Limits())
    list(_read_waiting(visit))
    assert [item.state for item in visit.shelf] == ["done"]
    with pytest.raises(DocumentError, match="read already"):
        list(act(visit, "sample", sample.name))
    visit.reading = True  # what is added meanwhile is read by the first reader
    assert list(_read_waiting(visit)) == []


def test_a_text_that_was_refused_stays_in_its_box() -> None:
    refused = error_box(DocumentError("The text is empty", "At least one word", "Paste some text first"))
    assert _emptied("") == ["", ""] != _emptied(refused)


def test_small_bank_evicts_and_says_so(make_app: Callable[..., App], long_text: str) -> None:
    visit = make_app(capacity=320).visits.get("a")
    item = reading.add_text(visit, long_text, "Log", Limits())
    assert "times as large as the bank" in card(item)
    assert "under The bank" in card(item), "where the policy stands, whatever the width of the page"
    list(reading.read_all(visit))
    assert item.report is not None
    assert item.report.chunks_kept == 10
    assert "evicted" in card(item)


def test_errors_stay_at_their_file(visit: Visit, tmp_path: Path) -> None:
    good, empty, junk = tmp_path / "good.txt", tmp_path / "empty.txt", tmp_path / "junk.pdf"
    good.write_text("The harbour master kept a ledger.")
    empty.write_text("")
    junk.write_bytes(b"%PDF-1.4 nothing of the kind")
    list(reading.add_files(visit, [(path, path.name) for path in (empty, good, junk)], Limits()))
    states = {item.name: item.state for item in visit.shelf}
    assert states == {"empty.txt": "failed", "good.txt": "waiting", "junk.pdf": "failed"}
    list(reading.read_all(visit))
    failed = next(item for item in visit.shelf if item.name == "empty.txt")
    assert failed.error is not None
    assert failed.error.do in shelf(visit)
    reading.remove(visit, failed.item_id)
    assert "empty.txt" not in shelf(visit)


def test_a_file_kept_back_for_its_size_is_listed_with_the_reason(visit: Visit) -> None:
    item = reading.refuse_large(visit, "<b>.pdf", 3_000_000, Limits(file_bytes=2_000_000))
    assert item.state == "failed"
    assert item.error is not None
    assert (item.error.given, item.error.do[:8]) == ("<b>.pdf: The file has 3.0 MB.", "Split it")
    assert "&lt;b&gt;.pdf" in card(item)
    assert "2.0 MB" in card(item)
    assert visit.shelf.next_unread() is None


def test_removing_frees_chunks_and_reading_anew_brings_them_back(visit: Visit, long_text: str) -> None:
    item = reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    session = visit.memory()
    n = len(session.bank)
    reading.read_again(visit, item.item_id)
    assert len(session.bank) == 0
    assert item.state == "waiting"
    list(reading.read_all(visit))
    assert len(session.bank) == n
    assert item.doc_ids == [0, 1]
    assert visit.shelf.of_doc(0) is item
    reading.remove(visit, item.item_id)
    assert len(session.bank) == 0
    with pytest.raises(DocumentError, match="not here"):
        reading.remove(visit, item.item_id)


def test_removing_while_reading_ends_it_and_the_next_follows(visit: Visit, long_text: str) -> None:
    first = reading.add_text(visit, long_text, "First", Limits())
    second = reading.add_text(visit, long_text[:900], "Second", Limits())
    steps = reading.read_all(visit, show_every=0)
    next(steps)
    next(steps)
    reading.remove(visit, first.item_id)
    list(steps)
    assert second.state == "done"
    assert {record.doc_id for record in visit.memory().bank.records()} == {second.doc_id}


def test_documents_added_meanwhile_are_read_by_the_first_reader(visit: Visit, long_text: str) -> None:
    reading.add_text(visit, long_text, "First", Limits())
    steps = reading.read_all(visit, show_every=0)
    next(steps)
    late = reading.add_text(visit, long_text[:900], "Late", Limits())
    assert list(reading.read_all(visit)) == [], "there is a reader already"
    list(steps)
    assert late.state == "done"
    assert not visit.reading


def test_one_that_is_wanted_is_read_alone(visit: Visit, long_text: str) -> None:
    first, second, third = (reading.add_text(visit, long_text, name, Limits()) for name in ("First", "Second", "Third"))
    list(reading.read_all(visit, only=second))
    assert [item.state for item in visit.shelf] == ["waiting", "done", "waiting"]
    steps = reading.read_all(visit, show_every=0, only=first)
    next(steps), next(steps)
    late = reading.add_text(visit, long_text[:900], "Late", Limits())
    assert list(reading.read_all(visit, only=third)) == [], "there is a reader already, which is told of it"
    assert shelf(visit).count("Will be read") == 1 and shelf(visit).count("Ready to read") == 1
    assert "Read: Third" not in shelf(visit) and "Read: Late" in shelf(visit), "nothing is left to be asked for"
    list(steps)
    assert "Will be read" not in shelf(visit)
    assert [item.state for item in visit.shelf] == ["done", "done", "done", "waiting"]
    list(reading.read_all(visit))
    assert late.state == "done"


def test_what_stop_left_is_wanted_no_longer(visit: Visit, long_text: str) -> None:
    items = [reading.add_text(visit, long_text, name, Limits()) for name in ("First", "Second", "Third")]
    steps = reading.read_all(visit, show_every=0)
    next(steps), next(steps)
    reading.stop(visit)
    list(steps)
    assert [item.state for item in items] == ["stopped", "waiting", "waiting"]
    list(reading.read_all(visit, only=items[2]))
    assert [item.state for item in items] == ["stopped", "waiting", "done"]
    list(reading.read_all(visit, only=items[0]))
    assert [item.state for item in items] == ["done", "waiting", "done"]


def test_a_sample_and_a_card_read_what_they_name(visit: Visit, long_text: str) -> None:
    waits = reading.add_text(visit, long_text, "Waits", Limits())
    sample = samples()[0]
    reading.add_sample(visit, sample.name).document = from_text(long_text, sample.title, Limits())
    list(act(visit, "sample", sample.name))
    assert [item.state for item in visit.shelf] == ["waiting", "done"]
    other = reading.add_text(visit, long_text[:900], "Other", Limits())
    list(act(visit, "read", str(other.item_id)))
    list(act(visit, "again", "1"))
    assert [item.state for item in visit.shelf] == ["waiting", "done", "done"] and not waits.doc_ids


def test_capacity_and_policy_change_at_once(visit: Visit, long_text: str) -> None:
    reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    before = len(visit.memory().bank)
    gone = reading.set_bank(visit, 320, "lru")
    assert len(gone) == before - 10
    assert visit.memory().config.policy == "lru"
    with pytest.raises(MemLongError):
        reading.set_bank(visit, 320, "by mood")
    with pytest.raises(MemLongError):
        reading.set_bank(visit, 1, "lru")
    assert len(visit.memory().bank) == 10


def test_pasted_text_is_checked(visit: Visit) -> None:
    with pytest.raises(DocumentError, match="empty"):
        reading.add_text(visit, " \n ", "", Limits())
    with pytest.raises(DocumentError, match="At most 5"):
        reading.add_text(visit, "too long a text", "", Limits(characters=5))
    assert reading.add_text(visit, "A first line\nand more", "", Limits()).title == "A first line"


def test_a_text_that_is_here_already_says_so(visit: Visit, long_text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text(long_text)
    first, twin, other = (
        list(reading.add_files(visit, [(path, "log.txt")], Limits()))[-1],
        list(reading.add_files(visit, [(path, "copy.txt")], Limits()))[-1],
        reading.add_text(visit, "Another text altogether.", "", Limits()),
    )
    assert "here already" in shelf(visit)
    assert [reading.TWIN in each.document.warnings for each in (first, twin, other) if each.document] == [
        False,
        True,
        False,
    ]
    assert reading.TWIN in reading.add_text(visit, "Another text altogether.", "", Limits()).document.warnings  # type: ignore[union-attr]
    reading.remove(visit, first.item_id)
    reading.remove(visit, twin.item_id)
    assert reading.TWIN not in list(reading.add_files(visit, [(path, "log.txt")], Limits()))[-1].document.warnings  # type: ignore[union-attr]


def test_a_document_whose_tokens_are_not_counted_yet_says_what_it_waits_for(visit: Visit) -> None:
    item = reading.add_text(visit, "The harbour master kept a ledger.", "Log", Limits())
    item.estimate = None
    assert "counting its tokens" in shelf(visit), "the model is there"
    assert "when the model is loaded" in card(item, loaded=False)


def test_titles_of_strangers_are_escaped(visit: Visit) -> None:
    reading.add_text(visit, "words", "<img src=x onerror=alert(1)>", Limits())
    assert "<img" not in shelf(visit)


def test_samples_are_there_short_one_first_and_open(visit: Visit) -> None:
    found = samples()
    assert [sample.tokens for sample in found] == sorted(sample.tokens for sample in found)
    assert len(found) >= 2
    assert all(sample.path.is_file() and sample.questions for sample in found)
    item = reading.add_sample(visit, found[0].name)
    assert reading.add_sample(visit, found[0].name) is item
    assert item.parts.endswith("chapters")
    with pytest.raises(DocumentError, match="no sample"):
        reading.add_sample(visit, "nothing")


def test_questions_about_the_newest_text_come_first(visit: Visit) -> None:
    first, second = samples()[:2]
    for each in (first, second):
        reading.add_sample(visit, each.name).state = "done"
    assert visit.shelf.questions[: len(second.questions)] == second.questions, "the page shows only some of them"
    assert set(first.questions) <= set(visit.shelf.questions)


def test_parts_in_words() -> None:
    assert part_words(()) == ""
    assert part_words((PageSpan(0, 5, "page 1"), PageSpan(5, 9, "page 2"))) == "2 pages"
    assert part_words((PageSpan(0, 5, "page 1"),)) == "1 page"
    assert part_words((PageSpan(0, 5, "opening"), PageSpan(5, 9, "I"), PageSpan(9, 12, "II"))) == "2 chapters"
    assert part_words((PageSpan(0, 9, "A heading"),)) == "", "the heading of all of it parts nothing"


def test_a_long_document_is_cut_some_at_a_turn(visit: Visit, long_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "CUT_AT_ONCE", 4)
    taken: list[str] = []
    real = visit.engine.turns.turn
    monkeypatch.setattr(visit.engine.turns, "turn", lambda kind="question": taken.append(kind) or real(kind))
    item = reading.add_text(visit, long_text, "Log", Limits())
    assert item.estimate is not None
    assert len(taken) > item.estimate.n_chunks / 4
    assert set(taken) == {"reading"}
    list(reading.read_all(visit))
    assert item.report is not None
    assert item.report.chunks_read == item.estimate.n_chunks


def test_a_bank_that_cannot_be_set_stays_as_it_was(visit: Visit, long_text: str) -> None:
    item = reading.add_text(visit, long_text, "Log", Limits())
    list(reading.read_all(visit))
    for capacity in (-5, 0, 8, 10**15):
        with pytest.raises(MemLongError) as refused:
            reading.set_bank(visit, capacity, "fifo")
        assert "capacity" in str(refused.value)
        assert not set("=_") & set(str(refused.value)), "words of the page, not of the code"
        session = visit.memory()
        assert (session.config.policy, session.bank.policy.name) == ("trigger_count", "trigger_count")
        assert session.config.capacity_tokens == 32 * 400
    assert item.report is not None
    assert reading.set_bank(visit, 320, "fifo") == list(range(item.report.chunks_read - 10))


def test_a_sample_clicked_many_times_is_added_once(visit: Visit) -> None:
    with ThreadPoolExecutor(4) as pool:
        items = list(pool.map(lambda _: reading.add_sample(visit, samples()[0].name), range(4)))
    assert len(visit.shelf) == 1
    assert all(item is items[0] for item in items)
