"""Folding what is new in all journals: each event once, and no death that is not proven."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyjama_instrument.fold.document import new_document
from pyjama_instrument.storage import journal_scan
from pyjama_instrument.storage.journal_scan import catch_up
from pyjama_instrument.storage.layout import SegmentName, list_segments
from pyjama_instrument.storage.snapshot import Snapshot, load
from tests.stores import Record, Writer, a_call, call_begins, dead_journal, fold, open_store, session_begins


def caught_up(writer: Writer, document: Record) -> Record:
    return catch_up(Snapshot(document, "whole"), writer.store.journal)[0]


def test_events_are_folded_once_however_often_one_looks(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call(), a_call())
    document = new_document()
    for _ in range(3):
        document = caught_up(writer, document)
    assert document["global"]["count"] == 2
    writer.die()


def test_nothing_new_is_no_change(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    snapshot = Snapshot(new_document(), "whole")
    assert [catch_up(snapshot, writer.store.journal)[1] for _ in range(2)] == [True, False]
    writer.die()


def test_a_death_is_a_change(own_store: Path) -> None:
    writer, other = Writer(own_store), Writer(own_store)
    writer.write(session_begins())
    snapshot = Snapshot(new_document(), "whole")
    catch_up(snapshot, other.store.journal)
    writer.die()
    assert catch_up(snapshot, other.store.journal)[1]
    other.die()


def test_a_writer_that_rotates_while_we_look_is_not_taken_for_dead(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())

    def rotate_after_listing(directory: int) -> list[SegmentName]:
        found = list_segments(directory)
        for _ in range(2):
            writer.journal.rotate()
            writer.write(a_call())
        return found

    monkeypatch.setattr(journal_scan, "list_segments", rotate_after_listing)
    document = caught_up(writer, new_document())
    assert document["global"]["count"] == 3
    assert {session["status"] for session in document["sessions"].values()} == {"running"}
    writer.die()


def test_a_call_in_a_child_process_depends_on_the_child_alone(own_store: Path) -> None:
    parent, child = Writer(own_store), Writer(own_store)
    parent.write(session_begins())
    child.write(call_begins("download"))
    document = caught_up(parent, new_document())
    child.die()
    document = caught_up(parent, document)
    (session,) = document["sessions"].values()
    assert session["status"] == "running"
    assert session["in-flight"] == {}
    assert [call["tool"] for call in session["interrupted"]] == ["download"]
    parent.die()


def test_offsets_of_segments_that_are_gone_are_forgotten(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    document = caught_up(writer, new_document())
    writer.path.unlink()
    document = caught_up(writer, document)
    assert (document["journals"], document["global"]["count"]) == ({}, 1)
    writer.die()


@pytest.mark.parametrize("after", [0, 1, 2])
def test_one_who_is_asked_to_stop_stops_between_two_batches(own_store: Path, after: int) -> None:
    writer = Writer(own_store)
    writer.write(*[a_call() for _ in range(1000)])  # some batches
    asked = iter(range(100))
    with pytest.raises(InterruptedError):
        catch_up(Snapshot(new_document(), "whole"), writer.store.journal, should_stop=lambda: next(asked) >= after)
    writer.die()


def test_a_directory_whose_files_cannot_be_looked_at_is_not_searched_for_ever(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One may list a directory that one may read but not enter; after a dead writer's last segment a next is looked for.
    dead_journal(own_store, session_begins(), a_call())
    fold(own_store)

    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with open_store(own_store) as store:
        snapshot = load(store.fd)
        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(os, "stat", refuse)
        document = catch_up(snapshot, store.journal).document
    assert document["global"]["count"] == 1
