"""Records backwards in time, over all segments of a store, with bounded work per look.

Invariants: a look reads at most its budget of bytes, give or take one block, and a few probes per segment; what it
says it has covered, it has; nothing is kept open between looks. Within one segment the order is that of the file,
which is that of time but for threads that raced; records of one block are sorted.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pyjama_instrument.storage.codec import MAX_RECORD_BYTES, decode_lines
from pyjama_instrument.storage.layout import SegmentName, list_segments

__all__ = ["Found", "HistorySearch", "look_back"]

_FIRST_BLOCK = 4 * 1024
_LARGEST_BLOCK = 64 * 1024
_PROBE = 4 * 1024
# The kernel stamps a file with a clock that lags a few milliseconds behind the one that records are stamped with.
_CLOCK_SLACK_US = 50_000


class Found(NamedTuple):
    """A record and where it is: ``key`` names its segment and offset and never changes."""

    ts: int
    key: str
    record: dict[str, Any]


class HistorySearch(NamedTuple):
    """What a look found, newest first, and how far it got: ``reached`` (ts, key), or None for the very beginning."""

    found: list[Found]
    reached: tuple[int, str] | None


def look_back(
    places: Sequence[str],
    wanted: Callable[[dict[str, Any]], bool],
    *,
    before: tuple[int, str] | None = None,
    after: int | None = None,
    limit: int = 100,
    budget_bytes: int = 4 * 1024 * 1024,
) -> HistorySearch:
    """The newest records that are wanted, in the segments of the directories ``places``.

    Args:
        places: directories; a segment that is in several is read once.
        wanted: which records; they have an integer ``ts``.
        before: only records older than this (ts, key), as ``HistorySearch.reached`` gives it.
        after: only records of this time (µs) or later.
        limit: how many at most.
        budget_bytes: how much to read at most.
    """
    heap = [(-segment.bound, at, segment) for at, segment in enumerate(_segments(places, before, after))]
    heapq.heapify(heap)
    found: list[Found] = []
    while heap:
        bound, at, segment = heap[0]
        if after is not None and -bound < after:
            break
        if segment.pending:
            found.append(segment.pending.pop())
            if len(found) >= limit:
                return HistorySearch(found, found[-1][:2])
        elif budget_bytes <= 0 and (before is None or -bound < before[0]):
            return HistorySearch(found, (-bound, "~"))
        else:
            budget_bytes -= segment.load(wanted, before, after)
        if segment.pending or segment.end:
            heapq.heapreplace(heap, (-segment.bound, at, segment))
        else:
            heapq.heappop(heap)
    return HistorySearch(found, None)


def _segments(places: Sequence[str], before: tuple[int, str] | None, after: int | None) -> Iterator[_Segment]:
    seen: set[SegmentName] = set()
    for place in places:
        try:
            directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            for name in list_segments(directory):
                try:
                    status = os.stat(name.filename, dir_fd=directory, follow_symlinks=False)
                except OSError:
                    continue
                newest = status.st_mtime_ns // 1000 + _CLOCK_SLACK_US
                if name in seen or not stat.S_ISREG(status.st_mode) or (after is not None and newest < after):
                    continue
                seen.add(name)
                yield _Segment(places, name, status.st_size, newest if before is None else min(newest, before[0]))
        finally:
            os.close(directory)


class _Segment:
    """One segment, read from its end (or from ``before``) towards its beginning.

    ``end``: everything from there on has been loaded; ``pending`` is what of it was not handed out yet.
    """

    def __init__(self, places: Sequence[str], name: SegmentName, size: int, bound: int) -> None:
        self.name = name
        self.end = size
        self.pending: list[Found] = []  # the newest is the last
        self._places = places
        self._unread = bound  # no record before ``end`` is newer
        self._block = _FIRST_BLOCK
        self._placed = False

    @property
    def bound(self) -> int:
        """No record that was not handed out yet is newer."""
        return self.pending[-1].ts if self.pending else self._unread

    def load(self, wanted: Callable[[dict[str, Any]], bool], before: tuple[int, str] | None, after: int | None) -> int:
        """Load one block; how many bytes were read."""
        fd = self._open()
        if fd is None:
            self.end = 0
            return 0
        try:
            if not self._placed:
                self._placed = True
                if before is not None:
                    self.end = _place(fd, self.end, before[0])
            start, data = _block(fd, self.end, self._block)
        finally:
            os.close(fd)
        self._block = min(2 * self._block, _LARGEST_BLOCK)
        self.end = start
        self._take(start, data, wanted, before, after)
        return len(data)

    def _take(
        self,
        start: int,
        data: bytes,
        wanted: Callable[[dict[str, Any]], bool],
        before: tuple[int, str] | None,
        after: int | None,
    ) -> None:
        for offset, record in _records(start, data):
            ts = record.get("ts")
            if type(ts) is not int:
                continue
            self._unread = min(self._unread, ts)
            found = Found(ts, f"{self.name.key}:{offset}", record)
            if (before is None or found[:2] < before) and (after is None or ts >= after) and wanted(record):
                self.pending.append(found)
        self.pending.sort(key=_place_in_time)

    def _open(self) -> int | None:
        for place in self._places:  # it may have moved meanwhile
            try:
                path = os.path.join(place, self.name.filename)
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
        return None


def _place_in_time(found: Found) -> tuple[int, str]:
    return found[:2]


def _block(fd: int, end: int, size: int) -> tuple[int, bytes]:
    """The complete lines in about ``size`` bytes up to ``end``, and where they start."""
    while True:
        start = max(end - size, 0)
        data = os.pread(fd, end - start, start)
        if start == 0:
            return 0, data
        newline = data.find(b"\n", 0, len(data) - 1)
        if newline >= 0:
            return start + newline + 1, data[newline + 1 :]
        if size > 4 * MAX_RECORD_BYTES:
            return start, b""  # no record is that long: damage
        size *= 2


def _records(start: int, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of complete lines with their offsets; a torn tail and damaged lines are passed over."""
    data = data[: data.rfind(b"\n") + 1]
    lines = data.split(b"\n")[:-1]
    records, damaged = decode_lines(lines)
    whole = not damaged and len(records) == len(lines)
    offset = start
    for at, line in enumerate(lines):
        for record in [records[at]] if whole else decode_lines([line])[0]:
            yield offset, record
        offset += len(line) + 1


def _place(fd: int, size: int, ts: int) -> int:
    """Where to begin to read backwards: no record that starts after it is older than ``ts``."""
    low, high = 0, size  # the first record after ``low`` is older, or low is the beginning
    while high - low > _PROBE:
        middle = (low + high) // 2
        at, found = _first_after(fd, middle, high)
        if found is None or found > ts + _CLOCK_SLACK_US:
            high = middle
        else:
            low = max(at, middle)
    return min(size, high + MAX_RECORD_BYTES)


def _first_after(fd: int, offset: int, end: int) -> tuple[int, int | None]:
    """Offset and time of the first readable record that starts after ``offset``."""
    want = _PROBE
    while True:
        data = os.pread(fd, want, offset)
        at = data.find(b"\n") + 1
        for place, record in _records(offset + at, data[at:]) if at else ():
            if type(record.get("ts")) is int:
                return place, int(record["ts"])
        if len(data) < want or offset + want >= end or want > 4 * MAX_RECORD_BYTES:
            return offset, None
        want *= 2
