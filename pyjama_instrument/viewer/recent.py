"""How many calls there were lately, by session and by tool: what the poller saw change from look to look. Pure.

Bounded: so many slots of time for what exists now, and nothing for what does not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from pyjama_instrument.document import DashboardData

__all__ = ["LINE_MS", "LINE_SLOTS", "SPARK_MS", "SPARK_SLOTS", "Recent", "Series", "spark"]

SPARK_MS, SPARK_SLOTS = 2_000, 30
LINE_MS, LINE_SLOTS = 10_000, 60


class Series:
    """Counts in slots of time, by key."""

    def __init__(self, slot_ms: int, slots: int) -> None:
        self._slot_ms = slot_ms
        self._slots = slots
        self._totals: dict[str, int] | None = None
        self._counts: dict[str, deque[list[int]]] = {}

    def observe(self, now_ms: int, totals: Mapping[str, int]) -> None:
        """The totals of this moment. What they have grown by was counted now; before the first look is unknown."""
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
        """Something counted at that time; times must not go back by more than there are slots."""
        slots = self._counts.setdefault(key, deque(maxlen=self._slots))
        slot = ms // self._slot_ms
        if slots and slots[-1][0] >= slot:
            slots[-1][1] += number
        else:
            slots.append([slot, number])

    def of(self, key: str, now_ms: int) -> list[int]:
        """The counts of the latest slots, oldest first; the last is the one that is under way."""
        counts = [0] * self._slots
        first = now_ms // self._slot_ms - self._slots + 1
        for slot, number in self._counts.get(key, ()):
            if 0 <= slot - first < self._slots:
                counts[slot - first] = number
        return counts

    def next_change(self, now_ms: int) -> float:
        """When the counts of the latest slots change although nothing more is counted; infinity if never."""
        slot = now_ms // self._slot_ms
        first = slot - self._slots + 1
        if any(at >= first and number for slots in self._counts.values() for at, number in slots):
            return (slot + 1) * self._slot_ms
        return math.inf


class Recent:
    """The series that the pages show. ``since``: from when on they are complete (ms)."""

    def __init__(self) -> None:
        self.sessions = Series(SPARK_MS, SPARK_SLOTS)
        self.tools = Series(SPARK_MS, SPARK_SLOTS)
        self.lines = Series(LINE_MS, LINE_SLOTS)
        self.errors = Series(LINE_MS, LINE_SLOTS)
        self.since = 0

    def observe(self, data: DashboardData) -> None:
        """The data of this moment."""
        now = data.timestamp
        self.since = self.since or now
        tools = {name: tool.count for name, tool in data.metrics.tools.items()}
        self.sessions.observe(now, {key: session.calls for key, session in data.sessions.items()})
        self.tools.observe(now, tools)
        self.lines.observe(now, tools)
        self.errors.observe(now, {name: tool.error for name, tool in data.metrics.tools.items()})

    def begin(self, calls: Iterable[Mapping[str, Any]], since_ms: int, data: DashboardData) -> None:
        """The calls from before the first look, oldest first, complete from ``since_ms`` on."""
        for call in calls:
            ms = call["ts"] // 1000
            if ms > data.timestamp:
                continue
            tool, session = str(call.get("tool")), str(call.get("session"))
            for series, key in ((self.sessions, session), (self.tools, tool), (self.lines, tool)):
                series.add(key, ms)
            if call.get("status") == "error":
                self.errors.add(tool, ms)
        self.since = since_ms
        self.observe(data)

    def next_change(self, now_ms: int, *, lines: bool) -> float:
        """When any of this changes although nothing more happens; the ten minutes only if ``lines`` are shown."""
        changes = [self.sessions.next_change(now_ms), self.tools.next_change(now_ms)]
        if lines:
            is_complete = self.since + LINE_MS * LINE_SLOTS <= now_ms
            changes.append(self.lines.next_change(now_ms) if is_complete else (now_ms // LINE_MS + 1) * LINE_MS)
        return min(changes)

    def tool_rate(self, name: str, now_ms: int) -> float:
        """Calls per second of one tool, over the last ten seconds or so that are complete."""
        counts = self.tools.of(name, now_ms)[-6:-1]
        return sum(counts) * 1000 / (len(counts) * SPARK_MS)


def spark(counts: list[int]) -> str:
    """A digit for each count, 9 for the largest; a count that is not zero never is."""
    top = max(counts, default=0)
    if top == 0:
        return ""
    return "".join(str(-(-9 * count // top)) for count in counts)
