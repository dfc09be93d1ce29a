"""Readers in threads of their own: the store is read off the event loop.

Invariants: a reader is used from one thread at a time; an error of the reader becomes a note; a disk that does not
answer keeps no program from ending.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.storage.history_search import HistorySearch
from pyjama_instrument.viewer.faults import report

__all__ = ["ReaderLike", "Source"]

_PATIENCE_SECONDS = 0.5
_RATE_SECONDS = 1.0
_KEPT_TREES = 4

_T = TypeVar("_T")


class ReaderLike(Protocol):
    """What the viewer needs of a reader."""

    def revision(self) -> int:
        """A number that stays the same while nothing happens in the store."""
        ...

    def dashboard(self) -> DashboardData:
        """Everything as of now."""
        ...

    def session(self, session_id: str, /) -> SessionTree:
        """The spans of one run; raises SessionNotFound."""
        ...

    def latency(self, tool: str, /) -> dict[int, int]:
        """How often a tool took how long."""
        ...

    def look_back(
        self,
        wanted: Callable[[dict[str, Any]], bool],
        /,
        *,
        before: tuple[int, str] | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> HistorySearch:
        """The newest records that are wanted."""
        ...


class _Worker:
    """One daemon thread that does what coroutines ask for, in order.

    Not an executor of the standard library: those are joined when the interpreter ends, and a disk that does
    not answer must not keep a program from ending.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._started = False

    def start(self) -> None:
        """Start the thread unless that has been done."""
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
                settle = partial(_settle, future.set_result, future, work())
            except Exception as error:
                settle = partial(_settle, future.set_exception, future, error)
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                pass  # The loop has ended meanwhile: nobody waits for the result.

        self._jobs.put(job)
        return await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def close(self) -> None:
        """End the thread when it is idle; one that hangs is left behind."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_SECONDS)


def _settle(how: Callable[[Any], None], future: asyncio.Future[Any], outcome: Any) -> None:
    if not future.done():  # not so if whoever asked has been cancelled
        how(outcome)


class Source:
    """A reader with a thread of its own. The reader is made at first use, and anew after an error."""

    def __init__(self, factory: Callable[[], ReaderLike], name: str) -> None:
        self._factory = factory
        self._reader: ReaderLike | None = None
        self._last = DashboardData()
        self._revision: int | None = None  # of the last data
        self._read_at = 0.0
        self._trees: dict[str, tuple[int, SessionTree]] = {}
        self._complaint = ""
        self.reads = 0
        self._worker = _Worker(f"pyjama-viewer-{name}")

    def start(self) -> None:
        """Start the thread now rather than at first use, when the program may be ending and allow no new one."""
        self._worker.start()

    async def run(self, work: Callable[[], _T]) -> _T:
        """The result of ``work()``, called in this source's thread."""
        return await self._worker.run(work)

    def reader(self) -> ReaderLike:
        """The reader, for use in this source's thread."""
        if self._reader is None:
            self._reader = self._factory()
        return self._reader

    def dashboard(self) -> DashboardData:
        """The current data; if they cannot be read, the last that could be, with a note that says so.

        While nothing happens the store is not read: then ``reads`` stays what it is, and only the time goes on.
        """
        try:
            revision = self.reader().revision()
            if revision == self._revision and not self._is_rate_falling():
                return self._last.model_copy(update={"timestamp": self._last.timestamp + int(self._age() * 1000)})
            self.reads += 1
            self._last = self.reader().dashboard()
        except Exception as error:
            self._reader = self._revision = None
            self._complain(error)
            note = f"The store cannot be read just now ({_sentence(error)}). What you see is the last known state."
            health = self._last.health.model_copy(update={"notes": [*self._last.health.notes, note]})
            return self._last.model_copy(update={"health": health})
        self._complaint = ""
        self._revision, self._read_at = revision, time.monotonic()
        return self._last

    def session(self, session_id: str) -> SessionTree:
        """The spans of one run: the tree given last, while nothing happens in the store; raises SessionNotFound."""
        revision = self.reader().revision()
        known = self._trees.pop(session_id, None)
        tree = known[1] if known and known[0] == revision else self.reader().session(session_id)
        self._trees[session_id] = revision, tree
        if len(self._trees) > _KEPT_TREES:
            del self._trees[next(iter(self._trees))]
        return tree

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _is_rate_falling(self) -> bool:
        """Whether the calls of the last ten seconds are fewer by now, although nothing has happened."""
        return bool(self._last.metrics.global_.calls_per_second) and self._age() >= _RATE_SECONDS

    def latency(self, tool: str) -> dict[int, int]:
        """How often a tool took how long; nothing if the store cannot be read, which ``dashboard`` says."""
        try:
            return self.reader().latency(tool)
        except (PyjamaError, OSError):
            return {}

    def look_back(
        self,
        wanted: Callable[[dict[str, Any]], bool],
        *,
        before: tuple[int, str] | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> HistorySearch:
        """The newest records that are wanted; none if the store cannot be read, which ``dashboard`` says."""
        try:
            return self.reader().look_back(wanted, before=before, after=after, limit=limit)
        except (PyjamaError, OSError):
            return HistorySearch([], None)

    def _complain(self, error: Exception) -> None:
        """Log an error once, not at every poll."""
        complaint = _sentence(error)
        if complaint != self._complaint:
            self._complaint = complaint
            if isinstance(error, (PyjamaError, OSError)):
                report(f"the store cannot be read: {complaint}")
            else:
                report("the store cannot be read", error)

    def close(self) -> None:
        """End the thread once it is idle."""
        self._worker.close()


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, PyjamaError) and str(error) else f"{type(error).__name__}: {error}"
