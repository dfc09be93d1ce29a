"""``pyjama top``: agents and tools on the whole terminal, updated until ``q`` is pressed."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from pyjama_instrument.cli.arguments import SORTS
from pyjama_instrument.cli.terminal import print_line, style, terminal_columns, width_of, wrap
from pyjama_instrument.cli.top_frame import Frame, Order, Size, frame

if TYPE_CHECKING:
    from pyjama_instrument.cli.screen import Screen
    from pyjama_instrument.document import DashboardData

__all__ = ["top"]

_SNAPSHOT_SIZE = Size(columns=120, rows=40)
_SORT_KEYS = [f"{name[0]} {name}" for name in SORTS]
_KEY_LINES = [
    f"q exit  ? keys  ↑↓ scroll  sort by: {'  '.join(_SORT_KEYS)}  again: reverse",
    f"q exit  ? keys  ↑↓ scroll  sort by: {' '.join(_SORT_KEYS)}",
    "q exit  ? keys  ↑↓ scroll",
    "q exit  ? keys",
]
_HELP = [
    ("q", "exit"),
    ("Up, Down", "scroll by one row; also k and j"),
    ("PgUp, PgDn", "scroll by several rows"),
    ("Home, End", "go to the first or the last row"),
    (" ".join(name[0] for name in SORTS), f"sort by {', '.join(SORTS)}; press the key again to reverse the order"),
    ("?", "show or hide these keys"),
]


class _View(NamedTuple):
    """What the keys have chosen."""

    order: Order
    position: int = 0
    help: bool = False

    def press(self, key: str, shown: Frame) -> _View:
        """The view after a key that was pressed while ``shown`` was on the screen."""
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -shown.page, "page down": shown.page}
        steps |= {"home": -shown.furthest, "end": shown.furthest}
        if key == "?" or (self.help and key == "escape"):
            return self._replace(help=not self.help)
        if key in steps:
            at = min(self.position, shown.furthest)
            return self._replace(position=min(max(at + steps[key], 0), shown.furthest))
        return self._replace(order=self.order.press(key))


def top(options: argparse.Namespace) -> int:
    """Show agents and tools until ``q`` or Ctrl-C; if the output is not a terminal, print one snapshot.

    Raises:
        SchemaTooNew: the store was written by a newer version of this package.
    """
    from pyjama_instrument.reader import Reader

    reader = Reader()
    reader.metrics()  # raises if the store is too new: the dashboard's data would be empty
    order = Order(options.sort, options.reverse)
    if options.once or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        size = Size(terminal_columns() or _SNAPSHOT_SIZE.columns, _SNAPSHOT_SIZE.rows)
        for line in frame(reader.dashboard(), {}, order, size).lines:
            print_line(line)
        return 0
    try:
        _watch(reader.dashboard, _View(order), options.interval)
    except (KeyboardInterrupt, EOFError):
        pass  # Ctrl-C ends it as q does
    return 0


def _watch(read: Callable[[], DashboardData], view: _View, interval: float) -> None:
    from pyjama_instrument.cli.screen import full_screen

    with full_screen() as screen:
        data, due = read(), time.monotonic() + interval
        rates: dict[str, float] = {}
        while True:
            shown = _draw(screen, data, rates, view)
            for key in screen.keys(max(0.0, due - time.monotonic())):
                if key in ("q", "Q"):
                    return
                view = view.press(key, shown)
            if time.monotonic() >= due:
                before, data, due = data, read(), time.monotonic() + interval
                rates = _rates(before, data)


def _draw(screen: Screen, data: DashboardData, rates: dict[str, float], view: _View) -> Frame:
    columns, rows = screen.size()
    room = Size(columns, rows - 1)
    shown = frame(data, rates, view.order, room, view.position)
    lines = (_help(columns) if view.help else shown.lines)[: room.rows]
    keys = next((line for line in _KEY_LINES if width_of(line) <= columns), _KEY_LINES[-1])
    screen.draw([*lines, *[""] * (room.rows - len(lines)), style(keys, "dim")])
    return shown


def _help(columns: int) -> list[str]:
    width = max(width_of(keys) for keys, _ in _HELP)
    lines = [line for keys, what in _HELP for line in wrap(f"{keys.ljust(width)}  {what}", columns, " " * (width + 2))]
    return [style("Keys", "bold"), "", *lines]


def _rates(before: DashboardData, now: DashboardData) -> dict[str, float]:
    """Calls per second of each tool between two updates."""
    seconds = (now.timestamp - before.timestamp) / 1000
    if seconds <= 0:
        return {}
    counts = {name: tool.count for name, tool in before.metrics.tools.items()}
    return {
        name: max(0.0, (tool.count - counts.get(name, 0)) / seconds)  # a store that was cleared has fewer than before
        for name, tool in now.metrics.tools.items()
    }
