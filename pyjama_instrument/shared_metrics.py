"""The functional API, for code that cannot be decorated: one function call for each event of an agent.

It records in the same way as ``@tool`` and ``agent_session``. An agent that was not started in this process gets an
implicit run with its first event. If there are more than 500 implicit runs, the one with the oldest latest event ends
as ``completed``. The next event of its agent starts another run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from pyjama_instrument import _platform, hooks
from pyjama_instrument.config import check_name, home_to_write, resolve_home
from pyjama_instrument.errors import ConfigError, StoreUnavailable
from pyjama_instrument.recording.context import SessionState
from pyjama_instrument.recording.recorder import recorder
from pyjama_instrument.recording.session_events import record_and_keep, session_event
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

# No lock: each change is one operation of a dictionary.
_sessions: dict[tuple[int, str], SessionState] = {}  # by process generation and agent
_implicit: dict[tuple[int, str], int] = {}  # those that no call has started, and the time of their latest event in ns
_steps: dict[tuple[str, str], tuple[str, int]] = {}  # by session and step: span and start


def record_agent_start(agent_id: str, spec: Mapping[str, Any] | None = None) -> str:
    """Start a run of the agent. If another run of this agent is open in this process, it stays open.

    Args:
        agent_id: the agent's name.
        spec: the agent's configuration, shown with it.

    Returns:
        The run's id.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    agent = check_name(agent_id, "agent_id")
    if spec is not None and not isinstance(spec, Mapping):
        raise ConfigError(f"spec must be a mapping, not {type(spec).__name__}")
    details = {} if spec is None else {"spec": policy.redact_mapping("spec", dict(spec))}
    recorder.notice_fork()
    return _start(agent, **details).id


def record_agent_activity(*, agent_id: str, status: str, tool_name: str | None = None) -> None:
    """Add a line to the activity log. It does not count as a tool call.

    Raises:
        ConfigError: an argument has the wrong type, or the status is empty.
    """
    agent, status = check_name(agent_id, "agent_id"), check_name(status, "status")
    details = {} if tool_name is None else {"tool": check_name(tool_name, "tool_name")}
    state = _session(agent)
    recorder.record(session_event(state, "activity", status=status, **details))


def record_agent_complete(agent_id: str, status: str = "completed") -> None:
    """End the agent's run.

    Args:
        agent_id: the agent's name.
        status: ``completed``, ``failed`` or ``cancelled``.

    Raises:
        ConfigError: an argument has the wrong type, or the status is not one of these.
    """
    agent = check_name(agent_id, "agent_id")
    status = _one_of(status, _RUN_STATUS)
    _session(agent)
    _end((recorder.epoch, agent), status)


def record_tool_execution(*, tool_name: str, agent_id: str, status: str, duration_ms: float) -> None:
    """Record a tool call that has ended.

    Args:
        tool_name: the tool.
        agent_id: the agent that called it.
        status: ``ok``, ``error`` or ``cancelled``.
        duration_ms: the duration in milliseconds, at least 0.

    Raises:
        ConfigError: an argument has the wrong type or is out of range.
    """
    tool, agent = check_name(tool_name, "tool_name"), check_name(agent_id, "agent_id")
    status = _one_of(status, _TOOL_STATUS)
    if isinstance(duration_ms, bool) or not isinstance(duration_ms, int | float):
        raise ConfigError(f"duration_ms must be a number of milliseconds, not {type(duration_ms).__name__}")
    if not 0 <= duration_ms < 1e12:
        raise ConfigError("duration_ms must be at least 0 and less than 1e12")
    state = _session(agent)
    event = session_event(
        state, "tool.ended", tool=tool, parent=state.span, span=recorder.ids.span(),
        duration_ns=round(duration_ms * 1e6), status=status,
    )  # fmt: skip
    recorder.record(event)


def record_step_start(agent_id: str, step_id: str) -> None:
    """Start a step of the agent's run.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    agent, step = check_name(agent_id, "agent_id"), check_name(step_id, "step_id")
    state = _session(agent)
    span = recorder.ids.span()
    before, _ = _steps.get((state.id, step), ("", 0))
    state.open_records.pop(before, None)
    _steps[state.id, step] = span, recorder.mono_ns()
    record_and_keep(state, span, session_event(state, "step.started", step=step, parent=state.span, span=span))


def record_step_complete(agent_id: str, step_id: str, status: str = "ok") -> None:
    """End a step of the agent's run as ``ok``, ``error`` or ``cancelled``.

    Raises:
        ConfigError: an argument has the wrong type, or the status is not one of these.
    """
    agent, step = check_name(agent_id, "agent_id"), check_name(step_id, "step_id")
    status = _one_of(status, _TOOL_STATUS)
    state = _session(agent)
    try:
        span, started_ns = _steps.pop((state.id, step))
    except KeyError:  # its start was not recorded
        span, started_ns = recorder.ids.span(), recorder.mono_ns()
    state.open_records.pop(span, None)
    event = session_event(
        state, "step.ended", step=step, parent=state.span, span=span,
        duration_ns=max(0, recorder.mono_ns() - started_ns), status=status,
    )  # fmt: skip
    recorder.record(event)


def record_workflow_info(agent_id: str, steps: Sequence[str]) -> None:
    """Declare the steps that the agent's run plans, in order.

    Raises:
        ConfigError: an argument has the wrong type.
    """
    agent = check_name(agent_id, "agent_id")
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise ConfigError(f"steps must be a sequence of step names, not {type(steps).__name__}")
    names = [check_name(step, "step_id") for step in steps]
    state = _session(agent)
    record_and_keep(state, "workflow", session_event(state, "workflow.declared", steps=names))


def get_dashboard_data(home: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The data of the dashboard now, as a JSON-ready dictionary with kebab-case keys.

    Raises:
        ConfigError: ``home`` cannot be a path.
    """
    from pyjama_instrument import reader  # the write side does not need it

    return reader.get_dashboard_data(home).to_dict()


def read_metrics(home: str | os.PathLike[str] | None = None) -> dict[str, Any]:
    """The content of ``metrics.json``, updated in memory with newer events.

    Raises:
        ConfigError: ``home`` cannot be a path.
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument import reader

    return reader.read_metrics(home)


def clear_metrics(home: str | os.PathLike[str] | None = None) -> None:
    """Delete the totals and the finished runs of the store. Open runs stay listed and count from zero.

    Raises:
        ConfigError: ``home`` cannot be a path.
        StoreUnavailable: the store cannot be used, or another process held its lock for ten seconds.
    """
    if _platform.MISSING:
        return  # nothing is recorded here that could be cleared
    from pyjama_instrument.storage.compaction import clear
    from pyjama_instrument.storage.store_directory import Store

    store = Store(home_to_write() if home is None else resolve_home(home))
    try:
        if not clear(store):
            raise StoreUnavailable(f"cannot clear {store.path}: another process holds its lock; try again")
    except OSError as error:
        raise StoreUnavailable(f"cannot clear {store.path}: {error.strerror or error}") from error
    finally:
        store.close()


def shared_metrics_hook(call: Any) -> None:
    """Record the tool call that a mapping describes.

    The mapping is ``{"tool_name": …, "ctx": {"id": agent}, "result": {"status": …}, "duration_ms": …}``. The keys
    ``tool-name`` and ``duration-ms`` work too. You can also register this function as a post-hook, with
    ``register_hook("*", shared_metrics_hook)``. It then does nothing, because calls of decorated tools are recorded
    already.

    Raises:
        ConfigError: the argument is neither a mapping nor a :class:`pyjama_instrument.hooks.ToolCall`, or a value in
            the mapping has the wrong type.
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
    state = recorder.sessions.new(agent)
    recorder.sessions.start(state, **details)
    _sessions[recorder.epoch, agent] = state
    _implicit.pop((recorder.epoch, agent), None)
    return state


def _session(agent: str) -> SessionState:
    """The agent's open run in this process; starts one if there is none."""
    recorder.notice_fork()
    key = recorder.epoch, agent
    if (state := _sessions.get(key)) is None:
        new = recorder.sessions.new(agent)
        recorder.sessions.describe_implicit(new)
        state = _sessions.setdefault(key, new)
        if state is new:
            _implicit[key] = recorder.mono_ns()
            recorder.sessions.start(state)
            _end_idle()
    elif key in _implicit:
        _implicit[key] = recorder.mono_ns()
    return state


def _end_idle() -> None:
    """If there are too many implicit runs, complete those with the oldest latest event: they may never be ended."""
    surplus = len(_implicit) - _MOST_IMPLICIT
    if surplus > 0:
        for key, _ in sorted(_implicit.copy().items(), key=itemgetter(1))[:surplus]:
            _end(key, "completed")


def _end(key: tuple[int, str], status: str) -> None:
    state = _sessions.pop(key, None)
    _implicit.pop(key, None)
    if state is not None:
        recorder.sessions.end(state, status)
        for step in list(_steps):
            if step[0] == state.id:
                _steps.pop(step, None)


def _one_of(value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        wrong = repr(value[:40]) if isinstance(value, str) else type(value).__name__
        raise ConfigError(f"status must be one of {', '.join(allowed)}, not {wrong}")
    return str(value)
