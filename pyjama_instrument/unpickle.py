"""The functions that pickles of decorated functions refer to. Their names and parameters never change.

A function that is pickled by value, for example by cloudpickle, refers to these functions. So does a tool whose name
does not lead to it. The process that unpickles needs this package, and records the calls in its own store.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["agent_session", "bound", "makers", "process_recorder", "session", "session_source", "tool", "tool_source"]

makers: dict[str, Callable[..., Any]] = {}
"""What makes the return values of the functions below. Other modules add theirs: this one imports none of them."""


def process_recorder() -> Any:
    """The recorder of the unpickling process."""
    return makers["recorder"]()


def tool_source(name: str, kind: str, settings: dict[str, Any]) -> Any:
    """The handler of a tool's calls: the same object for the same settings, however often it is unpickled."""
    return makers["tool source"](name, kind, **settings)


def tool(function: Any, settings: dict[str, Any]) -> Any:
    """``function``, decorated as a tool."""
    return makers["tool"](function, **settings)


def agent_session(name: str, settings: dict[str, Any]) -> Any:
    """A decorator and context manager with the settings of another."""
    return makers["agent session"](name, **settings)


def session_source(owner: Any, kind: str) -> Any:
    """The handler that makes each call of a decorated function a run."""
    return makers["session source"](owner, kind)


def session(agent: str, id: str, span: str) -> Any:
    """A run that is under way, started by this process or another."""
    return makers["session"](agent, id, span)


def bound(function: Any, agent: str, session: str, span: str) -> Any:
    """``function``, bound to a run."""
    return makers["bound"](function, agent, session, span)
