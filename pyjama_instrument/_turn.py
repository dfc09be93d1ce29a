"""One thread at a time, and nobody waits long for it.

A signal handler or a finalizer of the host's may come in between wherever Python runs, also in the thread whose turn
it is, and wait for a lock of the host's. Whoever has that lock and wanted a turn would wait for ever.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["Turn"]

_QUICK_POLLS = 50  # most turns take microseconds
_MOST_POLLS = 300
_POLL_SECONDS = 0.001


class Turn:
    """A reentrant lock with an answer to how long the wait will be.

    Attributes:
        depth: how often the thread whose turn it is has taken it.
    """

    __slots__ = ("_given_up", "_lock", "_number", "depth")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.depth = self._number = 0
        self._given_up = -1

    def take(self, do: Callable[..., None], *args: Any) -> None:
        """Do something while no other thread has its turn, whenever that is."""
        with self._lock:  # no call from here to the ``try``: no signal's exception can come in between
            self.depth += 1
            try:
                do(*args)
            finally:
                self.depth -= 1
                self._number += not self.depth

    def is_mine(self) -> bool:
        """Whether it is the running thread's turn."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]  # threading.Condition asks the same

    def wait(self) -> bool:
        """Wait until it is no other thread's turn, a quarter of a second at most; whether that came to pass.

        Nobody waits once more for a turn that somebody has waited for in vain.
        """
        polls = 0
        while self.depth and not self.is_mine():
            if polls >= _MOST_POLLS or self._number == self._given_up:
                self._given_up = self._number
                return False
            polls += 1
            time.sleep(_POLL_SECONDS if polls > _QUICK_POLLS else 0)
        return True
