"""``pyjama top``: agents and tools as they are now, on the whole terminal, until ``q``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pyjama_instrument.cli._parser import SORTS
from pyjama_instrument.cli._rows import ago, counts_by_status, doing, steps_done, totals, troubles, urgency
from pyjama_instrument.cli._terminal import paint, say, table
from pyjama_instrument.presentation.formatting import clock, duration, printable

if TYPE_CHECKING:
    from pyjama_instrument.document import DashboardData

__all__ = ["top"]

_KEYS = {name[0]: name for name in SORTS}
_HELP = "q quit   sort by  " + "  ".join(f"{name[0]} {name}" for name in SORTS) + "   the same key again: the other way"
_PLAIN_SIZE = (120, 40)


class _Order(NamedTuple):
    """What the rows are ordered by, and whether the other way round."""

    by: str = "calls"
    reverse: bool = False

    def press(self, key: str) -> _Order:
        by = _KEYS.get(key)
        return self if by is None else _Order(by, by == self.by and not self.reverse)


class _Figures(NamedTuple):
    """What there is to order a row by."""

    name: str
    calls: int
    errors: int
    rate: float | None
    p95: float | None
    time: float


def top(options: argparse.Namespace) -> int:
    """Show agents and tools; one frame of plain text where nobody watches.

    Raises:
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.reader import Reader

    reader = Reader()
    reader.metrics()  # raises for a store that is too new, of which the dashboard's data would show nothing
    order = _Order(options.sort, options.reverse)
    if options.once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        for line in frame(reader.dashboard(), {}, order, _PLAIN_SIZE):
            say(line)
        return 0
    try:
        _watch(reader.dashboard, order, options.interval)
    except (KeyboardInterrupt, EOFError):
        pass  # Ctrl-C is as good a way to end this as q
    return 0


def _watch(look: Callable[[], DashboardData], order: _Order, seconds: float) -> None:
    from pyjama_instrument.cli._screen import full_screen

    with full_screen() as screen:
        data, due = look(), time.monotonic() + seconds
        rates: dict[str, float] = {}
        while True:
            columns, rows = screen.size()[0], screen.size()[1] - 1
            lines = frame(data, rates, order, (columns, rows))[:rows]
            screen.draw([*lines, *[""] * (rows - len(lines)), paint(_HELP, "dim")])
            for key in screen.keys(max(0.0, due - time.monotonic())):
                if key in ("q", "Q"):
                    return
                order = order.press(key)
            if time.monotonic() >= due:
                before, data, due = data, look(), time.monotonic() + seconds
                rates = _rates(before, data)


def _rates(before: DashboardData, now: DashboardData) -> dict[str, float]:
    """Calls per second of each tool between two looks."""
    seconds = (now.timestamp - before.timestamp) / 1000
    if seconds <= 0:
        return {}
    counts = {name: tool.count for name, tool in before.metrics.tools.items()}
    return {
        name: max(0.0, (tool.count - counts.get(name, 0)) / seconds)  # less than before: it was cleared
        for name, tool in now.metrics.tools.items()
    }


def frame(data: DashboardData, rates: dict[str, float], order: _Order, size: tuple[int, int]) -> list[str]:
    """What to show on so many columns and lines. Names are short where there is little room, lines are not."""
    columns, rows = size
    name_limit = min(40, max(12, columns // 3))
    second = data.metrics.global_.calls_per_second
    head = f"{paint('pyjama top', 'bold')}  {clock(data.timestamp * 1000)[:8]}   {second:.1f} calls/s"
    lines = [head, f"{paint('Agents', 'dim')} {counts_by_status(data)}", f"{paint('Tools', 'dim')}  {totals(data)}", ""]
    notes = troubles(data)[:3]
    left = max(rows - len(lines) - len(notes) - 3, 4)
    tools = _tools(data, rates, order, name_limit)
    room_for_agents = max(left // 2, left - len(tools))
    lines += _cut(_agents(data, order, name_limit), room_for_agents)
    if data.metrics.tools:
        lines += ["", *_cut(tools, left - min(len(data.agents) + 1, room_for_agents))]
    return [*lines, *notes]


def _cut(lines: list[str], most: int) -> list[str]:
    if len(lines) <= most:
        return lines
    kept = max(most - 1, 1)
    return [*lines[:kept], f"… and {len(lines) - kept} more"]


def _agents(data: DashboardData, order: _Order, name_limit: int) -> list[str]:
    def figures(name: str) -> _Figures:
        calls = data.metrics.agents.get(name)
        if calls is None:
            return _Figures(name, 0, 0, None, None, 0.0)
        return _Figures(name, calls.count, calls.error, None, calls.p95_ms, calls.total_duration)

    known = {name: figures(name) for name in data.agents}
    names = _ordered(list(known.values()), order)
    names.sort(key=lambda name: urgency(data.agents[name].status))
    rows = [
        [
            printable(name, name_limit),
            printable(data.agents[name].status),
            steps_done(data.agents[name]),
            str(known[name].calls),
            str(known[name].errors),
            ago(data.agents[name].last_seen, data),
            doing(data.agents[name], data),  # the longest: what a narrow terminal cuts off is the end of this
        ]
        for name in names
    ]
    return table(["AGENT", "STATUS", "STEPS", "CALLS", "ERRORS", "SEEN", "NOW"], rows, right=frozenset({3, 4, 5}))


def _tools(data: DashboardData, rates: dict[str, float], order: _Order, name_limit: int) -> list[str]:
    tools = data.metrics.tools
    known = [
        _Figures(name, tool.count, tool.error, rates.get(name), tool.p95_ms, tool.total_duration)
        for name, tool in tools.items()
    ]
    rows = [
        [
            printable(name, name_limit),
            str(tools[name].count),
            str(tools[name].error),
            f"{rates[name]:.1f}" if name in rates else "–",
            *(duration(each) for each in (tools[name].p50_ms, tools[name].p95_ms, tools[name].p99_ms)),
            duration(tools[name].total_duration),
        ]
        for name in _ordered(known, order)
    ]
    heads = ["TOOL", "CALLS", "ERRORS", "CALLS/S", "P50", "P95", "P99", "TIME"]
    return table(heads, rows, right=frozenset(range(1, len(heads))))


def _ordered(rows: list[_Figures], order: _Order) -> list[str]:
    """Names in the order asked for: figures from the largest, names from A, ties by name."""
    rows = sorted(rows, key=lambda row: row.name)
    if order.by == "name":
        return [row.name for row in (reversed(rows) if order.reverse else rows)]
    rows.sort(key=lambda row: getattr(row, order.by) or 0, reverse=not order.reverse)
    return [row.name for row in rows]
