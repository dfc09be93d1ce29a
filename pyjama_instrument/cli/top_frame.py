"""One frame of ``pyjama top``: which rows and columns of agents and tools fit the terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pyjama_instrument.cli.arguments import SORTS
from pyjama_instrument.cli.summary import (
    NOTHING_RECORDED,
    activity,
    age,
    agent_counts,
    notes,
    steps_done,
    totals,
    urgency,
)
from pyjama_instrument.cli.table import Column, table
from pyjama_instrument.cli.terminal import style, wrap
from pyjama_instrument.presentation.formatting import clock, duration, printable

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData

__all__ = ["Frame", "Order", "Size", "frame"]

_MOST_NOTES = 3
_FEWEST_ROWS = 4
_KEYS = {name[0]: name for name in SORTS}
_AGENT_COLUMNS = [
    Column("AGENT", least=12),
    Column("STATUS", status=True),
    Column("STEPS", leave_out=3),
    Column("CALLS", right=True, leave_out=2),
    Column("ERRORS", right=True, leave_out=4),
    Column("SEEN", right=True, leave_out=1),
    Column("NOW", least=12),
]
_TOOL_COLUMNS = [
    Column("TOOL", least=12),
    Column("CALLS", right=True),
    Column("ERRORS", right=True),
    Column("CALLS/S", right=True, leave_out=2),
    Column("P50", right=True, leave_out=3),
    Column("P95", right=True, leave_out=1),
    Column("P99", right=True, leave_out=5),
    Column("TIME", right=True, leave_out=4),
]


class Order(NamedTuple):
    """What the rows are sorted by, and whether the order is reversed."""

    by: str = "calls"
    reverse: bool = False

    def press(self, key: str) -> Order:
        """The order after a key: that of the key, and the reverse one if the key is pressed again."""
        by = _KEYS.get(key)
        return self if by is None else Order(by, by == self.by and not self.reverse)


class Size(NamedTuple):
    """Columns and rows."""

    columns: int
    rows: int


class Frame(NamedTuple):
    """The lines to draw, and how far they can be scrolled."""

    lines: list[str]
    furthest: int  # the highest position that has an effect
    page: int  # the rows that PgUp and PgDn scroll by


class _Figures(NamedTuple):
    """What a row can be sorted by."""

    name: str
    calls: int
    errors: int
    rate: float | None
    p95: float | None
    time: float


def frame(data: DashboardData, rates: dict[str, float], order: Order, size: Size, position: int = 0) -> Frame:
    """The frame for a terminal of that size, after scrolling past ``position`` rows: agents first, then tools."""
    lines = _head(data, size.columns)
    warnings = [line for note in notes(data)[:_MOST_NOTES] for line in wrap(note, size.columns, "  ")]
    if not data.agents and not data.metrics.tools:
        return Frame([*lines, *wrap(NOTHING_RECORDED, size.columns), *warnings], 0, 1)
    agents_head, *agents = _agents(data, order, size.columns)
    tools_head, *tools = _tools(data, rates, order, size.columns)
    room = max(size.rows - len(lines) - len(warnings) - (3 if tools else 1), _FEWEST_ROWS)
    room_for_agents = min(len(agents), max(room // 2, room - len(tools)))
    agent_rows = _Window(agents, room_for_agents)
    tool_rows = _Window(tools, room - room_for_agents)
    furthest = agent_rows.hidden + tool_rows.hidden
    position = min(position, furthest)
    lines += [agents_head, *agent_rows.lines(min(position, agent_rows.hidden))]
    if tools:
        lines += ["", tools_head, *tool_rows.lines(max(position - agent_rows.hidden, 0))]
    return Frame([*lines, *warnings], furthest, max(room // 2, 1))


def _head(data: DashboardData, columns: int) -> list[str]:
    second = data.metrics.global_.calls_per_second
    facts = [
        f"{style('pyjama top', 'bold')}  {clock(data.timestamp * 1000)[:8]}   {second:.1f} calls/s",
        f"{style('Agents', 'dim')} {agent_counts(data)}",
        f"{style('Tools', 'dim')}  {totals(data)}",
    ]
    return [*(line for fact in facts for line in wrap(fact, columns, " " * 7)), ""]


class _Window:
    """The rows that fit; if some are hidden, the last line has their number."""

    def __init__(self, rows: Sequence[str], room: int) -> None:
        self._rows = rows
        self._visible = len(rows) if len(rows) <= room else max(room - 1, 1)
        self.hidden = len(rows) - self._visible

    def lines(self, above: int) -> list[str]:
        shown = list(self._rows[above : above + self._visible])
        if not self.hidden:
            return shown
        below = self.hidden - above
        parts = [f"{above:,} above"] * (above > 0) + [f"{below:,} more"] * (below > 0)
        return [*shown, style(f"… and {', '.join(parts)}", "dim")]


def _agents(data: DashboardData, order: Order, columns: int) -> list[str]:
    figures = {name: _figures_of_agent(name, data) for name in data.agents}
    names = _sorted(list(figures.values()), order)
    names.sort(key=lambda name: urgency(data.agents[name].status))
    rows = [
        [
            printable(name, 40),
            printable(data.agents[name].status),
            steps_done(data.agents[name]),
            str(figures[name].calls),
            str(figures[name].errors),
            age(data.agents[name].last_seen, data),
            activity(data.agents[name], data),
        ]
        for name in names
    ]
    return table(_AGENT_COLUMNS, rows, columns)


def _figures_of_agent(name: str, data: DashboardData) -> _Figures:
    calls = data.metrics.agents.get(name)
    if calls is None:
        return _Figures(name, 0, 0, None, None, 0.0)
    return _Figures(name, calls.count, calls.error, None, calls.p95_ms, calls.total_duration)


def _tools(data: DashboardData, rates: dict[str, float], order: Order, columns: int) -> list[str]:
    tools = data.metrics.tools
    figures = [
        _Figures(name, tool.count, tool.error, rates.get(name), tool.p95_ms, tool.total_duration)
        for name, tool in tools.items()
    ]
    rows = [
        [
            printable(name, 40),
            str(tools[name].count),
            str(tools[name].error),
            f"{rates[name]:.1f}" if name in rates else "–",
            *(duration(each) for each in (tools[name].p50_ms, tools[name].p95_ms, tools[name].p99_ms)),
            duration(tools[name].total_duration),
        ]
        for name in _sorted(figures, order)
    ]
    return table(_TOOL_COLUMNS, rows, columns)


def _sorted(figures: list[_Figures], order: Order) -> list[str]:
    """The names of the rows in order: by name, or the largest figure first and equal ones by name."""
    figures = sorted(figures, key=lambda row: row.name)
    if order.by == "name":
        return [row.name for row in (reversed(figures) if order.reverse else figures)]
    figures.sort(key=lambda row: getattr(row, order.by) or 0, reverse=not order.reverse)
    return [row.name for row in figures]
