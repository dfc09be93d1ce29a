"""Polls the store once for all open pages and streams to each of them what has changed.

Invariants: the store is polled only while a page is open; while nothing happens, nothing is read, built or sent; pages
with the same query parameters share one view and its encoding; a stream that falls behind receives the latest state
and does not delay the others.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from pyjama_instrument.viewer.error_reporting import log_once
from pyjama_instrument.viewer.patches import make_patch
from pyjama_instrument.viewer.query_parameters import QueryParameters
from pyjama_instrument.viewer.reader_thread import ReaderThread
from pyjama_instrument.viewer.view_builder import ViewBuilder

__all__ = ["LiveUpdates", "TooManyStreams"]

POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 25.0  # proxies close connections that are silent for a minute
# After a slow poll (a huge store, a slow disk) the next one waits for as long as that poll took.
REST_FACTOR = 1.0
_SAME_TIME_SECONDS = 1.0
MAX_STREAMS = 200
MAX_VIEWS = 64

_OVERVIEW = QueryParameters()


class TooManyStreams(Exception):
    """No further stream can be served; the page polls instead."""


class LiveUpdates:
    """The views of the pages, and streams of their changes."""

    def __init__(
        self, source: ReaderThread, store: str | None, poll_seconds: float = POLL_SECONDS, *, clearable: bool = False
    ) -> None:
        self._source = source
        self._poll_seconds = poll_seconds
        self._builder = ViewBuilder(source, store, clearable)
        self._channels: dict[QueryParameters, _Channel] = {}
        self._poller: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def polling(self) -> bool:
        """Whether the store is being polled."""
        return self._poller is not None

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return sum(channel.streams for channel in self._channels.values())

    async def view(self, query: QueryParameters = _OVERVIEW) -> bytes:
        """The current view, as JSON."""
        return await self._source.run(lambda: _json(self._builder.current_view(query)))

    def check_capacity(self, query: QueryParameters) -> None:
        """Check that one more stream can be opened.

        Raises:
            TooManyStreams: it cannot.
        """
        if self.streams >= MAX_STREAMS or (query not in self._channels and len(self._channels) >= MAX_VIEWS):
            raise TooManyStreams

    async def stream(self, query: QueryParameters = _OVERVIEW) -> AsyncGenerator[bytes, None]:
        """Server-sent events: first the whole view, then its changes. Ends at ``close()``."""
        channel = self._channels.get(query)
        if channel is None:
            channel = self._channels[query] = _Channel(query)
            self._wake.set()  # a new page does not wait for the next poll
        channel.streams += 1
        poller = self._poller = self._poller or asyncio.create_task(self._poll())
        try:
            sent: _ViewVersion | None = None
            yield b"retry: 1000\n\n"
            while not (self._closed.is_set() or poller.done()):
                current, changed = channel.current, channel.changed
                if current is not None and current is not sent:
                    yield b"data: " + (current.patch if sent and current.follows(sent) else current.full()) + b"\n\n"
                    sent = current
                elif not await _wait_for(changed, HEARTBEAT_SECONDS):
                    yield b": still here\n\n"
        finally:
            channel.streams -= 1
            if not channel.streams and self._channels.get(query) is channel:
                del self._channels[query]

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._channels and not self._closed.is_set():
                self._wake.clear()
                began = loop.time()
                channels = list(self._channels.values())
                versions = await self._source.run(lambda: self._read(channels))  # noqa: B023  # awaited at once
                for channel, version in zip(channels, versions, strict=True):
                    if version is not channel.current:
                        channel.publish(version)
                rest = max(self._poll_seconds, REST_FACTOR * (loop.time() - began))
                await _wait_for(self._wake, rest)
        except Exception as error:
            log_once("the dashboard's views cannot be built; open pages connect again", error)
        finally:
            # The next page must not receive the last view as if it were current.
            self._poller = None
            self._builder.reset()
            for channel in self._channels.values():
                channel.publish(None)
            self._channels.clear()

    def _read(self, channels: list[_Channel]) -> list[_ViewVersion | None]:
        """The current versions of the channels' views. Called in the reader's thread."""
        changed = self._builder.refresh([channel.query for channel in channels])
        return [
            _next_version(channel.current, self._builder.view(channel.query))
            if changed or channel.current is None
            else channel.current
            for channel in channels
        ]

    def close(self) -> None:
        """End all streams and the poller. Call it in the event loop's thread."""
        self._closed.set()
        self._wake.set()
        for channel in self._channels.values():
            channel.changed.set()


class _Channel:
    """One view, its latest version, and how many streams show it."""

    def __init__(self, query: QueryParameters) -> None:
        self.query = query
        self.streams = 0
        self.current: _ViewVersion | None = None
        self.changed = asyncio.Event()

    def publish(self, version: _ViewVersion | None) -> None:
        self.current = version
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


class _ViewVersion:
    """A view and the patch to it from the version before. Each is encoded once for all streams."""

    def __init__(self, view: dict[str, Any], number: int, patch: bytes) -> None:
        self.view = view
        self.patch = patch
        self.number = number
        self._created = time.monotonic()
        self._full = b""
        self._full_until = 0.0

    def follows(self, other: _ViewVersion) -> bool:
        """Whether ``patch`` leads from the other version to this one."""
        return self.number == other.number + 1

    def full(self) -> bytes:
        """The whole view. Its time is at most a second old, however long ago the view was built."""
        age = time.monotonic() - self._created
        if age >= self._full_until:
            self._full = _json(self.view | {"now": self.view["now"] + int(age * 1000)})
            self._full_until = age + _SAME_TIME_SECONDS
        return self._full


def _next_version(current: _ViewVersion | None, view: dict[str, Any]) -> _ViewVersion:
    """The version with this view; the current one if only time has passed."""
    if current is None:
        return _ViewVersion(view, 0, b"")
    patch = make_patch(current.view | {"now": None}, view | {"now": None})
    if patch is None:
        return current
    return _ViewVersion(view, current.number + 1, _json({"now": view["now"], "patch": patch}))


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


async def _wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set within so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
