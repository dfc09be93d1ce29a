"""Reports faults of the dashboard to the program's log: one line each, each once, and a bounded number of them.

A dashboard often runs inside somebody's agent. A program that has not set up logging shows these lines on stderr, so
they are short; the traceback goes to those who log at DEBUG.
"""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from typing import Any

import h11
from starlette.requests import ClientDisconnect

__all__ = ["is_a_client_s_doing", "report", "report_from_loop"]

_LONGEST = 300
_MOST = 20

_log = logging.getLogger("pyjama_instrument.viewer")
_reported: set[str] = set()

_A_CLIENT_S_DOING = (h11.ProtocolError, ClientDisconnect, ConnectionError, TimeoutError, asyncio.CancelledError)


def report(what: str, error: BaseException | None = None) -> None:
    """Log one line about ``what`` went wrong, unless that line was logged before."""
    line = _one_line(what if error is None else f"{what}: {type(error).__name__}: {_message(error)}{_place(error)}")
    if line in _reported or len(_reported) >= _MOST:
        return
    _reported.add(line)
    _log.warning("%s", line)
    if error is not None:
        _log.debug("%s", what, exc_info=error)


def report_from_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's exception handler. What a client brings about by hanging up is nobody's fault."""
    error = context.get("exception")
    if error is None or not is_a_client_s_doing(error):
        report(f"the dashboard's server: {context.get('message', '')}", error)


def is_a_client_s_doing(error: BaseException) -> bool:
    """Whether the client has hung up or does not speak HTTP."""
    return isinstance(error, _A_CLIENT_S_DOING)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # __str__ is somebody else's code
        return "(its message cannot be shown)"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""


def _one_line(text: str) -> str:
    """Without control characters, which a terminal would obey."""
    line = "".join(letter if letter.isprintable() else " " for letter in text[: 2 * _LONGEST])
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
