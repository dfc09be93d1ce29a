"""Places spans on lanes, so that two spans on one lane are either nested or do not overlap. Pure.

Trace viewers require this of the slices of a thread. A span goes on its parent's lane if it fits into the parent and
its earlier siblings on that lane have ended. Otherwise it ran in parallel, and goes on the first free lane. Starts are
wall-clock times and durations are monotonic, so that they may disagree a little: a span that sticks out of its parent
by at most that much is cut.
"""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

from pyjama_instrument.document import SessionSummary, Span

__all__ = ["Slice", "lay_out"]

_SLACK_NS = 100_000
_NEVER = 2**63


class Slice(NamedTuple):
    """A span with its lane, its begin and its end in nanoseconds; the end is None while it runs."""

    span: Span
    lane: int
    begin: int
    end: int | None


class _Interval:
    """The time of a placed span on its lane. ``free`` is the time from which further children can be placed in it."""

    def __init__(self, lane: int, begin: int, end: int) -> None:
        self.lane = lane
        self.free = begin
        self.end = end


def lay_out(root: Span, run: SessionSummary) -> list[Slice]:
    """The spans of the tree in the order of their begins, each with its lane."""
    lanes = _Lanes()
    placed: dict[int, _Interval] = {}
    slices = []
    for begin, parent, span in _in_order(root):
        end = max(begin, _end(span, run))
        interval = _nested(placed.get(id(parent)), begin, end) or _Interval(lanes.take(begin, end), begin, end)
        placed[id(span)] = interval
        slices.append(Slice(span, interval.lane, interval.free, None if interval.end == _NEVER else interval.end))
    return slices


def _nested(parent: _Interval | None, begin: int, end: int) -> _Interval | None:
    """An interval inside the parent's; None if it does not fit."""
    if parent is None or begin + _SLACK_NS < parent.free or end - _SLACK_NS > parent.end:
        return None
    begin = max(begin, parent.free)
    end = min(max(begin, end), parent.end)
    parent.free = end
    return _Interval(parent.lane, min(begin, end), end)


def _in_order(root: Span) -> list[tuple[int, Span | None, Span]]:
    """Begins (ns), parents and spans, sorted by begin. No child begins before its parent, even if the clock jumped."""
    found: list[tuple[int, Span | None, Span]] = []
    # If the root's begin is not known any more, use that of its first child rather than 1970.
    first = root.start_us or min((child.start_us for child in root.children), default=0)
    todo: list[tuple[int, Span | None, Span]] = [(first * 1000, None, root)]
    while todo:
        earliest, parent, span = todo.pop()
        begin = max(earliest, span.start_us * 1000)
        found.append((begin, parent, span))
        todo += [(begin, span, child) for child in reversed(span.children)]
    return sorted(found, key=lambda each: each[0])  # stable: of spans that begin at once, parents come first


def _end(span: Span, run: SessionSummary) -> int:
    """When the span ended, in ns; never while it runs. An interrupted span ended with its run."""
    begin = span.start_us * 1000
    if span.duration_ms is not None and math.isfinite(span.duration_ms):
        return begin + max(round(span.duration_ms * 1e6), 0)
    if span.status == "running":
        return _NEVER
    return max(begin, (run.end_time or run.last_seen or 0) * 1_000_000)


class _Lanes:
    """The free lanes at a time. Times must not go back."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._busy: list[tuple[int, int]] = []
        self._count = 0

    def take(self, begin: int, end: int) -> int:
        """The lowest lane that is free at ``begin``; it is busy until ``end`` from now on."""
        while self._busy and self._busy[0][0] <= begin:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if self._free:
            lane = heapq.heappop(self._free)
        else:
            lane, self._count = self._count, self._count + 1
        heapq.heappush(self._busy, (end, lane))
        return lane
