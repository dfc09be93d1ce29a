"""All records of a store in the order of their times, read in chunks from files that may move while they are read.

Memory is bounded by the number of processes that recorded at the same time, not by the number of records. No file
stays open between two chunks, so that a store of many writers needs few descriptors. Records of one process keep their
order; those of several processes are merged by their times.
"""

from __future__ import annotations

import heapq
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pyjama_instrument.storage.decoding import decode_lines
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, SegmentName, list_segments

__all__ = ["Line", "Progress", "read_lines"]

_CHUNK = 32 * 1024
_MAX_LINE_BYTES = 4 * MAX_RECORD_BYTES

Progress = Callable[[int, int], None]
"""Called with the number of bytes read so far and in total."""


class Line(NamedTuple):
    """One record: its time, the id of its writer, its line as recorded, and the decoded line."""

    ts: int
    writer: str
    text: bytes
    record: dict[str, Any]


def read_lines(home: str, sessions: frozenset[str] | None = None, progress: Progress | None = None) -> Iterator[Line]:
    """The records of the store, or of some sessions only. Damaged records are left out.

    Args:
        home: the store's directory.
        sessions: the ids of the sessions; None for all records.
        progress: called about once per chunk.
    """
    files = _SegmentFiles(home, progress or (lambda done, total: None))
    wanted = None if sessions is None else _SessionFilter(sessions)
    segments = sorted((*files.begin_and_size(name), name) for name in files.names())
    files.total = sum(size for _, size, _ in segments)
    # The latest first, so that the next segment to open is at the end of the list.
    waiting = [(begin, name) for begin, _, name in reversed(segments)]
    streams: list[tuple[int, int, Line, Iterator[Line]]] = []
    number = 0
    while waiting or streams:
        while waiting and (not streams or waiting[-1][0] <= streams[0][0]):
            _, name = waiting.pop()
            stream = _segment(files, name, wanted)
            if (line := next(stream, None)) is not None:
                number += 1
                heapq.heappush(streams, (line.ts, number, line, stream))
        if not streams:
            return
        _, order, line, stream = streams[0]
        yield line
        if (following := next(stream, None)) is None:
            heapq.heappop(streams)
        else:
            heapq.heapreplace(streams, (following.ts, order, following, stream))


class _SessionFilter:
    """Selects the lines of some sessions. Most other lines are rejected without being parsed."""

    def __init__(self, sessions: frozenset[str]) -> None:
        self._sessions = sessions
        ids = b"|".join(re.escape(each.encode("ascii", "replace")) for each in sorted(sessions))
        self._pattern = re.compile(b'"session": ?"(?:' + ids + b')"')

    def may_be(self, text: bytes) -> bool:
        return self._pattern.search(text) is not None

    def is_one(self, record: dict[str, Any]) -> bool:
        return record.get("session") in self._sessions


class _SegmentFiles:
    """The segments of a store, found again at each read, since they may move."""

    def __init__(self, home: str, progress: Progress) -> None:
        self._places = [os.path.join(home, JOURNAL), os.path.join(home, HISTORY)]
        self._progress = progress
        self._done = 0
        self.total = 0

    def names(self) -> set[SegmentName]:
        """All segments. The journals first: one that moves to the history meanwhile is then in both lists."""
        return {name for place in self._places for name in list_segments(place)}

    def begin_and_size(self, name: SegmentName) -> tuple[int, int]:
        """The time of the segment's first record, and its size; zeros if it cannot be read."""
        data, size = self._read(name, 0, _CHUNK)
        records, _ = decode_lines(data.split(b"\n", 1)[:1])
        ts = records[0].get("ts") if records else None
        return ts if type(ts) is int else 0, size

    def read(self, name: SegmentName, offset: int, size: int) -> bytes:
        """Bytes of the segment; none at its end, or if the segment is gone."""
        data, _ = self._read(name, offset, size)
        return data

    def advance(self, size: int) -> None:
        """Report that so many more bytes have been read."""
        self._done += size
        self._progress(self._done, max(self.total, self._done))

    def _read(self, name: SegmentName, offset: int, size: int) -> tuple[bytes, int]:
        for place in (*self._places, self._places[0]):  # it may have moved in the meantime
            try:
                # O_NONBLOCK: opening a FIFO in the file's place must not block. Reading other kinds of files fails.
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


def _segment(files: _SegmentFiles, name: SegmentName, wanted: _SessionFilter | None) -> Iterator[Line]:
    """The segment's records, in order. Bytes after the last line end are an incomplete record."""
    offset, want = 0, _CHUNK
    while data := files.read(name, offset, want):
        end = data.rfind(b"\n") + 1
        if not end and want < _MAX_LINE_BYTES:
            if len(data) < want:
                return
            want *= 2
            continue
        taken = end or len(data)  # a line longer than any record is damaged: skip it
        for text, record in _decoded(data[:end].split(b"\n"), wanted):
            if type(ts := record.get("ts")) is int:
                yield Line(ts, name.writer, text, record)
        offset, want = offset + taken, _CHUNK
        files.advance(taken)


def _decoded(texts: list[bytes], wanted: _SessionFilter | None) -> Iterator[tuple[bytes, dict[str, Any]]]:
    texts = [text for text in texts if text and (wanted is None or wanted.may_be(text))]
    records, damaged = decode_lines(texts)
    if damaged:
        pairs = [(text, decode_lines([text])[0]) for text in texts]
        found = [(text, record[0]) for text, record in pairs if record]
    else:
        found = list(zip(texts, records, strict=True))
    return (pair for pair in found if wanted is None or wanted.is_one(pair[1]))
