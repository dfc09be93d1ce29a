"""``pyjama status``: agents and tools on one screen, and an exit code that reports whether something went wrong."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pyjama_instrument.cli.summary import (
    NOTHING_RECORDED,
    activity,
    age,
    agent_counts,
    agents_by_urgency,
    notes,
    run_counts,
    steps_done,
    totals,
)
from pyjama_instrument.cli.table import Column, table
from pyjama_instrument.cli.terminal import print_line, style, terminal_columns, wrap
from pyjama_instrument.presentation.formatting import duration, printable

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData

__all__ = ["status"]

_BAD = ("failed", "crashed")
_MOST_ROWS = 20
_AGENT_COLUMNS = [
    Column("AGENT", least=12),
    Column("STATUS", status=True),
    Column("STEPS", leave_out=3),
    Column("RUNS", right=True, leave_out=2),
    Column("SEEN", right=True, leave_out=1),
    Column("NOW", least=12),
]
_TOOL_COLUMNS = [
    Column("TOOL", least=12),
    Column("CALLS", right=True),
    Column("ERRORS", right=True),
    Column("P50", right=True, leave_out=1),
    Column("P95", right=True, leave_out=2),
    Column("P99", right=True, leave_out=3),
]


def status(options: argparse.Namespace) -> int:
    """Print agents and tools; return 1 if the last finished run of any agent failed or crashed.

    Raises:
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.reader import Reader

    reader = Reader()
    reader.metrics()  # raises if the store is too new: the dashboard's data would be empty, and the exit code 0
    data = reader.dashboard()
    if options.json:
        # ASCII only: a control character in a name must not reach a terminal.
        print_line(json.dumps(data.to_dict(), indent=2))
    else:
        for line in _screen(data, terminal_columns()):
            print_line(line)
    return 1 if _went_wrong(data) else 0


def _went_wrong(data: DashboardData) -> bool:
    return any((agent.last_ended or agent).status in _BAD for agent in data.agents.values())


def _screen(data: DashboardData, columns: int | None) -> list[str]:
    from pyjama_instrument.config import resolve_home

    facts = [("Store", printable(resolve_home(), 500))]
    empty = not data.agents and not data.metrics.tools
    if not empty:
        facts += [("Agents", agent_counts(data)), ("Runs", run_counts(data)), ("Tools", totals(data))]
    lines = [line for name, text in facts for line in wrap(f"{style(name.ljust(6), 'dim')} {text}", columns, " " * 7)]
    if empty:
        lines += wrap(NOTHING_RECORDED, columns)
    else:
        lines += ["", *_agents(data, columns)]
    if data.metrics.tools:
        lines += ["", *_tools(data, columns)]
    warnings = [line for note in notes(data) for line in wrap(note, columns, "  ")]
    return [*lines, "", *warnings] if warnings else lines


def _agents(data: DashboardData, columns: int | None) -> list[str]:
    agents = agents_by_urgency(data)
    rows = [
        [
            printable(name, 40),
            printable(agent.status),
            steps_done(agent),
            str(agent.runs.count),
            age(agent.last_seen, data),
            activity(agent, data),
        ]
        for name, agent in agents[:_MOST_ROWS]
    ]
    return [*table(_AGENT_COLUMNS, rows, columns), *_rest(len(agents))]


def _tools(data: DashboardData, columns: int | None) -> list[str]:
    tools = sorted(data.metrics.tools.items(), key=lambda item: -item[1].count)
    rows = [
        [
            printable(name, 40),
            str(tool.count),
            str(tool.error),
            *(duration(each) for each in (tool.p50_ms, tool.p95_ms, tool.p99_ms)),
        ]
        for name, tool in tools[:_MOST_ROWS]
    ]
    return [*table(_TOOL_COLUMNS, rows, columns), *_rest(len(tools))]


def _rest(number: int) -> list[str]:
    return [f"… and {number - _MOST_ROWS:,} more: pyjama top"] if number > _MOST_ROWS else []
