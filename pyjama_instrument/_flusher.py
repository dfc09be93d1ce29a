"""A thread of the operating system that calls a function now and then, and can be stopped for a fork.

After :meth:`Flusher.stop` the operating system's thread is gone, not merely about to go: CPython warns about a fork
of a process that has other threads. It is not one of ``threading``'s: those are greenlets after gevent or eventlet
have replaced them, and to start one waits until it runs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Self

from pyjama_instrument._native import allocate_lock, block_signals, get_ident, get_native_id, sleep, start_new_thread

__all__ = ["Flusher"]

_JOIN_SECONDS = 2.0
_GONE_SECONDS = 0.05
_QUICK_LOOKS = 50  # it is on its way out: to give up the processor would cost more


class Flusher:
    """Calls ``tick`` every ``tick()`` seconds, as the function itself asks for, and at once after :meth:`wake`.

    The thread is a daemon: it does not keep the program.

    Attributes:
        due: the monotonic time of the next call.
    """

    def __init__(self, tick: Callable[[], float], *, due: float = 0.0) -> None:
        """The first call is made when it is due, by default at once."""
        self._tick = tick
        self.due = due
        self._asleep = allocate_lock()  # taken, except from a wake until the thread has seen it
        self._asleep.acquire()
        self._running = allocate_lock()  # free once the thread is through
        self._running.acquire()
        self._began = self._ended = self._stop = False
        self._ident = self._native_id = 0

    def start(self) -> Self:
        """Begin to call the function.

        Raises:
            RuntimeError: the interpreter is shutting down, or there can be no more threads.
        """
        self._began = True  # and no signal's exception comes in between
        try:
            start_new_thread(self._run, ())
        except RuntimeError:
            self._began = False
            raise
        return self

    def runs(self) -> bool:
        """Whether the thread was started and not asked to end."""
        return self._began and not self._stop and not self._ended

    def wake(self) -> None:
        """Let the next call happen now."""
        try:
            self._asleep.release()
        except RuntimeError:  # it was woken before
            pass

    def stopping(self) -> bool:
        """Whether the thread was asked to end."""
        return self._stop

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the flusher's own thread."""
        return get_ident() == self._ident and not self._ended

    def stop(self, wait_seconds: float = _JOIN_SECONDS) -> None:
        """End the thread and wait until it is gone. Never called from the thread itself.

        The wait is bounded: what it does last may be waiting for a disk, or for a lock of the caller's.
        """
        self._stop = True
        self.wake()
        if not self._began:
            return
        if not self._ended and self._running.acquire(timeout=wait_seconds):
            self._running.release()  # somebody else may be waiting too
        deadline, looks = time.monotonic() + _GONE_SECONDS, 0
        while _exists(self._native_id) and time.monotonic() < deadline:
            looks += 1
            if looks > _QUICK_LOOKS:
                sleep(0)

    def _run(self) -> None:
        self._native_id = get_native_id()
        self._ident = get_ident()
        try:
            block_signals()
            while not self._stop:
                self._asleep.acquire(timeout=max(0.0, self.due - time.monotonic()))
                if not self._stop:
                    self.due = time.monotonic() + self._tick()
        finally:
            self._ended = True
            self._running.release()


def _exists(native_id: int) -> bool:
    return os.path.exists(f"/proc/self/task/{native_id}")
