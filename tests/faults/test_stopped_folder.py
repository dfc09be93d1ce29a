"""Stuck and slow: the process that holds the fold's locks is stopped at each stage, and comes back.

Meanwhile everybody records and the page is current; afterwards the counts are exact and nothing stale is written,
neither over what others did meanwhile nor into a store that was removed and made anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyjama_instrument.reader import Reader
from tests.faults.oracle import balance
from tests.process.children import HANG_SECONDS, ended, killed, line_from, started, until
from tests.scale import full
from tests.stores import Writer, a_call, dead_journal, fold, session_begins, snapshot

STOPPED_SECONDS = full(30.0, 0.0)

FOLDER = """
from tests.faults.injection import Stops, injected
from pyjama_instrument.storage.compaction import compact
from pyjama_instrument.storage.store_directory import Store
store = Store(os.environ["PYJAMA_HOME"])
with injected(Stops(int(sys.argv[1]), lambda: say("stopped"))) as seen:
    outcome = compact(store)
say("through", len(seen), outcome)
"""


def _prepare(home: Path) -> Writer:
    """Some generations, two journals to retire, news in others: 6 calls."""
    writer = Writer(home)
    writer.write(session_begins(), a_call())
    fold(home)
    for _ in range(2):
        dead_journal(home, a_call())
    fold(home)
    fold(home)
    dead_journal(home, a_call(), a_call())
    writer.write(a_call())
    return writer


@contextlib.contextmanager
def _folder(home: Path, stage: int) -> Iterator[subprocess.Popen[str]]:
    environment = os.environ | {"PYJAMA_HOME": str(home)}
    with started(FOLDER, str(stage), env=environment, cwd=Path(__file__).resolve().parents[2]) as child:
        yield child


def _stages(home: Path) -> int:
    """How many calls to the operating system a fold of such a store makes."""
    writer = _prepare(home)
    with _folder(home, 0) as child:
        _, calls, outcome = line_from(child).split()
        ended(child)
    assert outcome == "folded"
    writer.die()
    return int(calls)


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    count = _stages(tmp_path_factory.mktemp("stages") / "store")
    assert count > 30
    return list(range(1, count + 1, full(1, 6)))


class Stopped:
    """A store whose fold is stopped at a stage, with somebody who records there meanwhile."""

    def __init__(self, home: Path, stage: int, stack: contextlib.ExitStack) -> None:
        self.home, self.stage = home, stage
        self.writer = _prepare(home)
        self.child = stack.enter_context(_folder(home, stage))

    def wait(self) -> None:
        assert line_from(self.child) == "stopped", self.stage
        until(lambda: _state(self.child.pid) == "T")

    def go_on(self) -> None:
        self.child.send_signal(signal.SIGCONT)
        ended(self.child)
        self.writer.die()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextlib.contextmanager
def _all_stopped(tmp_path: Path, stages: list[int], at_once: int = 8) -> Iterator[Iterator[list[Stopped]]]:
    """Each stage in a store of its own, some of them at a time."""

    def portions() -> Iterator[list[Stopped]]:
        for begin in range(0, len(stages), at_once):
            with contextlib.ExitStack() as stack:
                portion = [Stopped(tmp_path / str(s), s, stack) for s in stages[begin : begin + at_once]]
                for stopped in portion:
                    stopped.wait()
                yield portion

    yield portions()


@pytest.mark.timeout(full(3600, 120))
def test_stuck_folder_at_each_stage_lets_everybody_record_and_the_page_be_current(
    tmp_path: Path, stages: list[int]
) -> None:
    with _all_stopped(tmp_path, stages) as portions:
        for portion in portions:
            until_then, made = time.monotonic() + STOPPED_SECONDS, 6
            while True:
                for stopped in portion:
                    stopped.writer.write(a_call())
                made += 1
                for stopped in portion:
                    assert Reader(stopped.home).dashboard().metrics.global_.count == made, stopped.stage
                    fold(stopped.home)  # others try, and get in only where the stopped one holds nothing
                if time.monotonic() >= until_then:
                    break
                time.sleep(0.5)
            for stopped in portion:
                stopped.go_on()
                balance(stopped.home, made).check()
                assert not (stopped.home / "metrics.lock").exists()


@pytest.mark.timeout(full(3600, 120))
def test_stuck_folder_writes_nothing_into_a_store_that_was_made_anew(tmp_path: Path, stages: list[int]) -> None:
    with _all_stopped(tmp_path, stages) as portions:
        for portion in portions:
            for stopped in portion:
                shutil.rmtree(stopped.home)
                dead_journal(stopped.home, a_call(), a_call())
                fold(stopped.home)
                stopped.go_on()
                balance(stopped.home, 2).check()
                assert not [name for name in os.listdir(stopped.home) if "tmp" in name or name == "metrics.lock"]


def test_stuck_folder_whose_locks_were_removed_by_hand_writes_nothing_stale(tmp_path: Path, own_store: Path) -> None:
    # It is stopped while it folds: before it looks whether its mark still stands.
    source = """
from pyjama_instrument.storage import compaction
real = compaction.catch_up
def stop(*args, **options):
    done = real(*args, **options)
    say("folding")
    os.kill(os.getpid(), signal.SIGSTOP)
    return done
compaction.catch_up = stop
say(compaction.compact(compaction.Store(os.environ["PYJAMA_HOME"])))
"""
    writer = _prepare(own_store)
    with started(source) as child:
        assert line_from(child) == "folding"
        until(lambda: _state(child.pid) == "T")
        (own_store / "metrics.json.lock").unlink()
        (own_store / "metrics.lock").unlink()
        for _ in range(4):
            dead_journal(own_store, a_call())
            fold(own_store)
        generation = snapshot(own_store)["generation"]
        child.send_signal(signal.SIGCONT)
        assert line_from(child) == "busy"
        ended(child)
    assert snapshot(own_store)["generation"] == generation
    balance(own_store, 10).check()
    writer.die()


def test_stuck_folder_that_is_killed_at_last_leaves_the_fold_to_others(own_store: Path, stages: list[int]) -> None:
    writer = _prepare(own_store)
    with _folder(own_store, stages[len(stages) // 2]) as child:
        assert line_from(child) == "stopped"
        killed(child)
    balance(own_store, 6).check()
    assert not (own_store / "metrics.lock").exists()
    writer.die()


def test_slow_disk_under_a_fold_makes_no_call_wait(own_store: Path) -> None:
    source = """
from pyjama_instrument.storage import atomic_replace
gate = threading.Event()
real = os.fsync
def slow(fd):
    say("syncing")
    gate.wait()
    real(fd)
atomic_replace.os.fsync = slow
with agent_session("agent"):
    work()
    assert sys.stdin.readline()
    assert [work(n) for n in range(2000)] == list(range(2000))
    say("worked")
    gate.set()
"""
    with started(source) as child:
        assert line_from(child) == "syncing"
        assert child.stdin is not None
        child.stdin.write("go on\n")
        child.stdin.flush()
        while (line := line_from(child)) != "worked":
            assert line == "syncing"
        child.communicate(timeout=HANG_SECONDS)
        assert child.returncode == 0
    balance(own_store, 2001).check()
