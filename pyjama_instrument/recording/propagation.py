"""How a run continues in a child process: environment variables that the parent sets and the child reads.

``PYJAMA_PARENT`` is the session's id and the innermost span, ``PYJAMA_AGENT`` the agent's name with URL quoting.
``TRACEPARENT`` is the standard variable of W3C Trace Context, for children that use another tracer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pyjama_instrument import _guard
from pyjama_instrument.config import MAX_NAME, clean_text, home_to_write
from pyjama_instrument.errors import PyjamaError
from pyjama_instrument.recording.context import Scope, SessionState

__all__ = ["INVALID_SPAN", "INVALID_TRACE", "child_environment", "inherited_scope"]

INVALID_TRACE, INVALID_SPAN = "0" * 32, "0" * 16
"""The ids that W3C Trace Context calls invalid."""

_PARENT = re.compile(r"([0-9a-f]{32})-([0-9a-f]{16})")
_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32}-[0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def child_environment(base: Mapping[str, str], agent: str, session: str, span: str) -> dict[str, str]:
    """``base`` with the variables set that make a child process record into the session, below ``span``."""
    parent = f"{session}-{span}"
    added = {"PYJAMA_PARENT": parent}
    try:
        from urllib.parse import quote

        added["PYJAMA_AGENT"] = quote(agent)
        if not _has_foreign_traceparent(base):
            added["TRACEPARENT"] = f"00-{parent}-01"
        added["PYJAMA_HOME"] = home_to_write()
    except PyjamaError:  # without a store, neither process records anything, but the child must still start
        pass
    except Exception as fault:
        _guard.swallow(fault, "session.env")
    return dict(base) | added


def inherited_scope() -> Scope | None:
    """The session and span that this process got from its parent; None if it got none."""
    if "PYJAMA_PARENT" not in os.environ:
        return None
    try:
        from urllib.parse import unquote  # slow to import, and few programs are children
    except ImportError:  # the process has lost the right to read its own files
        return None
    match = _PARENT.fullmatch(os.environ["PYJAMA_PARENT"])
    agent = clean_text(unquote(os.environ.get("PYJAMA_AGENT", "")))[:MAX_NAME]
    if match is None or not agent.strip():
        return None
    return SessionState(id=match[1], agent=agent, span=match[2]), match[2]


def _has_foreign_traceparent(environment: Mapping[str, str]) -> bool:
    """Whether ``TRACEPARENT`` is valid and was set by another tracer, not by a run around this one."""
    match = _TRACEPARENT.fullmatch(str(environment.get("TRACEPARENT", "")).strip())
    if match is None:
        return False
    version, parent, further_fields = match.groups()
    trace, span = parent.split("-")
    if version == "ff" or (version == "00" and further_fields) or trace == INVALID_TRACE or span == INVALID_SPAN:
        return False
    return parent not in (environment.get("PYJAMA_PARENT"), os.environ.get("PYJAMA_PARENT"))
