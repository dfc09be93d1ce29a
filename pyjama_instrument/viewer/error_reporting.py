"""Logs errors of the dashboard: one short line each, each only once, and at most 20 of them.

A dashboard often runs inside another program. If that program has not set up logging, these lines appear on its
stderr. The traceback is logged at DEBUG.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from typing import Any

import h11
from starlette.requests import ClientDisconnect

__all__ = ["handle_loop_exception", "is_client_error", "log_once"]

_MAX_LENGTH = 300
_MAX_LINES = 20

_log = logging.getLogger("pyjama_instrument.viewer")
_logged: set[str] = set()

_CLIENT_ERRORS = (h11.ProtocolError, ClientDisconnect, ConnectionError, TimeoutError, asyncio.CancelledError)


def log_once(what: str, error: BaseException | None = None) -> None:
    """Log one line about what failed, unless the same line was logged before."""
    line = _one_line(what if error is None else f"{what}: {type(error).__name__}: {_message(error)}{_location(error)}")
    if line in _logged or len(_logged) >= _MAX_LINES:
        return
    _logged.add(line)
    _log.warning("%s", line)
    if error is not None:
        _log.debug("%s", what, exc_info=error)


def handle_loop_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's exception handler. Errors that clients cause are ignored."""
    error = context.get("exception")
    if error is None or not is_client_error(error):
        log_once(f"the dashboard's server: {context.get('message', '')}", error)


def is_client_error(error: BaseException) -> bool:
    """Whether the client closed the connection or does not speak HTTP."""
    return isinstance(error, _CLIENT_ERRORS)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # a __str__ outside this package may raise anything
        return "(its message cannot be shown)"


def _location(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""


def _one_line(text: str) -> str:
    """The text without control characters, which a terminal would interpret."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * _MAX_LENGTH])
    line = " ".join(line.split())
    return line if len(line) <= _MAX_LENGTH else f"{line[: _MAX_LENGTH - 1]}…"
