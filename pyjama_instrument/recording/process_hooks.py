"""What runs at a fork, at the end of the program, and at the end of a worker of ``multiprocessing``."""

from __future__ import annotations

import atexit
import os
import sys

from pyjama_instrument import _guard
from pyjama_instrument.recording.background_thread import BackgroundThread
from pyjama_instrument.recording.event_writer import EventWriter
from pyjama_instrument.recording.folding import EXIT_SECONDS, Folding
from pyjama_instrument.recording.open_sessions import OpenSessions
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.recording.worker_process import multiprocessing_package

__all__ = ["ProcessHooks"]


class ProcessHooks:
    """Registers the functions of the recorder with Python.

    The exception of a signal handler may end the functions for a fork anywhere, even before their first line. Python
    reports it and forks all the same. So they hold no lock, and what they leave undone is done later.
    """

    def __init__(
        self,
        state: ProcessState,
        writer: EventWriter,
        background: BackgroundThread,
        sessions: OpenSessions,
        folding: Folding,
    ) -> None:
        self._state = state
        self._writer = writer
        self._background = background
        self._sessions = sessions
        self._folding = folding
        self._installed = False

    def reset(self) -> None:
        """A forked child may be a worker although its parent is none."""
        self._finalizes = False

    def install(self) -> None:
        """Register what runs at a fork and at the end of the program."""
        if not self._installed:
            self._installed = True
            atexit.register(self.at_exit)
            os.register_at_fork(
                before=self.before_fork, after_in_parent=self.after_fork, after_in_child=self._state.notice_fork
            )
        self._install_in_worker()

    def _install_in_worker(self) -> None:
        # A worker of multiprocessing leaves by os._exit and runs only the finalizers of multiprocessing.util.
        util = sys.modules.get(f"{multiprocessing_package()}.util")
        if util is not None and not self._finalizes:
            self._finalizes = True
            util.Finalize(None, self.at_exit, exitpriority=-100)

    def before_fork(self) -> None:
        """Stop or pause the flusher."""
        self._background.before_fork()

    def after_fork(self) -> None:
        """Resume the flusher in the parent."""
        self._background.revive()

    def at_exit(self) -> None:
        """End what ends with the program, and fold for a short time: own events are in the journal already."""
        state, writer = self._state, self._writer
        try:
            state.notice_fork()
            state.exiting = True
            try:
                if self._background.flusher is not None:
                    self._background.flusher.stop(EXIT_SECONDS)
            finally:  # an interrupt may prevent the fold, but loses no event
                writer.write_unwritten()
                self._sessions.end_implicit()
            if state.lock.wait():
                state.lock.run(writer.finish)
            self._folding.fold_at_exit()
            if writer.pending:  # another thread does not release the lock
                writer.dropped.add("stuck", len(writer.pending))
            if lost := writer.dropped.unreported():
                _guard.report_once("lost", _lost_message(lost))
        except Exception as error:
            self._folding.report_failure(error, "recorder.exit")
        except BaseException:  # Ctrl-C, or what a signal's handler raises: the program ends anyway
            pass


def _lost_message(lost: dict[str, int]) -> str:
    reasons = ", ".join(f"{reason}: {count}" for reason, count in lost.items())
    return f"{sum(lost.values())} events could not be recorded ({reasons}). Check the store with: pyjama doctor"
