"""``pyjama status`` and ``pyjama tail``: the store as text or JSON."""

from __future__ import annotations

import argparse
import json
import select
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pyjama_instrument.cli._terminal import paint, problem, safe, say, table

if TYPE_CHECKING:
    from pyjama_instrument.document import AgentSummary, DashboardData, SessionSummary
    from pyjama_instrument.events import Event

__all__ = ["status", "tail"]

_BAD = ("failed", "crashed")
_ORDER = {"running": 0, "crashed": 1, "failed": 2, "cancelled": 3, "completed": 4}
_MOST_ROWS = 20


def status(options: argparse.Namespace) -> int:
    """Show agents and tools; 1 when the last run to end, of any agent, failed or crashed.

    Raises:
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.reader import Reader

    reader = Reader()
    reader.metrics()  # raises for a store that is too new, where the dashboard's data would be empty: no 0 for that
    data = reader.dashboard()
    if options.json:
        # ASCII only, so that no control character of a name reaches a terminal.
        say(json.dumps(data.to_dict(), indent=2))
    else:
        for line in _screen(data):
            say(line)
    return 1 if _went_wrong(data) else 0


def _went_wrong(data: DashboardData) -> bool:
    last: dict[str, SessionSummary] = {}
    for session in data.sessions.values():
        if session.end_time is not None:
            known = last.get(session.agent_id)
            if known is None or (known.end_time or 0) <= session.end_time:
                last[session.agent_id] = session
    return any(session.status in _BAD for session in last.values()) or any(
        agent.status in _BAD for name, agent in data.agents.items() if name not in last
    )


def _screen(data: DashboardData) -> list[str]:
    from pyjama_instrument.config import resolve_home

    lines = [f"{paint('Store', 'dim')}  {safe(resolve_home())}"]
    if not data.agents and not data.metrics.tools:
        return [*lines, "Nothing recorded yet. See what it looks like with:  pyjama demo", *_troubles(data)]
    lines += [_totals(data), "", *_agents(data)]
    if data.metrics.tools:
        lines += ["", *_tools(data)]
    return [*lines, *_troubles(data)]


def _totals(data: DashboardData) -> str:
    overall = data.metrics.global_
    parts = [f"{overall.count} calls", f"{overall.error} errors"]
    if overall.p50_ms is not None and overall.p95_ms is not None:
        parts += [f"p50 {_ms(overall.p50_ms)}", f"p95 {_ms(overall.p95_ms)}"]
    counts = {name: sum(agent.status == name for agent in data.agents.values()) for name in _ORDER}
    agents = [paint(f"{count} {name}", name) for name, count in counts.items() if count]
    return f"{paint('Agents', 'dim')} {', '.join(agents) or 'none'}\n{paint('Tools', 'dim')}  {', '.join(parts)}"


def _agents(data: DashboardData) -> list[str]:
    def urgency(item: tuple[str, AgentSummary]) -> tuple[int, int]:
        return _ORDER.get(item[1].status, 9), -(item[1].last_seen or 0)

    agents = sorted(data.agents.items(), key=urgency)
    rows = [
        [safe(name, 40), safe(agent.status), _doing(agent, data), str(agent.runs.count), _ago(agent.last_seen, data)]
        for name, agent in agents[:_MOST_ROWS]
    ]
    return table(["AGENT", "STATUS", "NOW", "RUNS", "SEEN"], rows, right=frozenset({3, 4})) + _rest(agents)


def _doing(agent: AgentSummary, data: DashboardData) -> str:
    """What a running agent is at, what a crashed one was at, or why a failed one failed."""
    session = data.sessions.get(agent.session or "")
    if agent.status == "failed" and session is not None and session.error is not None:
        return problem(session.error.type, session.error.message)
    parts = []
    if agent.status in ("running", "crashed"):
        if agent.current_step:
            parts.append(agent.current_step)
        calls = () if session is None else session.in_flight if agent.status == "running" else session.interrupted
        parts += [f"in {call.tool}" for call in calls[:2]]
    return safe(", ".join(parts), 60)


def _tools(data: DashboardData) -> list[str]:
    tools = sorted(data.metrics.tools.items(), key=lambda item: -item[1].count)
    rows = [
        [safe(name, 40), str(tool.count), str(tool.error), _ms(tool.p50_ms), _ms(tool.p95_ms), _ms(tool.p99_ms)]
        for name, tool in tools[:_MOST_ROWS]
    ]
    return table(["TOOL", "CALLS", "ERRORS", "P50", "P95", "P99"], rows, right=frozenset(range(1, 6))) + _rest(tools)


def _rest(items: list[Any]) -> list[str]:
    more = len(items) - _MOST_ROWS
    return [f"… and {more} more"] if more > 0 else []


def _troubles(data: DashboardData) -> list[str]:
    notes = [f"{paint('!', 'warn')} {safe(note, 500)}" for note in data.health.notes]
    return ["", *notes] if notes else []


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value / 1000:.1f} s"
    return f"{value:.0f} ms" if value >= 10 else f"{value:.2g} ms"


def _ago(moment: int | None, data: DashboardData) -> str:
    if moment is None:
        return "-"
    seconds = max(0, (data.timestamp or int(time.time() * 1000)) - moment) // 1000
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def tail(options: argparse.Namespace) -> int:
    """Show the latest events and, when asked to follow, each new one until Ctrl-C."""
    from pyjama_instrument.reader import tail_events

    show = _as_json if options.json else _as_line
    for event in tail_events(limit=options.lines, follow=options.follow, stop=_output_closed()):
        say(show(event))
    return 0


def _output_closed() -> Callable[[], bool]:
    """A question to ask between polls: has the reader of our pipe gone? Otherwise only the next event would tell."""
    watch = select.poll()
    try:
        watch.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # standard output is not a file: a test's buffer
        return lambda: False
    return lambda: any(flags & (select.POLLERR | select.POLLNVAL) for _, flags in watch.poll(0))


def _as_json(event: Event) -> str:
    return json.dumps(event.model_dump(mode="json", exclude_none=True))


def _as_line(event: Event) -> str:
    fields = event.model_dump(exclude_none=True)
    when = datetime.fromtimestamp(event.ts / 1e6).strftime("%H:%M:%S.%f")[:-3]
    parts = [paint(when, "dim"), safe(fields.get("agent", "-"), 40), paint(safe(event.kind, 40), "bold")]
    parts += [safe(fields[key], 80) for key in ("step", "tool") if key in fields]
    if "steps" in fields:
        parts.append(safe(" → ".join(fields["steps"]), 120))
    if "status" in fields:
        parts.append(paint(safe(fields["status"], 40), fields["status"]))
    if "duration_ns" in fields:
        parts.append(_ms(fields["duration_ns"] / 1e6))
    error = fields.get("error")
    if isinstance(error, dict):
        parts.append(problem(str(error.get("type", "")), str(error.get("message", ""))))
    return "  ".join(parts)
