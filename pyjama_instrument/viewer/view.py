"""The overview page as data: what to show, in which order and in which words. Pure.

Times stay integer milliseconds since the epoch (the page draws them as ticking relative times); everything
else that the page prints is text. Every list is bounded; what does not fit is counted in a ``…_more`` field.
Rows carry a ``key`` that stays the same for the same thing, so that the page can update in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    Health,
    InFlight,
    LogEntry,
    Metrics,
    RunCounts,
    SessionSummary,
)
from pyjama_instrument.viewer.asked import Asked
from pyjama_instrument.viewer.recent import Recent, spark
from pyjama_instrument.viewer.steps import StepState, progress_of, step_states
from pyjama_instrument.viewer.tools import tool_row
from pyjama_instrument.viewer.wording import (
    MESSAGE_LIMIT,
    TONES,
    clip,
    count,
    crash_text,
    duration,
    failure_text,
    label,
    longest_first,
    number_of,
    per_second,
    percent,
    text_of,
)

__all__ = [
    "MAX_ACTIVE",
    "MAX_ATTENTION",
    "MAX_LOG",
    "MAX_PAST",
    "MAX_TOOLS",
    "MESSAGE_LIMIT",
    "TONES",
    "chips",
    "failure_text",
    "in_flight",
    "reason",
    "run_row",
    "shell_of",
    "view_of",
]

MAX_ACTIVE = 100
MAX_ATTENTION = 50
MAX_PAST = 100
MAX_TOOLS = 12
MAX_LOG = 20
MAX_CHIPS = 12
MANY_RUNNING = 6
CHIP_LINE = 36
CHIP_LINE_ENDED = 28
MAX_CALLS = 4
_UNREMARKABLE = frozenset({"pending", "skipped", "done"})
_ATTENTION = frozenset({"failed", "crashed"})
_GONE = frozenset({"crashed", "ended"})  # nobody knows when
_GROUPS = {"failed": "wrong", "crashed": "wrong", "completed": "finished", "cancelled": "finished", "ended": "finished"}


def view_of(
    data: DashboardData, store: str | None = None, asked: Asked | None = None, recent: Recent | None = None
) -> dict[str, Any]:
    """The view model of the overview.

    Args:
        data: what the reader returned.
        store: the directory that is watched, shown so that a wrong one is noticed.
        asked: what is searched for; by default nothing.
        recent: how many calls there were lately.
    """
    asked = asked or Asked()
    runs = _runs(data)
    draw = _Drawer(data, recent)
    found = [run for run in runs if _is_wanted(run, asked, data)]
    active = _newest([run for run in found if run[1].status == "running"])
    attention = _newest([run for run in found if run[1].status in _ATTENTION])
    others = [run for run in found if run[1].status != "running" and run[1].status not in _ATTENTION]
    in_full, in_past = max(MAX_ACTIVE, asked.shown), max(MAX_PAST, asked.shown)
    past = _newest(others + attention[MAX_ATTENTION:])
    tools = sorted(data.metrics.tools.items(), key=lambda item: (-number_of(item[1].total_duration), item[0]))
    return {
        **shell_of(data, store),
        "totals": _totals(data),
        "found": len(found),
        "headline": _headline(attention, len(active), data.runs, asked),
        "active": [draw.row(run) for run in active[:in_full]],
        "active_more": max(len(active) - in_full, 0),
        "attention": [draw.row(run) for run in attention[:MAX_ATTENTION]],
        "past": [draw.row(run) | {"steps": []} for run in past[:in_past]],
        "past_more": max(len(past) - in_past, 0),
        "tools": [tool_row(name, tool, number_of(tools[0][1].total_duration)) for name, tool in tools[:MAX_TOOLS]],
        "tools_more": max(len(tools) - MAX_TOOLS, 0),
        "log": _log(data.recent_logs),
    }


def _headline(attention: list[_Run], running: int, runs: RunCounts, asked: Asked) -> dict[str, Any] | None:
    """What went wrong last, said on top where the running ones would push it out of sight."""
    if not attention or running < MANY_RUNNING:
        return None
    name, state = attention[0]
    why = reason(state) if isinstance(state, SessionSummary) else ""
    agent = clip(label(state.agent_id if isinstance(state, SessionSummary) else name), 60)
    all_wrong = len(attention) if asked.words or asked.status else runs.failed + runs.crashed
    more = f" ({count(all_wrong - 1)} more)" if all_wrong > 1 else ""
    return {
        "text": f"{agent} {state.status}{': ' if why else ''}{clip(why, 120)}{more},",
        "at": _moment(state),
        "tone": TONES[state.status],
        "target": "#/?status=wrong",
    }


def shell_of(data: DashboardData, store: str | None) -> dict[str, Any]:
    """What every page shows around its own content."""
    return {
        "now": data.timestamp,
        "title": _title(data.runs),
        "store": store,
        "notes": _notes(data.health),
        "empty": not (data.sessions or data.agents or data.metrics.tools or data.recent_logs),
    }


def _is_wanted(run: _Run, asked: Asked, data: DashboardData) -> bool:
    """Whether a run is of the status and holds all the words that are asked for."""
    state = run[1]
    if asked.status and asked.status not in (state.status, _GROUPS.get(state.status)):
        return False
    if not asked.words:
        return True
    text = _searched(run).casefold()
    return all(word in text for word in asked.words)


def _searched(run: _Run) -> str:
    name, state = run
    if isinstance(state, AgentSummary):
        return f"{name} {state.status} {state.current_step or ''}"
    tags = " ".join(f"{key}={text_of(value, 60)}" for key, value in state.tags.items())
    calls = " ".join(call.tool for call in state.in_flight)
    parts = (state.agent_id, name, state.status, state.current_step or "", state.host or "", f"pid {state.pid}")
    return " ".join([*parts, tags, calls, reason(state)])


def _newest(runs: list[_Run]) -> list[_Run]:
    """Running ones by their start, ended ones by their end: a row keeps its place while its run goes on."""
    return sorted(runs, key=lambda run: (-(_moment(run[1])), run[0]))


def _moment(run: SessionSummary | AgentSummary) -> int:
    return (run.start_time if run.status == "running" else run.end_time) or run.last_seen or 0


def _title(runs: RunCounts) -> str:
    numbers = {"running": runs.running, "crashed": runs.crashed, "failed": runs.failed}
    parts = [f"{count(number)} {word}" for word, number in numbers.items() if number]
    return " · ".join([*parts, "pyjama"])


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────


_Run: TypeAlias = tuple[str, SessionSummary | AgentSummary]
"""A session's id and summary; or, for an agent of which no session is kept, its id and summary."""


def _runs(data: DashboardData) -> list[_Run]:
    """Every run we know of. Two sessions of one agent are two runs; an agent without any is one."""
    seen = {session.agent_id for session in data.sessions.values()}
    runs: list[_Run] = list(data.sessions.items())
    return runs + [(agent_id, agent) for agent_id, agent in data.agents.items() if agent_id not in seen]


class _Drawer:
    """Makes rows of runs."""

    def __init__(self, data: DashboardData, recent: Recent | None) -> None:
        self._data = data
        self._recent = recent
        self._several_hosts = len({session.host for session in data.sessions.values() if session.host}) > 1

    def row(self, run: _Run) -> dict[str, Any]:
        name, state = run
        if isinstance(state, AgentSummary):
            return _agent_row(name, state, self._data.metrics) | {"spark": ""}
        counts = self._recent.sessions.of(name, self._data.timestamp) if self._recent else []
        row = run_row(name, state, self._data.sessions, show_host=self._several_hosts)
        return row | {"spark": spark(counts)}


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
        "in_flight": [in_flight(call) for call in longest_first(run.in_flight)[:MAX_CALLS]],
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
        "reason": _agent_reason(agent),
        "calls": count(counts.count) if counts else "",
        "errors": count(counts.error) if counts and counts.error else "",
        "in_flight": [],
        "in_flight_more": 0,
        **_state(agent),
    }


def _agent_reason(agent: AgentSummary) -> str:
    if agent.status not in _ATTENTION:
        return ""
    if agent.error is None and not agent.interrupted:
        return agent.status
    return reason(SessionSummary(status=agent.status, error=agent.error, interrupted=agent.interrupted))


def _state(run: SessionSummary | AgentSummary) -> dict[str, Any]:
    states = step_states(run)
    progress = progress_of(run, states)
    ended = None if run.status == "running" else run.end_time or run.last_seen
    took = ended - run.start_time if ended is not None and run.start_time is not None else None
    return {
        "status": run.status,
        "tone": TONES.get(run.status, "idle"),
        "step": progress.step,
        "done": progress.done,
        "fraction": None if progress.fraction is None else round(progress.fraction, 4),
        "steps": chips(states, CHIP_LINE if run.status == "running" else CHIP_LINE_ENDED),
        "steps_more": max(len(states) - MAX_CHIPS, 0),
        "started": run.start_time,
        "seen": run.last_seen,
        "ended": ended,
        "took": duration(took) if took is not None and run.status not in _GONE else "",
        "ending": _ending(run.status, took),
    }


def _ending(status: str, took: int | None) -> str:
    """What is to be said beside the time of the end. Nobody knows when a killed process died."""
    if status in _GONE:
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


def in_flight(call: InFlight) -> dict[str, Any]:
    """A call under way: its tool and since when."""
    return {"key": call.span or call.tool, "tool": label(call.tool), "since": call.start_time}


def reason(run: SessionSummary) -> str:
    """Why a run needs attention, in one line; empty if it does not."""
    if run.status == "crashed":
        return crash_text(run)
    if run.error is None:
        return "failed without saying why" if run.status == "failed" else ""
    return failure_text(run.error.type, run.error.message) or run.status


# ── totals, tools, log, notes ───────────────────────────────────────────────────────────────────────────


def _totals(data: DashboardData) -> list[dict[str, Any]]:
    overall, runs = data.metrics.global_, data.runs
    percentiles = " / ".join(duration(ms) for ms in (overall.p50_ms, overall.p95_ms, overall.p99_ms))
    return [
        _tile("running", count(runs.running), "live" if runs.running else "idle", "#/?status=running"),
        _tile("crashed", count(runs.crashed), "dead" if runs.crashed else "idle", "#/?status=crashed"),
        _tile("failed", count(runs.failed), "bad" if runs.failed else "idle", "#/?status=failed"),
        _tile("finished", count(runs.completed + runs.cancelled + runs.ended), "idle", "#/?status=finished"),
        _tile("tool calls", count(overall.count), "idle", "#/tools"),
        _tile("errors", count(overall.error), "bad" if overall.error else "idle", "#/activity?status=error"),
        _tile("success", percent(overall.success_rate)),
        _tile("calls/s now", per_second(overall.calls_per_second)),
        _tile("p50 / p95 / p99", percentiles if overall.p50_ms is not None else "–"),
    ]


def _tile(name: str, value: str, tone: str = "idle", target: str | None = None) -> dict[str, Any]:
    return {"key": name, "label": name, "value": value, "tone": tone, "target": target}


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
        "kind": "call" if entry.tool else "run",
        "what": label(entry.tool) if entry.tool else "",
        "tool": entry.tool,
        "agent": label(entry.agent_id),
        "session": None,
        "took": "",
        "error": "",
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
