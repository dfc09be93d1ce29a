"""What ``status`` and ``top`` show of agents and tools: one function per line or cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyjama_instrument.cli.terminal import style
from pyjama_instrument.presentation.formatting import count, duration, join_names, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.document import AgentSummary, DashboardData

__all__ = [
    "NOTHING_RECORDED",
    "activity",
    "age",
    "agent_counts",
    "agents_by_urgency",
    "notes",
    "run_counts",
    "steps_done",
    "totals",
    "urgency",
]

NOTHING_RECORDED = "Nothing is recorded yet. To see what it looks like, run: pyjama demo"

_URGENCY = {"crashed": 0, "failed": 1, "running": 2, "cancelled": 3, "completed": 4, "ended": 5}
_MOST_CALLS = 2


def urgency(status: str) -> int:
    """A sort key: what went wrong comes first, then what runs, then the rest."""
    return _URGENCY.get(status, 9)


def agents_by_urgency(data: DashboardData) -> list[tuple[str, AgentSummary]]:
    """Agents, the most urgent first, and among those the last seen first."""
    return sorted(data.agents.items(), key=lambda item: (urgency(item[1].status), -(item[1].last_seen or 0)))


def agent_counts(data: DashboardData) -> str:
    """``1 crashed, 2 running``."""
    return _counts({name: sum(agent.status == name for agent in data.agents.values()) for name in _URGENCY}) or "none"


def run_counts(data: DashboardData) -> str:
    """``1,203: 1 crashed, 2 running, 1,200 completed``."""
    each = _counts({name: getattr(data.runs, name, 0) for name in _URGENCY})
    return f"{data.runs.count:,}: {each}" if each else "none"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(style(f"{number:,} {name}", name) for name, number in counts.items() if number)


def totals(data: DashboardData) -> str:
    """``1,156 calls, 4 errors, p50 40 ms, p95 90 ms``."""
    overall = data.metrics.global_
    parts = [count(overall.count, "call"), count(overall.error, "error")]
    if overall.p50_ms is not None and overall.p95_ms is not None:
        parts += [f"p50 {duration(overall.p50_ms)}", f"p95 {duration(overall.p95_ms)}"]
    return ", ".join(parts)


def activity(agent: AgentSummary, data: DashboardData, limit: int = 60) -> str:
    """The step and calls that a running agent is in, or a crashed one was in; the error of a failed one."""
    if agent.status in ("failed", "cancelled") and agent.error is not None:
        return problem(agent.error.type, agent.error.message, limit)
    session = data.sessions.get(agent.session or "")
    calls = []
    if session is not None and agent.status == "running":
        calls = [f"in {call.tool} {duration(data.timestamp - call.start_time)}" for call in session.in_flight]
    elif agent.status == "crashed":
        calls = [f"in {call.tool}" for call in agent.interrupted]
    step = agent.current_step if agent.status in ("running", "crashed") else None
    return printable(", ".join(part for part in (step, join_names(calls, _MOST_CALLS)) if part), limit)


def steps_done(agent: AgentSummary) -> str:
    """``1/3``: how many of the declared steps are done; empty if none were declared."""
    from pyjama_instrument.viewer.steps import step_states, workflow_progress  # the page counts them in the same way

    return workflow_progress(agent, step_states(agent)).done


def age(moment: int | None, data: DashboardData) -> str:
    """``7 s ago``: from the moment to the time of the data."""
    if moment is None:
        return "-"
    seconds = max(0, data.timestamp - moment) // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def notes(data: DashboardData) -> list[str]:
    """Problems with the data themselves, such as damaged records."""
    return [f"{style('!', 'warn')} {printable(note, 500)}" for note in data.health.notes]
