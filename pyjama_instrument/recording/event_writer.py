"""Appends events to the journal: on the fast path with one ``write``, on the slow path with what that could not do.

Nothing here raises into the caller, and no event waits for a lock that another process can hold. An event that cannot
be written is dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from pyjama_instrument import _guard
from pyjama_instrument.recording.counters import ReasonCounts
from pyjama_instrument.recording.process_state import ProcessState, reason_of
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.threads.bounded_lock import BoundedLock

if TYPE_CHECKING:
    from pyjama_instrument.storage.journal import Journal

    class Journals(Protocol):
        """Opens and closes the journal."""

        opening: bool
        unavailable_reason: str

        def prepare(self) -> None:
            """What has to be done before the lock is taken."""

        def waits_to_reopen(self) -> bool:
            """Whether the last attempt failed a moment ago."""

        def open(self) -> bool:
            """Open the journal; returns whether that was possible."""

        def close(self) -> None:
            """Close the journal."""


__all__ = ["EventWriter"]

_MOST_PENDING = 10_000


class EventWriter:
    """Writes events to the open journal of this process.

    Attributes:
        being_written: lines that are taking the slow path now.
        dropped: how many events were dropped, by reason.
        full: the journal must not grow: events are dropped until others are folded.
        journal: the open journal, or None.
        pending: lines for the thread that holds the lock, or for the flusher.
        unterminated: the last line in the journal may lack its end.
    """

    journals: Journals

    def __init__(self, state: ProcessState) -> None:
        self._state = state

    def reset(self) -> None:
        """Nothing is open and nothing was recorded yet."""
        self.journal: Journal | None = None
        self.pending: deque[bytes] = deque()
        self.being_written: dict[object, bytes] = {}
        self.unterminated = self.full = False
        self.dropped = ReasonCounts()

    def emit(self, line: bytes) -> None:
        """Append one encoded event to the journal. Never raises; drops the event and counts it if it must."""
        try:
            written = os.write(self._state.fd, line)
        except OSError as error:
            self.not_written(line, reason_of(error))
            return
        if written == len(line):
            self._state.dirty = True
        else:
            self.not_written(line, "short-write", written)

    def not_written(self, line: bytes, reason: str, written: int = 0) -> None:
        """The fast path could not write an event: open the journal, or mend it, or drop the event."""
        this = object()
        try:
            self.being_written[this] = line
            self._emit_slowly(line, reason, written)
        except RecursionError:  # the host's stack is full: from here on, nothing that takes a frame
            self.dropped._counted["recursion", 0] += 1
            return
        except Exception as error:
            _guard.swallow(error, "recorder.emit")
            self.drop("internal")
        finally:
            self.being_written.pop(this, None)
        _guard.report_pending()

    def record(self, event: dict[str, Any]) -> None:
        """Append an event given as a dictionary of JSON-safe values, if recording is on."""
        if self._state.enabled:
            self.record_always(event)

    def record_always(self, event: dict[str, Any]) -> None:
        """The same, also if recording was switched off: for the end of what was recorded before."""
        try:
            self._state.notice_fork()
            self.emit(encode(event))
        except RecursionError:  # the host's stack is full, or its data is too deep
            self.dropped._counted["recursion", 0] += 1
        except Exception as error:
            _guard.swallow(error, "recorder.record")
            self.drop("unencodable")

    def drop(self, reason: str, count: int = 1) -> None:
        """Count events that could not be recorded."""
        try:
            self.dropped.add(reason, count)
            _guard.report_once(
                f"drop {reason}",
                f"events cannot be recorded and are dropped ({reason}); your program continues (reported once)",
            )
        except Exception as error:
            _guard.swallow(error, "recorder.drop")

    def report_drops(self) -> None:
        """Record what was dropped. What cannot be recorded now is recorded later."""
        for reason, count in self.dropped.unreported().items():
            # First: a signal handler that comes in between must not report it too.
            self.dropped.mark_reported(reason, count)
            recorded = False
            try:
                event = {"kind": "writer.dropped", "ts": self._state.now_us(), "count": count, "reason": reason}
                recorded = self._append(encode(event)) is None
            finally:
                if not recorded:
                    self.dropped.mark_reported(reason, -count)
            if not recorded:
                return

    def write_unwritten(self) -> None:
        """Record the ends of calls that could not be recorded when they ended."""
        unwritten = self._state.unwritten
        while unwritten:
            tool, *ended = unwritten.popleft()
            tool.record_deferred(*ended)

    def terminate_line(self) -> None:
        """Write the newline after an incomplete line, if the next record may come late or never."""
        journal = self.journal
        if self.unterminated and journal is not None and journal.is_ours():
            with contextlib.suppress(OSError):
                self.unterminated = os.write(journal.fd, b"\n") != 1
            self._state.fd = -1 if self.unterminated or self.full else journal.fd

    def finish(self) -> None:
        """Write what is still to be written when the program ends."""
        self.terminate_line()
        if self._state.fd >= 0:
            self.report_drops()

    def after_unlock(self, lock: BoundedLock) -> None:
        """Write what other threads left to this one while it held the lock."""
        if lock is self._state.lock:  # a child that was forked in between has another lock
            self._write_pending()

    def _write_pending(self) -> None:
        while self.pending and not self.journals.opening:
            line = self.pending.popleft()
            if self.journal is None:
                self.drop(self.journals.unavailable_reason)
            else:
                self.emit(line)

    def _emit_slowly(self, line: bytes, reason: str, written: int) -> None:
        self._state.notice_fork()
        if self.journal is None and self.journals.waits_to_reopen():
            self.drop(self.journals.unavailable_reason)
            return
        self.journals.prepare()
        if self._state.lock.wait():
            self._state.lock.run(self._emit_locked, line, reason, written)
        else:
            self._leave_to_others(line, reason, written)

    def _leave_to_others(self, line: bytes, reason: str, written: int) -> None:
        """Another thread has held the lock for long: it will write the event, or the flusher."""
        if reason == "short-write":
            self.unterminated, self._state.fd = True, -1
            if written < len(line) - 1:
                self.drop(reason)
            return
        if len(self.pending) >= _MOST_PENDING:
            self.drop("stuck")
            return
        self.pending.append(line)
        if not self._state.lock.is_held():  # it was just released, and the other thread may not have seen this line
            self._state.lock.run(_nothing)

    def _emit_locked(self, line: bytes, reason: str, written: int) -> None:
        if self.journals.opening:  # a signal handler or a finalizer interrupted the opening, in this very thread
            self.pending.append(line)
            return
        if self._state.fd != -1 or self.unterminated:
            self.unterminated = True
            self._state.fd = -1
            if self.journal is not None and (reason == "ESTALE" or not self.journal.is_ours()):
                self.journals.close()
        if reason == "short-write":
            if written < len(line) - 1 or self.journal is None:  # what is in the file will be skipped as torn
                self.drop(reason)
            return  # else only the newline is missing, and comes next
        if self.full:
            self.drop("journal-full")
            return
        if self.journal is None and not self.journals.open():
            self.drop(self.journals.unavailable_reason)
            return
        self._write_again(line)

    def _write_again(self, line: bytes) -> None:
        if failure := self._append(line):
            self.drop(failure)
        else:
            self.report_drops()

    def _append(self, line: bytes) -> str | None:
        """Write to the journal, on a new line if the last may be incomplete; why it failed, or None."""
        assert self.journal is not None
        data = b"\n" + line if self.unterminated else line
        failure, written = None, 0
        try:
            written = os.write(self.journal.fd, data)
            if written < len(data) - 1:  # if only the newline is missing, it comes next
                failure = "short-write"
        except OSError as error:
            failure = reason_of(error)
        self.unterminated = written != len(data)
        self._state.fd = -1 if self.unterminated else self.journal.fd
        self._state.dirty = True
        return failure


def _nothing() -> None:
    """Only what follows the release of the lock is wanted."""
