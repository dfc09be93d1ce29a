"""The recorder: it never raises, loses nothing that could be written, and counts what could not."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import _guard, agent_session, configure, flush, tool
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.events import WriterOpened
from pyjama_instrument.reader import get_dashboard_data, tail_events
from pyjama_instrument.recording import (
    background_thread,
    call_announcements,
    call_events,
    event_writer,
    journal_lifecycle,
)
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.storage import compaction
from pyjama_instrument.storage.journal_scan import catch_up
from pyjama_instrument.storage.snapshot_lock import try_lock
from pyjama_instrument.testing import FakeClock
from tests.stores import fold, open_files, remove, snapshot

HANG_SECONDS = 30.0


@tool
def work(value: int = 1) -> int:
    return value


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + HANG_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "this did not happen"
        time.sleep(0.005)


def counted() -> int:
    return get_dashboard_data().metrics.global_.count


def segments(home: Path) -> list[str]:
    return sorted(os.listdir(home / "journal"))


Replace = Callable[[Callable[[int, bytes], int] | None], None]


@pytest.fixture
def failing_writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Replace]:
    """Have every write to the journal done by a function of the test's; None gives the real one back.

    A call is one record then: on a busy machine it may last, and have its beginning recorded too.
    """
    plain_write = os.write
    monkeypatch.setattr(call_events, "SLOW_NS", 1 << 62)
    monkeypatch.setattr(call_announcements, "_ANNOUNCE_AFTER_NS", 1 << 62)

    def replace(function: Callable[[int, bytes], int] | None) -> None:
        def write(fd: int, data: bytes) -> int:
            journal = recorder.writer.journal
            ours = function is not None and journal is not None and fd == journal.fd
            return function(fd, data) if ours and function else plain_write(fd, data)

        monkeypatch.setattr(os, "write", write)

    yield replace
    monkeypatch.undo()


def no_space(fd: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


# -- recording


def test_nothing_is_opened_before_the_first_event(own_store: Path) -> None:
    assert recorder.fd == -1
    assert not own_store.exists()


def test_an_event_is_in_the_file_when_the_call_returns(own_store: Path) -> None:
    for expected in range(1, 4):
        work()
        (segment,) = segments(own_store)
        assert (own_store / "journal" / segment).read_text().count('"tool.ended"') == expected


def test_a_process_has_one_journal_however_many_threads_begin_at_once(own_store: Path) -> None:
    gate = threading.Barrier(8)

    def begin() -> None:
        gate.wait(HANG_SECONDS)
        work()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(segments(own_store)) == 1
    assert counted() == 8
    assert len(get_dashboard_data().sessions) == 1


def test_an_event_recorded_while_the_journal_is_being_opened_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    # A signal handler or a finalizer may call a tool at any point, in the very thread that is opening.
    uname = os.uname

    def interrupted() -> os.uname_result:
        monkeypatch.setattr(os, "uname", uname)
        work()
        return uname()

    monkeypatch.setattr(os, "uname", interrupted)
    with agent_session("a"):
        work()
    assert counted() == 2


def test_a_session_that_began_before_recording_was_switched_off_has_an_end() -> None:
    with agent_session("a"):
        configure(enabled=False)
    (session,) = get_dashboard_data().sessions.values()
    assert session.status == "completed"


def test_nothing_is_recorded_while_switched_off(own_store: Path) -> None:
    configure(enabled=False)
    with agent_session("a"):
        assert work(5) == 5
    assert not own_store.exists()


def test_a_journal_that_has_grown_large_is_continued_in_another(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_lifecycle, "SEGMENT_BYTES", 2000)
    for _ in range(5):
        for _ in range(20):
            work()
        recorder.tick()
    assert len(segments(own_store)) + len(os.listdir(own_store / "history")) >= 5
    assert counted() == 100
    assert [session.status for session in get_dashboard_data().sessions.values()] == ["running"]


def test_the_command_line_is_kept_without_its_secrets(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = ["agent.py", "--api-key=hunter2", "--token", "hunter2", "--password", "--verbose", "plain", "x" * 1000]
    monkeypatch.setattr("sys.argv", secrets)
    work()
    (opened,) = (event for event in tail_events() if isinstance(event, WriterOpened))
    assert opened.argv == (
        "agent.py", "--api-key=[redacted]", "--token", "[redacted]", "--password", "--verbose", "plain",
        "x" * 256 + "… [1000 characters]",
    )  # fmt: skip


# -- what cannot be written


@pytest.fixture
def bad_place(own_store: Path) -> Path:
    own_store.write_text("a file where the directory should be")
    return own_store


def test_in_a_bad_place_the_tool_works_and_one_line_reports_what_is_wrong(
    bad_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [work(n) for n in range(100)] == list(range(100))
    said = capsys.readouterr().err
    assert said.count("nothing is recorded") == 1
    assert str(bad_place) in said
    assert "PYJAMA_HOME" in said


def test_recording_resumes_by_itself_and_reports_how_much_was_dropped(bad_place: Path) -> None:
    with agent_session("a"):
        for _ in range(10):
            work()
        bad_place.unlink()
        until(lambda: work() and bad_place.exists())
        data = get_dashboard_data()
        assert data.metrics.global_.count == 1
        assert data.health.dropped["unavailable"] >= 10
        assert data.agents["a"].status == "running"
        assert flush()


def test_a_full_disk_drops_and_counts_and_then_goes_on(failing_writes: Replace, own_store: Path) -> None:
    work()
    failing_writes(no_space)
    assert [work(n) for n in range(5)] == list(range(5))
    assert not flush(timeout=0)
    failing_writes(None)
    work()
    data = get_dashboard_data()
    assert data.metrics.global_.count == 2
    assert data.health.dropped == {"ENOSPC": 5}
    assert data.health.torn == 0


def test_a_record_that_was_half_written_takes_no_other_with_it(failing_writes: Replace) -> None:
    plain_write = os.write
    work()
    failing_writes(lambda fd, data: plain_write(fd, data[: len(data) // 2]))
    work()
    failing_writes(None)
    work()
    data = get_dashboard_data()
    assert data.metrics.global_.count == 2
    assert (data.health.torn, data.health.dropped) == (1, {"short-write": 1})


def test_drops_are_reported_when_the_place_recovers_although_nothing_more_is_recorded(
    failing_writes: Replace,
) -> None:
    work()
    failing_writes(no_space)
    work()
    recorder.tick()  # and the report of it fails too
    failing_writes(None)
    recorder.tick()
    recorder.tick()
    assert get_dashboard_data().health.dropped == {"ENOSPC": 1}


class AllButTheNewline:
    """Writes that are short by the newline only, or by nothing."""

    def __init__(self) -> None:
        self.write = os.write
        self.on = True

    def __call__(self, fd: int, data: bytes) -> int:
        return self.write(fd, data[:-1] if self.on and len(data) > 1 else data)


def test_a_record_that_lacks_only_its_newline_counts_and_is_not_dropped(failing_writes: Replace) -> None:
    work()
    short = AllButTheNewline()
    failing_writes(short)
    for _ in range(5):
        work()
    short.on = False
    for _ in range(5):
        work()
    data = get_dashboard_data()
    assert (data.metrics.global_.count, data.health.torn, data.health.dropped) == (11, 0, {})


@pytest.mark.parametrize("then", ["the flusher", "another store", "the end"])
def test_the_newline_that_is_missing_comes_without_another_event(
    own_store: Path, tmp_path: Path, failing_writes: Replace, then: str
) -> None:
    work()
    failing_writes(AllButTheNewline())
    work()
    match then:
        case "the flusher":
            recorder.background.wake()
        case "another store":
            configure(home=tmp_path / "other")
        case "the end":
            recorder.hooks.at_exit()
    until(lambda: get_dashboard_data(own_store).metrics.global_.count == 2)
    assert get_dashboard_data(own_store).health.torn == 0


def test_a_journal_whose_last_line_lacks_its_newline_is_not_rotated(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, failing_writes: Replace
) -> None:
    monkeypatch.setattr(type(recorder.background), "start", lambda self: None)  # it would rotate, too
    work()
    short = AllButTheNewline()
    failing_writes(lambda fd, data: 0 if data == b"\n" else short(fd, data))
    work()
    monkeypatch.setattr(journal_lifecycle, "SEGMENT_BYTES", 10)
    recorder.journals.check()
    assert len(segments(own_store)) == 1
    failing_writes(None)
    recorder.journals.check()
    assert len(segments(own_store)) == 2
    assert (counted(), get_dashboard_data().health.torn) == (2, 0)


@pytest.mark.swallows
def test_what_cannot_be_encoded_is_dropped_and_counted() -> None:
    work()
    recorder.record({"kind": "activity", "status": float("nan")})
    recorder.record({"kind": "activity", "status": "x" * 1_000_000})
    recorder.tick()
    assert get_dashboard_data().health.dropped == {"unencodable": 2}


@pytest.mark.swallows
def test_a_fault_of_ours_on_the_way_is_swallowed_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(recorder.journals, "open", broken)
        assert work(7) == 7
    assert _guard.counts["recorder.emit"] >= 1
    work()
    assert counted() == 1


def test_an_interruption_of_the_program_is_never_swallowed(failing_writes: Replace) -> None:
    def interrupt(fd: int, data: bytes) -> int:
        raise KeyboardInterrupt

    work()
    failing_writes(interrupt)
    with pytest.raises(KeyboardInterrupt):
        work()


# -- what the program does to us


def test_a_program_that_closes_our_descriptor_loses_no_event(own_store: Path) -> None:
    with agent_session("a"):
        work()
        os.close(recorder.fd)
        work()
        assert counted() == 2
        assert len(segments(own_store)) == 2
        assert get_dashboard_data().agents["a"].status == "running"
    assert get_dashboard_data().agents["a"].runs.completed == 1


def test_a_removed_store_is_begun_anew_with_what_is_under_way(own_store: Path) -> None:
    with agent_session("a", workflow=["fetch"]) as run, run.step("fetch"):
        run.annotate(tokens=3)
        work()
        remove(own_store)
        until(lambda: "a" in get_dashboard_data().agents)
        work()
        until(lambda: counted() == 1)
        (session,) = get_dashboard_data().sessions.values()
        assert (session.status, session.current_step) == ("running", "fetch")
        assert session.workflow is not None
        assert session.workflow.steps == ["fetch"]
        assert session.attributes == {"tokens": 3}
    assert get_dashboard_data().agents["a"].runs.completed == 1


def test_a_call_under_way_when_the_store_is_removed_is_shown_in_the_new_one(own_store: Path) -> None:
    begun, free = threading.Event(), threading.Event()

    @tool("download")
    def download() -> None:
        begun.set()
        free.wait(HANG_SECONDS)

    thread = threading.Thread(target=download)
    thread.start()
    begun.wait(HANG_SECONDS)
    remove(own_store)

    def in_flight() -> list[str]:
        return [call.tool for session in get_dashboard_data().sessions.values() for call in session.in_flight]

    until(lambda: in_flight() == ["download"])
    free.set()
    thread.join()
    until(lambda: in_flight() == [])
    assert get_dashboard_data().metrics.tools["download"].count == 1


def test_a_snapshot_that_is_removed_comes_back_although_nothing_is_recorded(own_store: Path) -> None:
    with agent_session("a"):
        work()
        assert flush()
        (own_store / "metrics.json").unlink()
        until((own_store / "metrics.json").exists)
        assert snapshot(own_store)["agents"]["a"]["status"] == "running"
        assert snapshot(own_store)["global"]["count"] == 0


def test_going_to_another_store_leaves_what_was_recorded_and_takes_along_what_runs(
    own_store: Path, tmp_path: Path
) -> None:
    with agent_session("a"):
        work()
        configure(home=tmp_path / "other")
        work()
    assert get_dashboard_data(own_store).metrics.global_.count == 1
    there = get_dashboard_data(tmp_path / "other")
    assert (there.metrics.global_.count, there.agents["a"].status) == (1, "completed")


def test_a_fold_under_way_while_the_program_goes_to_another_store_does_not_write_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work()

    def move_first(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        configure(home=tmp_path / "other")
        return catch_up(*args, **options)

    monkeypatch.setattr(compaction, "catch_up", move_first)
    monkeypatch.setattr(recorder.background, "wake", lambda: None)
    flush()
    assert get_dashboard_data(tmp_path / "other").metrics.global_.count == 0
    assert not (tmp_path / "other" / "metrics.json").exists() or snapshot(tmp_path / "other")["global"]["count"] == 0


# -- calls that last


def test_a_call_that_lasts_is_announced_although_the_tool_was_quick_before(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    monkeypatch.setattr(recorder, "mono_ns", clock)
    work()
    seen: list[list[str]] = []

    def in_flight() -> list[str]:
        return [call.tool for session in get_dashboard_data().sessions.values() for call in session.in_flight]

    @tool("lasting")
    def lasting(seconds: float) -> None:
        clock.advance(seconds)
        recorder.tick()
        seen.append(in_flight())

    for seconds in (0.0, 0.2, 0.3):
        lasting(0.0)  # quick: the next call is not announced at its start
        lasting(seconds)
    assert seen[1::2] == [[], [], ["lasting"]]
    assert in_flight() == []
    assert get_dashboard_data().metrics.tools["lasting"].count == 6


# -- folding


def test_flushing_brings_the_snapshot_up_to_date(own_store: Path) -> None:
    work()
    assert flush()
    assert snapshot(own_store)["global"]["count"] == 1


def test_flushing_before_anything_was_recorded_is_done_at_once(own_store: Path) -> None:
    assert flush()
    assert not own_store.exists()


def test_flushing_gives_up_when_somebody_keeps_the_lock(own_store: Path) -> None:
    work()
    assert recorder.writer.journal is not None
    with try_lock(recorder.writer.journal.store.fd, wait_seconds=HANG_SECONDS):
        assert not flush(timeout=0.02)


@pytest.mark.parametrize("timeout", [-1, "1", None, True, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    with pytest.raises(ConfigError):
        flush(timeout)


def test_what_is_recorded_is_folded_without_being_asked_for(own_store: Path) -> None:
    work()
    until(lambda: (own_store / "metrics.json").exists() and snapshot(own_store)["global"]["count"] == 1)


def foreign_rewrite(home: Path) -> None:
    (home / "metrics.json").write_bytes((home / "metrics.json").read_bytes())


@pytest.mark.parametrize("disturbance", ["an original rewrites the snapshot all the time", "the clock is set back"])
def test_folding_goes_on(own_store: Path, monkeypatch: pytest.MonkeyPatch, disturbance: str) -> None:
    work()
    assert flush()
    work()
    if disturbance.startswith("the clock"):
        monkeypatch.setattr(time, "time", lambda: 0.0)

    def folded() -> bool:
        foreign_rewrite(own_store)
        recorder.tick()
        return bool(snapshot(own_store)["global"]["count"] == 2)

    until(folded)


def test_somebody_else_s_fold_will_do(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work()
    fold(own_store)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    folds: list[object] = []

    def compact(*args: object, **_: object) -> str:
        folds.append(args)
        return "current"

    monkeypatch.setattr(compaction, "compact", compact)
    recorder.folding.fold()
    assert folds == []
    monkeypatch.setattr(time, "time", lambda: now + 0.5)
    recorder.folding.fold()
    assert folds == []
    assert recorder.writer.journal is not None
    with monkeypatch.context() as patch:
        patch.setattr(compaction, "goes_on", lambda store: True)
        recorder.folding.fold()  # whoever folded last goes on before others take over
    assert len(folds) == 1
    monkeypatch.setattr(time, "time", lambda: now + 0.7)
    recorder.folding.fold()
    assert len(folds) == 2


@pytest.mark.swallows
def test_a_store_of_a_newer_version_is_left_alone_and_journaling_goes_on(own_store: Path) -> None:
    work()
    flush()
    (own_store / "metrics.json").write_text('{"schema": 99, "journals": {}}')
    work()
    assert not flush(timeout=0)
    assert (own_store / "metrics.json").read_text() == '{"schema": 99, "journals": {}}'
    (segment,) = segments(own_store)
    assert (own_store / "journal" / segment).read_text().count('"tool.ended"') == 2


# -- forks


@pytest.mark.parametrize("first", ["a call", "an event"])
def test_a_child_that_inherits_a_lock_from_a_thread_it_does_not_have_is_not_stuck(first: str) -> None:
    # Forked while another thread was making the very first call: the hook for forks was not in place yet.
    recorder.lock._entries["holder"] = [-1]
    recorder.unforked[0] = recorder.unforked[1] = 0
    if first == "a call":
        work()
    else:
        recorder.record({"kind": "activity", "agent": "a", "session": "5" * 32, "ts": 1, "status": "ok"})
    assert len(get_dashboard_data().recent_logs) == 1


def test_hooks_that_come_into_place_in_the_middle_of_a_fork_do_no_harm() -> None:
    work()
    recorder.hooks.after_fork()  # without what comes before
    work()
    assert counted() == 2


def test_going_from_store_to_store_leaks_no_descriptor(tmp_path: Path) -> None:
    for number in range(10):
        configure(home=tmp_path / str(number))
        work()
    assert recorder.background.flusher is not None
    recorder.background.flusher.stop()  # it may be folding, and have more of them open
    paths = [path for _, path in open_files(tmp_path)]
    assert len(paths) == 4
    assert all(path.startswith(str(tmp_path / "9")) for path in paths)


def test_a_line_that_two_threads_could_report_is_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    recorder.lock.run(lambda: [_guard.report_once(f"key {number}", f"sentence {number}") for number in range(2000)])
    threads = [threading.Thread(target=_guard.report_pending) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(capsys.readouterr().err.splitlines()) == sorted(
        f"pyjama: sentence {number}" for number in range(2000)
    )


def test_a_report_is_one_line_that_a_terminal_shows_and_does_not_obey(capsys: pytest.CaptureFixture[str]) -> None:
    _guard.report_once("key", "tool \x1b[2Jgone\r\nnext \x9b \u202e größe \ud800")
    assert capsys.readouterr().err == "pyjama: tool \\x1b[2Jgone\\r\\nnext \\x9b \\u202e größe \\ud800\n"


def test_a_report_waits_until_the_lock_is_released(capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    recorder.lock.run(lambda: (_guard.report_once("key", "a sentence"), said.append(capsys.readouterr().err)))
    assert said == [""]
    _guard.report_pending()
    _guard.report_pending()
    assert capsys.readouterr().err == "pyjama: a sentence\n"


def test_a_signal_s_exception_while_a_child_begins_anew_has_it_begin_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder.unforked[0] = recorder.unforked[1] = 0
    with monkeypatch.context() as patch:
        patch.setattr(recorder.ids, "reseed", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recorder.notice_fork()
    assert not recorder.unforked[0]
    work()
    assert recorder.unforked[0]


def test_drops_that_cannot_be_reported_are_reported_later(failing_writes: Replace) -> None:
    work()
    failing_writes(no_space)
    work()
    recorder.journals.check()
    assert recorder.writer.dropped.unreported() == {"ENOSPC": 1}
    failing_writes(None)
    recorder.journals.check()
    assert not recorder.writer.dropped.unreported()
    assert get_dashboard_data().health.dropped == {"ENOSPC": 1}


@contextlib.contextmanager
def a_thread_stuck_at_the_journal() -> Iterator[None]:
    """It has its turn for as long as the block lasts."""
    stuck, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=recorder.lock.run, args=(lambda: (stuck.set(), done.wait(HANG_SECONDS)),))
    thread.start()
    stuck.wait(HANG_SECONDS)
    yield
    done.set()
    thread.join()


def test_an_event_is_not_kept_waiting_for_ever_by_a_thread_that_is_stuck_at_the_journal() -> None:
    # A signal handler came in between there, say, and waits for a lock that the recording thread has.
    work()
    with a_thread_stuck_at_the_journal():
        recorder.fd = -1
        work()
    assert counted() == 2


def test_what_waits_for_a_thread_that_is_stuck_is_bounded_and_what_is_beyond_is_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(event_writer, "_MOST_PENDING", 3)
    work()
    with a_thread_stuck_at_the_journal():
        recorder.fd = -1
        for _ in range(5):
            work()
    assert counted() == 4
    until(lambda: not recorder.writer.dropped.unreported())
    assert get_dashboard_data().health.dropped == {"stuck": 2}


def test_another_home_is_gone_to_later_if_a_thread_is_stuck_at_the_journal(tmp_path: Path) -> None:
    work()
    with a_thread_stuck_at_the_journal():
        configure(home=tmp_path / "other")
    recorder.background.wake()
    until(lambda: recorder.writer.journal and recorder.writer.journal.store.path == str(tmp_path / "other"))


def test_a_late_end_is_not_kept_waiting_for_ever_by_a_thread_that_is_stuck_at_the_journal() -> None:
    @tool
    def slow() -> None:
        stuck.wait(HANG_SECONDS)

    stuck, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=recorder.lock.run, args=(lambda: (stuck.set(), done.wait(HANG_SECONDS)),))
    work()
    thread.start()
    slow()
    assert counted() == 2
    done.set()
    thread.join()


def test_events_that_wait_for_a_journal_that_cannot_be_opened_are_reported_as_dropped(
    own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_store.write_text("in the way")
    hooked = recorder.hooks.install

    def interrupted() -> None:
        monkeypatch.setattr(recorder.hooks, "install", hooked)
        recorder.writer.pending.append(b"{}\n")

    monkeypatch.setattr(recorder.hooks, "install", interrupted)
    recorder.emit(b"{}\n")
    assert recorder.writer.dropped.unreported() == {"unavailable": 2}
    assert not recorder.writer.pending


def test_what_folds_is_imported_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two that import the same wait for each other by a lock that gevent may have replaced.
    at_it, most, gate = [], [], threading.Barrier(4)
    real = recorder.compaction.import_now

    def importing() -> None:
        at_it.append(True)
        most.append(len(at_it))
        real()
        at_it.pop()

    def begin() -> None:
        gate.wait(HANG_SECONDS)
        assert recorder.compaction.load() is compaction

    monkeypatch.setattr(recorder.compaction, "import_now", importing)
    monkeypatch.setattr(recorder.compaction, "module", None)
    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


def test_under_green_threads_the_program_s_own_thread_imports_what_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    # An import of the program's that waits for one of ours would wait by a lock that no greenlet of its own releases.
    importers = []
    real = recorder.compaction.import_now

    def importing() -> None:
        importers.append(threading.get_ident())
        real()

    def tick() -> None:
        recorder.dirty, recorder.folding.next_ns = True, 0
        recorder.tick()

    monkeypatch.setattr(recorder.compaction, "import_now", importing)
    monkeypatch.setattr(background_thread, "are_replaced", lambda: True)
    monkeypatch.setattr(recorder.compaction, "module", None)
    work()
    recorder.compaction.module = None  # as if they had been replaced only now
    thread = threading.Thread(target=tick)
    thread.start()
    thread.join()
    assert recorder.compaction.module is None
    recorder.background.wake()
    assert recorder.compaction.module is not None
    assert set(importers) == {threading.get_ident()}
