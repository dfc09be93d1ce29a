"""The overview page as data: what to show, in which order and in which words. Pure.

Times are integer milliseconds since the epoch, which the page shows as ticking relative times. Everything else is text
to be shown as it is. Every list is bounded, and a ``…_more`` field counts what is left out. The same thing always has
the same ``key``, so that the page can update its row in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeAlias

from pyjama_instrument.document import (
    AgentSummary,
    DashboardData,
    InFlight,
    LogEntry,
    Metrics,
    RunCounts,
    SessionSummary,
)
from pyjama_instrument.viewer.call_rates import CallRates, sparkline
from pyjama_instrument.viewer.labels import (
    UNKNOWN_END,
    by_start_time,
    clip,
    duration,
    finite_or_zero,
    format_count,
    format_percent,
    format_rate,
    label,
    problem_text,
    process_text,
    status_tone,
    value_text,
)
from pyjama_instrument.viewer.page_frame import page_frame
from pyjama_instrument.viewer.query_parameters import QueryParameters
from pyjama_instrument.viewer.steps import StepState, step_states, workflow_progress
from pyjama_instrument.viewer.tools import tool_row

__all__ = ["MAX_ACTIVE", "MAX_ATTENTION", "MAX_CHIPS", "MAX_LOG", "MAX_PAST", "MAX_TOOLS", "build_overview", "run_row"]

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
_MINOR_STATES = frozenset({"pending", "skipped", "done"})
_PROBLEMS = frozenset({"failed", "crashed"})
_GROUPS = {"failed": "wrong", "crashed": "wrong", "completed": "finished", "cancelled": "finished", "ended": "finished"}


def build_overview(
    data: DashboardData, store: str | None = None, query: QueryParameters | None = None, rates: CallRates | None = None
) -> dict[str, Any]:
    """The view model of the overview.

    Args:
        data: what the reader returned.
        store: the store's directory, shown so that you notice a wrong one.
        query: search words and filters; by default none.
        rates: the latest calls, for the sparklines.
    """
    query = query or QueryParameters()
    rows = _RowBuilder(data, rates)
    found = [run for run in _runs(data) if _matches(run, query)]
    active = _newest_first([run for run in found if run[1].status == "running"])
    problems = _newest_first([run for run in found if run[1].status in _PROBLEMS])
    others = [run for run in found if run[1].status != "running" and run[1].status not in _PROBLEMS]
    max_active, max_past = max(MAX_ACTIVE, query.row_limit), max(MAX_PAST, query.row_limit)
    past = _newest_first(others + problems[MAX_ATTENTION:])
    tools = sorted(data.metrics.tools.items(), key=lambda item: (-finite_or_zero(item[1].total_duration), item[0]))
    return {
        **page_frame(data, store),
        "totals": _totals(data),
        "found": len(found),
        "headline": _headline(problems, len(active), data.runs, query),
        "active": [rows.row(run) for run in active[:max_active]],
        "active_more": max(len(active) - max_active, 0),
        "attention": [rows.row(run) for run in problems[:MAX_ATTENTION]],
        "past": [rows.row(run) | {"steps": []} for run in past[:max_past]],
        "past_more": max(len(past) - max_past, 0),
        "tools": [tool_row(name, tool, finite_or_zero(tools[0][1].total_duration)) for name, tool in tools[:MAX_TOOLS]],
        "tools_more": max(len(tools) - MAX_TOOLS, 0),
        "log": _log(data.recent_logs),
    }


def _headline(problems: list[_Run], running: int, runs: RunCounts, query: QueryParameters) -> dict[str, Any] | None:
    """The latest problem, shown at the top if many running runs would push it out of sight."""
    if not problems or running < MANY_RUNNING:
        return None
    name, state = problems[0]
    why = problem_text(state) if isinstance(state, SessionSummary) else ""
    agent = clip(label(state.agent_id if isinstance(state, SessionSummary) else name), 60)
    total = len(problems) if query.words or query.status else runs.failed + runs.crashed
    more = f" ({format_count(total - 1)} more)" if total > 1 else ""
    return {
        "text": f"{agent} {state.status}{': ' if why else ''}{clip(why, 120)}{more},",
        "at": _sort_time(state),
        "tone": status_tone(state.status),
        "target": "#/?status=wrong",
    }


def _matches(run: _Run, query: QueryParameters) -> bool:
    """Whether a run has the wanted status and contains all search words."""
    state = run[1]
    if query.status and query.status not in (state.status, _GROUPS.get(state.status)):
        return False
    if not query.words:
        return True
    text = _search_text(run).casefold()
    return all(word in text for word in query.words)


def _search_text(run: _Run) -> str:
    name, state = run
    if isinstance(state, AgentSummary):
        return f"{name} {state.status} {state.current_step or ''}"
    tags = " ".join(f"{key}={value_text(value, 60)}" for key, value in state.tags.items())
    calls = " ".join(call.tool for call in state.in_flight)
    parts = (state.agent_id, name, state.status, state.current_step or "", state.host or "", f"pid {state.pid}")
    return " ".join([*parts, tags, calls, problem_text(state)])


def _newest_first(runs: list[_Run]) -> list[_Run]:
    """Sorted by start while running, by end afterwards: both stay the same, so that rows keep their place."""
    return sorted(runs, key=lambda run: (-(_sort_time(run[1])), run[0]))


def _sort_time(run: SessionSummary | AgentSummary) -> int:
    return (run.start_time if run.status == "running" else run.end_time) or run.last_seen or 0


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────


_Run: TypeAlias = tuple[str, SessionSummary | AgentSummary]
"""A session id and its summary; or an agent's name and summary, if none of its sessions is kept."""


def _runs(data: DashboardData) -> list[_Run]:
    """All known runs. An agent without a listed session counts as one run."""
    seen = {session.agent_id for session in data.sessions.values()}
    runs: list[_Run] = list(data.sessions.items())
    return runs + [(agent_id, agent) for agent_id, agent in data.agents.items() if agent_id not in seen]


class _RowBuilder:
    """Builds the rows of runs."""

    def __init__(self, data: DashboardData, rates: CallRates | None) -> None:
        self._data = data
        self._rates = rates
        self._several_hosts = len({session.host for session in data.sessions.values() if session.host}) > 1

    def row(self, run: _Run) -> dict[str, Any]:
        name, state = run
        if isinstance(state, AgentSummary):
            return _agent_row(name, state, self._data.metrics) | {"sparkline": ""}
        counts = self._rates.runs.counts(name, self._data.timestamp) if self._rates else []
        row = run_row(name, state, self._data.sessions, show_host=self._several_hosts)
        return row | {"sparkline": sparkline(counts)}


def run_row(
    session_id: str, run: SessionSummary, sessions: Mapping[str, SessionSummary], *, show_host: bool = True
) -> dict[str, Any]:
    """One run as a row."""
    parent = sessions.get(run.parent_session or "")
    return {
        "key": session_id,
        "session": session_id,
        "agent": label(run.agent_id),
        "process": process_text(run, show_host=show_host),
        "part_of": label(parent.agent_id) if parent else None,
        "tags": [f"{label(key)}={value_text(value, 60)}" for key, value in list(run.tags.items())[:6]],
        "reason": problem_text(run),
        "calls": format_count(run.calls),
        "errors": format_count(run.errors) if run.errors else "",
        "in_flight": [_in_flight(call) for call in by_start_time(run.in_flight)[:MAX_CALLS]],
        "in_flight_more": max(len(run.in_flight) - MAX_CALLS, 0),
        **_status_fields(run),
    }


def _agent_row(agent_id: str, agent: AgentSummary, metrics: Metrics) -> dict[str, Any]:
    """An agent of which only the summary is kept, or which was recorded by a writer that has no sessions."""
    counts = metrics.agents.get(agent_id)
    return {
        "key": f"agent:{agent_id}",
        "session": agent.session,
        "agent": label(agent_id),
        "process": "",
        "part_of": None,
        "tags": [],
        "reason": _agent_problem(agent),
        "calls": format_count(counts.count) if counts else "",
        "errors": format_count(counts.error) if counts and counts.error else "",
        "in_flight": [],
        "in_flight_more": 0,
        **_status_fields(agent),
    }


def _agent_problem(agent: AgentSummary) -> str:
    if agent.status not in _PROBLEMS:
        return ""
    if agent.error is None and not agent.interrupted:
        return agent.status
    return problem_text(SessionSummary(status=agent.status, error=agent.error, interrupted=agent.interrupted))


def _status_fields(run: SessionSummary | AgentSummary) -> dict[str, Any]:
    states = step_states(run)
    progress = workflow_progress(run, states)
    ended = None if run.status == "running" else run.end_time or run.last_seen
    took = ended - run.start_time if ended is not None and run.start_time is not None else None
    return {
        "status": run.status,
        "tone": status_tone(run.status),
        "step": progress.step,
        "done": progress.done,
        "fraction": None if progress.fraction is None else round(progress.fraction, 4),
        "steps": _step_chips(states, CHIP_LINE if run.status == "running" else CHIP_LINE_ENDED),
        "steps_more": max(len(states) - MAX_CHIPS, 0),
        "started": run.start_time,
        "seen": run.last_seen,
        "ended": ended,
        "took": duration(took) if took is not None and run.status not in UNKNOWN_END else "",
        "ending": _ending(run.status, took),
    }


def _ending(status: str, took: int | None) -> str:
    """The text beside the time of the end."""
    if status in UNKNOWN_END:
        return "last event"
    return f"took {duration(took)}" if took is not None else ""


def _step_chips(states: list[StepState], line: int) -> list[dict[str, Any]]:
    """At most ``MAX_CHIPS`` steps: those around the last one that has started.

    If the names do not fit in ``line`` characters, steps that are pending, skipped or done are ``brief``: the page
    shows only their mark.
    """
    last_started = max((at for at, step in enumerate(states) if step.times), default=0)
    first = max(0, min(last_started - MAX_CHIPS // 2, len(states) - MAX_CHIPS))
    shown = states[first : first + MAX_CHIPS]
    crowded = sum(len(label(step.name)) + 4 for step in shown) > line
    return [
        {
            "key": first + at,
            "name": clip(label(step.name), 60),
            "state": step.state,
            "times": step.times,
            "brief": crowded and step.state in _MINOR_STATES,
        }
        for at, step in enumerate(shown)
    ]


def _in_flight(call: InFlight) -> dict[str, Any]:
    return {"key": call.span or call.tool, "tool": label(call.tool), "since": call.start_time}


# ── totals and log ──────────────────────────────────────────────────────────────────────────────────────


def _totals(data: DashboardData) -> list[dict[str, Any]]:
    overall, runs = data.metrics.global_, data.runs
    percentiles = " / ".join(duration(ms) for ms in (overall.p50_ms, overall.p95_ms, overall.p99_ms))
    return [
        _tile("running", format_count(runs.running), "live" if runs.running else "idle", "#/?status=running"),
        _tile("crashed", format_count(runs.crashed), "dead" if runs.crashed else "idle", "#/?status=crashed"),
        _tile("failed", format_count(runs.failed), "bad" if runs.failed else "idle", "#/?status=failed"),
        _tile("finished", format_count(runs.completed + runs.cancelled + runs.ended), "idle", "#/?status=finished"),
        _tile("tool calls", format_count(overall.count), "idle", "#/tools"),
        _tile("errors", format_count(overall.error), "bad" if overall.error else "idle", "#/activity?status=error"),
        _tile("success rate", format_percent(overall.success_rate)),
        _tile("calls/s", format_rate(overall.calls_per_second)),
        _tile("p50 / p95 / p99", percentiles if overall.p50_ms is not None else "–"),
    ]


def _tile(name: str, value: str, tone: str = "idle", target: str | None = None) -> dict[str, Any]:
    return {"key": name, "label": name, "value": value, "tone": tone, "target": target}


def _log(entries: list[LogEntry]) -> list[dict[str, Any]]:
    """The rows, newest first. A row keeps its key when newer rows arrive."""
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
        "tone": status_tone(entry.status),
    }
