"""Lock-less file systems: where everybody is given every lock, nothing is retired, deleted or declared dead.

The lock functions are replaced by ones that always succeed and see nobody, as some network and virtual file systems
have them.
"""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument.cli import main
from pyjama_instrument.reader import Reader, get_dashboard_data
from pyjama_instrument.storage import compaction
from pyjama_instrument.storage.snapshot_lock import locks_work, try_lock
from tests.faults.oracle import balance
from tests.process.children import ended, line_from, started, tell
from tests.scale import full
from tests.stores import Writer, a_call, dead_journal, fold, open_store, session_begins, snapshot

_UNLOCKED = struct.pack("hhqqixxxx", fcntl.F_UNLCK, 0, 0, 0, 0)

LOCKLESS = """
import fcntl, struct
real = fcntl.fcntl
def everything_goes(fd, command, argument=0):
    if command == fcntl.F_OFD_GETLK:
        return struct.pack("hhqqixxxx", fcntl.F_UNLCK, 0, 0, 0, 0)
    return argument if command == fcntl.F_OFD_SETLK else real(fd, command, argument)
fcntl.fcntl, fcntl.flock = everything_goes, lambda *_: None
"""


@pytest.fixture
def lockless(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Any = fcntl.fcntl

    def everything_goes(fd: int, command: int, argument: Any = 0) -> Any:
        if command == fcntl.F_OFD_GETLK:
            return _UNLOCKED
        return argument if command == fcntl.F_OFD_SETLK else real(fd, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", everything_goes)
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)


def _locks_work(home: Path) -> bool:
    with open_store(home) as store, try_lock(store.fd) as got:
        assert got
        return locks_work(store.fd)


def test_lockless_is_found_by_the_self_test(own_store: Path, lockless: None) -> None:
    assert not _locks_work(own_store)


def test_lockless_is_not_claimed_of_a_file_system_whose_locks_work(own_store: Path) -> None:
    assert _locks_work(own_store)


def test_lockless_is_found_where_only_the_liveness_lock_fails(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyjama_instrument.storage.snapshot_lock.is_held", lambda fd: False)
    assert not _locks_work(own_store)


def test_lockless_nothing_is_retired_or_declared_dead(own_store: Path, lockless: None) -> None:
    dead_journal(own_store, session_begins(), a_call())
    writer = Writer(own_store)
    for _ in range(4):
        fold(own_store)
        writer.write(a_call())
    fold(own_store)
    assert len(list(own_store.glob("journal/*.jsonl"))) == 2
    assert not list(own_store.glob("history/*"))
    assert {session["status"] for session in snapshot(own_store)["sessions"].values()} == {"running"}
    assert snapshot(own_store)["global"]["count"] == Reader(own_store).metrics()["global"]["count"] == 5
    writer.die()


def test_lockless_nothing_is_deleted(own_store: Path, lockless: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_TIDY_EVERY", 1)
    writer = Writer(own_store)
    (own_store / "journal" / ".00ff00ff00ff00ff-1.jsonl.tmp").touch()
    (own_store / "history" / "00ff00ff00ff00ff-9.jsonl").touch()
    os.utime(own_store / "history" / "00ff00ff00ff00ff-9.jsonl", (0, 0))
    for number in range(5):
        (own_store / "metrics.json").write_text(f"corrupt {number}")
        writer.write(a_call())
        fold(own_store)
        writer.write(a_call())
        fold(own_store)
    assert (own_store / "journal" / ".00ff00ff00ff00ff-1.jsonl.tmp").exists()
    assert (own_store / "history" / "00ff00ff00ff00ff-9.jsonl").exists()
    assert len(list(own_store.glob("metrics.json.corrupt-*"))) == 5
    writer.die()


def test_lockless_a_writer_that_seemed_dead_loses_nothing_when_locks_work_again(own_store: Path) -> None:
    writer = Writer(own_store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyjama_instrument.storage.snapshot_lock.locks_work", lambda directory: False)
        patch.setattr(compaction, "locks_work", lambda directory: False)
        patch.setattr("pyjama_instrument.storage.segment_reader.is_held", lambda fd: False)
        for _ in range(3):
            writer.write(a_call())
            fold(own_store)
    writer.write(a_call())
    fold(own_store)
    assert "locks" not in snapshot(own_store)["health"]
    assert snapshot(own_store)["global"]["count"] == 4
    writer.die()


def test_lockless_is_told_by_doctor_and_by_the_dashboard(
    own_store: Path, lockless: None, capsys: pytest.CaptureFixture[str]
) -> None:
    dead_journal(own_store, a_call())
    fold(own_store)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().out
    assert "liveness lock does not work here" in said
    assert "flock does not work here" in said
    assert "nothing is retired or deleted" in said
    assert any("nothing is retired or deleted" in note for note in get_dashboard_data().health.notes)


AGENT = """
with agent_session(sys.argv[1]):
    say("ready")
    wait()
    for n in range(int(sys.argv[2])):
        assert work(n) == n
        if n % 20 == 0:
            flush()
"""


def test_lockless_many_processes_that_fold_at_once_lose_and_double_nothing(own_store: Path) -> None:
    calls, processes = full(3_000, 400), full(6, 3)
    with started(LOCKLESS + AGENT, "0", str(calls)) as first, started(LOCKLESS + AGENT, "1", str(calls)) as second:
        others = [started(LOCKLESS + AGENT, str(number), str(calls)) for number in range(2, processes)]
        children = [first, second, *[other.__enter__() for other in others]]
        try:
            for child in children:
                assert line_from(child) == "ready"
            for child in children:
                tell(child)
            for child in children:
                ended(child)
        finally:
            for other in others:
                other.__exit__(None, None, None)
    assert not list(own_store.glob("history/*"))
    balance(own_store, calls * processes).check()
