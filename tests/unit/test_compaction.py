"""Compaction: what a run leaves on disk, whatever it found there."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.errors import SchemaTooNew
from pyjama_instrument.reader import read_metrics
from pyjama_instrument.storage import compaction, segment_reader
from pyjama_instrument.storage.atomic_replace import replace_keeping_previous
from pyjama_instrument.storage.compaction import clear, compact, goes_on
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.storage.journal_scan import catch_up
from pyjama_instrument.storage.layout import list_segments
from pyjama_instrument.storage.liveness import hold
from pyjama_instrument.storage.snapshot import load
from pyjama_instrument.storage.snapshot_lock import try_lock
from pyjama_instrument.storage.store_directory import Store
from tests.stores import Writer, a_call, dead_journal, fold, open_store, session_begins, session_ends, snapshot


def names(*parts: object) -> list[str]:
    return sorted(os.listdir(os.path.join(*map(str, parts))))


def now_us() -> int:
    return time.time_ns() // 1000


def test_a_fold_brings_the_snapshot_up_to_date(own_store: Path) -> None:
    dead_journal(own_store, a_call(), a_call("write"))
    assert fold(own_store) == "folded"
    document = snapshot(own_store)
    assert document["global"]["count"] == 2
    assert (document["schema"], document["generation"]) == (1, 1)


def test_with_nothing_new_nothing_is_written(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    before = (own_store / "metrics.json").stat()
    assert fold(own_store) == "current"
    assert (own_store / "metrics.json").stat() == before
    writer.die()


def test_the_snapshot_is_its_owner_s_alone(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    fold(own_store)
    assert (own_store / "metrics.json").stat().st_mode & 0o777 == 0o600


def test_a_dead_writer_s_journal_leaves_once_two_generations_cover_it(own_store: Path) -> None:
    fold(own_store)
    name = dead_journal(own_store, a_call())
    fold(own_store)
    assert names(own_store, "journal") == [name.filename]
    fold(own_store)
    assert (names(own_store, "journal"), names(own_store, "history")) == ([], [name.filename])


def test_a_first_fold_writes_both_generations_so_that_a_dead_writer_s_journal_leaves_at_once(own_store: Path) -> None:
    name = dead_journal(own_store, a_call())
    fold(own_store)
    assert snapshot(own_store) == snapshot(own_store, "metrics.json.prev")
    assert (names(own_store, "journal"), names(own_store, "history")) == ([], [name.filename])


def test_folds_come_to_rest(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    outcomes = [fold(own_store) for _ in range(5)]
    assert outcomes[-1] == "current"
    assert snapshot(own_store)["journals"] == {}
    assert snapshot(own_store)["global"]["count"] == 1


def test_a_live_writer_s_journal_stays(own_store: Path) -> None:
    writer = Writer(own_store)
    for _ in range(4):
        writer.write(a_call())
        fold(own_store)
    assert names(own_store, "journal") == [writer.journal.name.filename]
    assert snapshot(own_store)["global"]["count"] == 4
    writer.die()


def test_all_processes_but_one_leave_the_work_to_it(own_store: Path) -> None:
    with open_store(own_store) as store, try_lock(store.fd):
        assert fold(own_store) == "busy"


def test_a_run_that_is_given_up_has_changed_nothing(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    assert fold(own_store, should_stop=lambda: True) == "busy"
    assert not (own_store / "metrics.json").exists()
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1


def test_an_original_at_work_is_not_disturbed(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    (own_store / "metrics.lock").touch()
    with open_store(own_store) as store:
        assert compact(store, original_wait_seconds=0.02) == "busy"
    assert not (own_store / "metrics.json").exists()


def test_what_an_original_has_counted_is_added_to(own_store: Path) -> None:
    dead_journal(own_store, a_call("search"))
    theirs = {
        "tools": {"search": {"count": 5, "success": 5, "error": 0, "total-duration": 50.0, "durations": [1.5]}},
        "global": {"count": 5, "success": 5, "error": 0, "total-duration": 50.0},
        "custom": {"kept": True},
    }
    (own_store / "metrics.json").write_text(json.dumps(theirs))
    fold(own_store)
    document = snapshot(own_store)
    assert (document["tools"]["search"]["count"], document["global"]["count"]) == (6, 6)
    assert document["tools"]["search"]["durations"] == [1.5]
    assert document["custom"] == {"kept": True}


def test_keys_that_are_not_ours_stay(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    (own_store / "metrics.json").write_text(json.dumps(snapshot(own_store) | {"note": "mine"}))
    writer.write(a_call())
    fold(own_store)
    assert (snapshot(own_store)["note"], snapshot(own_store)["global"]["count"]) == ("mine", 2)
    writer.die()


# -- clearing


def test_removing_the_snapshot_sets_totals_to_zero_and_keeps_what_runs(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins("a" * 32), a_call(session="a" * 32), session_begins("b" * 32), session_ends("b" * 32))
    fold(own_store)
    (own_store / "metrics.json").unlink()
    fold(own_store)
    document = snapshot(own_store)
    assert document["global"].get("count", 0) == 0
    assert {sid: session["status"] for sid, session in document["sessions"].items()} == {"a" * 32: "running"}
    writer.die()


def test_after_a_removal_only_what_came_later_counts(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call(), a_call())
    fold(own_store)
    writer.write(a_call())
    (own_store / "metrics.json").unlink()
    writer.write(a_call(ts=now_us() + 1_000_000))
    for _ in range(2):
        assert read_metrics(own_store)["global"]["count"] == 1
        fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1
    writer.die()


def test_an_original_s_clear_keeps_the_offsets(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    (own_store / "metrics.json").write_text("{}")
    fold(own_store)
    writer.write(a_call())
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1
    writer.die()


def test_clearing_sets_totals_to_zero_for_everybody_at_once(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    writer.write(a_call())
    with open_store(own_store) as store:
        assert clear(store)
    writer.write(a_call(ts=now_us()))
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1
    assert snapshot(own_store)["agents"]["researcher"]["runs"]["running"] == 1
    writer.die()


def test_clearing_a_corrupt_store_makes_it_sound(own_store: Path) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    (own_store / "metrics.json").write_text("{")
    with open_store(own_store) as store:
        assert clear(store)
    assert snapshot(own_store)["global"].get("count", 0) == 0
    writer.die()


def test_clearing_waits_for_nobody_for_ever(own_store: Path) -> None:
    with open_store(own_store) as store, try_lock(store.fd):
        assert not clear(store, wait_seconds=0.02)


# -- damage


def test_a_corrupt_snapshot_is_kept_aside_and_recovered_from_its_predecessor_and_the_journals(own_store: Path) -> None:
    writer = Writer(own_store)
    for _ in range(3):
        writer.write(a_call())
        fold(own_store)
    (own_store / "metrics.json").write_bytes(b'{"half": ')
    writer.write(a_call())
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 4
    (kept,) = own_store.glob("metrics.json.corrupt-*")
    assert kept.read_bytes() == b'{"half": '
    writer.die()


def test_a_corrupt_snapshot_loses_nothing_that_was_retired_meanwhile(own_store: Path) -> None:
    for _ in range(4):
        dead_journal(own_store, a_call())
        fold(own_store)
    (own_store / "metrics.json").write_bytes(b"")
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 4


def test_only_the_newest_corrupt_snapshots_are_kept(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    for number in range(5):
        (own_store / "metrics.json").write_text(f"corrupt {number}")
        fold(own_store)
    kept = sorted(own_store.glob("metrics.json.corrupt-*"))
    assert [path.read_text() for path in kept] == ["corrupt 2", "corrupt 3", "corrupt 4"]


def test_a_directory_in_the_snapshot_s_place_is_moved_aside(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    (own_store / "metrics.json").mkdir()
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1


@pytest.mark.parametrize("section", ["agents", "sessions", "tools", "global", "recent-logs", "rate", "health"])
@pytest.mark.parametrize("value", [None, 7, "text", [1, "x", None], {"x": 1}, {"x": {"runs": 5, "calls": []}}])
def test_a_section_that_somebody_broke_stops_no_fold(own_store: Path, section: str, value: object) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    (own_store / "metrics.json").write_text(json.dumps(snapshot(own_store) | {section: value}))
    writer.write(a_call())
    assert fold(own_store) == "folded"
    assert snapshot(own_store)["global"]["count"] >= 1
    writer.die()


def test_a_newer_schema_is_never_overwritten(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    (own_store / "metrics.json").write_text('{"schema": 2, "journals": {}}')
    with pytest.raises(SchemaTooNew):
        fold(own_store)
    assert (own_store / "metrics.json").read_text() == '{"schema": 2, "journals": {}}'
    assert not (own_store / "metrics.lock").exists()


def test_a_segment_that_a_listing_left_out_is_neither_forgotten_nor_counted_again(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    offsets = snapshot(own_store)["journals"]
    with monkeypatch.context() as patch:  # what a directory shows while another thread changes it
        patch.setattr("pyjama_instrument.storage.journal_scan.list_segments", lambda directory: [])
        assert fold(own_store) == "current"
        writer.write(a_call())
        assert fold(own_store) == "folded"
    writer.write(a_call())
    fold(own_store)
    document = snapshot(own_store)
    assert offsets.keys() == document["journals"].keys()
    assert document["global"]["count"] == 3
    assert {session["status"] for session in document["sessions"].values()} == {"running"}
    writer.die()


def test_a_segment_that_can_neither_be_listed_nor_looked_at_keeps_its_offset(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, "broken for now")

    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    with open_store(own_store) as store:
        before = load(store.fd, 0)
        offsets = dict(before.document["journals"])
        monkeypatch.setattr("pyjama_instrument.storage.journal_scan.list_segments", lambda directory: [])
        monkeypatch.setattr("pyjama_instrument.storage.journal_scan.os.stat", broken)
        monkeypatch.setattr("pyjama_instrument.storage.journal_scan.os.open", broken)
        after = catch_up(before, store.journal).document
    assert after["journals"] == offsets
    assert {session["status"] for session in after["sessions"].values()} == {"running"}
    writer.die()


def test_a_segment_whose_successor_alone_was_listed_is_folded_before_it(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(own_store)
    writer.write(session_begins())
    for _ in range(2):
        writer.journal.rotate()
        writer.write(a_call())
    writer.write(session_ends())
    with monkeypatch.context() as patch:
        patch.setattr(
            "pyjama_instrument.storage.journal_scan.list_segments", lambda journal: list_segments(journal)[2:]
        )
        fold(own_store)
    fold(own_store)
    document = snapshot(own_store)
    assert [session["status"] for session in document["sessions"].values()] == ["completed"]
    assert document["global"]["count"] == 2
    writer.die()


@pytest.mark.parametrize("schema", [0, -3, 0.5, "1", None, [1]])
def test_an_older_schema_or_none_is_read_and_brought_up_to_date(own_store: Path, schema: object) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    document = snapshot(own_store) | {"schema": schema, "from-then": {"kept": True}}
    (own_store / "metrics.json").write_text(json.dumps(document))
    assert read_metrics()["global"]["count"] == 1
    writer.write(a_call())
    assert fold(own_store) == "folded"
    document = snapshot(own_store)
    assert (document["schema"], document["global"]["count"], document["from-then"]) == (1, 2, {"kept": True})
    writer.die()


def test_a_full_disk_leaves_the_snapshot_as_it_was(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    before = (own_store / "metrics.json").read_bytes()
    writer.write(a_call())

    def fail(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="No space"):
            fold(own_store)
    assert (own_store / "metrics.json").read_bytes() == before
    assert not (own_store / "metrics.lock").exists()
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 2
    writer.die()


# -- things that vanish meanwhile


def test_a_snapshot_removed_during_a_fold_stays_removed(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    writer.write(a_call())
    whole = replace_keeping_previous

    def remove_first(*args: Any) -> None:
        (own_store / "metrics.json").unlink()
        whole(*args)

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "replace_keeping_previous", remove_first)
        assert fold(own_store) == "busy"
    fold(own_store)
    assert snapshot(own_store)["global"].get("count", 0) == 0
    writer.die()


@pytest.mark.parametrize("anew", [False, True])
def test_a_store_removed_before_a_fold_is_not_written_to(own_store: Path, anew: bool) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    shutil.rmtree(own_store)
    if anew:
        Store(str(own_store)).close()
    assert compact(writer.store) == "busy"
    assert not (own_store / "metrics.json").exists()
    writer.die()


def test_a_store_removed_during_a_fold_is_not_made_anew(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    whole: Any = catch_up

    def remove_first(*args: object, **options: object) -> object:
        shutil.rmtree(own_store)
        return whole(*args, **options)

    monkeypatch.setattr(compaction, "catch_up", remove_first)
    assert compact(writer.store) == "busy"
    assert not own_store.exists()
    writer.die()


# -- bounds


def test_two_thousand_short_lives_leave_a_bounded_number_of_files(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_HISTORY_FILES", 300)
    for _ in range(20):
        for _ in range(100):
            dead_journal(own_store, a_call())
        fold(own_store)
    for _ in range(20):  # what one living agent does from time to time
        dead_journal(own_store, a_call())
        fold(own_store)
    assert len(names(own_store, "journal")) <= 2
    assert len(names(own_store, "history")) <= 300 + 16
    assert len(snapshot(own_store)["journals"]) <= 2
    assert len(snapshot(own_store)["writers"]) <= 2
    assert read_metrics(own_store)["global"]["count"] == 2020


def test_history_beyond_its_size_goes_oldest_first(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_TIDY_EVERY", 1)
    segments = [dead_journal(own_store, a_call()) for _ in range(4)]
    for age, name in enumerate(reversed(segments)):
        os.utime(own_store / "journal" / name.filename, (time.time() - age * 60,) * 2)
    size = (own_store / "journal" / segments[0].filename).stat().st_size
    monkeypatch.setattr(compaction, "_HISTORY_BYTES", 2 * size + size // 2)
    fold(own_store)
    fold(own_store)
    assert names(own_store, "history") == sorted(name.filename for name in segments[2:])


def test_history_beyond_its_age_goes(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_TIDY_EVERY", 1)
    old, young = dead_journal(own_store, a_call()), dead_journal(own_store, a_call())
    os.utime(own_store / "journal" / old.filename, (0, 0))
    fold(own_store)
    fold(own_store)
    assert names(own_store, "history") == [young.filename]


def test_a_segment_that_was_never_published_is_removed_unless_somebody_is_at_it(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "_TIDY_EVERY", 1)
    writer = Writer(own_store)
    (own_store / "journal" / ".00ff00ff00ff00ff-1.jsonl.tmp").write_text("half a header")
    at_work = own_store / "journal" / ".11ff00ff00ff00ff-1.jsonl.tmp"
    fd = os.open(at_work, os.O_RDWR | os.O_CREAT)
    hold(fd)
    for _ in range(2):
        writer.write(a_call())
        fold(own_store)
    assert names(own_store, "journal") == [at_work.name, writer.journal.name.filename]
    os.close(fd)
    writer.die()


def test_a_snapshot_that_somebody_is_just_writing_is_read_again(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    whole = (own_store / "metrics.json").read_bytes()
    (own_store / "metrics.json").write_bytes(whole[:50])
    monkeypatch.setattr(compaction, "sleep", lambda _: (own_store / "metrics.json").write_bytes(whole))
    writer.write(a_call())
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 2
    assert not list(own_store.glob("metrics.json.corrupt-*"))
    writer.die()


def test_whoever_wrote_the_snapshot_last_goes_on_until_somebody_else_writes_it(own_store: Path) -> None:
    dead_journal(own_store, a_call())
    with open_store(own_store) as store:
        assert not goes_on(store)
        compact(store)
        assert goes_on(store)
        dead_journal(own_store, a_call())
        fold(own_store)
        assert not goes_on(store)
        assert store.kept is None


# -- folds that end early


def in_small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portion is a line or two."""
    monkeypatch.setattr(segment_reader, "_CHUNK", 200)


def at_once() -> bool:
    return True


def test_a_fold_that_has_had_enough_writes_what_it_has_folded_and_the_next_goes_on(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_portions(monkeypatch)
    for _ in range(3):
        dead_journal(own_store, *[a_call() for _ in range(5)])
    outcomes, counts = [], []
    while not outcomes or outcomes[-1] != "current":
        outcomes.append(fold(own_store, enough=at_once))
        counts.append(snapshot(own_store)["global"].get("count", 0))
        assert read_metrics()["global"]["count"] == 15
    assert outcomes.count("partial") >= 10
    assert counts == sorted(counts)
    assert counts[-1] == 15
    assert names(own_store, "journal") == []
    assert "continue-at" not in snapshot(own_store)


def test_a_fold_that_ends_early_gives_each_writer_its_turn(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_portions(monkeypatch)
    busy, quiet = Writer(own_store, "0" * 16), Writer(own_store, "f" * 16)
    quiet.write(a_call("quiet"))
    for _ in range(6):  # the busy one records more than is folded each time
        busy.write(*[a_call("busy") for _ in range(5)])
        fold(own_store, enough=at_once)
    assert snapshot(own_store)["tools"]["quiet"]["count"] == 1
    busy.die()
    quiet.die()


def test_a_fold_that_ends_early_declares_nobody_dead(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_portions(monkeypatch)
    dead_journal(own_store, session_begins(), *[a_call() for _ in range(5)], session_ends())
    while fold(own_store, enough=at_once) == "partial":
        assert {run["status"] for run in snapshot(own_store)["sessions"].values()} <= {"running", "completed"}
    assert [run["status"] for run in snapshot(own_store)["sessions"].values()] == ["completed"]


def test_a_clear_whose_fold_ends_early_is_not_forgotten(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_portions(monkeypatch)
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    writer.write(*[a_call("before") for _ in range(5)])
    (own_store / "metrics.json").unlink()
    writer.write(*[a_call("after", ts=now_us() + 1_000_000) for _ in range(5)])
    pending = 0
    while fold(own_store, enough=at_once) == "partial":
        pending += not (own_store / "metrics.json").exists()
        document = read_metrics()
        assert document["tools"].keys() == {"after"}
        assert document["global"]["count"] == 5
    assert pending >= 3
    assert snapshot(own_store)["tools"]["after"]["count"] == snapshot(own_store)["global"]["count"] == 5
    assert "cleared-at" not in snapshot(own_store, "metrics.json.prev")
    writer.die()


def test_damage_during_a_pending_clear_does_not_bring_back_what_was_cleared(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_portions(monkeypatch)
    writer = Writer(own_store)
    writer.write(a_call())
    fold(own_store)
    writer.write(*[a_call("before") for _ in range(5)])
    (own_store / "metrics.json").unlink()
    assert fold(own_store, enough=at_once) == "partial"
    (own_store / "metrics.json").write_bytes(b"junk")
    assert read_metrics()["global"].get("count", 0) == 0
    fold(own_store)
    assert snapshot(own_store)["global"].get("count", 0) == 0
    assert [path.read_bytes() for path in own_store.glob("metrics.json.corrupt-*")] == [b"junk"]
    writer.die()


def test_a_fold_with_little_time_reads_little_of_a_large_segment(own_store: Path) -> None:
    writer = Writer(own_store)
    line = encode(a_call())
    writer.raw(line * (4 * 1024 * 1024 // len(line)))
    fold(own_store, enough=at_once)
    (stored,) = snapshot(own_store)["journals"].values()
    assert 0 < stored["offset"] <= 64 * 1024
    writer.die()


# -- looking again before replacing


def _restores(home: Path) -> None:
    (home / "backup").write_bytes((home / "metrics.json.prev").read_bytes())
    os.replace(home / "backup", home / "metrics.json")


def _damages(home: Path) -> None:
    (home / "metrics.json").write_bytes(b"junk")


def _puts_theirs(home: Path) -> None:
    (home / "metrics.json").write_text('{"tools": {"theirs": {"count": 5}}, "global": {"count": 5}}')


_BEGINNINGS = {
    "nothing": lambda home: None,
    "whole": lambda home: [fold(home), dead_journal(home, a_call()), fold(home)],
    "corrupt": lambda home: [fold(home), dead_journal(home, a_call()), fold(home), _damages(home)],
}


@pytest.mark.parametrize(
    ("beginning", "touch"),
    [
        ("nothing", _damages),
        ("nothing", _puts_theirs),
        *itertools.product(("whole", "corrupt"), (_damages, _puts_theirs, _restores)),
    ],
)
def test_what_came_during_a_fold_is_kept_aside_or_counted(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, beginning: str, touch: Callable[[Path], None]
) -> None:
    writer = Writer(own_store)
    writer.write(session_begins(), a_call())
    _BEGINNINGS[beginning](own_store)
    writer.write(a_call())
    made = 2 + (beginning != "nothing")
    whole: Any = catch_up
    touched = []

    def touch_then(*args: object, **options: object) -> object:
        news = whole(*args, **options)
        if not touched:
            touched.append(touch(own_store))
        return news

    monkeypatch.setattr(compaction, "catch_up", touch_then)
    assert fold(own_store) == "folded"
    count = snapshot(own_store)["global"]["count"]
    aside = [path.read_bytes() for path in own_store.glob("metrics.json.corrupt-*")]
    if touch is _damages:
        assert (count, b"junk" in aside) == (made, True)
    elif touch is _restores:
        assert count == made
    elif beginning == "nothing":
        assert count == made + 5
    else:  # what an original leaves is a clear, after which its totals and what comes later count
        assert snapshot(own_store)["tools"]["theirs"]["count"] == 5
    writer.die()


def test_what_is_written_in_place_at_the_last_moment_is_kept_aside(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        dead_journal(own_store, a_call())
        fold(own_store)
    dead_journal(own_store, a_call())
    whole = os.replace

    def write_first(source: str, target: str, **options: Any) -> None:
        if target == "metrics.json":
            _damages(own_store)
        whole(source, target, **options)

    monkeypatch.setattr(os, "replace", write_first)
    assert fold(own_store) == "folded"
    assert [path.read_bytes() for path in own_store.glob("metrics.json.corrupt-*")] == [b"junk"]
    assert snapshot(own_store)["global"]["count"] == snapshot(own_store, "metrics.json.prev")["global"]["count"] == 3


def test_a_snapshot_that_keeps_changing_is_left_alone(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dead_journal(own_store, a_call())
    whole: Any = catch_up

    def touch_then(*args: object, **options: object) -> object:
        news = whole(*args, **options)
        _damages(own_store)
        return news

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "catch_up", touch_then)
        assert fold(own_store) == "busy"
    assert (own_store / "metrics.json").read_bytes() == b"junk"
    fold(own_store)
    assert snapshot(own_store)["global"]["count"] == 1
