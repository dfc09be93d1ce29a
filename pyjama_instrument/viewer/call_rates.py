"""Calls per slot of time, by run and by tool, counted from the totals that each poll sees. Pure.

Memory is bounded: a fixed number of slots for each run and tool that exists now.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from pyjama_instrument.document import DashboardData

__all__ = [
    "SPARKLINE_SLOTS",
    "SPARKLINE_SLOT_MS",
    "TIMELINE_SLOTS",
    "TIMELINE_SLOT_MS",
    "CallRates",
    "TimeSeries",
    "sparkline",
]

SPARKLINE_SLOT_MS, SPARKLINE_SLOTS = 2_000, 30
TIMELINE_SLOT_MS, TIMELINE_SLOTS = 10_000, 60


class TimeSeries:
    """Counts in slots of time, by key."""

    def __init__(self, slot_ms: int, slots: int) -> None:
        self._slot_ms = slot_ms
        self._slots = slots
        self._totals: dict[str, int] | None = None
        self._counts: dict[str, deque[list[int]]] = {}

    def observe(self, now_ms: int, totals: Mapping[str, int]) -> None:
        """Count what the totals have grown by since the last call. The first call only remembers them."""
        known = self._totals
        if known is not None:
            for key, total in totals.items():
                grown = total - known.get(key, 0)
                if grown > 0:
                    self.add(key, now_ms, grown)
        self._totals = dict(totals)
        for key in self._counts.keys() - totals.keys():
            del self._counts[key]

    def add(self, key: str, ms: int, number: int = 1) -> None:
        """Count something at that time. Times may go back by at most the length of the series."""
        slots = self._counts.setdefault(key, deque(maxlen=self._slots))
        slot = ms // self._slot_ms
        if slots and slots[-1][0] >= slot:
            slots[-1][1] += number
        else:
            slots.append([slot, number])

    def counts(self, key: str, now_ms: int) -> list[int]:
        """The counts of the latest slots, oldest first. The last slot is not over yet."""
        counts = [0] * self._slots
        first = now_ms // self._slot_ms - self._slots + 1
        for slot, number in self._counts.get(key, ()):
            if 0 <= slot - first < self._slots:
                counts[slot - first] = number
        return counts

    def next_change(self, now_ms: int) -> float:
        """When ``counts`` changes next if nothing more is counted; infinity if it does not."""
        slot = now_ms // self._slot_ms
        first = slot - self._slots + 1
        if any(at >= first and number for slots in self._counts.values() for at, number in slots):
            return (slot + 1) * self._slot_ms
        return math.inf


class CallRates:
    """The time series that the pages show. They are complete from ``since`` (ms) on."""

    def __init__(self) -> None:
        self.runs = TimeSeries(SPARKLINE_SLOT_MS, SPARKLINE_SLOTS)
        self.tools = TimeSeries(SPARKLINE_SLOT_MS, SPARKLINE_SLOTS)
        self.timelines = TimeSeries(TIMELINE_SLOT_MS, TIMELINE_SLOTS)
        self.errors = TimeSeries(TIMELINE_SLOT_MS, TIMELINE_SLOTS)
        self.since = 0

    def observe(self, data: DashboardData) -> None:
        """Count the calls since the last observation."""
        now = data.timestamp
        self.since = self.since or now
        tools = {name: tool.count for name, tool in data.metrics.tools.items()}
        self.runs.observe(now, {key: run.calls for key, run in data.sessions.items()})
        self.tools.observe(now, tools)
        self.timelines.observe(now, tools)
        self.errors.observe(now, {name: tool.error for name, tool in data.metrics.tools.items()})

    def backfill(self, calls: Iterable[Mapping[str, Any]], since_ms: int, data: DashboardData) -> None:
        """Add the calls from before the first observation, oldest first, complete from ``since_ms`` on."""
        for call in calls:
            ms = call["ts"] // 1000
            if ms > data.timestamp:
                continue
            tool, run = str(call.get("tool")), str(call.get("session"))
            for series, key in ((self.runs, run), (self.tools, tool), (self.timelines, tool)):
                series.add(key, ms)
            if call.get("status") == "error":
                self.errors.add(tool, ms)
        self.since = since_ms
        self.observe(data)

    def next_change(self, now_ms: int, *, timelines: bool) -> float:
        """When any series changes next if nothing more happens; ``timelines`` includes those of ten minutes."""
        changes = [self.runs.next_change(now_ms), self.tools.next_change(now_ms)]
        if timelines:
            is_complete = self.since + TIMELINE_SLOT_MS * TIMELINE_SLOTS <= now_ms
            next_slot = (now_ms // TIMELINE_SLOT_MS + 1) * TIMELINE_SLOT_MS
            changes.append(self.timelines.next_change(now_ms) if is_complete else next_slot)
        return min(changes)

    def tool_rate(self, name: str, now_ms: int) -> float:
        """Calls per second of one tool, over the last five complete slots: about ten seconds."""
        counts = self.tools.counts(name, now_ms)[-6:-1]
        return sum(counts) * 1000 / (len(counts) * SPARKLINE_SLOT_MS)


def sparkline(counts: list[int]) -> str:
    """A digit from 0 to 9 for each count, 9 for the largest; only a count of zero is a 0."""
    top = max(counts, default=0)
    if top == 0:
        return ""
    return "".join(str(-(-9 * count // top)) for count in counts)
