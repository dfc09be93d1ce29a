"""A thread of the operating system that calls a function now and then, and makes way for a fork.

CPython 3.12 and later warn about a fork of a process that has other threads. There the thread ends before each fork:
after :meth:`Flusher.stop` it is gone, not merely about to go. Before 3.12 it only rests, which saves most of what a
fork takes longer: to end a thread and to start one, the kernel has to switch between threads twice.

It is not one of ``threading``'s: those are greenlets after gevent or eventlet have replaced them, and to start one
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
_QUICK_LOOKS = 50  # it is on its way out: to give up the processor would cost more
_REST_SECONDS = 0.25  # after which a resting thread looks whether the fork is over
_FORKS_WARN = sys.version_info >= (3, 12)


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
        self._began = self._ended = self._stop = self._rests = self._calls = False
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
        """Whether the thread was started and asked neither to end nor to rest."""
        return self._is_there() and not self._rests

    def wake(self) -> None:
        """Let the next call happen now."""
        try:
            self._asleep.release()
        except RuntimeError:  # it was woken before
            pass

    def stopping(self) -> bool:
        """Whether the thread was asked to end or to rest: a call that takes long is to end early."""
        return self._stop or self._rests

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the flusher's own thread."""
        return get_ident() == self._ident and not self._ended

    def make_way(self) -> None:
        """Have no call under way from now on, for a fork. Never called from the thread itself."""
        if _FORKS_WARN:
            self.stop()
        else:
            self._rest()

    def go_on(self) -> bool:
        """Call the function again after a fork; whether that is possible, which it is not if the thread has ended."""
        self._rests = False
        return self._is_there()

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

    def _is_there(self) -> bool:
        return self._began and not self._stop and not self._ended

    def _rest(self) -> None:
        self._rests = True  # first: the thread looks at it once it has said that it calls
        deadline, looks = time.monotonic() + _JOIN_SECONDS, 0
        while self._calls and time.monotonic() < deadline:
            looks += 1
            sleep(0 if looks < _QUICK_LOOKS else 0.001)

    def _run(self) -> None:
        self._native_id = get_native_id()
        self._ident = get_ident()
        try:
            block_signals()
            while not self._stop:
                pause = _REST_SECONDS if self._rests else max(0.0, self.due - time.monotonic())
                self._asleep.acquire(timeout=pause)
                self._calls = True
                if not self.stopping():
                    self.due = time.monotonic() + self._tick()
                self._calls = False
        finally:
            self._calls, self._ended = False, True
            self._running.release()


def _exists(native_id: int) -> bool:
    return os.path.exists(f"/proc/self/task/{native_id}")
