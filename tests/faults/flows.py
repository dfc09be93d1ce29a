"""What a recording process does to the disk, in some flows; and whether a store is right after one went wrong.

A flow runs in a forked child on the real recorder, without its flusher thread: what the flusher would do is called by
name, so that the calls to the operating system come in the same order each time.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pyjama_instrument import agent_session, shared_metrics, tool
from pyjama_instrument.config import resolve_home
from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.recording import call_announcements, folding, journal_lifecycle
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.settings import reset_for_testing
from pyjama_instrument.storage import compaction, journal, segment_reader
from tests.faults.oracle import Ledger, all_numbers, balance
from tests.stores import Writer, a_call, dead_journal, fold, session_begins, snapshot

__all__ = ["FLOWS", "Flow", "Place", "Work", "in_a_child", "place", "what_is_wrong"]

_RUN = "agent"
_BEFORE = 2
"""Calls before the fault. A flow that wipes the store has lost them."""


class Work:
    """The calls of a child: each returns its value, is acknowledged, and is known as an event."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._function = tool("work")(lambda number: number)
        self._session = agent_session(_RUN)
        self.calls = self.others = 0
        self._emit = recorder.writer.emit
        recorder.writer.emit = self.emit  # type: ignore[method-assign]  # to know what else is recorded

    def emit(self, line: bytes) -> None:
        self.others += not line.startswith(b'{"kind":"tool.ended"')
        self._emit(line)

    def __call__(self, times: int = 1) -> None:
        for _ in range(times):
            assert self._function(self.calls) == self.calls
            self._ledger.acknowledge(self.calls)
            self.calls += 1

    def begin(self) -> None:
        self._session.__enter__()
        self(_BEFORE)

    def end(self) -> None:
        self._session.__exit__(None, None, None)


class _NoThread:
    """In the flusher's place."""

    def stopping(self) -> bool:
        return False

    def runs(self) -> bool:
        return True

    def wake(self) -> None: ...

    def stop(self, wait_seconds: float = 0.0) -> None: ...


def _no_thread() -> None:
    recorder.background.flusher = _NoThread()  # type: ignore[assignment]  # as far as it is used


class Flow(NamedTuple):
    """``prepare`` makes the store, ``before`` runs in the child without faults, ``act`` with them."""

    act: Callable[[Work], None]
    before: Callable[[Work], None] = Work.begin
    prepare: Callable[[Path], None] = lambda home: None
    clears: bool = False
    wipes: bool = False


def _first_run(work: Work) -> None:
    work.begin()
    _fold(work)


def _record(work: Work) -> None:
    work(3)


def _rotate(work: Work) -> None:
    journal_lifecycle.SEGMENT_BYTES = 1
    recorder.tick()
    journal_lifecycle.SEGMENT_BYTES = 1 << 40
    work(2)


def _fold(work: Work) -> None:
    recorder.folding.next_ns = 0
    recorder.tick()
    work()


def _clear(work: Work) -> None:
    with suppress(OSError, PyjamaError):  # it is the caller's own wish, so he is told
        shared_metrics.clear_metrics()


def _end(work: Work) -> None:
    work.end()
    recorder.hooks.at_exit()


def _wiped(work: Work) -> None:
    work.begin()
    shutil.rmtree(resolve_home())


def _again(work: Work) -> None:
    recorder.tick()
    work(2)
    _fold(work)


def _fold_in_parts(work: Work) -> None:
    """Folds that have had enough after each portion, of a line or two."""
    folding.Budget = lambda seconds: lambda: True  # type: ignore[assignment,misc]  # as far as it is used
    segment_reader._CHUNK = 200
    for _ in range(4):
        recorder.folding.next_ns, recorder.dirty = 0, True
        recorder.tick()


def _fold_over(touch: Callable[[Path], object]) -> Callable[[Work], None]:
    """A fold during which somebody who knows nothing of locks touches the snapshot."""

    def act(work: Work) -> None:
        whole = compaction.catch_up

        def touch_then(*args: Any, **options: Any) -> Any:
            compaction.catch_up = whole
            news = whole(*args, **options)
            touch(Path(resolve_home()))
            return news

        compaction.catch_up = touch_then
        _fold(work)

    return act


def _restore(home: Path) -> None:
    """A backup, of the generation before, is put in the snapshot's place."""
    shutil.copy(home / "metrics.json.prev", home / "backup")
    os.replace(home / "backup", home / "metrics.json")


def _damage(home: Path) -> None:
    (home / "metrics.json").write_bytes(b'{"half": ')


def _begin_full(work: Work) -> None:
    """The store takes no more writers before somebody folds."""
    journal._STORE_SEGMENTS = 3
    work.begin()
    _fold(work)


def _removed(work: Work) -> None:
    work.begin()
    home = Path(resolve_home())
    (home / "metrics.json").unlink()
    now_ns = time.time_ns()  # the kernel's own clock lags behind the one that the calls have their times from
    os.utime(home, ns=(now_ns, now_ns))


def _some_generations(home: Path) -> None:
    dead_journal(home, session_begins("a" * 32), a_call(session="a" * 32))
    fold(home)
    fold(home)


def _something_to_retire(home: Path) -> None:
    _some_generations(home)
    for _ in range(2):
        dead_journal(home, a_call())
    fold(home)
    dead_journal(home, a_call())


def _a_backlog(home: Path) -> None:
    _some_generations(home)
    for _ in range(3):
        dead_journal(home, a_call(), a_call(), a_call())


def _corrupt(home: Path) -> None:
    _something_to_retire(home)
    (home / "metrics.json").write_bytes(b'{"half": ')


FLOWS = {
    "first run": Flow(_first_run, before=lambda work: None),
    "record": Flow(_record),
    "rotate": Flow(_rotate),
    "fold": Flow(_fold, prepare=_some_generations),
    "retire": Flow(_fold, prepare=_something_to_retire),
    "clear": Flow(_clear, prepare=_something_to_retire, clears=True),
    "recover": Flow(_fold, prepare=_corrupt),
    "begin anew": Flow(_again, before=_wiped, wipes=True),
    "end": Flow(_end, prepare=_some_generations),
    "fold in parts": Flow(_fold_in_parts, prepare=_a_backlog),
    "clear in parts": Flow(_fold_in_parts, before=_removed, prepare=_a_backlog, clears=True),
    "fold over damage": Flow(_fold_over(_damage), prepare=_something_to_retire),
    "fold over a backup": Flow(_fold_over(_restore), prepare=_something_to_retire),
    "journal full": Flow(_begin_full, before=lambda work: None, prepare=_a_backlog),
}


@dataclass
class Place:
    """A store with another live writer in it, and the ledgers of those who record into it."""

    home: Path
    ledgers: Path
    other: Writer | None
    prepared: int
    report: dict[str, Any] = field(default_factory=dict)


@contextmanager
def place(flow: Flow) -> Iterator[Place]:
    """A place prepared for the flow; it is gone after the block."""
    root = Path(tempfile.mkdtemp(prefix="pyjama-faults-"))
    home, ledgers = root / "store", root / "ledgers"
    ledgers.mkdir()
    flow.prepare(home)
    prepared, other = 0, None
    if home.exists():
        other = Writer(home)
        other.write(session_begins("b" * 32), a_call(session="b" * 32))
        prepared = sum(path.read_bytes().count(b'"tool.ended"') for path in home.glob("*/*.jsonl"))
    yield Place(home, ledgers, other, prepared)
    if other is not None:
        other.die()
    shutil.rmtree(root, ignore_errors=True)


def in_a_child(where: Place, flow: Flow, run: Callable[[Work], None], gate: Callable[[], None] = lambda: None) -> int:
    """Fork a child that has come to the flow's beginning and then calls ``run``; its process id.

    It reports on its calls in ``report.json`` if it comes to the end, and the failure if there was one.
    """
    if pid := os.fork():
        return pid
    status = 1
    try:
        reset_for_testing(where.home)
        recorder.background.start = _no_thread  # type: ignore[method-assign]  # the same order each time
        journal_lifecycle._REOPEN_SECONDS = 0.0
        folding._age_seconds = lambda store: float("inf")  # a fold is due whenever a flow says so
        call_announcements._ANNOUNCE_AFTER_NS = 1 << 62
        work = Work(Ledger(where.ledgers / "child"))
        flow.before(work)
        gate()
        run(work)
        report = {"others": work.others, "dropped": sum(recorder.writer.dropped.unreported().values())}
        (where.ledgers.parent / "report.json").write_text(json.dumps(report))
        status = 0
    except BaseException as failure:
        (where.ledgers.parent / "failure.txt").write_text(f"{type(failure).__name__}: {failure}")
    os._exit(status)


def what_is_wrong(where: Place, flow: Flow, *, cut_off: int = 0, later: int = 0) -> Iterator[str]:
    """After the fault and a restart: whatever does not hold.

    ``cut_off``: calls that a death may have left unsaid; ``later``: calls made after the flow.
    """
    home = where.home
    acknowledged = where.prepared + len(all_numbers(where.ledgers))
    document = _content(home)
    if document is not None and "journals" not in document and not document.get("half"):
        yield f"the snapshot is neither the old one nor a new one: {document!r:.100}"
    before = time.monotonic()
    compaction._TIDY_EVERY = 1  # what is done every few generations is done in each
    restarted = dead_journal(home, a_call(ts=time.time_ns() // 1000 + 1_000_000))
    fold(home)
    struck = balance(home, acknowledged + 1)
    if struck.counted != struck.snapshot:
        yield f"the reader and the snapshot differ: {struck}"
    if struck.counted > struck.acknowledged + cut_off:
        yield f"counted more often than made: {struck}"
    if struck.lost > _BEFORE * flow.wipes and not flow.clears:
        yield f"lost: {struck}"
    # A journal that could not be read just when the totals were cleared is read later, and counts then.
    cleared = range(later + 1, later + 1 + (_BEFORE if later else 0) + 1)
    if flow.clears and struck.counted not in {*cleared, acknowledged + 1, acknowledged + 1 + cut_off}:
        yield f"neither cleared nor not: {struck}"
    if where.other is not None and not flow.wipes:
        status = snapshot(home)["sessions"]["b" * 32]["status"]
        if status != "running":
            yield f"the living session is {status}"
    live = set() if where.other is None else {where.other.journal.name.filename}
    if (left := set(os.listdir(home / "journal")) - live) and not flow.wipes:
        yield f"left in journal/, {restarted.filename} being the last: {sorted(left)}"
    if left := {name for name in os.listdir(home) if "tmp" in name or name == "metrics.lock"}:
        yield f"left behind: {sorted(left)}"
    if time.monotonic() - before > 60:
        yield "the restart hung"


def _content(home: Path) -> Any:
    try:
        return json.loads((home / "metrics.json").read_bytes())
    except (OSError, ValueError):
        return None
