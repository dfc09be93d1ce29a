"""A daemon thread that calls a function now and then, and can be stopped for a fork.

After :meth:`Flusher.stop` the operating system's thread is gone, not merely about to go: CPython warns about a fork
of a process that has other threads.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Self

__all__ = ["Flusher"]

_JOIN_SECONDS = 2.0
_GONE_SECONDS = 0.05


class Flusher:
    """Calls ``tick`` every ``tick()`` seconds, as the function itself asks for, and at once after :meth:`wake`.

    A signal's exception may end :meth:`start` and leave the thread running or not; :meth:`runs` knows.
    """

    def __init__(self, tick: Callable[[], float]) -> None:
        self._tick = tick
        self._wake = threading.Event()
        self._stop = False
        self._thread = threading.Thread(target=self._run, name="pyjama-flusher", daemon=True)

    def start(self) -> Self:
        """Begin to call the function.

        Raises:
            RuntimeError: the interpreter is shutting down, or there can be no more threads.
        """
        self._thread.start()
        return self

    def runs(self) -> bool:
        """Whether the thread was started and not asked to end."""
        return not self._stop and self._thread.is_alive()

    def wake(self) -> None:
        """Let the next call happen now."""
        self._wake.set()

    def stopping(self) -> bool:
        """Whether the thread was asked to end."""
        return self._stop

    def is_this_thread(self) -> bool:
        """Whether the caller runs in the flusher's own thread."""
        return threading.current_thread() is self._thread

    def stop(self) -> None:
        """End the thread and wait until it is gone. Never called from the thread itself.

        The wait is bounded: what it does last may be waiting for a disk, or for a lock of the caller's.
        """
        self._stop = True
        self._wake.set()
        if self._thread.ident is None:
            return
        self._thread.join(_JOIN_SECONDS)
        deadline = time.monotonic() + _GONE_SECONDS
        while _exists(self._thread.native_id) and time.monotonic() < deadline:
            time.sleep(0)

    def _run(self) -> None:
        pause = self._tick_unless_stopping(0.0)
        while not self._stop:
            self._wake.wait(pause)
            self._wake.clear()
            pause = self._tick_unless_stopping(pause)

    def _tick_unless_stopping(self, pause: float) -> float:
        return pause if self._stop else self._tick()


def _exists(native_id: int | None) -> bool:
    return os.path.exists(f"/proc/self/task/{native_id}")
