"""What the code under test has recorded in the store of the running test, and ways to exhaust what it returned."""

from __future__ import annotations

import asyncio
import inspect
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pyjama_instrument.config import resolve_home
from pyjama_instrument.events import SessionEnded, SessionStarted, StepEnded, ToolEnded
from pyjama_instrument.testing import TestStore

__all__ = [
    "all_events",
    "call",
    "calls",
    "drained",
    "journal_lines",
    "remove_tree",
    "session",
    "session_end",
    "session_ends",
    "sessions",
    "step_ends",
]


def all_events() -> list[Any]:
    """Every event in the store, in the order of time."""
    return list(TestStore(resolve_home()).events())


def calls(tool: str | None = None) -> list[ToolEnded]:
    """The calls that have ended, or those of one tool."""
    return [event for event in all_events() if isinstance(event, ToolEnded) and tool in (None, event.tool)]


def call(tool: str | None = None) -> ToolEnded:
    """The only call."""
    (only,) = calls(tool)
    return only


def sessions(agent: str | None = None) -> list[SessionStarted]:
    """The sessions that have begun, implicit ones left out, or those of one agent."""
    started = [event for event in all_events() if isinstance(event, SessionStarted)]
    return [event for event in started if (not event.implicit if agent is None else event.agent == agent)]


def session(agent: str) -> SessionStarted:
    """The only session of an agent."""
    (only,) = sessions(agent)
    return only


def session_ends(agent: str | None = None) -> list[SessionEnded]:
    """The ends of sessions, or those of one agent."""
    return [event for event in all_events() if isinstance(event, SessionEnded) and agent in (None, event.agent)]


def session_end(agent: str) -> SessionEnded:
    """The end of the only session of an agent."""
    (only,) = session_ends(agent)
    return only


def step_ends() -> list[StepEnded]:
    """The steps that have ended."""
    return [event for event in all_events() if isinstance(event, StepEnded)]


def journal_lines() -> list[bytes]:
    """The raw lines of all journals, each without its newline."""
    files = sorted(Path(resolve_home(), "journal").glob("*.jsonl"))
    return [line for file in files for line in file.read_bytes().splitlines()]


def remove_tree(directory: Path) -> None:
    """``rm -rf`` for a directory that is in use: the process may be making a file in it just now."""
    aside = directory.with_name(f"{directory.name} removed")
    directory.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def drained(result: Any) -> Any:
    """What a call of any kind comes to: the value, the awaited value, or the list of items."""
    if inspect.isasyncgen(result):

        async def items() -> list[Any]:
            return [item async for item in result]

        return asyncio.run(items())
    if inspect.isgenerator(result):
        return list(result)
    if inspect.iscoroutine(result):
        return asyncio.run(_awaited(lambda: result))
    return result


async def _awaited(make: Callable[[], Any]) -> Any:
    return await make()
