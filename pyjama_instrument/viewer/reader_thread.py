"""A reader in a thread of its own, so that the event loop never waits for the disk.

Invariants: a reader is used from one thread at a time; if the store cannot be read, the data hold a note that explains
why; a disk that does not answer does not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.reader import Reader
from pyjama_instrument.viewer.error_reporting import log_once

__all__ = ["ReaderThread"]

_JOIN_SECONDS = 0.5
_RATE_SECONDS = 1.0
_MAX_TREES = 4

_T = TypeVar("_T")


class _WorkerThread:
    """One daemon thread that runs functions for coroutines, in order.

    Not an executor of the standard library: the interpreter joins those at exit, and a disk that does not answer
    would then keep the program from ending.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._started = False

    def start(self) -> None:
        """Start the thread if it has not been started."""
        if not self._started:
            self._started = True
            self._thread.start()

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work()``, called in the thread."""
        self.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_T] = loop.create_future()

        def job() -> None:
            try:
                resolve = partial(_resolve, future.set_result, future, work())
            except Exception as error:
                resolve = partial(_resolve, future.set_exception, future, error)
            try:
                loop.call_soon_threadsafe(resolve)
            except RuntimeError:
                pass  # The loop has ended, so nothing waits for the result.

        self._jobs.put(job)
        return await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self) -> None:
        """End the thread when it is idle. If it hangs, it is abandoned."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)


def _resolve(setter: Callable[[Any], None], future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():  # it is done if its coroutine was cancelled
        setter(outcome)


class ReaderThread:
    """A reader with a thread of its own. The reader is created at first use, and again after an error."""

    def __init__(self, factory: Callable[[], Reader], name: str) -> None:
        self._factory = factory
        self._reader: Reader | None = None
        self._last = DashboardData()
        self._revision: int | None = None  # of the last data
        self._read_at = 0.0
        self._trees: dict[str, tuple[int, SessionTree]] = {}
        self._logged_failure = ""
        self.reads = 0
        self._worker = _WorkerThread(f"pyjama-viewer-{name}")

    def start(self) -> None:
        """Start the thread now. At first use it may be too late: a program that is ending allows no new thread."""
        self._worker.start()

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work()``, called in this thread. All methods below must be called in it."""
        return await self._worker.run(work)

    def reader(self) -> Reader:
        """The reader."""
        if self._reader is None:
            self._reader = self._factory()
        return self._reader

    def dashboard(self) -> DashboardData:
        """The current data; if the store cannot be read, the last data with a note that explains why.

        While nothing happens in the store it is not read: ``reads`` stays the same and only the timestamp changes.
        """
        try:
            revision = self.reader().revision()
            if revision == self._revision and not self._is_rate_falling():
                return self._last.model_copy(update={"timestamp": self._last.timestamp + int(self._age() * 1000)})
            self.reads += 1
            self._last = self.reader().dashboard()
        except Exception as error:
            self._reader = self._revision = None
            self._log_failure(error)
            note = f"The store cannot be read ({_error_sentence(error)}). You see the last data that could be read."
            health = self._last.health.model_copy(update={"notes": [*self._last.health.notes, note]})
            return self._last.model_copy(update={"health": health})
        self._logged_failure = ""
        self._revision, self._read_at = revision, time.monotonic()
        return self._last

    def session(self, session_id: str) -> SessionTree:
        """The spans of one run; the same tree object while nothing happens in the store.

        Raises:
            SessionNotFound: no run has this id.
        """
        revision = self.reader().revision()
        known = self._trees.pop(session_id, None)
        tree = known[1] if known and known[0] == revision else self.reader().session(session_id)
        self._trees[session_id] = revision, tree
        if len(self._trees) > _MAX_TREES:
            del self._trees[next(iter(self._trees))]
        return tree

    def read(self, work: Callable[[Reader], _T], default: _T) -> _T:
        """The result of ``work(reader)``; ``default`` if the store cannot be read, which ``dashboard`` reports."""
        try:
            return work(self.reader())
        except (PyjamaError, OSError):
            return default

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _is_rate_falling(self) -> bool:
        """Whether the calls per second have fallen by now although nothing has happened."""
        return bool(self._last.metrics.global_.calls_per_second) and self._age() >= _RATE_SECONDS

    def _log_failure(self, error: Exception) -> None:
        """Log an error once, not at every poll."""
        failure = _error_sentence(error)
        if failure != self._logged_failure:
            self._logged_failure = failure
            if isinstance(error, (PyjamaError, OSError)):
                log_once(f"the store cannot be read: {failure}")
            else:
                log_once("the store cannot be read", error)

    def close(self) -> None:
        """End the thread when it is idle."""
        self._worker.close()


def _error_sentence(error: Exception) -> str:
    return str(error) if isinstance(error, PyjamaError) and str(error) else f"{type(error).__name__}: {error}"
