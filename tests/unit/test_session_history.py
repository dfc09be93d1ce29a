"""One session's records, read as they come."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument.errors import SessionNotFound
from pyjama_instrument.fold.document import new_document
from pyjama_instrument.reader import Reader
from pyjama_instrument.reader import reader as reader_module
from pyjama_instrument.reader.session_history import SessionRecords
from tests.stores import SESSION, START_US, Writer, a_call, call_begins, fold, session_begins


@pytest.fixture
def writer(own_store: Path) -> Iterator[Writer]:
    writer = Writer(own_store)
    yield writer
    writer.die()


@pytest.fixture
def records(own_store: Path) -> SessionRecords:
    return SessionRecords(str(own_store), [SESSION], keep=True)


def tools(records: SessionRecords) -> list[str]:
    return [str(record.get("tool")) for _, record in records.found]


def test_what_is_new_is_added_to_what_is_known(writer: Writer, records: SessionRecords) -> None:
    writer.write(a_call("one"), a_call("of another", session="b" * 32))
    assert records.refresh(new_document())
    writer.write(a_call("two"))
    assert records.refresh(new_document())
    assert tools(records) == ["one", "two"]


def test_news_of_other_sessions_are_no_change(writer: Writer, records: SessionRecords) -> None:
    writer.write(a_call("one"))
    records.refresh(new_document())
    writer.write(a_call("of another", session="b" * 32))
    assert not records.refresh(new_document())


def test_damage_and_long_lines_of_others_are_passed_over(writer: Writer, records: SessionRecords) -> None:
    writer.write(a_call("one"), a_call("other", session="b" * 32, arguments={"text": "x" * 50_000}))
    writer.raw(b"{damaged}\n" * 3000)
    writer.write(a_call("two", arguments={"text": "x" * 50_000}))
    records.refresh(new_document())
    assert tools(records) == ["one", "two"]


@pytest.mark.parametrize("before", range(256 * 1024 - 300, 256 * 1024, 60))
def test_a_session_is_found_in_the_history_wherever_it_lies(
    writer: Writer, records: SessionRecords, own_store: Path, before: int
) -> None:
    header = writer.path.stat().st_size
    writer.raw(b"x" * (before - header - 1) + b"\n")
    writer.write(a_call("one"))
    for _ in range(3):
        writer.journal.rotate()
        fold(own_store)
    records.refresh(new_document())
    assert tools(records) == ["one"]


def test_a_store_that_does_not_exist_holds_nothing(tmp_path: Path) -> None:
    records = SessionRecords(str(tmp_path / "nowhere"), [SESSION], keep=True)
    assert not records.refresh(new_document())
    assert records.found == []


def test_a_segment_that_moves_to_the_history_is_read_once(
    writer: Writer, records: SessionRecords, own_store: Path
) -> None:
    writer.write(a_call("one"))
    records.refresh(new_document())
    for _ in range(3):
        writer.journal.rotate()
        fold(own_store)
    writer.write(a_call("two"))
    records.refresh(new_document())
    assert tools(records) == ["one", "two"]


def test_segments_are_read_in_the_order_in_which_they_were_written(
    writer: Writer, records: SessionRecords, own_store: Path
) -> None:
    for tool in ("one", "two", "three"):
        writer.write(a_call(tool))
        writer.journal.rotate()
        fold(own_store)
    records.refresh(new_document())
    assert tools(records) == ["one", "two", "three"]


def test_what_a_clearing_took_away_is_forgotten(writer: Writer, records: SessionRecords, own_store: Path) -> None:
    writer.write(a_call("one"))
    records.refresh(new_document())
    shutil.rmtree(own_store)
    assert records.refresh(new_document())
    assert records.found == []


# -- the reader that keeps them


def test_a_reader_asked_again_gives_the_same_tree_until_something_is_new(writer: Writer) -> None:
    reader = Reader()
    writer.write(session_begins(), call_begins("open", span="1" * 16))
    first = reader.session(SESSION)
    assert reader.session(SESSION) is first
    writer.write(a_call("open", span="1" * 16, ts=START_US + 5))
    second = reader.session(SESSION)
    assert [call.status for call in first.root.children] == ["running"]
    assert [call.status for call in second.root.children] == ["ok"]


def test_a_reader_notices_that_the_process_of_a_session_died(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 0.0)
    reader = Reader()
    writer.write(session_begins(), call_begins("lost"))
    assert reader.session(SESSION).session.status == "running"
    writer.die()
    assert [call.status for call in reader.session(SESSION).root.children] == ["crashed"]


def test_a_reader_notices_that_a_session_was_cleared_away(writer: Writer, own_store: Path) -> None:
    reader = Reader()
    writer.write(session_begins())
    reader.session(SESSION)
    shutil.rmtree(own_store)
    with pytest.raises(SessionNotFound):
        reader.session(SESSION)


def test_a_reader_remembers_few_sessions_and_knows_all(writer: Writer) -> None:
    reader = Reader()
    ids = [f"{number:032x}" for number in range(9)]
    writer.write(*[session_begins(session) for session in ids])
    assert [reader.session(session).id for session in ids + ids] == ids + ids
