"""Connections with time-outs: slow and silent clients are disconnected.

There are bounds for how long a request's header may take, how many connections may wait for a request at once, and
how long a client may stop reading a response.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection", "ServerConfig"]

HEADER_SECONDS = 10.0
STALL_SECONDS = 30.0
MAX_WAITING = 256

# Not from getLogger: no handler and no logging configuration of the program reaches it.
_NO_LOG = logging.Logger("pyjama_instrument.viewer.connections")  # noqa: LOG001
_NO_LOG.disabled = True


class ServerConfig(uvicorn.Config):
    """A configuration for one server that does not touch the process's logging."""

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, http=Connection, **options)
        self.waiting: dict[Connection, None] = {}
        """Connections that wait for a request's header, the longest first."""

    def configure_logging(self) -> None:
        """Do nothing."""


class Connection(H11Protocol):
    """An HTTP connection with time-outs that logs nothing about what clients send."""

    def __init__(self, config: ServerConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self.logger = self.access_logger = _NO_LOG
        self.access_log = False
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._waiting = config.waiting

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        """Wait for a request. If too many connections wait, the one that has waited longest is closed."""
        super().connection_made(transport)
        self._start_deadline()
        if len(self._waiting) > MAX_WAITING:
            next(iter(self._waiting))._abort()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        try:
            super().data_received(data)
        except h11.ProtocolError:  # invalid bytes while a response is being sent: no error response is possible
            self._abort()
        else:
            self._update_deadline()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._update_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel all time-outs."""
        self._cancel_deadline()
        self.resume_writing()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close after the current response."""
        try:
            super().shutdown()
        except h11.ProtocolError:  # it was ending already
            self._abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close: no further request has arrived in time."""
        try:
            super().timeout_keep_alive_handler()
        except h11.ProtocolError:
            self._abort()

    def pause_writing(self) -> None:
        """The client has stopped reading: close the connection if it does not resume in time."""
        super().pause_writing()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALL_SECONDS, self._abort)

    def resume_writing(self) -> None:
        """The client reads again."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    def _update_deadline(self) -> None:
        """Start or cancel the time-out for a request's header. Further bytes of the header do not extend it."""
        if self.transport.is_closing() or self.conn.their_state is not h11.IDLE:
            self._cancel_deadline()
        elif self._deadline is None:
            self._start_deadline()

    def _start_deadline(self) -> None:
        self._waiting[self] = None
        self._deadline = self.loop.call_later(HEADER_SECONDS, self._abort)

    def _cancel_deadline(self) -> None:
        self._waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _abort(self) -> None:
        self._cancel_deadline()
        self.transport.abort()
