"""A thread of the operating system that calls a function periodically, and stops or pauses for a fork.

CPython 3.12 and later warn about a fork of a process that has other threads. There the thread ends before each fork:
after :meth:`Flusher.stop` the operating system has removed it. Before 3.12 it only pauses, which saves most of the time
by which a fork takes longer: to end a thread and to start one, the kernel has to switch between threads twice.

It is not a ``threading.Thread``: those are greenlets after gevent or eventlet have replaced them, and starting one
waits until it runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Self

from pyjama_instrument.threads.native import (
    allocate_lock,
    block_signals,
    get_ident,
    get_native_id,
    sleep,
    start_new_thread,
)

__all__ = ["Flusher"]

_JOIN_SECONDS = 2.0
_GONE_SECONDS = 0.05
_QUICK_LOOKS = 50  # it is about to end: giving up the processor would cost more
_PAUSED_SECONDS = 0.25  # how often a paused thread checks whether the fork is over
_FORKS_WARN = sys.version_info >= (3, 12)


class Flusher:
    """Calls ``tick`` every ``tick()`` seconds, as the function returns, and at once after :meth:`wake`.

    The thread is a daemon: the program does not wait for it.

    Attributes:
        due: the monotonic time of the next call.
    """

    def __init__(self, tick: Callable[[], float], *, due: float = 0.0) -> None:
        """The first call is made when it is due, by default at once."""
        self._tick = tick
        self.due = due
        self._asleep = allocate_lock()  # taken, except from a wake until the thread has seen it
        self._asleep.acquire()
        self._running = allocate_lock()  # free once the thread has ended
        self._running.acquire()
        self._began = self._ended = self._stop = self._paused = self._calling = False
        self._ident = self._native_id = 0

    def start(self) -> Self:
        """Start the thread.

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
        """Whether the thread was started and neither stopped nor paused."""
        return self._is_there() and not self._paused

    def wake(self) -> None:
        """Call the function now."""
        try:
            self._asleep.release()
        except RuntimeError:  # it was woken before
            pass

    def stopping(self) -> bool:
        """Whether the thread was stopped or paused: a long call has to end early."""
        return self._stop or self._paused

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the flusher's own thread."""
        return get_ident() == self._ident and not self._ended

    def pause_for_fork(self) -> None:
        """Make sure that no call is in progress during a fork. Never called from the thread itself."""
        if _FORKS_WARN:
            self.stop()
        else:
            self._pause()

    def resume(self) -> bool:
        """Continue after a fork; returns False if the thread has ended."""
        self._paused = False
        return self._is_there()

    def stop(self, wait_seconds: float = _JOIN_SECONDS) -> None:
        """End the thread and wait until it is gone. Never called from the thread itself.

        The wait is bounded: the thread may be waiting for a disk, or for a lock that the caller holds.
        """
        self._stop = True
        self.wake()
        if not self._began:
            return
        if not self._ended and self._running.acquire(timeout=wait_seconds):
            self._running.release()  # another thread may be waiting too
        deadline, looks = time.monotonic() + _GONE_SECONDS, 0
        while _exists(self._native_id) and time.monotonic() < deadline:
            looks += 1
            if looks > _QUICK_LOOKS:
                sleep(0)

    def _is_there(self) -> bool:
        return self._began and not self._stop and not self._ended

    def _pause(self) -> None:
        self._paused = True  # first: the thread checks it after it has set _calling
        deadline, looks = time.monotonic() + _JOIN_SECONDS, 0
        while self._calling and time.monotonic() < deadline:
            looks += 1
            sleep(0 if looks < _QUICK_LOOKS else 0.001)

    def _run(self) -> None:
        self._native_id = get_native_id()
        self._ident = get_ident()
        try:
            block_signals()
            while not self._stop:
                pause = _PAUSED_SECONDS if self._paused else max(0.0, self.due - time.monotonic())
                self._asleep.acquire(timeout=pause)
                self._calling = True
                if not self.stopping():
                    self.due = time.monotonic() + self._tick()
                self._calling = False
        finally:
            self._calling, self._ended = False, True
            self._running.release()


def _exists(native_id: int) -> bool:
    return os.path.exists(f"/proc/self/task/{native_id}")
