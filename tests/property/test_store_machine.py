"""A store against a model of it: whatever writers, folds, clears and accidents do, in whatever order, the count holds.

The machine drives real journals, compactions and readers on a real directory. The model is a handful of dictionaries.
Time is the machine's own: records and removals carry its clock, since "what came after a clear" is told by times.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyjama_instrument.reader import Reader
from pyjama_instrument.storage import segment_reader
from pyjama_instrument.storage.compaction import clear
from pyjama_instrument.storage.encoding import encode
from tests.stores import Record, Writer, a_call, fold, open_store, session_begins, session_ends, snapshot

TOOLS = ("read", "write")
INDEX = st.integers(0, 3)


@dataclass
class Session:
    """What the model knows of a run."""

    begins: Record
    status: str = "running"
    calls: int = 0


@dataclass
class Process:
    """A recording process: its writer, its run, and whether its store was removed under it."""

    writer: Writer
    session: str
    lost: bool = False


@dataclass
class Model:
    """What a reader has to say."""

    calls: Counter[str] = field(default_factory=Counter)
    sessions: dict[str, Session] = field(default_factory=dict)
    torn: int = 0

    def cleared(self) -> Model:
        """Totals from zero; what runs stays."""
        running = {sid: session for sid, session in self.sessions.items() if session.status == "running"}
        return Model(sessions={sid: Session(session.begins) for sid, session in running.items()})


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp()) / "store"
        self.now_us = 1_700_000_000_000_000
        self.model = Model()
        self.processes: list[Process] = []
        self.writers = 0
        self.reader = Reader(self.home)
        self.clear_pending_ns: int | None = None
        # Runs that died while a clear was pending: shown or forgotten, either is right.
        self.uncertain: set[str] = set()
        # Damage that came while a clear was pending has no time: it is cleared or counted.
        self.doubtful = 0

    def teardown(self) -> None:
        while self.fold_once() != "current":
            self.counts_are_right(Reader(self.home).metrics())
        self.counts_are_right(snapshot(self.home))
        assert len(os.listdir(self.home / "journal")) <= len([p for p in self.processes if not p.lost])
        for process in self.processes:
            process.writer.die()
        shutil.rmtree(self.home.parent)

    # -- processes

    def tick(self) -> int:
        self.now_us += 1_000_000
        return self.now_us

    def pick(self, index: int) -> Process | None:
        present = [process for process in self.processes if not process.lost]
        return present[index % len(present)] if present else None

    def begin_session(self, process: Process) -> None:
        process.session = f"{len(self.model.sessions) + self.tick():032x}"
        begins = session_begins(process.session, ts=self.now_us)
        process.writer.write(begins)
        self.model.sessions[process.session] = Session(begins)

    @precondition(lambda self: len(self.processes) < 4)
    @rule()
    def open_writer(self) -> None:
        self.forget_removed_home()
        self.writers += 1
        scattered = self.writers * 0x9E3779B97F4A7C15 % (1 << 64)  # the same ones each time, in no order
        process = Process(Writer(self.home, f"{scattered:016x}"), "")
        self.processes.append(process)
        self.begin_session(process)

    @rule(index=INDEX, tools=st.lists(st.sampled_from(TOOLS), min_size=1, max_size=3))
    def record(self, index: int, tools: list[str]) -> None:
        if process := self.pick(index):
            process.writer.write(*[a_call(tool, process.session, ts=self.tick()) for tool in tools])
            self.counted(process, tools)

    def counted(self, process: Process, tools: list[str]) -> None:
        self.model.calls.update(tools)
        self.model.sessions[process.session].calls += len(tools)

    @rule(index=INDEX)
    def rotate(self, index: int) -> None:
        if process := self.pick(index):
            process.writer.journal.rotate()

    @rule(index=INDEX)
    def end_session(self, index: int) -> None:
        if process := self.pick(index):
            process.writer.write(session_ends(process.session, ts=self.tick()))
            self.model.sessions[process.session].status = "completed"
            self.begin_session(process)

    @rule(index=INDEX, cut=st.integers(0, 50))
    def crash(self, index: int, cut: int) -> None:
        """The process dies, perhaps within a write."""
        if process := self.pick(index):
            process.writer.raw(encode(a_call("read", process.session, ts=self.tick()))[:cut])
            self.torn(cut > 0)
            process.writer.die()
            self.processes.remove(process)
            self.model.sessions[process.session].status = "crashed"
            if self.clear_pending_ns is not None:
                self.uncertain.add(process.session)

    @rule(index=INDEX, cut=st.integers(1, 50))
    def short_write(self, index: int, cut: int) -> None:
        """A write is cut short, and the next begins a new line."""
        if process := self.pick(index):
            lines = [encode(a_call("write", process.session, ts=self.tick())) for _ in range(2)]
            process.writer.raw(lines[0][:cut])
            self.store_is_as_the_model_says()
            process.writer.raw(b"\n" + lines[1])
            self.torn(1)
            self.counted(process, ["write"])

    def torn(self, count: int) -> None:
        if self.clear_pending_ns is None:
            self.model.torn += count
        else:
            self.doubtful += count

    # -- folds

    def fold_once(self, should_stop: Callable[[], bool] = lambda: False, enough: int | None = None) -> str:
        self.forget_removed_home()
        if self.clear_pending_ns is not None and (self.home / "metrics.json").exists() is False:
            os.utime(self.home, ns=(0, self.clear_pending_ns))
        asked = iter(range(10_000))
        outcome = fold(self.home, should_stop=should_stop, enough=lambda: enough is not None and next(asked) >= enough)
        if outcome == "partial" and self.clear_pending_ns is not None and not self.is_cleared():
            return outcome
        if outcome != "busy":
            self.clear_pending_ns = None
        elif self.clear_pending_ns is not None:
            os.utime(self.home, ns=(0, self.clear_pending_ns))  # the attempt has changed the directory
        return outcome

    @rule(times=st.integers(1, 3))
    def fold(self, times: int) -> None:
        for _ in range(times):
            self.fold_once()

    @rule(after=st.integers(0, 6))
    def fold_given_up(self, after: int) -> None:
        asked = iter(range(100))
        self.fold_once(lambda: next(asked) >= after)

    def is_cleared(self) -> bool:
        """Whether the clear is done: the snapshot is there and begins anew."""
        path = self.home / "metrics.json"
        return path.exists() and "journals" in snapshot(self.home)

    @rule(enough=st.integers(0, 6))
    def fold_cut_short(self, enough: int) -> None:
        """A fold that has had enough before it is through, in the middle of a segment for instance."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segment_reader, "_CHUNK", 200)
            self.fold_once(enough=enough)

    # -- accidents and wishes

    @rule()
    def wipe(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)
        self.model, self.clear_pending_ns, self.doubtful = Model(), None, 0
        for process in self.processes:
            process.lost = True

    def forget_removed_home(self) -> None:
        if not self.home.exists():
            self.clear_pending_ns = None

    @precondition(lambda self: any(process.lost for process in self.processes))
    @rule()
    def notice(self) -> None:
        """A process finds its store gone and begins a new journal, telling again what runs."""
        process = next(process for process in self.processes if process.lost)
        name = process.writer.journal.name.next
        process.writer.die()
        process.writer, process.lost = Writer(self.home, name.writer, name.number), False
        self.begin_session(process)

    @precondition(lambda self: (self.home / "metrics.json").exists())
    @rule()
    def remove_snapshot(self) -> None:
        (self.home / "metrics.json").unlink()
        self.clear_pending_ns = self.tick() * 1000
        os.utime(self.home, ns=(0, self.clear_pending_ns))
        self.model, self.doubtful = self.model.cleared(), 0

    @precondition(lambda self: (self.home / "metrics.json.prev").exists() and self.clear_pending_ns is None)
    @rule()
    def clear_as_the_original_does(self) -> None:
        (self.home / "metrics.json").write_text("{}")
        self.clear_pending_ns = self.tick() * 1000
        os.utime(self.home / "metrics.json", ns=(0, self.clear_pending_ns))
        self.model, self.doubtful = self.model.cleared(), 0

    @precondition(lambda self: self.home.exists())
    @rule()
    def clear(self) -> None:
        with open_store(self.home) as store:
            assert clear(store)
        self.model, self.clear_pending_ns, self.doubtful = self.model.cleared(), None, 0

    @precondition(lambda self: (self.home / "metrics.json").exists() and self.clear_pending_ns is None)
    @rule(rubbish=st.sampled_from([b"", b"{", b"[]", b"\xff", b'{"journals": {}, "global": {"count": 5}']))
    def corrupt_snapshot(self, rubbish: bytes) -> None:
        (self.home / "metrics.json").write_bytes(rubbish)

    # -- what must hold

    @rule()
    def look_again(self) -> None:
        """The reader that has been there all the time, and may have slept through much."""
        self.reader._probed_at = float("-inf")  # a death is seen half a second later at most
        self.counts_are_right(self.reader.metrics())

    @invariant()
    def store_is_as_the_model_says(self) -> None:
        self.counts_are_right(Reader(self.home).metrics())

    def counts_are_right(self, seen: Any) -> None:
        model = self.model
        assert seen["global"]["count"] == model.calls.total()
        assert seen["global"]["total-duration"] == 2.0 * model.calls.total()
        assert {tool: entry["count"] for tool, entry in seen["tools"].items()} == dict(model.calls)
        assert model.torn <= seen["health"].get("torn", 0) <= model.torn + self.doubtful
        shown = {sid: (session["status"], session["calls"]) for sid, session in seen["sessions"].items()}
        expected = {sid: (session.status, session.calls) for sid, session in model.sessions.items()}
        for sid in self.uncertain:
            shown.pop(sid, None), expected.pop(sid, None)
        assert shown == expected
        if not self.uncertain:
            runs = sum(agent["runs"]["count"] for agent in seen["agents"].values())
            assert runs == len(expected)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(
    max_examples=80, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
