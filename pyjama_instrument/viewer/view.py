"""The overview page as data: what to show, in which order and in which words. Pure.

Times stay integer milliseconds since the epoch (the page draws them as ticking relative times); everything
else that the page prints is text. Every list is bounded; what does not fit is counted in a ``…_more`` field.
Rows carry a ``key`` that stays the same for the same thing, so that the page can update in place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    Health,
    InFlight,
    LogEntry,
    Metrics,
    SessionSummary,
    ToolMetrics,
)
from pyjama_instrument.viewer.steps import StepState, progress_of, step_states
from pyjama_instrument.viewer.wording import clip, count, duration, label, listing, per_second, percent, text_of

__all__ = [
    "MAX_ACTIVE",
    "MAX_ATTENTION",
    "MAX_LOG",
    "MAX_PAST",
    "MAX_TOOLS",
    "chips",
    "failure_text",
    "reason",
    "run_row",
    "view_of",
]

MAX_ACTIVE = 300
MAX_ATTENTION = 50
MAX_PAST = 200
MAX_TOOLS = 200
MAX_LOG = 100
MAX_CHIPS = 12
CHIP_LINE = 44
CHIP_LINE_ENDED = 28
MAX_CALLS = 4
MESSAGE_LIMIT = 500

TONES = {
    "running": "live",
    "completed": "ok",
    "ok": "ok",
    "done": "ok",
    "success": "ok",
    "failed": "bad",
    "error": "bad",
    "crashed": "dead",
    "cancelled": "warn",
}
_UNREMARKABLE = frozenset({"pending", "skipped", "done"})
_ATTENTION = frozenset({"failed", "crashed"})


def view_of(data: DashboardData, store: str | None = None) -> dict[str, Any]:
    """The view model of the overview.

    Args:
        data: what the reader returned.
        store: the directory that is watched, shown so that a wrong one is noticed.
    """
    runs = _runs(data)
    statuses = Counter(state.status for _, state in runs)
    several_hosts = len({session.host for session in data.sessions.values() if session.host}) > 1
    active = _newest([run for run in runs if run[1].status == "running"])
    attention = _newest([run for run in runs if run[1].status in _ATTENTION])
    others = [run for run in runs if run[1].status != "running" and run[1].status not in _ATTENTION]
    past = _newest(others + attention[MAX_ATTENTION:])
    tools = sorted(data.metrics.tools.items(), key=lambda item: (-_number(item[1].total_duration), item[0]))
    return {
        "now": data.timestamp,
        "title": _title(statuses),
        "store": store,
        "notes": _notes(data.health),
        "empty": not (runs or tools or data.recent_logs),
        "totals": _totals(data, statuses),
        "active": [_row(run, data, several_hosts) for run in active[:MAX_ACTIVE]],
        "active_more": max(len(active) - MAX_ACTIVE, 0),
        "attention": [_row(run, data, several_hosts) for run in attention[:MAX_ATTENTION]],
        "past": [_row(run, data, several_hosts) | {"steps": []} for run in past[:MAX_PAST]],
        "past_more": max(len(past) - MAX_PAST, 0),
        "tools": [_tool(name, tool, _number(tools[0][1].total_duration)) for name, tool in tools[:MAX_TOOLS]],
        "tools_more": max(len(tools) - MAX_TOOLS, 0),
        "log": _log(data.recent_logs),
    }


def _newest(runs: list[_Run]) -> list[_Run]:
    """Running ones by their start, ended ones by their end: a row keeps its place while its run goes on."""
    return sorted(runs, key=lambda run: (-(_moment(run[1])), run[0]))


def _moment(run: SessionSummary | AgentSummary) -> int:
    return (run.start_time if run.status == "running" else run.end_time) or run.last_seen or 0


def _title(statuses: Counter[str]) -> str:
    parts = [f"{count(statuses[word])} {word}" for word in ("running", "crashed", "failed") if statuses[word]]
    return " · ".join([*parts, "pyjama"])


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────


_Run: TypeAlias = tuple[str, SessionSummary | AgentSummary]
"""A session's id and summary; or, for an agent of which no session is kept, its id and summary."""


def _runs(data: DashboardData) -> list[_Run]:
    """Every run we know of. Two sessions of one agent are two runs; an agent without any is one."""
    seen = {session.agent_id for session in data.sessions.values()}
    runs: list[_Run] = list(data.sessions.items())
    return runs + [(agent_id, agent) for agent_id, agent in data.agents.items() if agent_id not in seen]


def _row(run: _Run, data: DashboardData, several_hosts: bool) -> dict[str, Any]:
    name, state = run
    if isinstance(state, AgentSummary):
        return _agent_row(name, state, data.metrics)
    return run_row(name, state, data.sessions, show_host=several_hosts)


def run_row(
    session_id: str, run: SessionSummary, sessions: Mapping[str, SessionSummary], *, show_host: bool = True
) -> dict[str, Any]:
    """One run as the overview and the panel show it."""
    parent = sessions.get(run.parent_session or "")
    return {
        "key": session_id,
        "session": session_id,
        "agent": label(run.agent_id),
        "where": _where(run, show_host),
        "part_of": label(parent.agent_id) if parent else None,
        "tags": [f"{label(key)}={text_of(value, 60)}" for key, value in list(run.tags.items())[:6]],
        "reason": reason(run),
        "calls": count(run.calls),
        "errors": count(run.errors) if run.errors else "",
        "in_flight": [in_flight(call) for call in _longest_first(run.in_flight)[:MAX_CALLS]],
        "in_flight_more": max(len(run.in_flight) - MAX_CALLS, 0),
        **_state(run),
    }


def _agent_row(agent_id: str, agent: AgentSummary, metrics: Metrics) -> dict[str, Any]:
    """An agent of which only the summary is left, or that was recorded by a writer without sessions."""
    counts = metrics.agents.get(agent_id)
    return {
        "key": f"agent:{agent_id}",
        "session": agent.session,
        "agent": label(agent_id),
        "where": "",
        "part_of": None,
        "tags": [],
        "reason": "" if agent.status not in _ATTENTION else agent.status,
        "calls": count(counts.count) if counts else "",
        "errors": count(counts.error) if counts and counts.error else "",
        "in_flight": [],
        "in_flight_more": 0,
        **_state(agent),
    }


def _state(run: SessionSummary | AgentSummary) -> dict[str, Any]:
    states = step_states(run)
    progress = progress_of(run, states)
    ended = None if run.status == "running" else run.end_time or run.last_seen
    took = ended - run.start_time if ended is not None and run.start_time is not None else None
    return {
        "status": run.status,
        "tone": TONES.get(run.status, "idle"),
        "step": progress.step,
        "position": progress.position,
        "fraction": None if progress.fraction is None else round(progress.fraction, 4),
        "steps": chips(states, CHIP_LINE if run.status == "running" else CHIP_LINE_ENDED),
        "steps_more": max(len(states) - MAX_CHIPS, 0),
        "started": run.start_time,
        "seen": run.last_seen,
        "ended": ended,
        "took": duration(took) if took is not None and run.status != "crashed" else "",
        "ending": _ending(run.status, took),
    }


def _ending(status: str, took: int | None) -> str:
    """What is to be said beside the time of the end. Nobody knows when a killed process died."""
    if status == "crashed":
        return "last sign of life"
    return f"after {duration(took)}" if took is not None else ""


def chips(states: list[StepState], line: int) -> list[dict[str, Any]]:
    """At most ``MAX_CHIPS`` steps, those around the last that has begun.

    Where not all names fit in ``line`` characters, only those of steps under way or gone wrong are printed;
    the others are ``brief``: the page shows them as a mark.
    """
    last_begun = max((at for at, step in enumerate(states) if step.times), default=0)
    first = max(0, min(last_begun - MAX_CHIPS // 2, len(states) - MAX_CHIPS))
    shown = states[first : first + MAX_CHIPS]
    crowded = sum(len(label(step.name)) + 4 for step in shown) > line
    return [
        {
            "key": first + at,
            "name": clip(label(step.name), 60),
            "state": step.state,
            "times": step.times,
            "brief": crowded and step.state in _UNREMARKABLE,
        }
        for at, step in enumerate(shown)
    ]


def _where(run: SessionSummary, show_host: bool) -> str:
    parts = [f"pid {run.pid}" if run.pid else "", f"on {clip(run.host, 40)}" if run.host and show_host else ""]
    return " ".join(part for part in parts if part)


def _longest_first(calls: Iterable[InFlight]) -> list[InFlight]:
    return sorted(calls, key=lambda call: (call.start_time, call.span))


def in_flight(call: InFlight) -> dict[str, Any]:
    """A call under way: its tool and since when."""
    return {"key": call.span or call.tool, "tool": label(call.tool), "since": call.start_time}


def reason(run: SessionSummary) -> str:
    """Why a run needs attention, in one line; empty if it does not."""
    if run.status == "crashed":
        return _crash(run)
    if run.error is None:
        return "failed without saying why" if run.status == "failed" else ""
    return failure_text(run.error.type, run.error.message) or run.status


def failure_text(kind: str, message: str) -> str:
    """An exception as Python prints it: ``ValueError: no such key``."""
    return clip(": ".join(part for part in (kind.removeprefix("builtins."), message) if part), MESSAGE_LIMIT)


def _crash(run: SessionSummary) -> str:
    calls = _longest_first(run.interrupted)
    if calls:
        return f"died in {listing([label(call.tool) for call in calls])}"
    if run.current_step:
        return f"died in step {label(run.current_step)}, between tool calls"
    return "died between tool calls"


# ── totals, tools, log, notes ───────────────────────────────────────────────────────────────────────────


def _totals(data: DashboardData, statuses: Counter[str]) -> list[dict[str, Any]]:
    overall = data.metrics.global_
    finished = sum(agent.runs.completed + agent.runs.cancelled for agent in data.agents.values())
    finished = max(finished, statuses["completed"] + statuses["cancelled"])
    percentiles = " / ".join(duration(ms) for ms in (overall.p50_ms, overall.p95_ms, overall.p99_ms))
    return [
        _tile("running", count(statuses["running"]), "live" if statuses["running"] else "idle", "#running"),
        _tile("crashed", count(statuses["crashed"]), "dead" if statuses["crashed"] else "idle", "#wrong"),
        _tile("failed", count(statuses["failed"]), "bad" if statuses["failed"] else "idle", "#wrong"),
        _tile("finished", count(finished), "idle", "#past-runs"),
        _tile("tool calls", count(overall.count), "idle", "#all-tools"),
        _tile("errors", count(overall.error), "bad" if overall.error else "idle", "#all-tools"),
        _tile("success", percent(overall.success_rate)),
        _tile("calls/s now", per_second(overall.calls_per_second)),
        _tile("p50 / p95 / p99", percentiles if overall.p50_ms is not None else "–"),
    ]


def _tile(name: str, value: str, tone: str = "idle", target: str | None = None) -> dict[str, Any]:
    return {"key": name, "label": name, "value": value, "tone": tone, "target": target}


def _number(value: float) -> float:
    """An amount to sort and divide by: neither infinite nor below zero, whatever a damaged document says."""
    return max(value, 0.0) if math.isfinite(value) else 0.0


def _tool(name: str, tool: ToolMetrics, longest: float) -> dict[str, Any]:
    last = tool.last_error
    return {
        "key": name,
        "tool": "all further tools" if name == "__other__" else label(name),
        "calls": count(tool.count),
        "errors": count(tool.error) if tool.error else "",
        "success": percent(tool.success_rate),
        "p50": duration(tool.p50_ms),
        "p95": duration(tool.p95_ms),
        "p99": duration(tool.p99_ms),
        "total": duration(tool.total_duration),
        "share": round(_number(tool.total_duration) / longest, 3) if longest > 0 else 0.0,
        "last_error": failure_text(last.type, last.message) if last else "",
    }


def _log(entries: list[LogEntry]) -> list[dict[str, Any]]:
    """The newest entries first, each with a key that it keeps while newer ones arrive."""
    seen: Counter[str] = Counter()
    rows = []
    for entry in sorted(entries, key=lambda entry: entry.timestamp)[-MAX_LOG:]:
        key = f"{entry.timestamp} {entry.agent_id} {entry.tool} {entry.status}"
        seen[key] += 1
        rows.append(_log_row(f"{key} {seen[key]}", entry))
    return rows[::-1]


def _log_row(key: str, entry: LogEntry) -> dict[str, Any]:
    return {
        "key": key,
        "at": entry.timestamp,
        "agent": label(entry.agent_id),
        "tool": label(entry.tool) if entry.tool else "",
        "status": clip(entry.status, 40),
        "tone": TONES.get(entry.status, "idle"),
    }


def _notes(health: Health) -> list[dict[str, str]]:
    notes = [{"tone": "warn", "text": clip(note, MESSAGE_LIMIT)} for note in health.notes[:10]]
    for cause, number in sorted(health.dropped.items()):
        if number:
            text = f"{_things(number, 'event')} could not be written ({clip(cause, 60)}): counts are too low."
            notes.append({"tone": "warn", "text": text})
    if health.torn:
        text = (
            f"{_things(health.torn, 'half-written record')} skipped: a process died while writing, or a file was cut."
        )
        notes.append({"tone": "info", "text": text})
    for what, number in sorted(health.overflow.items()):
        if number:
            text = f"{count(number)} more {clip(what, 60)} than are kept apart: counted together."
            notes.append({"tone": "info", "text": text})
    return notes


def _things(number: int, noun: str) -> str:
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"
