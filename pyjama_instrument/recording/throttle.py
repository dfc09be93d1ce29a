"""Long work in the background gives way to the host's threads.

A thread that computes keeps Python's interpreter lock for 5 ms at a time, and the host's threads wait. One that
rests now and then, for longer than a waiting thread needs to wake up, delays a call only while it is not resting.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pyjama_instrument.threads.native import sleep

__all__ = ["Budget", "Throttle"]

_BUSY = (0.0008, 0.002)  # seconds of work, and of the rest after it, beside a host that computes
_QUIET = (0.001, 0.00005)
_NOTICED_SECONDS = 0.00002
_SHARE = 0.01
_FEW = 32  # portions of a Budget: milliseconds of a fold


class Budget:
    """Called after each portion of a work; returns whether that is enough.

    It is once the time is used up, but not before a few portions are done: on a machine that is busy or asleep, little
    work must still come to its end, and much work get on.
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
    """Called between portions of a long work; returns whether it is to be given up.

    Beside threads that compute it works for 0.8 ms of the processor's time and rests for 2 ms; where nobody else
    does anything, it rests just long enough for a waiting thread to get hold of the lock. In a program whose threads
    never let go of the lock each rest costs 5 ms, and work that has lasted long goes on for longer before it rests
    again, up to a hundredth of its age: so it comes to an end all the same.
    """

    __slots__ = ("_began", "_others", "_rest", "_stopping", "_work", "_worked")

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self._began = time.perf_counter()
        self._work, self._rest = _BUSY
        self._begin_portion()

    def __call__(self) -> bool:
        """Give way to the host's threads if it is time to; never asks to stop."""
        worked = time.thread_time() - self._worked  # what it waited for the lock is not work
        if worked >= max(self._work, (time.perf_counter() - self._began) * _SHARE):
            sleep(self._rest)
            others = self._others
            self._begin_portion()
            self._work, self._rest = _BUSY if self._others - others > _NOTICED_SECONDS else _QUIET
        return self._stopping()

    def _begin_portion(self) -> None:
        self._worked = time.thread_time()
        self._others = time.process_time() - self._worked
