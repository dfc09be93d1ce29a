"""Programs that close all descriptors and are given our journal's number again: what went astray is counted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyjama_instrument import agent_session, flush, tool
from pyjama_instrument.reader import get_dashboard_data
from pyjama_instrument.recording.background_thread import BackgroundThread
from pyjama_instrument.recording.flusher import Flusher
from pyjama_instrument.recording.journal_lifecycle import JournalLifecycle
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.storage import compaction
from tests.process.children import ended, started
from tests.stores import snapshot

TAKE_THE_NUMBER = """
from pyjama_instrument.recording.recorder import recorder

def take_the_number(flags=os.O_RDWR | os.O_CREAT | os.O_APPEND):
    # In one step: between a close and the next open, the background thread may find the number free and begin anew.
    number = recorder.fd
    os.dup2(os.open(sys.argv[1], flags, 0o600), number)
    os.closerange(3, number)
    os.closerange(number + 1, 65536)
    return recorder.writer.journal

def noticed(journal):
    while recorder.writer.journal is journal:
        recorder.background.wake()
        time.sleep(0.001)
"""


def dropped() -> dict[str, int]:
    return get_dashboard_data().health.dropped


@pytest.fixture
def no_flusher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks at the journal but the test: a look may fall between the steps of a call, and be one call off."""
    monkeypatch.setattr(BackgroundThread, "start", lambda self: None)


@tool
def work() -> None:
    """Do nothing."""


@contextlib.contextmanager
def number_taken(path: Path) -> Iterator[None]:
    """The journal's descriptor leads to a file of the program's."""
    host = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    number = recorder.fd
    os.dup2(host, number)
    os.close(host)
    yield
    os.close(number)


def times(path: Path, *kinds: str) -> int:
    return sum(path.read_bytes().count(f'"kind":"{kind}"'.encode()) for kind in kinds)


def test_calls_that_went_into_a_file_of_the_program_s_are_counted_as_dropped(
    own_store: Path, tmp_path: Path, no_flusher: None
) -> None:
    with agent_session("reused"):
        for _ in range(10):
            work()
        recorder.tick()
        for _ in range(100):
            work()
        with number_taken(tmp_path / "host"):
            for _ in range(25):
                work()
            recorder.tick()
        for _ in range(7):
            work()
    flush()
    assert snapshot(own_store)["global"]["count"] == 10 + 100 + 7
    assert dropped() == {"descriptor-reused": 25}


def test_what_is_in_flight_or_was_never_due_is_not_counted_as_dropped(
    own_store: Path, tmp_path: Path, no_flusher: None
) -> None:
    @tool
    def lasts(what: Callable[[], None]) -> None:
        what()

    host = tmp_path / "host"
    with contextlib.ExitStack() as stack:

        def begins_before_and_ends_astray() -> None:
            recorder.tick()
            stack.enter_context(number_taken(host))
            work()

        def begins_astray_and_ends_well() -> None:
            recorder.tick()

        with agent_session("nested") as run:
            lasts(begins_before_and_ends_astray)
            with run.step("astray"):
                run.annotate(seen=True)
            lasts(begins_astray_and_ends_well)
    flush()
    assert times(host, "tool.ended", "step.started") == 3
    assert dropped() == {"descriptor-reused": 3}
    assert snapshot(own_store)["global"]["count"] == 1


def test_what_was_dropped_for_another_reason_is_counted_once(own_store: Path, tmp_path: Path, no_flusher: None) -> None:
    with agent_session("full"):
        work()
        recorder.tick()
        recorder.writer.drop("ENOSPC")
        recorder.ids.span()
        with number_taken(tmp_path / "host"):
            work()
            recorder.tick()
    flush()
    assert dropped() == {"ENOSPC": 1, "descriptor-reused": 1}


def test_a_program_that_takes_the_number_goes_on_and_is_told_how_much_went_astray(
    own_store: Path, tmp_path: Path
) -> None:
    source = """
with agent_session("reused"):
    for n in range(10): work(n)
    journal = take_the_number()
    for n in range(25): work(n)
    noticed(journal)
    for n in range(7): work(n)
"""
    with started(TAKE_THE_NUMBER + source, str(tmp_path / "host")) as child:
        said = child.communicate()[1]
    assert (child.returncode, said.count("descriptor-reused")) == (0, 1), said
    lost = times(tmp_path / "host", "tool.ended")
    assert snapshot(own_store)["global"]["count"] + lost == 42
    assert abs(dropped()["descriptor-reused"] - lost) <= 1  # a look falls between the steps of a call at times


def test_a_file_of_the_program_s_that_takes_no_writes_leads_to_no_loss_at_all(own_store: Path, tmp_path: Path) -> None:
    (tmp_path / "host").touch()
    source = """
with agent_session("refused"):
    for n in range(10): work(n)
    take_the_number(os.O_RDONLY)
    for n in range(25): work(n)
"""
    with started(TAKE_THE_NUMBER + source, str(tmp_path / "host")) as child:
        ended(child)
    assert snapshot(own_store)["global"]["count"] == 35
    assert dropped() == {}


@pytest.mark.parametrize("threads", [1, 6])
def test_a_descriptor_that_is_merely_closed_loses_nothing_and_drops_nothing(own_store: Path, threads: int) -> None:
    source = """
def many():
    for n in range(50): work(n)

with agent_session("closed"):
    work()
    os.closerange(3, 65536)
    threads = [threading.Thread(target=many) for _ in range(int(sys.argv[1]))]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
"""
    with started(source, str(threads)) as child:
        ended(child)
    assert snapshot(own_store)["global"]["count"] == 1 + 50 * threads
    assert dropped() == {}


@pytest.mark.parametrize(
    "closed", ["before the fold", "while the fold holds the lock", "before the journal is written"]
)
def test_descriptors_that_are_closed_in_the_midst_of_a_fold_are_no_fault(
    own_store: Path, no_flusher: None, monkeypatch: pytest.MonkeyPatch, closed: str
) -> None:
    def close_all() -> None:
        journal = recorder.writer.journal
        assert journal is not None
        for fd in (journal.fd, journal.store.fd, journal.store.journal, journal.store.history):
            os.close(fd)

    def closing(real: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **options: Any) -> Any:
            close_all()
            return real(*args, **options)

        return function

    work()
    owner, name = {
        "before the fold": (compaction, "compact"),
        "while the fold holds the lock": (compaction, "catch_up"),
        "before the journal is written": (JournalLifecycle, "_mend"),
    }[closed]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, closing(getattr(owner, name)))
        patch.setattr(recorder.background, "flusher", Flusher(recorder.tick))
        recorder.folding.next_ns = 0
        recorder.tick()  # what is swallowed fails the test
    first = recorder.writer.journal
    recorder.tick()
    assert recorder.writer.journal is not first
    work()
    assert flush()
    assert snapshot(own_store)["global"]["count"] == 2
    assert dropped() == {}
