"""``pyjama status``: agents and tools on one screen, and an exit code that says whether something went wrong."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from pyjama_instrument.cli._rows import ago, by_urgency, counts_by_status, doing, runs, steps_done, totals, troubles
from pyjama_instrument.cli._terminal import columns_of_terminal, fit, paint, safe, say, table
from pyjama_instrument.presentation.formatting import duration

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData

__all__ = ["status"]

_BAD = ("failed", "crashed")
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
    return any((agent.last_ended or agent).status in _BAD for agent in data.agents.values())


def _screen(data: DashboardData) -> list[str]:
    from pyjama_instrument.config import resolve_home

    notes = troubles(data)
    lines = [f"{paint('Store', 'dim')}  {safe(resolve_home())}"]
    if not data.agents and not data.metrics.tools:
        return [*lines, "Nothing recorded yet. See what it looks like with:  pyjama demo", *notes]
    head = [*lines, f"{paint('Agents', 'dim')} {counts_by_status(data)}", f"{paint('Runs', 'dim')}   {runs(data)}"]
    head += [f"{paint('Tools', 'dim')}  {totals(data)}", ""]
    columns = columns_of_terminal()
    tables = _agents(data, columns)
    if data.metrics.tools:
        tables += ["", *_tools(data)]
    lines = head + (tables if columns is None else [fit(line, columns) for line in tables])
    return [*lines, "", *notes] if notes else lines


def _agents(data: DashboardData, columns: int | None) -> list[str]:
    agents = by_urgency(data)
    name_limit = 40 if columns is None else min(40, max(12, columns // 3))
    rows = [
        [
            safe(name, name_limit),
            safe(agent.status),
            steps_done(agent),
            str(agent.runs.count),
            ago(agent.last_seen, data),
            doing(agent, data),  # the longest, and so last: a narrow terminal cuts off its end
        ]
        for name, agent in agents[:_MOST_ROWS]
    ]
    return table(["AGENT", "STATUS", "STEPS", "RUNS", "SEEN", "NOW"], rows, right=frozenset({3, 4})) + _rest(agents)


def _tools(data: DashboardData) -> list[str]:
    tools = sorted(data.metrics.tools.items(), key=lambda item: -item[1].count)
    rows = [
        [
            safe(name, 40),
            str(tool.count),
            str(tool.error),
            *(duration(each) for each in (tool.p50_ms, tool.p95_ms, tool.p99_ms)),
        ]
        for name, tool in tools[:_MOST_ROWS]
    ]
    return table(["TOOL", "CALLS", "ERRORS", "P50", "P95", "P99"], rows, right=frozenset(range(1, 6))) + _rest(tools)


def _rest(items: list[Any]) -> list[str]:
    more = len(items) - _MOST_ROWS
    return [f"… and {more} more"] if more > 0 else []
