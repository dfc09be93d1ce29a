"""Searching records backwards in time, over all segments of a store, with bounded work.

Invariants: a search reads at most its budget of bytes, plus one block and a few probes per segment; it has searched
everything from ``reached`` on; no file stays open. Within one segment the order is that of the file. This is the order
of time, except for threads that have raced, so the records of one block are sorted.
"""

from __future__ import annotations

import heapq
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict, Unpack

from pyjama_instrument.storage.decoding import decode_lines
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES
from pyjama_instrument.storage.layout import SegmentName, list_segments

__all__ = ["FoundRecord", "SearchBounds", "SearchResult", "Wanted", "look_back"]

_FIRST_BLOCK = 4 * 1024
_LARGEST_BLOCK = 64 * 1024
_PROBE = 4 * 1024
# The kernel's clock for the times of files is a few milliseconds behind the clock for the times of records.
_CLOCK_SLACK_US = 50_000


class FoundRecord(NamedTuple):
    """A record and its place: ``key`` names its segment and offset and never changes."""

    ts: int
    key: str
    record: dict[str, Any]


class SearchResult(NamedTuple):
    """What a search has found, newest first, and where the next one continues.

    ``reached`` is (ts, key) of the oldest place that was searched, or None if that is the beginning.
    """

    found: list[FoundRecord]
    reached: tuple[int, str] | None


Wanted: TypeAlias = Callable[[dict[str, Any]], bool]
"""Whether a record, which has an integer ``ts``, is wanted."""


class SearchBounds(TypedDict, total=False):
    """The bounds of a search.

    Attributes:
        before: only records older than this (ts, key), as ``reached`` of the last result gives it; all by default.
        after: only records of this time (µs since the epoch) or later; all by default.
        limit: how many records at most; 100 by default.
    """

    before: tuple[int, str] | None
    after: int | None
    limit: int


def look_back(
    places: Sequence[str], wanted: Wanted, *, budget_bytes: int = 4 * 1024 * 1024, **bounds: Unpack[SearchBounds]
) -> SearchResult:
    """The newest records that are wanted, in the segments of the directories ``places``.

    Args:
        places: directories; a segment that is in several is read once.
        wanted: which records.
        budget_bytes: how much to read at most.
        **bounds: see :class:`SearchBounds`.
    """
    before, after, limit = bounds.get("before"), bounds.get("after"), bounds.get("limit", 100)
    query = _Query(wanted, before, after)
    heap = [(-segment.bound, at, segment) for at, segment in enumerate(_segments(places, query))]
    heapq.heapify(heap)
    found: list[FoundRecord] = []
    while heap:
        bound, at, segment = heap[0]
        if after is not None and -bound < after:
            break
        if segment.pending:
            found.append(segment.pending.pop())
            if len(found) >= limit:
                return SearchResult(found, found[-1][:2])
        elif budget_bytes <= 0 and (before is None or -bound < before[0]):
            return SearchResult(found, (-bound, "~"))
        else:
            budget_bytes -= segment.load(query)
        if segment.pending or segment.end:
            heapq.heapreplace(heap, (-segment.bound, at, segment))
        else:
            heapq.heappop(heap)
    return SearchResult(found, None)


class _Query(NamedTuple):
    wanted: Wanted
    before: tuple[int, str] | None
    after: int | None

    def matches(self, found: FoundRecord) -> bool:
        is_inside = (self.before is None or found[:2] < self.before) and (self.after is None or found.ts >= self.after)
        return is_inside and self.wanted(found.record)


def _segments(places: Sequence[str], query: _Query) -> Iterator[_Segment]:
    before, after = query.before, query.after
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

    ``end``: everything from there on is loaded; ``pending``: the records of it that were not returned yet.
    """

    def __init__(self, places: Sequence[str], name: SegmentName, size: int, bound: int) -> None:
        self.name = name
        self.end = size
        self.pending: list[FoundRecord] = []  # the newest is the last
        self._places = places
        self._unread = bound  # no record before ``end`` is newer
        self._block = _FIRST_BLOCK
        self._is_placed = False

    @property
    def bound(self) -> int:
        """No record that was not returned yet is newer."""
        return self.pending[-1].ts if self.pending else self._unread

    def load(self, query: _Query) -> int:
        """Load one block; returns how many bytes were read."""
        fd = self._open()
        if fd is None:
            self.end = 0
            return 0
        try:
            if not self._is_placed:
                self._is_placed = True
                if query.before is not None:
                    self.end = _seek_time(fd, self.end, query.before[0])
            start, data = _block(fd, self.end, self._block)
        finally:
            os.close(fd)
        self._block = min(2 * self._block, _LARGEST_BLOCK)
        self.end = start
        self._take(start, data, query)
        return len(data)

    def _take(self, start: int, data: bytes, query: _Query) -> None:
        for offset, record in _records(start, data):
            ts = record.get("ts")
            if type(ts) is not int:
                continue
            self._unread = min(self._unread, ts)
            found = FoundRecord(ts, f"{self.name.key}:{offset}", record)
            if query.matches(found):
                self.pending.append(found)
        self.pending.sort(key=_sort_key)

    def _open(self) -> int | None:
        for place in self._places:  # it may have moved
            try:
                path = os.path.join(place, self.name.filename)
                return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError:
                continue
        return None


def _sort_key(found: FoundRecord) -> tuple[int, str]:
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
    """The records of complete lines with their offsets; a torn tail and damaged lines are skipped."""
    data = data[: data.rfind(b"\n") + 1]
    lines = data.split(b"\n")[:-1]
    records, damaged = decode_lines(lines)
    whole = not damaged and len(records) == len(lines)
    offset = start
    for at, line in enumerate(lines):
        for record in [records[at]] if whole else decode_lines([line])[0]:
            yield offset, record
        offset += len(line) + 1


def _seek_time(fd: int, size: int, ts: int) -> int:
    """Where to begin reading backwards: all records that start after it are newer than ``ts``, or as old."""
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
