"""The functional API, for code that cannot be decorated: tell what an agent does, call by call.

The same recorder is behind it as behind ``@tool`` and ``agent_session``. An agent that was not started here gets an
implicit session in this process with its first event. If there are more than 500 of those, the one that has been
quiet for longest is completed; should its agent do something again, that is another run of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from pyjama_instrument import _platform, hooks
from pyjama_instrument.config import check_name, home_to_write, resolve_home
from pyjama_instrument.errors import ConfigError, StoreUnavailable
from pyjama_instrument.recording.context import SessionState
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.redaction import policy

__all__ = [
    "clear_metrics",
    "get_dashboard_data",
    "read_metrics",
    "record_agent_activity",
    "record_agent_complete",
    "record_agent_start",
    "record_step_complete",
    "record_step_start",
    "record_tool_execution",
    "record_workflow_info",
    "shared_metrics_hook",
]

_TOOL_STATUS = ("ok", "error", "cancelled")
_RUN_STATUS = ("completed", "failed", "cancelled")

_MOST_IMPLICIT = 500

# No lock: each change is one step of the dictionary's own.
_sessions: dict[tuple[int, str], SessionState] = {}  # by process generation and agent
_implicit: dict[tuple[int, str], int] = {}  # those among them that nobody has begun: when they were used last
_steps: dict[tuple[str, str], tuple[str, int]] = {}  # by session and step: span and start


def record_agent_start(agent_id: str, spec: Mapping[str, Any] | None = None) -> str:
    """A run of the agent begins. A run of it that this process had begun before and not completed goes on beside it.

    Args:
        agent_id: the agent's name.
        spec: the agent's configuration, shown with it.

    Returns:
        The new session's id.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    agent = check_name(agent_id, "agent_id")
    if spec is not None and not isinstance(spec, Mapping):
        raise ConfigError(f"spec must be a mapping, not {type(spec).__name__}")
    details = {} if spec is None else {"spec": policy.shown_mapping("spec", dict(spec))}
    recorder.notice_fork()
    return _start(agent, **details).id


def record_agent_activity(*, agent_id: str, status: str, tool_name: str | None = None) -> None:
    """A line for the activity log, which is not counted as a tool call.

    Raises:
        ConfigError: an argument has the wrong type, or the status is empty.
    """
    agent, status = check_name(agent_id, "agent_id"), check_name(status, "status")
    details = {} if tool_name is None else {"tool": check_name(tool_name, "tool_name")}
    state = _session(agent)
    recorder.record(_event("activity", state) | {"status": status} | details)


def record_agent_complete(agent_id: str, status: str = "completed") -> None:
    """The agent's run is over.

    Args:
        agent_id: the agent's name.
        status: ``completed``, ``failed`` or ``cancelled``.

    Raises:
        ConfigError: an argument is of the wrong type or none of these.
    """
    agent = check_name(agent_id, "agent_id")
    status = _one_of(status, _RUN_STATUS)
    _session(agent)
    _end((recorder.epoch, agent), status)


def record_tool_execution(*, tool_name: str, agent_id: str, status: str, duration_ms: float) -> None:
    """A tool call that has ended.

    Args:
        tool_name: the tool.
        agent_id: the agent that called it.
        status: ``ok``, ``error`` or ``cancelled``.
        duration_ms: how long it took, in milliseconds, at least 0.

    Raises:
        ConfigError: an argument is of the wrong type or out of range.
    """
    tool, agent = check_name(tool_name, "tool_name"), check_name(agent_id, "agent_id")
    status = _one_of(status, _TOOL_STATUS)
    if isinstance(duration_ms, bool) or not isinstance(duration_ms, int | float):
        raise ConfigError(f"duration_ms must be a number of milliseconds, not {type(duration_ms).__name__}")
    if not 0 <= duration_ms < 1e12:
        raise ConfigError("duration_ms must be at least 0 and less than 1e12")
    state = _session(agent)
    event = _event("tool.ended", state) | {"tool": tool, "parent": state.span, "span": recorder.ids.span()}
    recorder.record(event | {"duration_ns": round(duration_ms * 1e6), "status": status})


def record_step_start(agent_id: str, step_id: str) -> None:
    """A step of the agent's run begins.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    agent, step = check_name(agent_id, "agent_id"), check_name(step_id, "step_id")
    state = _session(agent)
    span = recorder.ids.span()
    before, _ = _steps.get((state.id, step), ("", 0))
    state.standing.pop(before, None)
    _steps[state.id, step] = span, recorder.mono_ns()
    event = _event("step.started", state) | {"step": step, "parent": state.span, "span": span}
    state.standing[span] = event
    recorder.record(event)


def record_step_complete(agent_id: str, step_id: str, status: str = "ok") -> None:
    """A step of the agent's run is over: ``ok``, ``error`` or ``cancelled``.

    Raises:
        ConfigError: an argument is of the wrong type, or the status none of these.
    """
    agent, step = check_name(agent_id, "agent_id"), check_name(step_id, "step_id")
    status = _one_of(status, _TOOL_STATUS)
    state = _session(agent)
    try:
        span, started_ns = _steps.pop((state.id, step))
    except KeyError:  # its start was not recorded
        span, started_ns = recorder.ids.span(), recorder.mono_ns()
    state.standing.pop(span, None)
    event = _event("step.ended", state) | {"step": step, "parent": state.span, "span": span}
    recorder.record(event | {"duration_ns": max(0, recorder.mono_ns() - started_ns), "status": status})


def record_workflow_info(agent_id: str, steps: Sequence[str]) -> None:
    """The steps that the agent's run means to take, in order.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    agent = check_name(agent_id, "agent_id")
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise ConfigError(f"steps must be a sequence of step names, not {type(steps).__name__}")
    names = [check_name(step, "step_id") for step in steps]
    state = _session(agent)
    state.standing["workflow"] = _event("workflow.declared", state) | {"steps": names}
    recorder.record(state.standing["workflow"])


def get_dashboard_data(home: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """What the dashboard shows now, as a JSON-ready dictionary with kebab-case keys.

    Raises:
        ConfigError: ``home`` cannot be a path.
    """
    from pyjama_instrument import reader  # the write side does not need it

    return reader.get_dashboard_data(home).to_dict()


def read_metrics(home: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The content of ``metrics.json``, brought up to date in memory.

    Raises:
        ConfigError: ``home`` cannot be a path.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument import reader

    return reader.read_metrics(home)


def clear_metrics(home: str | os.PathLike[str] | None = None) -> None:
    """Start all totals from zero, for everybody. Sessions that run stay visible.

    Raises:
        ConfigError: ``home`` cannot be a path.
        StoreUnavailable: the store cannot be used, or somebody held its lock for ten seconds.
    """
    if _platform.MISSING:
        return  # nothing is recorded here that could be cleared
    from pyjama_instrument.storage.compaction import clear
    from pyjama_instrument.storage.store_directory import Store

    store = Store(home_to_write() if home is None else resolve_home(home))
    try:
        if not clear(store):
            raise StoreUnavailable(f"{store.path} is being rewritten by somebody else: try again")
    except OSError as error:
        raise StoreUnavailable(f"cannot clear {store.path}: {error.strerror or error}") from error
    finally:
        store.close()


def shared_metrics_hook(call: Any) -> None:
    """A hook that records the tool call it is told of.

    Takes a mapping ``{"tool_name": …, "ctx": {"id": agent}, "result": {"status": …}, "duration_ms": …}``, which
    describes a call made by code of your own; ``tool-name`` and ``duration-ms`` are understood as well. It may also be
    registered as a post-hook, ``register_hook("*", shared_metrics_hook)``: calls of decorated tools are recorded
    already and count once, so it adds nothing to a :class:`pyjama_instrument.hooks.ToolCall`.

    Raises:
        ConfigError: neither of these.
    """
    if isinstance(call, hooks.ToolCall):
        return
    if not isinstance(call, Mapping):
        raise ConfigError(f"expected a ToolCall or a mapping, not {type(call).__name__}")
    context, result = call.get("ctx"), call.get("result")
    status = result.get("status", "ok") if isinstance(result, Mapping) else "ok"
    record_tool_execution(
        tool_name=call.get("tool_name", call.get("tool-name", "")),
        agent_id=context.get("id", "") if isinstance(context, Mapping) else "",
        status=str(status).removeprefix(":"),
        duration_ms=call.get("duration_ms", call.get("duration-ms", 0.0)),
    )


def _start(agent: str, **details: Any) -> SessionState:
    state = recorder.new_session(agent)
    recorder.start_session(state, **details)
    _sessions[recorder.epoch, agent] = state
    _implicit.pop((recorder.epoch, agent), None)
    return state


def _session(agent: str) -> SessionState:
    """The agent's session in this process, begun if there is none."""
    recorder.notice_fork()
    key = recorder.epoch, agent
    if (state := _sessions.get(key)) is None:
        mine = recorder.new_session(agent)
        state = _sessions.setdefault(key, mine)
        if state is mine:
            _implicit[key] = recorder.mono_ns()
            recorder.describe_implicit(state)
            recorder.start_session(state)
            _end_what_is_quiet()
    elif key in _implicit:
        _implicit[key] = recorder.mono_ns()
    return state


def _end_what_is_quiet() -> None:
    """Complete those that have been quiet for longest, if there are too many of which nobody may ever tell the end."""
    surplus = len(_implicit) - _MOST_IMPLICIT
    if surplus > 0:
        for key, _ in sorted(_implicit.copy().items(), key=itemgetter(1))[:surplus]:
            _end(key, "completed")


def _end(key: tuple[int, str], status: str) -> None:
    state = _sessions.pop(key, None)
    _implicit.pop(key, None)
    if state is not None:
        recorder.end_session(state, status)
        for step in list(_steps):
            if step[0] == state.id:
                _steps.pop(step, None)


def _event(kind: str, state: SessionState) -> dict[str, Any]:
    return {"kind": kind, "ts": time.time_ns() // 1000, "agent": state.agent, "session": state.id}


def _one_of(value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        wrong = repr(value[:40]) if isinstance(value, str) else type(value).__name__
        raise ConfigError(f"status must be one of {', '.join(allowed)}, not {wrong}")
    return str(value)
