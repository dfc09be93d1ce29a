"""The background thread of the recorder: started with the journal, stopped or paused for a fork, resumed after it.

The module that folds is imported here too, because under gevent the program's own thread has to import it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from pyjama_instrument import _guard
from pyjama_instrument.recording.flusher import Flusher
from pyjama_instrument.recording.process_state import ProcessState
from pyjama_instrument.threads.bounded_lock import BoundedLock
from pyjama_instrument.threads.native import are_replaced

__all__ = ["BackgroundThread", "CompactionImport"]


class CompactionImport:
    """Imports ``storage.compaction`` when it is first needed."""

    def __init__(self) -> None:
        self.module: Any = None
        self.reset()

    def reset(self) -> None:
        """Replace the lock, which another thread of the parent may have held during a fork."""
        self._importing = BoundedLock()

    def load(self) -> Any:
        """The module that folds, imported by one thread at a time.

        Two threads that import the same module wait for each other with a lock of the interpreter. gevent replaces
        that lock by one that lets other greenlets run.
        """
        if self.module is None:
            if self._importing.wait():
                self._importing.run(self.import_now)
            else:
                self.import_now()
        return self.module

    def import_now(self) -> None:
        """Import the module in this thread."""
        from pyjama_instrument.storage import compaction

        self.module = compaction

    def load_for_flusher(self) -> None:
        """Under gevent or eventlet, import in the program's own thread.

        An import in the flusher would wait for another thread's import by a lock that only a greenlet can release.
        """
        if not self.flusher_can_fold():
            try:
                self.load()
            except Exception as fault:
                _guard.swallow(fault, "recorder.import")

    def flusher_can_fold(self) -> bool:
        """Whether the flusher may fold: see :meth:`load_for_flusher`."""
        return self.module is not None or not are_replaced()


class BackgroundThread:
    """Starts, wakes and resumes the flusher of this process."""

    def __init__(self, state: ProcessState, compaction: CompactionImport, tick: Callable[[], float]) -> None:
        self._state = state
        self._compaction = compaction
        self._tick = tick
        self.reset()

    def reset(self) -> None:
        """Forget the thread: a forked child does not have it."""
        self.flusher: Flusher | None = None
        self.due = 0.0

    def start(self) -> None:
        """Start the thread unless it runs."""
        if self.flusher is None or not self.flusher.runs():
            self.flusher = Flusher(self._tick, due=self.due)
            with contextlib.suppress(RuntimeError):  # the interpreter is shutting down: no more threads
                self.flusher.start()

    def revive(self) -> None:
        """Resume the thread after a fork, also if a signal's exception kept :meth:`after_fork` from doing it."""
        if (flusher := self.flusher) is None or flusher.runs() or self._state.exiting or flusher.resume():
            return
        if self._state.lock.wait():
            self._state.lock.run(self.start)

    def wake(self) -> None:
        """Run the next tick now."""
        self._compaction.load_for_flusher()
        self.revive()
        if (flusher := self.flusher) is not None and not self._state.exiting:
            flusher.wake()

    def before_fork(self) -> None:
        """Stop or pause the thread, so that none of its calls is in progress during the fork."""
        if (flusher := self.flusher) is not None and not flusher.is_this_thread():
            flusher.pause_for_fork()
            self.due = flusher.due  # frequent forks must not postpone the next tick for ever
