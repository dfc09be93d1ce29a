"""Limits long work in the background, so that it does not delay the host's threads.

A thread that computes keeps Python's interpreter lock for 5 ms at a time, and the host's threads wait. If it sleeps
regularly, for longer than a waiting thread needs to wake up, it delays a call only while it works.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pyjama_instrument.threads.native import sleep

__all__ = ["Budget", "Throttle"]

_BUSY = (0.0008, 0.002)  # seconds of work, and of the sleep after it, if the host computes
_IDLE = (0.001, 0.00005)
_NOTICED_SECONDS = 0.00002
_SHARE = 0.01
_FEW = 32  # portions of a Budget: milliseconds of a fold


class Budget:
    """Called after each portion of some work; returns whether to stop.

    That is when the time is used up, but not before a few portions are done: on a busy or suspended machine, a little
    work must still be finished, and a lot of work must advance.
    """

    __slots__ = ("_deadline", "_portions")

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._portions = 0

    def __call__(self) -> bool:
        """Whether the time is used up."""
        self._portions += 1
        return self._portions >= _FEW and time.monotonic() >= self._deadline


class Throttle:
    """Called between portions of long work; returns whether to stop.

    If other threads compute, it lets the work run for 0.8 ms of processor time and then sleeps for 2 ms. If they do
    not, it sleeps just long enough for a waiting thread to take the interpreter lock. In a program whose threads never
    release that lock, each sleep costs 5 ms. So the longer the work has lasted, the longer it runs before the next
    sleep, up to a hundredth of its age, and it is finished in any case.
    """

    __slots__ = ("_began", "_others", "_sleep", "_stopping", "_work", "_worked")

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self._began = time.perf_counter()
        self._work, self._sleep = _BUSY
        self._begin_portion()

    def __call__(self) -> bool:
        """Sleep if it is time to; returns whether to stop."""
        worked = time.thread_time() - self._worked  # what it waited for the lock is not work
        if worked >= max(self._work, (time.perf_counter() - self._began) * _SHARE):
            sleep(self._sleep)
            others = self._others
            self._begin_portion()
            self._work, self._sleep = _BUSY if self._others - others > _NOTICED_SECONDS else _IDLE
        return self._stopping()

    def _begin_portion(self) -> None:
        self._worked = time.thread_time()
        self._others = time.process_time() - self._worked
