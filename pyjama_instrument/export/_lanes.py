"""Spans on lanes: two on one lane are apart, or the one is inside the other. Pure.

That is what a trace viewer asks of the slices of a thread. A span goes on its parent's lane if it fits into it and
its siblings there are over; otherwise it ran in parallel to something, and goes on the first lane that is free.
Starts are wall-clock time and durations are monotonic, so that the two may disagree a little: what sticks out by no
more than that is cut to fit.
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
    """A span in its place: lane, begin, and end in nanoseconds; no end while it runs."""

    span: Span
    lane: int
    begin: int
    end: int | None


class _Room:
    """What is inside a span that has been placed: its lane, where it ends, and from when on its inside is free."""

    def __init__(self, lane: int, begin: int, end: int) -> None:
        self.lane = lane
        self.free = begin
        self.end = end


def lay_out(root: Span, run: SessionSummary) -> list[Slice]:
    """The spans of the tree, in the order of their begin, each on a lane."""
    lanes = _Lanes()
    rooms: dict[int, _Room] = {}
    slices = []
    for begin, parent, span in _in_order(root):
        end = max(begin, _end(span, run))
        place = _inside(rooms.get(id(parent)), begin, end) or _Room(lanes.take(begin, end), begin, end)
        rooms[id(span)] = place
        slices.append(Slice(span, place.lane, place.free, None if place.end == _NEVER else place.end))
    return slices


def _inside(room: _Room | None, begin: int, end: int) -> _Room | None:
    """A place inside a span that has been placed, if there is one."""
    if room is None or begin + _SLACK_NS < room.free or end - _SLACK_NS > room.end:
        return None
    begin = max(begin, room.free)
    end = min(max(begin, end), room.end)
    room.free = end
    return _Room(room.lane, min(begin, end), end)


def _in_order(root: Span) -> list[tuple[int, Span | None, Span]]:
    """Begins (ns), parents and spans, by begin. No child begins before its parent, whatever the clock says."""
    found: list[tuple[int, Span | None, Span]] = []
    # A root whose begin is not known any more begins with what is inside it, and not in 1970.
    first = root.start_us or min((child.start_us for child in root.children), default=0)
    ahead: list[tuple[int, Span | None, Span]] = [(first * 1000, None, root)]
    while ahead:
        earliest, parent, span = ahead.pop()
        begin = max(earliest, span.start_us * 1000)
        found.append((begin, parent, span))
        ahead += [(begin, span, child) for child in reversed(span.children)]
    return sorted(found, key=lambda each: each[0])  # stable: of those that begin together, parents come first


def _end(span: Span, run: SessionSummary) -> int:
    """When the span ended, in ns; never while it runs. One that a crash cut off ended with its session."""
    begin = span.start_us * 1000
    if span.duration_ms is not None and math.isfinite(span.duration_ms):
        return begin + max(round(span.duration_ms * 1e6), 0)
    if span.status == "running":
        return _NEVER
    return max(begin, (run.end_time or run.last_seen or 0) * 1_000_000)


class _Lanes:
    """Which lanes are free at a moment; moments only move on."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._busy: list[tuple[int, int]] = []
        self._count = 0

    def take(self, begin: int, end: int) -> int:
        """The lowest lane that nothing is on from ``begin``, occupied until ``end`` from now on."""
        while self._busy and self._busy[0][0] <= begin:
            heapq.heappush(self._free, heapq.heappop(self._busy)[1])
        if self._free:
            lane = heapq.heappop(self._free)
        else:
            lane, self._count = self._count, self._count + 1
        heapq.heappush(self._busy, (end, lane))
        return lane
