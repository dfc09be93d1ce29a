"""Opens, checks, rotates, moves and closes the journal of this process.

No code of the host is called on purpose while the lock is held: messages for stderr wait until it is released, and the
host's function for redaction sees the command line before the lock is taken.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pyjama_instrument import _guard
from pyjama_instrument.config import home_to_write, resolve_home
from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.recording.background_thread import BackgroundThread, CompactionImport
from pyjama_instrument.recording.call_announcements import CallAnnouncements
from pyjama_instrument.recording.event_writer import EventWriter
from pyjama_instrument.recording.folding import Folding
from pyjama_instrument.recording.open_sessions import OpenSessions
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.redaction import policy
from pyjama_instrument.storage.encoding import encode
from pyjama_instrument.storage.journal import SEGMENT_BYTES, Journal, JournalFull
from pyjama_instrument.storage.layout import SCHEMA, SNAPSHOT, SegmentName
from pyjama_instrument.storage.process_identity import boot_and_pid_namespace
from pyjama_instrument.storage.store_directory import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    class Hooks(Protocol):
        """What has to be in place before a journal is opened."""

        def install(self) -> None:
            """Register what runs at a fork and at the end of the program."""


__all__ = ["JournalLifecycle"]

_REOPEN_SECONDS = 0.5
_ATTEMPTS = 10
_ONE_PER_SPAN = tuple(f'{{"kind":"{kind}"'.encode() for kind in ("tool.ended", "step.started", "session.started"))
"""How lines begin of which there is one for each span id: a call has ended, or a step or session has begun."""


class _Check(NamedTuple):
    """The last time the descriptor led to the journal: lines that should have been written, and the journal's size."""

    lines: int
    bytes: int


class JournalLifecycle:
    """Gives the writer a journal, and replaces it when it is full, gone, retired or in another store than wanted.

    Attributes:
        fold_first: too much waits to be folded to rotate, so the flusher folds first.
        opening: a journal is being opened now.
        unavailable_reason: why there is no journal.
    """

    hooks: Hooks

    def __init__(
        self,
        state: ProcessState,
        writer: EventWriter,
        compaction: CompactionImport,
        background: BackgroundThread,
        folding: Folding,
        announcements: CallAnnouncements,
        sessions: OpenSessions,
    ) -> None:
        self._state = state
        self._writer = writer
        self._compaction = compaction
        self._background = background
        self._folding = folding
        self._announcements = announcements
        self._sessions = sessions
        self._command_line: list[str] | None = None
        self.forget_writer()

    def reset(self) -> None:
        """No journal is open."""
        self.opening = False
        self._last_check: _Check | None = None
        self._unseen = False  # whether another process took this living one for dead
        self.reopen_at_ns = 0
        self.unavailable_reason = "unavailable"
        self.fold_first = False
        self._redacting = self._move_pending = False

    def forget_writer(self) -> None:
        """Write under a new id from now on."""
        self._writer_id, self._segment = "", 0

    # -- opening and closing

    def prepare(self) -> None:
        """Do what calls code of the host or imports, before the lock is taken."""
        self.redact_command_line()
        self._compaction.load_for_flusher()

    def waits_to_reopen(self) -> bool:
        """Whether the last attempt failed a moment ago."""
        return time.monotonic_ns() < self.reopen_at_ns

    def open(self) -> bool:
        """Open the journal; returns whether that was possible."""
        if self.waits_to_reopen():
            return False
        self.hooks.install()  # before there is anything that a child must not share
        writer, state = self._writer, self._state
        self.opening = True
        try:
            store = Store(home_to_write())
            try:
                self._writer_id = self._writer_id or os.urandom(8).hex()
                self._segment += 1
                writer.journal = self._new_journal(store)
            except BaseException:
                store.close()
                raise
        except (PyjamaError, OSError) as error:
            self.unavailable_reason = "journal-full" if isinstance(error, JournalFull) else "unavailable"
            self.reopen_at_ns = time.monotonic_ns() + int(_REOPEN_SECONDS * 1e9)
            _guard.report_once("unavailable", f"nothing is recorded: {error}")
            return False
        finally:
            self.opening = False
        state.fd, writer.unterminated, state.dirty = writer.journal.fd, False, True
        self._folding.begin()
        self._sessions.record_again()
        self._announcements.announce_again()
        writer.report_drops()
        self._check_descriptor(writer.journal)
        if self._background.flusher is None:  # a stopped one may be doing this itself, at last
            self._background.start()
        return True

    def _new_journal(self, store: Store) -> Journal:
        name = SegmentName(self._writer_id, self._segment)
        try:
            return Journal(store, name, self._header)
        except JournalFull:
            self._folding.make_room(store)
            return Journal(store, name, self._header)

    def close(self) -> None:
        """Close the journal."""
        writer = self._writer
        self._count_lost()
        writer.terminate_line()
        self._state.fd = -1
        writer.full = writer.unterminated = False
        if writer.journal is not None:
            self._segment = writer.journal.last.number
            writer.journal.close()
            writer.journal = None  # and with it its store, unless another thread is folding it

    def _header(self, name: SegmentName) -> bytes:
        now_us = self._state.now_us
        header = encode(
            {
                "kind": "writer.opened",
                "ts": now_us(),
                "schema_version": SCHEMA,
                "writer": name.writer,
                "segment": name.number,
                "pid": os.getpid(),
                "host": os.uname().nodename,
                "python": sys.version.split()[0],
                "argv": self._command_line or [],
                "started": now_us(),
            }
            | boot_and_pid_namespace()
            | ({"unseen": True} if self._unseen else {})
        )
        if name.writer != self._writer_id:  # a signal handler has forked, and this is the child
            raise OSError(errno.ECHILD, "forked while the journal was being opened")
        return header

    def redact_command_line(self) -> None:
        """Call the host's function for redaction with the command line, once.

        It may take a lock of the host or call a tool: other threads do not wait for it, and write a header without the
        command line.
        """
        if self._command_line is None and not (self._redacting and policy.redactor):
            self._redacting = True
            try:
                self._command_line = policy.command_line(sys.argv)
            except Exception as fault:
                _guard.swallow(fault, "recorder.argv")
                self._command_line = []
            finally:
                self._redacting = False

    def forget_command_line(self) -> None:
        """Redact the command line again: the rules have changed."""
        self._command_line = None

    # -- checking, rotating, moving

    def check(self) -> None:
        """Mend, rotate, move or open the journal if that is needed."""
        self._state.lock.run(self._check_locked)

    def move(self) -> None:
        """Continue in another store, if the settings name another one now."""
        self._state.notice_fork()
        self.redact_command_line()
        self._move_pending = True
        if self._state.lock.wait():  # else the flusher does it
            self._state.lock.run(self._move_locked)

    def _check_locked(self) -> None:
        if self._move_pending:
            self._move_locked()
        writer = self._writer
        journal = writer.journal
        if journal is None:
            if self._sessions.open or writer.dropped.unreported() or writer.pending:
                self.open()
        elif not journal.is_ours():
            self.close()
            self.open()
        else:
            self._check_descriptor(journal)
            self._mend(journal)

    def _move_locked(self) -> None:
        self._move_pending = False
        journal = self._writer.journal
        if journal is not None and journal.store.path != resolve_home():
            self.close()
            self.reopen_at_ns = 0
            self.open()

    def _mend(self, journal: Journal) -> None:
        self._writer.terminate_line()
        if self._writer.unterminated:
            return
        if journal.has_left():
            self._unseen = self._unseen or journal.is_retired()
            self._rotate(journal)
        elif journal.size() > SEGMENT_BYTES:
            self._rotate(journal)
        elif self._writer.dropped.unreported():
            self._writer.report_drops()
        elif not _has_snapshot(journal.store):  # removed to clear it: what is running has to appear again
            self._state.dirty = True

    def _rotate(self, journal: Journal) -> None:
        """Continue in a new segment. If too much waits to be folded, fold first; if that does not help, drop events."""
        if not journal.is_full():
            journal.rotate()
            self._state.fd, self._writer.full, self.fold_first = journal.fd, False, False
            self._last_check = None  # it was of another file
            self._check_descriptor(journal)
        elif not self.fold_first:
            self.fold_first = True
        else:
            self.fold_first, self._writer.full = False, True
            self._state.fd = -1  # every event takes the slow path, and is dropped and counted there

    # -- the descriptor

    def _check_descriptor(self, journal: Journal) -> None:
        """If the descriptor leads to the journal, all that was recorded until now is there.

        Other threads record meanwhile, and the program may reuse the descriptor's number meanwhile. So a check counts
        only if no line was added during it and the descriptor still leads to the journal afterwards.
        """
        try:
            lines = self._lines_due()
            for _ in range(_ATTEMPTS):
                size, before, lines = journal.size(), lines, self._lines_due()
                if lines == before:
                    if journal.is_ours():
                        self._last_check = _Check(lines, size)
                    return
        except OSError:  # it cannot be checked now, so nothing follows from it
            self._last_check = None

    def _lines_due(self) -> int:
        """How many lines of which there is one for each span should have been written until now."""
        state, writer = self._state, self._writer
        coming = [*writer.being_written.values(), *writer.pending]
        late = len(state.unwritten) + _one_per_span(coming)
        return state.ids.used - len(state.in_flight) - writer.dropped.total() - late

    def _count_lost(self) -> None:
        """Count what was written to a file of the program that got the number of our closed descriptor.

        No write can notice that. The number of span ids used since the last check shows how many lines the journal
        should have.
        """
        journal, check, self._last_check = self._writer.journal, self._last_check, None
        if journal is None or check is None or not journal.is_replaced():
            return
        lost = self._lines_due() - check.lines - _one_per_span(journal.lines_since(check.bytes))
        if lost > 0:
            self._writer.drop("descriptor-reused", lost)


def _one_per_span(lines: Iterable[bytes]) -> int:
    return sum(line.startswith(_ONE_PER_SPAN) for line in lines)


def _has_snapshot(store: Store) -> bool:
    try:
        os.stat(SNAPSHOT, dir_fd=store.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    except OSError:  # an error does not mean that somebody removed it
        pass
    return True
