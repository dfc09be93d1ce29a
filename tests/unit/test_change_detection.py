"""Whether anything has happened in a store is known without reading it, and nothing that happens is missed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.reader import Reader
from pyjama_instrument.reader import reader as reader_module
from pyjama_instrument.storage import change_detection
from tests.stores import AGENT, SESSION, Writer, a_call, call_begins, dead_journal, fold, session_begins, session_ends


@pytest.fixture
def writer(own_store: Path) -> Iterator[Writer]:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    yield writer
    writer.die()


@pytest.fixture
def reader(writer: Writer, own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """One that has read everything, and looks at the locks whenever it is asked."""
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 0.0)
    return settled(Reader(own_store))


def settled(reader: Reader) -> Reader:
    for _ in range(2):  # the watch begins with the second time
        revision = reader.revision()
        reader.dashboard()
    assert reader.revision() == revision
    return reader


def refuse(*args: Any, **options: Any) -> Any:
    raise AssertionError("the store was read")


def test_while_nothing_happens_the_store_is_not_read(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "catch_up", refuse)
    monkeypatch.setattr(reader_module, "load", refuse)
    before = reader.revision()
    for _ in range(5):
        assert reader.dashboard().metrics.global_.count == 1
        assert reader.metrics()["global"]["count"] == 1
        assert reader.revision() == before


def test_whoever_reads_once_only_does_not_pay_for_the_watch(
    writer: Writer, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(change_detection.ChangeDetector, "has_changed", refuse)
    assert Reader(own_store).dashboard().metrics.global_.count == 1


NEWS: dict[str, Callable[[Writer, Path], Any]] = {
    "bytes appended": lambda writer, home: writer.write(a_call()),
    "a torn tail appended": lambda writer, home: writer.raw(b'{"kind'),
    "a newline that completes a record": lambda writer, home: writer.raw(b"\n"),
    "a new segment of the same writer": lambda writer, home: writer.journal.rotate(),
    "a new writer": lambda writer, home: dead_journal(home, session_begins("a" * 32), session_ends("a" * 32)),
    "a writer that dies": lambda writer, home: os.close(os.dup(writer.journal.fd)) or writer.journal.close(),
    "a fold": lambda writer, home: fold(home),
    "metrics.json removed": lambda writer, home: (home / "metrics.json").unlink(),
    "metrics.json emptied": lambda writer, home: (home / "metrics.json").write_bytes(b""),
    "metrics.json damaged": lambda writer, home: (home / "metrics.json").write_bytes(b"junk"),
    "metrics.json replaced by the same": lambda writer, home: replace(home / "metrics.json"),
    "metrics.json written by the original": lambda writer, home: (home / "metrics.json").write_text('{"tools": {}}'),
    "a segment truncated": lambda writer, home: os.truncate(writer.path, 0),
    "a segment removed": lambda writer, home: writer.path.unlink(),
    "the journal removed": lambda writer, home: shutil.rmtree(home / "journal"),
    "the history removed": lambda writer, home: shutil.rmtree(home / "history", ignore_errors=True),
    "the store removed": lambda writer, home: shutil.rmtree(home),
    "the store replaced": lambda writer, home: (home.rename(f"{home}-old"), home.mkdir()),
    "a lock of the original's": lambda writer, home: (home / "metrics.lock").touch(),
}


def replace(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copyfile(path, copy)
    copy.replace(path)


@pytest.mark.parametrize("what", NEWS)
def test_whatever_happens_is_noticed_and_then_it_is_quiet_again(writer: Writer, own_store: Path, what: str) -> None:
    fold(own_store)
    fold(own_store)
    (own_store / "history").mkdir(exist_ok=True)
    reader = Reader(own_store)
    reader._probed_at = float("-inf")
    settled(reader)
    before = reader.revision()
    if what == "a fold":
        writer.write(a_call())
    NEWS[what](writer, own_store)
    reader._probed_at = float("-inf")
    assert reader.revision() != before
    after = reader.revision()
    reader.dashboard()
    reader.dashboard()
    assert reader.revision() == after or reader.revision() == after + 1
    assert reader.dashboard().model_dump(exclude={"timestamp"}) == Reader(own_store).dashboard().model_dump(
        exclude={"timestamp"}
    )


def test_a_death_is_noticed_although_nothing_is_written(reader: Reader, writer: Writer) -> None:
    assert reader.dashboard().sessions[SESSION].status == "running"
    writer.journal.close()
    assert reader.dashboard().sessions[SESSION].status == "crashed"
    assert reader.dashboard().agents[AGENT].status == "crashed"


def test_a_death_right_after_a_read_that_did_not_look_at_the_locks_is_noticed(
    writer: Writer, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(call_begins())
    fold(own_store)
    reader = settled(Reader(own_store))
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 1e9)  # somebody has just looked
    dead_journal(own_store, session_begins("d" * 32), a_call(session="d" * 32))
    writer.journal.close()
    assert reader.dashboard().metrics.global_.count == 2
    assert reader.dashboard().sessions[SESSION].status == "running"  # what is new was read; the lock was not looked at
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 0.0)
    session = reader.dashboard().sessions[SESSION]
    assert (session.status, [call.tool for call in session.interrupted]) == ("crashed", ["search"])


def test_what_happens_during_a_read_is_news_after_it(
    reader: Reader, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = reader_module.catch_up

    def late(*args: Any, **options: Any) -> Any:
        caught_up = whole(*args, **options)
        writer.write(a_call())
        monkeypatch.setattr(reader_module, "catch_up", whole)
        return caught_up

    monkeypatch.setattr(reader_module, "catch_up", late)
    writer.write(a_call())
    assert reader.dashboard().metrics.global_.count == 2
    assert reader.dashboard().metrics.global_.count == 3


def test_a_segment_that_comes_in_the_same_tick_of_the_directory_s_clock_is_noticed(
    reader: Reader, own_store: Path
) -> None:
    journal = own_store / "journal"
    reader.dashboard()
    stamp = journal.stat().st_mtime_ns
    dead_journal(own_store, session_begins("b" * 32), a_call(session="b" * 32))
    os.utime(journal, ns=(stamp, stamp))  # as a file system with a slow clock would have it
    assert reader.dashboard().metrics.global_.count == 2


def test_a_directory_that_has_long_been_the_same_is_not_listed_again(
    reader: Reader, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long_ago = time.time_ns() - 10**11
    os.utime(own_store / "journal", ns=(long_ago, long_ago))
    settled(reader)
    monkeypatch.setattr(change_detection, "list_segments", refuse)
    before = reader.revision()
    assert reader.revision() == before


def test_segments_of_dead_writers_are_not_looked_at_one_by_one(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [dead_journal(own_store, session_begins("c" * 32), session_ends("c" * 32)).filename for _ in range(5)]
    reader = settled(Reader(own_store))
    looked_at: list[str] = []
    identity = change_detection.identity
    monkeypatch.setattr(
        change_detection, "identity", lambda place, name: looked_at.append(name) or identity(place, name)
    )
    reader.revision()
    assert looked_at
    assert not set(looked_at) & set(names)


def test_where_locks_keep_nobody_out_nobody_is_asked_about_them(
    own_store: Path, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 0.0)
    monkeypatch.setattr(reader_module, "locks_are_trusted", lambda document: False)
    reader = settled(Reader(own_store))
    monkeypatch.setattr(change_detection.ChangeDetector, "has_dead_writer", refuse)
    reader.revision()


def test_a_store_that_cannot_be_read_is_tried_again_each_time(reader: Reader, own_store: Path) -> None:
    (own_store / "metrics.json").write_text('{"schema": 99, "journals": {}}')
    for _ in range(3):
        assert "newer version" in reader.dashboard().health.notes[0]
        assert reader.revision() != reader._reads
    (own_store / "metrics.json").unlink()
    assert reader.dashboard().metrics.global_.count == 1


def test_a_store_that_does_not_exist_is_as_quiet_as_any_and_its_making_is_news(tmp_path: Path) -> None:
    home = tmp_path / "later"
    reader = settled(Reader(home))
    before = reader.revision()
    dead_journal(home, session_begins(), a_call(), session_ends())
    assert reader.revision() != before
    assert reader.dashboard().metrics.global_.count == 1


def test_a_note_that_comes_with_time_is_news(reader: Reader, own_store: Path) -> None:
    lock = own_store / "metrics.lock"
    lock.touch()
    settled(reader)
    assert reader.dashboard().health.notes == []
    before = reader.revision()
    long_ago = time.time() - 125
    os.utime(lock, (long_ago, long_ago))
    assert reader.revision() != before
    assert "for 2 min" in reader.dashboard().health.notes[0]
    settled(reader)
