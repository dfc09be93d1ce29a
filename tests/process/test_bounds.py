"""However many names there are and however long nobody folds: sizes stay bounded, and totals and losses are told."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument import agent_session, flush, shared_metrics, tool
from pyjama_instrument.fold.limits import LIMITS, OTHER
from pyjama_instrument.reader import get_dashboard_data, read_metrics
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.storage import journal as journal_module
from pyjama_instrument.storage.journal import JournalFull
from pyjama_instrument.storage.snapshot_lock import try_lock
from tests.scale import full
from tests.stores import Writer, a_call, dead_journal, fold, open_store, session_begins, session_ends, snapshot

_TOOLS = full(100_000, 12_000)
_AGENTS = full(10_000, 3_000)
_LIMIT_BYTES = 2_000_000


def _many_names(home: Path) -> None:
    agents = [(f"{n:032x}", f"agent-number-{n:05d}") for n in range(_AGENTS)]
    begun = [session_begins(session, agent) for session, agent in agents]
    calls = [
        a_call(f"tool-number-{n:06d}", *agents[n % _AGENTS], duration_ns=1000 + n * 7919 % 10**9) for n in range(_TOOLS)
    ]
    over = [session_ends(session, agent) for session, agent in agents]
    dead_journal(home, *begun, *calls, *over)


def test_totals_are_exact_and_the_document_is_bounded_however_many_names_there_are(own_store: Path) -> None:
    _many_names(own_store)
    assert fold(own_store) == "folded"
    document = snapshot(own_store)
    assert (own_store / "metrics.json").stat().st_size < _LIMIT_BYTES
    assert document["global"]["count"] == _TOOLS
    assert sum(counts["count"] for counts in document["tools"].values()) == _TOOLS
    assert sum(agent["calls"]["count"] for agent in document["agents"].values()) == _TOOLS
    assert sum(agent["runs"]["completed"] for agent in document["agents"].values()) == _AGENTS
    assert len(document["tools"]) == LIMITS["tools"] + 1
    assert len(document["agents"]) == LIMITS["agents"] + 1
    assert document["tools"][OTHER]["count"] == _TOOLS - LIMITS["tools"]


def test_what_is_beyond_the_limits_is_visible(own_store: Path) -> None:
    _many_names(own_store)
    fold(own_store)
    data = get_dashboard_data()
    assert data.metrics.tools[OTHER].count == _TOOLS - LIMITS["tools"]
    assert OTHER in data.agents
    assert any("__other__" in note for note in data.health.notes)


def test_a_fold_at_the_limits_adds_what_is_new(own_store: Path) -> None:
    _many_names(own_store)
    fold(own_store)
    writer = Writer(own_store)
    for round_ in range(1, 4):
        writer.write(*(a_call("tool-number-000001", f"{n:032x}", f"agent-number-{n:05d}") for n in range(100)))
        fold(own_store)
        document = snapshot(own_store)
        assert document["global"]["count"] == _TOOLS + 100 * round_
        assert document["tools"]["tool-number-000001"]["count"] == 1 + 100 * round_
        assert (own_store / "metrics.json").stat().st_size < _LIMIT_BYTES
    writer.die()


# -- journals that nobody folds


@pytest.fixture
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> int:
    """Bounds that a test can reach: 40 kB for a writer, in segments of 8 kB."""
    monkeypatch.setattr("pyjama_instrument.recording.journal_lifecycle.SEGMENT_BYTES", 8_000)
    monkeypatch.setattr(journal_module, "_WRITER_BYTES", 40_000)
    return 40_000


def _never_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder.folding, "fold", lambda: None)
    monkeypatch.setattr(recorder.folding, "fold_now", lambda: None)


def _waiting(home: Path) -> int:
    return sum(file.stat().st_size for file in (home / "journal").iterdir())


def test_a_journal_that_nobody_folds_stays_within_its_bound_and_says_what_was_dropped(
    own_store: Path, small_bounds: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as nobody_folds:
        _never_folds(nobody_folds)
        nobody_folds.setattr(recorder, "mono_ns", lambda: 0)  # no call is slow: its start would be an event too
        work = tool("t")(abs)
        slow = 0
        for n in range(3000):
            began_ns = time.perf_counter_ns()
            assert work(-n) == n
            slow += time.perf_counter_ns() - began_ns >= 1_000_000
            if n % 20 == 0:
                recorder.journals.check()  # what the flusher does, as often as it takes for this small a bound
        assert small_bounds <= _waiting(own_store) < small_bounds + 16_000
        dropped = recorder.writer.dropped.unreported()["journal-full"]
        assert dropped > 1000
        missing = 3000 - read_metrics()["global"]["count"]
        assert missing <= dropped <= missing + slow  # the call after a slow one has its beginning recorded too
    assert capsys.readouterr().err.count("journal-full") == 1
    assert not flush(5.0)  # folded, but something was lost
    flush(5.0)  # what two generations cover is moved away
    recorder.journals.check()
    recorder.journals.check()
    assert work(-1) == 1
    assert flush(5.0)
    document = read_metrics()
    assert document["global"]["count"] == 3001 - missing
    assert document["health"]["dropped"] == {"journal-full": dropped}


@contextlib.contextmanager
def _nobody_can_fold(home: Path) -> Iterator[None]:
    with open_store(home) as store, try_lock(store.fd) as locked:
        assert locked
        yield


def test_a_store_full_of_what_nobody_folds_takes_no_more_writers(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(3):
        dead_journal(own_store, a_call())
    with monkeypatch.context() as bounded, _nobody_can_fold(own_store):
        bounded.setattr(journal_module, "_STORE_SEGMENTS", 3)
        with agent_session("late"):
            assert tool("t")(abs)(-5) == 5
        assert len(list((own_store / "journal").iterdir())) == 3
        assert "journal is full: no process folds its events" in capsys.readouterr().err
        with pytest.raises(JournalFull):
            Writer(own_store)
    recorder.journals.reopen_at_ns = 0  # as if the pause between attempts were over
    tool("t")(abs)(-5)
    assert read_metrics()["health"]["dropped"]["journal-full"] > 0


def test_who_finds_the_store_full_folds_and_records(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        dead_journal(own_store, a_call())
    monkeypatch.setattr(journal_module, "_STORE_SEGMENTS", 3)
    with agent_session("late"):
        assert tool("t")(abs)(-5) == 5
    document = read_metrics()
    assert (document["global"]["count"], document["health"].get("dropped")) == (4, None)


def test_what_is_folded_already_leaves_room_for_writers(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers = [Writer(own_store) for _ in range(3)]
    fold(own_store)
    monkeypatch.setattr(journal_module, "_STORE_SEGMENTS", 3)
    with _nobody_can_fold(own_store):
        Writer(own_store).die()
        Writer(own_store).die()
        Writer(own_store).die()
        with pytest.raises(JournalFull):
            Writer(own_store)
    for writer in writers:
        writer.die()


@pytest.mark.usefixtures("small_bounds")
def test_a_journal_at_its_bound_is_folded_and_goes_on(own_store: Path) -> None:
    work = tool("t")(abs)
    for n in range(2000):
        assert work(-n) == n
        if n % 20 == 0:
            recorder.tick()
    assert flush(5.0)
    document = read_metrics()
    assert (document["global"]["count"], document["health"].get("dropped")) == (2000, None)


def test_a_clear_leaves_nothing_behind_that_waits(own_store: Path) -> None:
    writer = Writer(own_store)
    for _ in range(20):
        dead_journal(own_store, a_call())
    shared_metrics.clear_metrics(own_store)
    assert os.listdir(own_store / "journal") == [writer.journal.name.filename]
    assert len(os.listdir(own_store / "history")) == 20
    writer.die()


def test_agents_that_run_and_never_end_leave_the_document_bounded(own_store: Path) -> None:
    running = [session_begins(secrets.token_hex(16), f"agent-number-{n:05d}") for n in range(_AGENTS)]
    calls = [a_call("t", begun["session"], begun["agent"]) for begun in running]
    writer = Writer(own_store)
    writer.write(*running, *calls)
    fold(own_store)
    document = snapshot(own_store)
    assert (own_store / "metrics.json").stat().st_size < _LIMIT_BYTES
    assert document["global"]["count"] == _AGENTS
    assert sum(agent["runs"]["count"] for agent in document["agents"].values()) == _AGENTS
    assert sum(agent["runs"]["running"] for agent in document["agents"].values()) == _AGENTS
    assert len(document["sessions"]) == LIMITS["running-sessions"]
    writer.write(*[session_ends(begun["session"], begun["agent"]) for begun in running[::2]])
    fold(own_store)
    writer.die()
    fold(own_store)
    runs = [agent["runs"] for agent in snapshot(own_store)["agents"].values()]
    assert sum(run["completed"] for run in runs) == sum(run["crashed"] for run in runs) == _AGENTS // 2
    assert (own_store / "metrics.json").stat().st_size < _LIMIT_BYTES


def test_agents_told_of_by_the_functional_api_and_never_ended_leave_the_document_bounded(own_store: Path) -> None:
    for n in range(_AGENTS):
        shared_metrics.record_tool_execution(tool_name="t", agent_id=f"agent-{n}", status="ok", duration_ms=1)
    assert flush(60)
    document = snapshot(own_store)
    assert (own_store / "metrics.json").stat().st_size < _LIMIT_BYTES
    assert document["global"]["count"] == _AGENTS
    assert sum(session["status"] == "running" for session in document["sessions"].values()) == 500
    assert len(recorder.sessions.open) == 500
