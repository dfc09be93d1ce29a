"""Every record of a store in the order of time, read a chunk at a time from files that may move meanwhile.

Memory is bounded by the number of processes that recorded at the same time, not by the number of records. No file
stays open between two chunks, so that stores of any number of writers can be read with few descriptors. Records of
one process come in the order recorded; those of several are merged by their times.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pyjama_instrument.storage.codec import MAX_RECORD_BYTES, decode_lines
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, SegmentName, list_segments

__all__ = ["Line", "Progress", "read_lines"]

_CHUNK = 32 * 1024
_LONGEST_LINE = 4 * MAX_RECORD_BYTES

Progress = Callable[[int, int], None]
"""Told how many bytes of how many have been read."""


class Line(NamedTuple):
    """One record: its time, the id of its writer, its line as recorded, and what that says."""

    ts: int
    writer: str
    text: bytes
    record: dict[str, Any]


def read_lines(home: str, sessions: frozenset[str] | None = None, progress: Progress | None = None) -> Iterator[Line]:
    """The records of the store, or of these sessions alone. Damaged records are left out.

    Args:
        home: the store's directory.
        sessions: ids of the sessions wanted; None for everything.
        progress: told how far reading has come, about once a chunk.
    """
    files = _Files(home, progress or (lambda done, total: None))
    wanted = None if sessions is None else _Wanted(sessions)
    segments = sorted((*files.first_look(name), name) for name in files.names())
    files.total = sum(size for _, size, _ in segments)
    # The latest first: those at the end are taken off as their time comes.
    waiting = [(begin, name) for begin, _, name in reversed(segments)]
    open_ends: list[tuple[int, int, Line, Iterator[Line]]] = []
    number = 0
    while waiting or open_ends:
        while waiting and (not open_ends or waiting[-1][0] <= open_ends[0][0]):
            _, name = waiting.pop()
            stream = _segment(files, name, wanted)
            if (line := next(stream, None)) is not None:
                number += 1
                heapq.heappush(open_ends, (line.ts, number, line, stream))
        if not open_ends:
            return
        _, order, line, stream = open_ends[0]
        yield line
        if (following := next(stream, None)) is None:
            heapq.heappop(open_ends)
        else:
            heapq.heapreplace(open_ends, (following.ts, order, following, stream))


class _Wanted:
    """Which lines belong to the sessions asked for. Most are refused without being parsed."""

    def __init__(self, sessions: frozenset[str]) -> None:
        self._sessions = sessions
        ids = b"|".join(re.escape(each.encode("ascii", "replace")) for each in sorted(sessions))
        self._pattern = re.compile(b'"session": ?"(?:' + ids + b')"')

    def may_be(self, text: bytes) -> bool:
        return self._pattern.search(text) is not None

    def is_one(self, record: dict[str, Any]) -> bool:
        return record.get("session") in self._sessions


class _Files:
    """A store's segments, wherever each is at the moment it is asked for."""

    def __init__(self, home: str, progress: Progress) -> None:
        self._places = [os.path.join(home, JOURNAL), os.path.join(home, HISTORY)]
        self._progress = progress
        self._done = 0
        self.total = 0

    def names(self) -> set[SegmentName]:
        """All segments. The journals first: one that moves to the history meanwhile is then in both lists."""
        return {name for place in self._places for name in list_segments(place)}

    def first_look(self, name: SegmentName) -> tuple[int, int]:
        """When the segment begins, by its first record, and its size. One that cannot be read has none of either."""
        data, size = self._read(name, 0, _CHUNK)
        records, _ = decode_lines(data.split(b"\n", 1)[:1])
        ts = records[0].get("ts") if records else None
        return ts if type(ts) is int else 0, size

    def read(self, name: SegmentName, offset: int, size: int) -> bytes:
        """Bytes of the segment; none at its end, and none of one that is gone."""
        data, _ = self._read(name, offset, size)
        return data

    def advance(self, size: int) -> None:
        """So many bytes have been dealt with."""
        self._done += size
        self._progress(self._done, max(self.total, self._done))

    def _read(self, name: SegmentName, offset: int, size: int) -> tuple[bytes, int]:
        for place in (*self._places, self._places[0]):  # it may have moved while we looked
            try:
                # O_NONBLOCK: a FIFO put in the file's place must not block us; reading a file of another kind fails.
                fd = os.open(
                    os.path.join(place, name.filename), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
                )
            except OSError:
                continue
            try:
                return os.pread(fd, size, offset), os.fstat(fd).st_size
            except OSError:
                return b"", 0
            finally:
                os.close(fd)
        return b"", 0


def _segment(files: _Files, name: SegmentName, wanted: _Wanted | None) -> Iterator[Line]:
    """The segment's records, in order. What follows its last line end is not a record yet, or never will be."""
    offset, want = 0, _CHUNK
    while data := files.read(name, offset, want):
        end = data.rfind(b"\n") + 1
        if not end and want < _LONGEST_LINE:
            if len(data) < want:
                return
            want *= 2
            continue
        taken = end or len(data)  # a line longer than any record: damage, to be got over
        for text, record in _decoded(data[:end].split(b"\n"), wanted):
            if type(ts := record.get("ts")) is int:
                yield Line(ts, name.writer, text, record)
        offset, want = offset + taken, _CHUNK
        files.advance(taken)


def _decoded(texts: list[bytes], wanted: _Wanted | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    texts = [text for text in texts if text and (wanted is None or wanted.may_be(text))]
    records, damaged = decode_lines(texts)
    if damaged:
        pairs = [(text, decode_lines([text])[0]) for text in texts]
        found = [(text, record[0]) for text, record in pairs if record]
    else:
        found = list(zip(texts, records, strict=True))
    return (pair for pair in found if wanted is None or wanted.is_one(pair[1]))
