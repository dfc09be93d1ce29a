"""The recorder of this process: writes events to its journal and has them folded.

Nothing here raises into the caller. The journal is opened, and the flusher started, at the first event. The flusher is
stopped or paused for a fork; the child opens a journal of its own. Each part of this work is a class in a module of
its own. The recorder makes them, and resets them all in a forked child: they stay the same objects, because a signal
handler may fork while one of their methods runs.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from pyjama_instrument import _guard, _platform, unpickle
from pyjama_instrument._fork_detection import fork_marker
from pyjama_instrument._hooked_tools import hooked, when_changed
from pyjama_instrument.config import disabled_by_environment
from pyjama_instrument.recording.background_thread import BackgroundThread, CompactionImport
from pyjama_instrument.recording.call_announcements import CallAnnouncements
from pyjama_instrument.recording.context import Scope
from pyjama_instrument.recording.event_writer import EventWriter
from pyjama_instrument.recording.folding import Folding
from pyjama_instrument.recording.ids import Ids
from pyjama_instrument.recording.journal_lifecycle import JournalLifecycle
from pyjama_instrument.recording.open_sessions import OpenSessions
from pyjama_instrument.recording.process_hooks import ProcessHooks
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.storage import lock_descriptors
from pyjama_instrument.threads.bounded_lock import BoundedLock

__all__ = ["Recorder", "recorder"]

_BUSY_SECONDS = 0.25
_IDLE_SECONDS = 0.6


class Recorder(ProcessState):
    """Records what happens in this process.

    Attributes:
        announcements: writes the start of calls.
        background: the flusher's thread.
        compaction: the module that folds, imported late.
        folding: folds in the background and at the end.
        hooks: what runs at a fork and at the end.
        journals: opens, rotates and closes the journal.
        sessions: starts and ends sessions.
        writer: appends events to the journal.
    """

    def __init__(self) -> None:
        self.enabled = not disabled_by_environment()
        self.epoch = 0
        self.forked = False
        self.ids = Ids()
        self.unforked = fork_marker()
        self.wall_ns = time.time_ns
        self.mono_ns = time.perf_counter_ns
        self._left_by_parent: object = None
        self.compaction = CompactionImport()
        self.background = BackgroundThread(self, self.compaction, lambda: self.tick())
        self.writer = EventWriter(self)
        self.announcements = CallAnnouncements(self, self.writer, self.background)
        self.sessions = OpenSessions(self, self.writer, self.background)
        self.folding = Folding(self, self.writer, self.compaction, self.background)
        self.writer.journals = self.journals = JournalLifecycle(
            self, self.writer, self.compaction, self.background, self.folding, self.announcements, self.sessions
        )
        self.journals.hooks = self.hooks = ProcessHooks(self, self.writer, self.background, self.sessions, self.folding)
        self.reset()

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickle.process_recorder, ()

    def reset(self) -> None:
        """Return to the state of a process that has recorded nothing yet."""
        self.fd = -1
        self.dirty = False
        self.in_flight = {}
        self.announced = set()
        self.sessions.reset()
        self.lock = BoundedLock(self.writer.after_unlock)
        self.compaction.reset()
        self.writer.reset()
        self.background.reset()
        self.journals.reset()
        self.unwritten = deque()
        self.folding.reset()
        self.hooks.reset()
        self.exiting = False
        self.unforked[0] = 1  # last: if a signal's exception comes before, all this is done again
        self.choose_path()

    def choose_path(self) -> None:
        """Let calls of plain functions take the fast path, if it does all that is wanted."""
        self.unforked[1] = int(bool(self.unforked[0] and self.enabled and not hooked))

    def after_fork_in_child(self) -> None:
        """Start anew: the journal and the locks belong to the parent."""
        lock_descriptors.close_copies()
        if self.writer.journal is not None:
            self.writer.journal.store.close()
            # Kept: to free the memory would copy it.
            self._left_by_parent = self.writer.journal, self.background.flusher
        self.epoch += 1
        self.forked = True
        self.ids.reseed()
        self.journals.forget_writer()
        self.reset()

    # -- what calls and sessions need of the parts

    def emit(self, line: bytes) -> None:
        """Append one encoded event to the journal. Never raises; drops the event and counts it if it must."""
        self.writer.emit(line)

    def not_written(self, line: bytes, reason: str, written: int = 0) -> None:
        """The fast path could not write an event: open the journal, or mend it, or drop the event."""
        self.writer.not_written(line, reason, written)

    def record(self, event: dict[str, Any]) -> None:
        """Append an event given as a dictionary of JSON-safe values."""
        self.writer.record(event)

    def announce(self, scope: Scope, tool: str, span: str) -> None:
        """Record at once that a call begins."""
        self.announcements.announce(scope, tool, span)

    def more_spans(self) -> str:
        """A span id; more are made in advance."""
        self.compaction.load_for_flusher()
        self.background.revive()
        return self.ids.more_spans()

    def flush(self, timeout: float = 5.0) -> bool:
        """Fold now what is recorded so far. Returns whether that was done within ``timeout`` seconds."""
        return self.folding.flush(timeout)

    # -- the flusher

    def tick(self) -> float:
        """What the flusher does; returns the seconds until it should be done again."""
        try:
            self.journals.redact_command_line()
            self.writer.write_unwritten()
            self.journals.check()
            if self.journals.fold_first and self.compaction.flusher_can_fold():
                self.folding.fold_now()
                self.journals.check()
            self.announcements.announce_slow_calls()
            _guard.report_pending()
            self.folding.fold_or_free()
        except Exception as error:
            self.folding.report_failure(error, "recorder.flusher")
        hurry = self.writer.full or len(self.in_flight) > len(self.announced)
        pause = _BUSY_SECONDS if hurry else _IDLE_SECONDS
        due = (self.folding.next_ns - self.mono_ns()) / 1e9
        return due if self.dirty and 0 < due < pause else pause


class _UnsupportedRecorder(Recorder):
    """The recorder of a system on which there can be no store: always disabled. The first use reports why."""

    @property
    def enabled(self) -> bool:
        """False."""
        if self._wanted:
            _guard.report_once(
                "system",
                f"nothing is recorded and no hook runs: {_platform.unsupported_reason()}; your program continues",
            )
        return False

    @enabled.setter
    def enabled(self, wanted: bool) -> None:
        self._wanted = wanted

    def choose_path(self) -> None:
        """There is no fast path, and only a use is reported."""

    def flush(self, timeout: float = 5.0) -> bool:
        """There is nothing to fold."""
        return True


recorder = _UnsupportedRecorder() if _platform.MISSING else Recorder()
unpickle.makers["recorder"] = lambda: recorder
when_changed.append(recorder.choose_path)
_guard.must_wait = lambda: recorder.lock.is_mine()  # a forked child has another lock
