"""Clocks that are set a day back or ten years forward, during a call and between: nothing negative, nothing wiped.

The wall clock is replaced in the process, or told by a file that the test changes under running processes. The times
of files are set to what such a clock would have given them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pyjama_instrument import agent_session, tool
from pyjama_instrument.document import Span
from pyjama_instrument.reader import Reader, load_session
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.settings import flush
from pyjama_instrument.storage import clock as store_clock
from pyjama_instrument.storage import compaction
from tests.faults.oracle import balance
from tests.process.children import ended, line_from, started, tell, until
from tests.scale import full
from tests.stores import Writer, a_call, dead_journal, fold, session_begins, session_ends, snapshot

DAY = 24 * 3600.0
JUMPS = [pytest.param(-DAY, id="a day back"), pytest.param(10 * 365 * DAY, id="ten years forward")]
NOW_NS = time.time_ns


class Clock:
    """The wall clock of this process, ``ahead`` seconds ahead of the real one."""

    ahead = 0.0

    def time_ns(self) -> int:
        return NOW_NS() + int(self.ahead * 1e9)

    def time(self) -> float:
        return self.time_ns() / 1e9


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(time, "time", clock.time)
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    monkeypatch.setattr(recorder, "wall_ns", clock.time_ns)
    yield clock
    clock.ahead = 0.0


def us(clock: Clock) -> int:
    return clock.time_ns() // 1000


def nothing_is_negative(home: Path) -> None:
    data = Reader(home).dashboard()
    for run in [*data.sessions.values(), *data.agents.values()]:
        assert run.end_time is None or run.start_time is None or run.end_time >= run.start_time, run
        for step in run.steps:
            assert step.end_time is None or step.end_time >= step.start_time, step
    for counts in (data.metrics.global_, *data.metrics.tools.values()):
        assert counts.total_duration >= 0
        assert (counts.p50_ms or 0) >= 0
    for sid in data.sessions:
        spans: list[Span] = [load_session(sid, home).root]
        for span in spans:
            spans += span.children
            assert span.duration_ms is None or span.duration_ms >= 0, span


@pytest.mark.parametrize("jump", JUMPS)
def test_clocks_that_jump_during_a_call_make_no_duration_negative(own_store: Path, clock: Clock, jump: float) -> None:
    @tool
    def outer() -> None:
        clock.ahead += jump
        inner()

    @tool
    def inner() -> None:
        clock.ahead -= jump

    with agent_session("agent") as run, run.step("one"):
        outer()
        with run.step("two"):
            clock.ahead += jump
    assert flush()
    data = Reader(own_store).dashboard()
    assert data.metrics.global_.count == 2
    assert data.agents["agent"].status == "completed"
    assert [step.status for step in data.agents["agent"].steps] == ["ok", "ok"]
    nothing_is_negative(own_store)


@pytest.mark.parametrize("jump", JUMPS)
def test_clocks_that_jump_between_calls_let_nothing_vanish(own_store: Path, clock: Clock, jump: float) -> None:
    work = tool("work")(lambda: None)
    for ahead in (0.0, jump, 0.0, -jump, jump):
        clock.ahead = ahead
        with agent_session("agent"):
            work()
        assert flush()
    assert snapshot(own_store)["global"]["count"] == 5
    assert snapshot(own_store)["agents"]["agent"]["runs"]["completed"] == 5
    assert len(snapshot(own_store)["recent-logs"]) == 5
    nothing_is_negative(own_store)


def test_clocks_that_come_back_from_the_future_do_not_hide_what_happens_now(own_store: Path, clock: Clock) -> None:
    clock.ahead = 10 * 365 * DAY
    ahead = [session_begins("a" * 32, ts=us(clock)), *[a_call("then", "a" * 32, ts=us(clock)) for _ in range(150)]]
    dead_journal(own_store, *ahead, session_ends("a" * 32, ts=us(clock)))
    fold(own_store)
    clock.ahead = 0.0
    writer = Writer(own_store)
    for _ in range(2):
        writer.write(session_begins("b" * 32, ts=us(clock)), a_call("now", "b" * 32, ts=us(clock)))
        fold(own_store)
    document = snapshot(own_store)
    assert document["recent-logs"][-1]["tool"] == "now"
    assert document["agents"]["researcher"]["session"] == "b" * 32
    assert max(map(int, document["rate"])) <= clock.time()
    assert max(session["last-seen"] for session in document["sessions"].values()) <= clock.time() * 1000
    nothing_is_negative(own_store)
    writer.die()


@pytest.fixture
def tidy_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_TIDY_EVERY", 1)


def _history(home: Path) -> int:
    return len(list(home.glob("history/*.jsonl")))


def _something_in_history(home: Path) -> Writer:
    writer = Writer(home)
    for _ in range(3):
        dead_journal(home, a_call())
        fold(home)
    writer.write(a_call())
    fold(home)
    assert _history(home) >= 2
    return writer


@pytest.mark.parametrize("jump", [8 * DAY, 10 * 365 * DAY, -DAY])
def test_clocks_that_jump_wipe_no_history(own_store: Path, clock: Clock, tidy_each_time: None, jump: float) -> None:
    writer = _something_in_history(own_store)
    kept = _history(own_store)
    for ahead in (jump, jump, jump, 0.0, jump):
        clock.ahead = ahead
        writer.write(a_call(ts=us(clock)))
        assert fold(own_store) == "folded"
        assert _history(own_store) >= kept
    writer.die()


def test_clocks_that_jump_while_the_machine_is_off_wipe_no_history(
    own_store: Path, clock: Clock, tidy_each_time: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _something_in_history(own_store)
    kept = _history(own_store)
    monkeypatch.setattr(store_clock, "_boot", lambda: "another one")
    for years in (10, 10, 0, -50, 10):
        clock.ahead = years * 365 * DAY
        writer.write(a_call(ts=us(clock)))
        fold(own_store)
        assert _history(own_store) >= kept
    writer.die()


def test_clocks_that_run_on_let_history_grow_old_all_the_same(
    own_store: Path, clock: Clock, tidy_each_time: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = _something_in_history(own_store)
    running = store_clock._since_boot
    clock.ahead = 8 * DAY  # and so is the clock since boot: the time has really passed
    monkeypatch.setattr(store_clock, "_since_boot", lambda: running() + 8 * DAY)
    for path in own_store.glob("journal/*.jsonl"):
        os.utime(path, (clock.time(),) * 2)
    writer.write(a_call(ts=us(clock)))
    fold(own_store)
    assert _history(own_store) == 0
    writer.die()


TOLD_BY_A_FILE = """
import os, time
real_ns = time.time_ns
def told_ns():
    with open(os.environ["CLOCK"]) as file:
        return real_ns() + int(file.read() or 0) * 1_000_000_000
time.time_ns, time.time = told_ns, lambda: told_ns() / 1e9
from pyjama_instrument.recording.recorder import recorder
recorder.wall_ns = told_ns
"""

BUSY = """
import select
with agent_session(sys.argv[1]) as run:
    say("ready")
    calls = 0
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        with run.step("go"):
            assert work(calls) == calls
        calls += 1
say(calls)
"""


def _generation(home: Path) -> int:
    return int(snapshot(home)["generation"]) if (home / "metrics.json").exists() else 0


def _has_come_to(home: Path, generation: int) -> bool:
    return _generation(home) >= generation


def test_clocks_that_jump_under_running_processes_lose_and_double_nothing(own_store: Path, tmp_path: Path) -> None:
    told = tmp_path / "clock"
    told.write_text("0")
    environment = os.environ | {"CLOCK": str(told)}
    source = TOLD_BY_A_FILE + BUSY
    with started(source, "one", env=environment) as one, started(source, "two", env=environment) as two:
        for child in (one, two):
            assert line_from(child) == "ready"
        for seconds in [int(-DAY), 0, int(3650 * DAY)] * full(20, 1):
            before = _generation(own_store)
            (tmp_path / "new").write_text(str(seconds))
            os.replace(tmp_path / "new", told)
            until(partial(_has_come_to, own_store, before + 2))
        for child in (one, two):
            tell(child)
        acknowledged = sum(int(ended(child)) for child in (one, two))
    balance(own_store, acknowledged).check()
    nothing_is_negative(own_store)
