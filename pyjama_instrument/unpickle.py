"""What pickles of decorated functions refer to. These names never move and never change what they take.

A function that is pickled by value, by cloudpickle for instance, and a tool that is pickled under another name than its
own, refer to these functions. So whoever unpickles them needs this package, and records their calls there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["agent_session", "bound", "makers", "process_recorder", "session", "session_source", "tool", "tool_source"]

makers: dict[str, Callable[..., Any]] = {}
"""Who makes what the functions below return: each module puts its own here, so that this one imports none of them."""


def process_recorder() -> Any:
    """The recorder of the process that unpickles."""
    return makers["recorder"]()


def tool_source(name: str, kind: str, settings: dict[str, Any]) -> Any:
    """What records the calls of a tool; the same for the same tool, however often it is sent."""
    return makers["tool source"](name, kind, **settings)


def tool(function: Any, settings: dict[str, Any]) -> Any:
    """``function``, decorated as a tool."""
    return makers["tool"](function, **settings)


def agent_session(name: str, settings: dict[str, Any]) -> Any:
    """A decorator and context manager with the settings of another."""
    return makers["agent session"](name, **settings)


def session_source(owner: Any, kind: str) -> Any:
    """What makes each call of a decorated function a run."""
    return makers["session source"](owner, kind)


def session(agent: str, id: str, span: str) -> Any:
    """A run that is under way, begun by the process that unpickles or by another."""
    return makers["session"](agent, id, span)


def bound(function: Any, agent: str, session: str, span: str) -> Any:
    """``function``, tied to a run."""
    return makers["bound"](function, agent, session, span)
