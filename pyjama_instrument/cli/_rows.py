"""What ``status`` and ``top`` say of agents and tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyjama_instrument.cli._terminal import paint
from pyjama_instrument.presentation.formatting import count, duration, printable, problem

if TYPE_CHECKING:
    from pyjama_instrument.document import AgentSummary, DashboardData

__all__ = ["ago", "by_urgency", "counts_by_status", "doing", "runs", "steps_done", "totals", "troubles", "urgency"]

_URGENCY = {"running": 0, "crashed": 1, "failed": 2, "cancelled": 3, "completed": 4, "ended": 5}


def urgency(status: str) -> int:
    """What runs comes first, then what went wrong, then the rest."""
    return _URGENCY.get(status, 9)


def by_urgency(data: DashboardData) -> list[tuple[str, AgentSummary]]:
    """Agents, the most urgent first and of those the last seen."""
    return sorted(data.agents.items(), key=lambda item: (urgency(item[1].status), -(item[1].last_seen or 0)))


def counts_by_status(data: DashboardData) -> str:
    """``2 running, 1 crashed``."""
    counts = {name: sum(agent.status == name for agent in data.agents.values()) for name in _URGENCY}
    return ", ".join(paint(f"{number} {name}", name) for name, number in counts.items() if number) or "none"


def runs(data: DashboardData) -> str:
    """``1,203: 2 running, 1 crashed, 1,200 completed``."""
    counts = {name: getattr(data.runs, name, 0) for name in _URGENCY}
    each = ", ".join(paint(f"{number:,} {name}", name) for name, number in counts.items() if number)
    return f"{data.runs.count:,}: {each}" if each else "none"


def totals(data: DashboardData) -> str:
    """``1,156 calls, 4 errors, p50 40 ms, p95 90 ms``."""
    overall = data.metrics.global_
    parts = [count(overall.count, "call"), count(overall.error, "error")]
    if overall.p50_ms is not None and overall.p95_ms is not None:
        parts += [f"p50 {duration(overall.p50_ms)}", f"p95 {duration(overall.p95_ms)}"]
    return ", ".join(parts)


def doing(agent: AgentSummary, data: DashboardData, limit: int = 60) -> str:
    """What a running agent is at and for how long, what a crashed one was at, or what ended another."""
    session = data.sessions.get(agent.session or "")
    if agent.status in ("failed", "cancelled") and agent.error is not None:
        return problem(agent.error.type, agent.error.message, limit)
    parts = [agent.current_step] if agent.status in ("running", "crashed") and agent.current_step else []
    if session is not None and agent.status == "running":
        parts += [f"in {call.tool} {duration(data.timestamp - call.start_time)}" for call in session.in_flight[:2]]
    elif agent.status == "crashed":
        parts += [f"in {call.tool}" for call in agent.interrupted[:2]]
    return printable(", ".join(parts), limit)


def steps_done(agent: AgentSummary) -> str:
    """``1/3``: how many of the declared steps are done; empty if none were declared."""
    from pyjama_instrument.viewer.steps import step_states, workflow_progress  # the page counts them in the same way

    return workflow_progress(agent, step_states(agent)).done


def ago(moment: int | None, data: DashboardData) -> str:
    """``7 s ago``, as of the data."""
    if moment is None:
        return "-"
    seconds = max(0, data.timestamp - moment) // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def troubles(data: DashboardData) -> list[str]:
    """What is wrong with the data themselves."""
    return [f"{paint('!', 'warn')} {printable(note, 500)}" for note in data.health.notes]
