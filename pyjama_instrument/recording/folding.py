"""Folding: in the background, at the end of the program, and in :func:`flush`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pyjama_instrument import _guard
from pyjama_instrument.errors import SchemaTooNew
from pyjama_instrument.recording.background_thread import BackgroundThread, CompactionImport
from pyjama_instrument.recording.event_writer import EventWriter
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.recording.throttle import Budget, Throttle
from pyjama_instrument.storage.layout import PREVIOUS
from pyjama_instrument.threads.native import sleep

if TYPE_CHECKING:
    from pyjama_instrument.storage.store_directory import Store

__all__ = ["EXIT_SECONDS", "FOLD_SECONDS", "Folding"]

FOLD_SECONDS = 0.5
EXIT_SECONDS = 0.1  # what the end of a program may spend on folding in all
_EXIT_FOLD_SECONDS = 0.04  # of that for the backlog of others; the rest is for writing the snapshot
_EXIT_WAIT_SECONDS = 0.01
_PAUSE_SECONDS = 0.1  # between two folds
_TAKE_OVER_SECONDS = 0.55
_LOOK_SECONDS = 0.45
_EARLY_NS = 5_000_000  # a thread may be woken up a little too early
_KEEP_SECONDS = 10.0
_BUDGET_SECONDS = 0.5  # after which a fold in the background writes how far it got
_MOST_BUDGET_SECONDS = 60.0


class Folding:
    """Has the journals folded into the snapshot.

    Attributes:
        exit_seconds: what is left for the fold at the end of the program.
        next_ns: the monotonic time of the next fold.
    """

    def __init__(
        self, state: ProcessState, writer: EventWriter, compaction: CompactionImport, background: BackgroundThread
    ) -> None:
        self._state = state
        self._writer = writer
        self._compaction = compaction
        self._background = background

    def reset(self) -> None:
        """Nothing was folded yet."""
        self.next_ns = 0
        self._budget_seconds = _BUDGET_SECONDS
        self.exit_seconds = _EXIT_FOLD_SECONDS

    def begin(self) -> None:
        """A journal was opened."""
        # Not at once: a short program folds only at its end.
        self.next_ns = self._state.mono_ns() + int(FOLD_SECONDS * 1e9)

    def fold_or_free(self) -> None:
        """Fold if it is time; if nothing happens for long, free what is kept for the next fold."""
        is_time = self._state.dirty and self._state.mono_ns() + _EARLY_NS >= self.next_ns
        if is_time and self._compaction.flusher_can_fold():
            self.fold()
        else:
            self._free_if_idle()

    def fold(self) -> None:
        """Fold, unless another process does it."""
        journal = self._writer.journal
        if journal is None:
            return
        began_ns = self._state.mono_ns()
        # The process that folded last continues while it is in time: it need not read the snapshot again.
        if (
            not self._compaction.load().goes_on(journal.store)
            and 0 <= (age := _age_seconds(journal.store)) < _TAKE_OVER_SECONDS
        ):
            self.next_ns = began_ns + int(max(_TAKE_OVER_SECONDS - age, _LOOK_SECONDS) * 1e9)
            return
        self.fold_now()

    def fold_now(self) -> None:
        """Fold even if another process has just done it."""
        state, compact = self._state, self._compaction.load().compact
        journal, flusher = self._writer.journal, self._background.flusher
        if journal is None or flusher is None:
            return
        began_ns = state.mono_ns()
        state.dirty = False
        outcome = "busy"
        try:
            outcome = compact(
                journal.store, should_stop=Throttle(flusher.stopping), enough=Budget(self._budget_seconds)
            )
        finally:
            if outcome != "current":  # fold until nothing is new: a process that found the lock taken tries again
                state.dirty = True
            # If events come faster than they are folded, a longer fold catches up.
            longer = min(2 * self._budget_seconds, _MOST_BUDGET_SECONDS)
            self._budget_seconds = longer if outcome == "partial" else _BUDGET_SECONDS
            self.next_ns = max(began_ns + int(FOLD_SECONDS * 1e9), state.mono_ns() + int(_PAUSE_SECONDS * 1e9))

    def make_room(self, store: Store) -> None:
        """Fold for a short time because the journals are full. The end of the program has less time then."""
        compact = self._compaction.load().compact
        began = time.monotonic()
        try:
            compact(store, original_wait_seconds=0.0, enough=Budget(_EXIT_FOLD_SECONDS))
        except (OSError, SchemaTooNew):  # then they stay full
            pass
        self.exit_seconds -= time.monotonic() - began

    def fold_at_exit(self) -> None:
        """Fold for a short time. What this process recorded is in the journal, whatever happens here."""
        # A program that folded a backlog when it began spends no time on it at its end.
        journal = self._writer.journal
        if journal is not None and self._state.dirty and self.exit_seconds >= 0:
            compact = self._compaction.load().compact
            enough = Budget(self.exit_seconds)
            compact(journal.store, wait_seconds=_EXIT_WAIT_SECONDS, original_wait_seconds=0.0, enough=enough)

    def flush(self, timeout: float = 5.0) -> bool:
        """Fold now what is recorded so far. Returns whether that was done within ``timeout`` seconds."""
        try:
            return self._folded_until(time.monotonic() + timeout)
        except Exception as error:
            self.report_failure(error, "recorder.flush")
        return False

    def _folded_until(self, deadline: float) -> bool:
        state = self._state
        compact = self._compaction.load().compact  # first: below another root directory it may not be found
        state.notice_fork()
        self._writer.write_unwritten()
        while (journal := self._writer.journal) is not None:
            remaining = max(0.0, deadline - time.monotonic())
            outcome = "busy"
            state.dirty = False  # what is recorded from now on is left to the flusher
            try:
                outcome = compact(
                    journal.store,
                    wait_seconds=remaining,
                    original_wait_seconds=remaining,
                    should_stop=Throttle(),
                    enough=Budget(max(remaining, EXIT_SECONDS)),
                )
            finally:
                if outcome in ("busy", "partial"):
                    state.dirty = True
            if outcome in ("folded", "current"):
                break
            if time.monotonic() >= deadline:
                return False
            sleep(0.01)
        return not self._writer.dropped.unreported()

    def report_failure(self, error: Exception, where: str) -> None:
        """Report that something failed which is tried again later."""
        if isinstance(error, SchemaTooNew):
            _guard.report_once("schema", f"{error}; until then your events stay in the journal and are not folded")
        elif not (isinstance(error, OSError) and self._is_without_journal()):
            _guard.swallow(error, where)

    def _is_without_journal(self) -> bool:
        """Whether the program has closed our descriptors, or the store is gone; the next tick opens a new journal."""
        journal = self._writer.journal
        try:
            return journal is not None and not journal.is_ours()
        except Exception as error:
            _guard.swallow(error, "recorder.look")
            return False

    def _free_if_idle(self) -> None:
        journal = self._writer.journal
        if journal is not None and self._state.mono_ns() - self.next_ns > _KEEP_SECONDS * 1e9:
            journal.store.kept = None


def _age_seconds(store: Store) -> float:
    """Seconds since the last fold; negative if the clock was set back."""
    try:
        # A fold gives its predecessor this name, which changes the file's status. The time of the snapshot itself
        # proves less, because original agents rewrite it too.
        return time.time() - os.stat(PREVIOUS, dir_fd=store.fd).st_ctime
    except OSError:
        return float("inf")
