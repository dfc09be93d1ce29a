"""Connections that cost nothing: who says nothing, or does not read what was asked for, is hung up on.

Bounded are how long a request's header may take, how many connections may be silent at once, and how long a client
may take to make room for more of an answer.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Config", "Connection"]

HEADER_SECONDS = 10.0
STALL_SECONDS = 30.0
MAX_SILENT = 256

# Of no hierarchy, so that no handler and no setting of the program's reaches it.
_SILENT = logging.Logger("pyjama_instrument.viewer.connections")  # noqa: LOG001
_SILENT.disabled = True


class Config(uvicorn.Config):
    """A configuration for one server that leaves the process's logging as it is."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, http=Connection, **options)
        self.silent: dict[Connection, None] = {}
        """Connections on which a request's header is being waited for, the longest first."""

    def configure_logging(self) -> None:
        """Not at all."""


class Connection(H11Protocol):
    """HTTP with bounds, and without a word in the host's log about what clients send."""

    def __init__(self, config: Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.logger = self.access_logger = _SILENT
        self.access_log = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._silent = config.silent

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        """Begin to wait for a request, at the cost of whoever has been silent for longest."""
        super().connection_made(transport)
        self._wait()
        if len(self._silent) > MAX_SILENT:
            next(iter(self._silent))._hang_up()

    def data_received(self, data: bytes) -> None:
        """Take what has come."""
        try:
            super().data_received(data)
        except h11.ProtocolError:  # nonsense during an answer, which cannot be answered as well
            self._hang_up()
        else:
            self._look()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End once the answer under way is sent."""
        try:
            super().shutdown()
        except h11.ProtocolError:  # it was ending already
            self._hang_up()

    def timeout_keep_alive_handler(self) -> None:
        """No further request has come in time."""
        try:
            super().timeout_keep_alive_handler()
        except h11.ProtocolError:
            self._hang_up()

    def pause_writing(self) -> None:
        """The client does not keep up: it has a while to do so."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALL_SECONDS, self._hang_up)

    def resume_writing(self) -> None:
        """The client has made room."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _look(self) -> None:
        """Whether a request's header is being waited for; its time runs from its first moment, not from each byte."""
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def _wait(self) -> None:
        self._silent[self] = None
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._hang_up)

    def _stop_waiting(self) -> None:
        self._silent.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _hang_up(self) -> None:
        self._stop_waiting()
        self.transport.abort()
