"""Which session and span the running code belongs to, carried by one context variable.

A ContextVar follows asyncio tasks and ``asyncio.to_thread`` by itself. The state here is plain data: the
modules above decide what to record about it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, TypeAlias

__all__ = ["Call", "Scope", "SessionState", "current"]


class SessionState:
    """One run of one agent, as the code inside it needs to know it.

    ``prefixes`` caches the constant first part of a journal line per tool. ``standing`` holds the records that
    describe the session as it stands (its start, workflow, open steps, attributes), to be told again when the store
    was wiped; it is empty for a session that this process did not start. ``told``: its start was recorded, so its end
    has to be. ``ending``: how it ended, if that was before this process had started it.
    """

    __slots__ = ("agent", "ending", "id", "prefixes", "span", "standing", "started_ns", "told")

    def __init__(self, *, id: str, agent: str, span: str, started_ns: int = 0) -> None:
        self.id = id
        self.agent = agent
        self.span = span
        self.started_ns = started_ns
        self.told = False
        self.ending: tuple[str, dict[str, Any] | None] | None = None
        self.prefixes: dict[str, str] = {}
        self.standing: dict[str, dict[str, Any]] = {}


Call: TypeAlias = tuple[SessionState, str, str, str, int]
"""A tool call under way: session, its span, the parent span, the tool, and its monotonic start in ns."""

Scope: TypeAlias = tuple[SessionState, str] | Call
"""The session and the innermost open span of the running code, and what else is known if that is a call."""

current: ContextVar[Scope | None] = ContextVar("pyjama_scope", default=None)
