"""Long work in the background gives way to the host's threads.

A thread that computes keeps Python's interpreter lock for 5 ms at a time, and the host's threads wait. One that
rests now and then, for longer than a waiting thread needs to wake up, delays a call only while it is not resting.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Pace"]

_WORK_SECONDS = 0.0002
_REST_SECONDS = 0.0005
_SHARE = 0.01


class Pace:
    """Called between portions of a long work; returns whether it is to be given up.

    It works for 0.2 ms of the processor's time and rests for 0.5 ms. In a program whose threads never let go of the
    lock, each rest costs 5 ms, and work that has lasted long goes on for longer before it rests again, up to a
    hundredth of its age: so it comes to an end all the same.
    """

    __slots__ = ("_began", "_stopping", "_worked")

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self._stopping = stopping
        self._began = time.perf_counter()
        self._worked = time.thread_time()

    def __call__(self) -> bool:
        worked = time.thread_time() - self._worked  # what it waited for the lock is not work
        if worked >= max(_WORK_SECONDS, (time.perf_counter() - self._began) * _SHARE):
            time.sleep(_REST_SECONDS)
            self._worked = time.thread_time()
        return self._stopping()
