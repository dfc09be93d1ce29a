"""One poller for everybody who watches: looks at the store again and again and tells the streams what has changed.

Invariants: nothing is polled while nobody watches; while nothing happens, nothing is read, drawn or sent; pages that
ask for the same share one view and one encoding of it; a stream that lags is given the latest state and never holds up
the others.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from pyjama_instrument.viewer.asked import Asked
from pyjama_instrument.viewer.changes import changes_of
from pyjama_instrument.viewer.faults import report
from pyjama_instrument.viewer.pages import Drawing
from pyjama_instrument.viewer.source import ReaderLike, Source

__all__ = ["Live", "ReaderLike", "Source", "TooManyWatch"]

POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 25.0  # proxies hang up on what has been silent for a minute
# A poll that takes long (a huge store, a slow disk) is followed by a rest of the same length.
REST_FACTOR = 1.0
_SAME_TIME_SECONDS = 1.0
MAX_WATCHERS = 200
MAX_VIEWS = 64

_EVERYTHING = Asked()


class TooManyWatch(Exception):
    """As many streams are open as can be served; the page asks again and again instead."""


class Live:
    """The views of the pages, and streams of their changes shared by any number of watchers."""

    def __init__(
        self, source: Source, store: str | None, poll_seconds: float = POLL_SECONDS, *, clearable: bool = False
    ) -> None:
        self._source = source
        self._poll_seconds = poll_seconds
        self._drawing = Drawing(source, store, clearable)
        self._channels: dict[Asked, _Channel] = {}
        self._poller: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def polling(self) -> bool:
        """Whether the store is being read again and again."""
        return self._poller is not None

    @property
    def watchers(self) -> int:
        """How many streams are open."""
        return sum(channel.watchers for channel in self._channels.values())

    async def view(self, asked: Asked = _EVERYTHING) -> bytes:
        """The view of this moment, as JSON."""
        return await self._source.run(lambda: _json(self._drawing.once(asked)))

    def check(self, asked: Asked) -> None:
        """Whether one more may watch.

        Raises:
            TooManyWatch: no.
        """
        if self.watchers >= MAX_WATCHERS or (asked not in self._channels and len(self._channels) >= MAX_VIEWS):
            raise TooManyWatch

    async def watch(self, asked: Asked = _EVERYTHING) -> AsyncGenerator[bytes, None]:
        """Server-sent events: the view at once, then what changes in it; ends on close()."""
        channel = self._channels.get(asked)
        if channel is None:
            channel = self._channels[asked] = _Channel(asked)
            self._wake.set()  # the newcomer need not wait for the next poll
        channel.watchers += 1
        poller = self._poller = self._poller or asyncio.create_task(self._poll())
        try:
            sent: _State | None = None
            yield b"retry: 1000\n\n"
            while not (self._closed.is_set() or poller.done()):
                state, changed = channel.state, channel.changed
                if state is not None and state is not sent:
                    yield b"data: " + (state.change if sent and state.follows(sent) else state.full()) + b"\n\n"
                    sent = state
                elif not await _happens(changed, HEARTBEAT_SECONDS):
                    yield b": still here\n\n"
        finally:
            channel.watchers -= 1
            if not channel.watchers and self._channels.get(asked) is channel:
                del self._channels[asked]

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._channels and not self._closed.is_set():
                self._wake.clear()
                began = loop.time()
                channels = list(self._channels.values())
                states = await self._source.run(lambda: self._read(channels))  # noqa: B023  # awaited at once
                for channel, state in zip(channels, states, strict=True):
                    if state is not channel.state:
                        channel.publish(state)
                rest = max(self._poll_seconds, REST_FACTOR * (loop.time() - began))
                await _happens(self._wake, rest)
        except Exception as error:
            report("the dashboard cannot be drawn; the streams end and the pages try again", error)
        finally:
            # Whoever comes next must not be shown the last state as if it were current.
            self._poller = None
            self._drawing.forget()
            for channel in self._channels.values():
                channel.publish(None)
            self._channels.clear()

    def _read(self, channels: list[_Channel]) -> list[_State | None]:
        """The states of this moment. In the source's thread."""
        changed = self._drawing.look([channel.asked for channel in channels])
        return [
            _next(channel.state, self._drawing.view(channel.asked))
            if changed or channel.state is None
            else channel.state
            for channel in channels
        ]

    def close(self) -> None:
        """End all streams and the poller. To be called in the event loop's thread."""
        self._closed.set()
        self._wake.set()
        for channel in self._channels.values():
            channel.changed.set()


class _Channel:
    """Those who watch the same view, and the latest state of it."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.watchers = 0
        self.state: _State | None = None
        self.changed = asyncio.Event()

    def publish(self, state: _State | None) -> None:
        self.state = state
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class _State:
    """A view, and the step to it from the one before. Each is encoded once, however many watch."""

    def __init__(self, view: dict[str, Any], number: int, change: bytes) -> None:
        self.view = view
        self.change = change
        self._number = number
        self._made = time.monotonic()
        self._full = b""
        self._full_until = 0.0

    def follows(self, other: _State) -> bool:
        """Whether ``change`` leads from the other state to this one."""
        return self._number == other._number + 1

    def full(self) -> bytes:
        """The whole view, with a time of at most a second ago: it may be long since anything has happened."""
        age = time.monotonic() - self._made
        if age >= self._full_until:
            self._full = _json(self.view | {"now": self.view["now"] + int(age * 1000)})
            self._full_until = age + _SAME_TIME_SECONDS
        return self._full


def _next(state: _State | None, view: dict[str, Any]) -> _State:
    """The state of this view: the known one if only time has passed."""
    if state is None:
        return _State(view, 0, b"")
    changes = changes_of(state.view | {"now": None}, view | {"now": None})
    if changes is None:
        return state
    return _State(view, state._number + 1, _json({"now": view["now"], "changes": changes}))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
