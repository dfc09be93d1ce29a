"""Which session and span the running code belongs to, carried by one context variable.

A ContextVar follows asyncio tasks and ``asyncio.to_thread`` by itself. The state here is plain data: the
modules above decide what to record about it.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any, TypeAlias

__all__ = ["Call", "Scope", "SessionState", "current", "leave_scope"]


class SessionState:
    """One run of one agent, as the code inside it needs to know it.

    ``prefixes`` caches the constant first part of a journal line per tool. ``open_records`` holds the records that
    describe the run now (its start, workflow, open steps, attributes). They are written again if the store is wiped.
    It is empty for a run that this process did not start. ``start_recorded``: the start was recorded, so the end has to
    be. ``ending``: how the run ended, if that was before this process had started it. ``declared_end``: the status, and
    the failure, that the program has given the run.
    """

    __slots__ = (
        "agent", "declared_end", "ending", "id", "open_records", "prefixes", "span", "start_recorded", "started_ns"
    )  # fmt: skip

    def __init__(self, *, id: str, agent: str, span: str, started_ns: int = 0) -> None:
        self.id = id
        self.agent = agent
        self.span = span
        self.started_ns = started_ns
        self.start_recorded = False
        self.ending: tuple[str, dict[str, Any] | None] | None = None
        self.declared_end: tuple[str, dict[str, Any] | None] | None = None
        self.prefixes: dict[str, str] = {}
        self.open_records: dict[str, dict[str, Any]] = {}


Call: TypeAlias = tuple[SessionState, str, str, str, int]
"""A tool call under way: session, its span, the parent span, the tool, and its monotonic start in ns."""

Scope: TypeAlias = tuple[SessionState, str] | Call
"""The session and the innermost open span of the running code, and what else is known if that is a call."""

current: ContextVar[Scope | None] = ContextVar("pyjama_scope", default=None)


def leave_scope(token: Token[Scope | None] | None) -> None:
    """Make the enclosing span the innermost again. ``token`` is what setting ``current`` returned, if it was set."""
    try:
        if token is not None:
            current.reset(token)
    except (ValueError, RuntimeError):  # it ends in another context than it began in, or for a second time
        pass
