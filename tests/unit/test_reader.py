"""The reader: current to the last write, counting nothing twice, writing nothing, whatever moves meanwhile."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.errors import ConfigError, SchemaTooNew, SessionNotFound
from pyjama_instrument.reader import Reader, get_dashboard_data, load_session, read_metrics, tail_events
from pyjama_instrument.reader import reader as reader_module
from pyjama_instrument.storage import journal_scan
from pyjama_instrument.storage.layout import list_segments
from tests.stores import (
    AGENT,
    SESSION,
    START_US,
    Record,
    Writer,
    a_call,
    call_begins,
    dead_journal,
    fold,
    session_begins,
    session_ends,
    snapshot,
)


@pytest.fixture
def writer(own_store: Path) -> Iterator[Writer]:
    writer = Writer(own_store)
    yield writer
    writer.die()


def count(reader: Reader) -> int:
    return reader.dashboard().metrics.global_.count


def contents(home: Path) -> dict[str, Any]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# -- being current


def test_an_event_is_seen_as_soon_as_it_is_written(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    for expected in range(1, 4):
        writer.write(a_call())
        assert count(reader) == expected


def test_a_fold_changes_nothing_of_what_is_seen(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    for expected in range(1, 6):
        writer.write(a_call())
        assert count(reader) == expected
        fold(own_store)
        assert count(reader) == count(Reader(own_store)) == expected


def test_what_was_folded_rotated_and_retired_is_still_counted_once(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    for expected in range(1, 6):
        writer.write(a_call())
        writer.journal.rotate()
        fold(own_store)
        assert count(reader) == count(Reader(own_store)) == expected
    assert os.listdir(own_store / "history")


def test_a_reader_that_slept_through_many_folds_is_right(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    writer.write(a_call())
    assert count(reader) == 1
    for _ in range(6):
        dead_journal(own_store, a_call())
        fold(own_store)
    assert count(reader) == 7


def test_reading_leaves_no_trace(writer: Writer, own_store: Path) -> None:
    writer.write(session_begins(), a_call())
    fold(own_store)
    writer.write(a_call())
    before = contents(own_store)
    reader = Reader(own_store)
    reader.dashboard(), reader.metrics(), reader.session(SESSION), reader.tail(5), list(tail_events(own_store))
    assert contents(own_store) == before


def test_a_store_that_may_only_be_read_can_be_read(
    writer: Writer, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(a_call())
    plain_open = os.open

    def no_writing(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            raise PermissionError(errno.EROFS, "Read-only file system")
        return plain_open(path, flags, *args, **options)

    monkeypatch.setattr(os, "open", no_writing)
    assert count(Reader(own_store)) == 1


def test_a_store_that_does_not_exist_is_empty_and_stays_away(own_store: Path) -> None:
    assert get_dashboard_data().to_dict()["agents"] == {}
    assert read_metrics()["global"]["count"] == 0
    assert list(tail_events()) == []
    assert not own_store.exists()


def test_a_file_in_the_store_s_place_is_an_empty_store(own_store: Path) -> None:
    own_store.write_text("not a directory")
    assert count(Reader(own_store)) == 0


def test_a_removed_store_is_empty_at_the_next_look(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    writer.write(session_begins(), a_call())
    assert count(reader) == 1
    shutil.rmtree(own_store)
    assert reader.dashboard().sessions == {}
    other = Writer(own_store)
    other.write(a_call(), a_call())
    assert count(reader) == 2
    other.die()


def test_a_death_is_seen_at_the_next_look_although_nobody_folds(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_PROBE_SECONDS", 0.0)
    reader, writer = Reader(own_store), Writer(own_store)
    writer.write(session_begins(), call_begins("download"))
    assert [call.tool for call in reader.dashboard().sessions[SESSION].in_flight] == ["download"]
    writer.die()
    session = reader.dashboard().sessions[SESSION]
    assert (session.status, [call.tool for call in session.interrupted]) == ("crashed", ["download"])


def test_a_death_is_seen_within_half_a_second_however_often_one_looks(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    reader, writer = Reader(own_store), Writer(own_store)
    writer.write(session_begins(), call_begins("download"))
    fold(own_store)
    reader.dashboard()
    writer.die()
    now += 0.4
    assert reader.dashboard().sessions[SESSION].status == "running"
    now += 0.2
    assert reader.dashboard().sessions[SESSION].status == "crashed"


def test_a_segment_that_has_grown_is_read_without_a_probe(writer: Writer, own_store: Path) -> None:
    fold(own_store)
    reader = Reader(own_store)
    reader.dashboard()
    writer.write(a_call())
    assert count(reader) == 1


# -- moving files


def interfering(monkeypatch: pytest.MonkeyPatch, action: Callable[[], None], times: int = 1) -> None:
    """Have something done between the listing of the journals and their reading."""
    left = iter(range(times))

    def list_then_act(directory: str | int) -> Any:
        found = list_segments(directory)
        if next(left, None) is not None:
            action()
        return found

    monkeypatch.setattr(journal_scan, "list_segments", list_then_act)


@pytest.mark.parametrize("folds", [1, 2, 3, 5])
def test_folds_that_overtake_a_look_make_it_look_again(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, folds: int
) -> None:
    for _ in range(5):
        dead_journal(own_store, a_call())

    def fold_on() -> None:
        monkeypatch.undo()
        for _ in range(folds):
            dead_journal(own_store, a_call())
            fold(own_store)

    interfering(monkeypatch, fold_on)
    assert 5 <= count(Reader(own_store)) <= 5 + folds
    assert count(Reader(own_store)) == 5 + folds


def test_a_segment_retired_between_listing_and_opening_is_not_missed(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(own_store)
    dead_journal(own_store, a_call())
    assert count(reader) == 1

    def retire() -> None:
        monkeypatch.undo()
        for _ in range(3):
            fold(own_store)

    dead_journal(own_store, a_call())
    interfering(monkeypatch, retire)
    assert count(reader) == 2


def test_a_look_that_is_overtaken_again_and_again_ends_all_the_same(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pyjama_instrument.reader import reader as reader_module

    dead_journal(own_store, a_call())
    monkeypatch.setattr(reader_module, "identity", lambda *_: (0, 0, 0))
    Reader(own_store).dashboard()


def test_want_of_descriptors_is_an_error_and_not_an_empty_store(
    writer: Writer, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(own_store)
    writer.write(session_begins(), a_call())
    plain_open = os.open

    def fail_for_segments(path: Any, *args: Any, **options: Any) -> int:
        if str(path).endswith(".jsonl"):
            raise OSError(errno.EMFILE, "Too many open files")
        return plain_open(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", fail_for_segments)
        with pytest.raises(OSError, match="Too many"):
            reader.dashboard()
    assert reader.dashboard().sessions[SESSION].status == "running"
    assert count(reader) == 1


# -- states of the snapshot


def test_after_a_removal_of_the_snapshot_totals_are_zero_and_what_runs_is_there(
    writer: Writer, own_store: Path
) -> None:
    reader = Reader(own_store)
    writer.write(session_begins(), a_call())
    fold(own_store)
    assert count(reader) == 1
    (own_store / "metrics.json").unlink()
    assert count(reader) == count(Reader(own_store)) == 0
    assert reader.dashboard().sessions[SESSION].status == "running"
    assert reader.dashboard().agents[AGENT].status == "running"


def test_a_corrupt_snapshot_is_said_and_its_predecessor_stands_in(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    for _ in range(3):
        writer.write(a_call())
        fold(own_store)
    (own_store / "metrics.json").write_text("{")
    data = reader.dashboard()
    assert data.metrics.global_.count == 3
    assert any("cannot be read" in note for note in data.health.notes)
    fold(own_store)
    assert reader.dashboard().health.notes == []


def test_a_newer_schema_is_said_and_nothing_is_shown(writer: Writer, own_store: Path) -> None:
    writer.write(a_call())
    (own_store / "metrics.json").write_text('{"schema": 99}')
    data = get_dashboard_data()
    assert data.metrics.global_.count == 0
    assert any("upgrade" in note for note in data.health.notes)
    with pytest.raises(SchemaTooNew):
        read_metrics()


def test_a_lock_of_an_original_that_stays_is_said(writer: Writer, own_store: Path) -> None:
    (own_store / "metrics.lock").touch()
    assert get_dashboard_data().health.notes == []
    os.utime(own_store / "metrics.lock", (0, 0))
    assert any("metrics.lock" in note for note in get_dashboard_data().health.notes)


def test_damage_and_drops_are_said(writer: Writer) -> None:
    writer.write({"kind": "writer.dropped", "ts": 1, "count": 3, "reason": "ENOSPC"})
    writer.raw(b"rubbish\n")
    health = get_dashboard_data().health
    assert (health.torn, health.dropped) == (1, {"ENOSPC": 3})
    assert len(health.notes) == 2


def test_what_metrics_returns_is_the_caller_s_own(writer: Writer, own_store: Path) -> None:
    reader = Reader(own_store)
    writer.write(a_call())
    reader.metrics()["global"]["count"] = 99
    assert count(reader) == 1


def test_metrics_are_what_a_fold_would_write(writer: Writer, own_store: Path) -> None:
    writer.write(session_begins(), a_call(), call_begins())
    seen = read_metrics()
    fold(own_store)
    assert {key: snapshot(own_store)[key] for key in seen if key != "generation"} == json.loads(json.dumps(seen))


# -- rates


def test_rates_and_percentiles_follow_from_the_counts(writer: Writer) -> None:
    writer.write(*[a_call(duration_ns=2_000_000) for _ in range(3)], a_call(status="error", duration_ns=2_000_000))
    figures = get_dashboard_data().metrics.global_
    assert (figures.count, figures.success, figures.error) == (4, 3, 1)
    assert (figures.success_rate, figures.avg_duration_ms) == (0.75, 2.0)
    assert figures.throughput == pytest.approx(500.0)
    assert figures.p99_ms == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize("duration_ns", [0, 1, 6_400, 6_800, 7_000, 7_400])
def test_no_percentile_exceeds_the_total(writer: Writer, duration_ns: int) -> None:
    writer.write(a_call(duration_ns=duration_ns))
    figures = get_dashboard_data().metrics.global_
    assert figures.p50_ms == figures.p99_ms == pytest.approx(duration_ns / 1e6, rel=0.05)
    assert figures.p99_ms <= figures.total_duration


@pytest.mark.parametrize("duration_ns", [0, 1, 6_400, 29_606, 1_234_567_890])
def test_the_percentiles_of_one_call_are_its_duration(writer: Writer, duration_ns: int) -> None:
    writer.write(a_call(duration_ns=duration_ns))
    tool = next(iter(get_dashboard_data().metrics.tools.values()))
    assert tool.p50_ms == tool.p95_ms == tool.p99_ms == tool.total_duration == pytest.approx(duration_ns / 1e6)


def test_before_the_first_call_there_are_no_rates() -> None:
    figures = get_dashboard_data().metrics.global_
    assert (figures.count, figures.success_rate, figures.throughput, figures.p50_ms) == (0, None, None, None)


# -- one session


def test_a_session_s_tree_spans_history_and_journals(writer: Writer, own_store: Path) -> None:
    writer.write(session_begins(), a_call("first"))
    for _ in range(3):
        writer.journal.rotate()
        fold(own_store)
    assert os.listdir(own_store / "history")
    writer.write(a_call("last", ts=START_US + 9_000), session_ends(duration_ns=5_000_000))
    built = load_session(SESSION)
    assert [span.name for span in built.root.children] == ["first", "last"]
    assert (built.root.status, built.root.duration_ms) == ("completed", 5.0)


def test_a_session_s_tree_shows_what_child_processes_did(writer: Writer, own_store: Path) -> None:
    writer.write(session_begins())
    child = Writer(own_store)
    child.write(a_call("in the child"))
    child.die()
    assert {span.name: span.writer for span in load_session(SESSION).root.children} == {"in the child": child.id}


def test_sessions_inside_a_session_are_named(writer: Writer) -> None:
    writer.write(session_begins(), session_begins("b" * 32, parent_session=SESSION))
    assert load_session(SESSION).child_sessions == ["b" * 32]


def test_an_event_that_only_mentions_a_session_is_none_of_its_tree(writer: Writer) -> None:
    writer.write(session_begins(), a_call("elsewhere", session="b" * 32, arguments={"about": SESSION}))
    assert load_session(SESSION).root.children == []


def test_an_unknown_session_is_an_error_that_names_it(own_store: Path) -> None:
    with pytest.raises(SessionNotFound, match=f"{'f' * 32}.*{own_store}"):
        load_session("f" * 32)


# -- single events


def test_the_last_events_come_in_the_order_of_their_times(own_store: Path) -> None:
    for times in ((1, 4), (2, 3)):
        dead_journal(own_store, *[a_call(ts=START_US + at) for at in times])
    assert [event.ts - START_US for event in tail_events(limit=3)] == [2, 3, 4]
    assert [event.ts - START_US for event in Reader().tail(2)] == [3, 4]


@pytest.mark.parametrize(("limit", "given"), [(0, 0), (1, 1), (2, 2), (7, 4), (None, 4)])
def test_as_many_events_are_given_as_asked_for(own_store: Path, limit: int | None, given: int) -> None:
    dead_journal(own_store, a_call(), a_call(), a_call())  # and the header
    assert len(list(tail_events(limit=limit))) == given


def test_a_long_past_is_not_held_in_memory(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyjama_instrument.reader import event_tail

    monkeypatch.setattr(event_tail, "_KEPT_RECORDS", 10)
    dead_journal(own_store, *[a_call(ts=START_US + at) for at in range(5000)])
    assert [event.ts - START_US for event in tail_events(limit=3)] == [4997, 4998, 4999]


def following(own_store: Path, **options: Any) -> tuple[Iterator[Any], list[bool]]:
    stop: list[bool] = []
    return tail_events(own_store, follow=True, poll_seconds=0, stop=lambda: bool(stop), **options), stop


def test_following_gives_each_event_once_over_rotation_retirement_and_death(own_store: Path) -> None:
    events, stop = following(own_store, limit=0)
    seen: list[int] = []
    for number in range(6):
        writer = Writer(own_store)
        writer.write(a_call(ts=START_US + 2 * number))
        writer.journal.rotate()
        writer.write(a_call(ts=START_US + 2 * number + 1))
        writer.die()
        while len(seen) < 2 * number + 2:
            event = next(events)
            if event.kind == "tool.ended":
                seen.append(event.ts - START_US)
        for _ in range(3):
            fold(own_store)
    assert seen == list(range(12))
    stop.append(True)
    assert [event for event in events if event.kind == "tool.ended"] == []


def test_following_misses_nothing_that_came_and_went_between_two_looks(own_store: Path) -> None:
    events, _ = following(own_store, limit=0)
    dead_journal(own_store, a_call("seen"))
    while next(events).kind != "tool.ended":
        pass
    dead_journal(own_store, a_call("came and went"))
    for _ in range(4):
        fold(own_store)
    assert os.listdir(own_store / "journal") == []
    found = next(event for event in events if event.kind == "tool.ended")
    assert found.tool == "came and went"


def test_following_goes_on_in_a_store_that_was_removed_and_made_anew(own_store: Path) -> None:
    events, _ = following(own_store)
    dead_journal(own_store, a_call("before"))
    assert next(event for event in events if event.kind == "tool.ended").tool == "before"
    shutil.rmtree(own_store)
    dead_journal(own_store, a_call("after"))
    assert next(event for event in events if event.kind == "tool.ended").tool == "after"


def test_following_ends_when_asked_to(own_store: Path) -> None:
    events, stop = following(own_store)
    stop.append(True)
    assert list(events) == []


def test_events_that_make_no_sense_are_passed_over(own_store: Path) -> None:
    damaged: list[Record] = [{"kind": "tool.ended", "ts": 1}, {"kind": "activity"}, {"ts": "x"}, {"kind": 5, "ts": 1}]
    dead_journal(own_store, *damaged, a_call("good"))
    kinds = [event.kind for event in tail_events() if event.kind != "writer.opened"]
    assert kinds == ["tool.ended"]


def test_a_kind_from_a_newer_version_is_given_with_all_its_fields(own_store: Path) -> None:
    dead_journal(own_store, {"kind": "from.the.future", "ts": START_US + 1, "x": [1]})
    (event,) = (event for event in tail_events() if event.kind == "from.the.future")
    assert event.model_extra == {"x": [1]}


# -- wrong arguments


@pytest.mark.parametrize(
    "call",
    [
        lambda: Reader(7),  # type: ignore[arg-type]  # that is the test
        lambda: Reader(""),
        lambda: get_dashboard_data(b"bytes"),  # type: ignore[arg-type]
        lambda: load_session(7),  # type: ignore[arg-type]
        lambda: tail_events(limit=-1),
        lambda: tail_events(limit=True),
        lambda: tail_events(limit="all"),  # type: ignore[arg-type]
        lambda: tail_events(poll_seconds=-1),
        lambda: tail_events(poll_seconds=float("nan")),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused_at_once(call: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        call()
