"""One poller for everybody who watches: reads the store off the event loop and tells the streams of changes.

Invariants: a reader is used from one thread at a time; nothing is polled while nobody watches; a stream that
lags is given the latest state and never holds up the others; an error of the reader becomes a note.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

from pyjama_instrument.document import DashboardData, SessionTree
from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.viewer.view import view_of

__all__ = ["Live", "ReaderLike", "Source"]

POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 15.0
# A poll that takes long (a huge store, a slow disk) is followed by a rest of twice as long.
REST_FACTOR = 2.0
_PATIENCE_SECONDS = 0.5

_log = logging.getLogger("pyjama_instrument.viewer")
_T = TypeVar("_T")


class ReaderLike(Protocol):
    """What the viewer needs of a reader."""

    def dashboard(self) -> DashboardData:
        """Everything as of now."""
        ...

    def session(self, session_id: str, /) -> SessionTree:
        """The spans of one run; raises SessionNotFound."""
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
        self._complaint = ""
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
        """The current data; if they cannot be read, the last that could be, with a note that says so."""
        try:
            self._last = self.reader().dashboard()
        except Exception as error:
            self._reader = None
            self._complain(error)
            note = f"The store cannot be read just now ({_sentence(error)}). What you see is the last known state."
            health = self._last.health.model_copy(update={"notes": [*self._last.health.notes, note]})
            return self._last.model_copy(update={"health": health})
        self._complaint = ""
        return self._last

    def _complain(self, error: Exception) -> None:
        """Log an error once, not at every poll."""
        complaint = _sentence(error)
        if complaint != self._complaint:
            self._complaint = complaint
            unexpected = not isinstance(error, (PyjamaError, OSError))
            _log.warning("the store cannot be read: %s", complaint, exc_info=unexpected)

    def close(self) -> None:
        """End the thread once it is idle."""
        self._worker.close()


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, PyjamaError) and str(error) else f"{type(error).__name__}: {error}"


class Live:
    """The overview's view model, and a stream of its changes shared by any number of watchers."""

    def __init__(self, source: Source, store: str | None, poll_seconds: float = POLL_SECONDS) -> None:
        self._source = source
        self._poll_seconds = poll_seconds
        self._store = store
        self._watchers = 0
        self._poller: asyncio.Task[None] | None = None
        self._state: _State | None = None
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def polling(self) -> bool:
        """Whether the store is being read again and again."""
        return self._poller is not None

    async def view(self) -> bytes:
        """The view model of this moment, as JSON."""
        return (await self._source.run(self._read)).text()

    def _read(self) -> _State:
        return _State(view_of(self._source.dashboard(), self._store))

    async def watch(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events: the view model at once, then whenever it has changed; ends on close()."""
        self._watchers += 1
        poller = self._poller = self._poller or asyncio.create_task(self._poll())
        try:
            sent: _State | None = None
            yield b"retry: 1000\n\n"
            while not (self._closed.is_set() or poller.done()):
                state, changed = self._state, self._changed
                if state is not None and state is not sent:
                    sent = state
                    yield b"data: " + state.text() + b"\n\n"
                elif not await _happens(changed, HEARTBEAT_SECONDS):
                    yield b": still here\n\n"
        finally:
            self._watchers -= 1

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._watchers and not self._closed.is_set():
                began = loop.time()
                state = await self._source.run(self._read)
                if self._state is None or state.content != self._state.content:
                    self._publish(state)
                await _happens(self._closed, max(self._poll_seconds, REST_FACTOR * (loop.time() - began)))
        except Exception:
            _log.exception("the dashboard cannot be drawn; the streams end and the pages try again")
        finally:
            # Whoever comes next must not be shown the last state as if it were current.
            self._poller = None
            self._publish(None)

    def _publish(self, state: _State | None) -> None:
        self._state = state
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """End all streams and the poller. To be called in the event loop's thread."""
        self._closed.set()
        self._changed.set()


class _State:
    """A view model, encoded; its ``content`` leaves out the time, which alone is no change."""

    def __init__(self, view: dict[str, Any]) -> None:
        self.now = view["now"]
        self.content = json.dumps({key: value for key, value in view.items() if key != "now"}, separators=(",", ":"))

    def text(self) -> bytes:
        return f'{{"now":{self.now},{self.content[1:]}'.encode("ascii")


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
