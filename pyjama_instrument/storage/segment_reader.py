"""Reading one segment of a journal from a position: complete records only; damage is skipped and counted.

A record is complete if it ends in a newline and contains no NUL. If the last record is torn and the writer is alive,
reading stops before it; if the writer is dead, the record is skipped and counted. For any bytes, reading ends, uses
bounded memory, and leaves a position that is never inside a record that may still be completed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from typing import Any

from pyjama_instrument.storage.decoding import decode_lines
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES
from pyjama_instrument.storage.layout import SegmentName
from pyjama_instrument.storage.liveness import is_held
from pyjama_instrument.storage.position import Position

__all__ = ["Decode", "Sink", "StopAtTime", "read_segment"]

_CHUNK = 16 * 1024  # small, so that the parser never keeps the interpreter lock for long
_LONGEST_LINE = 4 * MAX_RECORD_BYTES

Sink = Callable[[list[Any]], None]
"""Takes the items of one batch."""

Decode = Callable[[Sequence[bytes]], tuple[list[Any], int]]
"""Makes items from complete lines, and returns how many lines were damaged."""


class StopAtTime:
    """Stops reading at the first record of this time (µs since the epoch) or later; ``met``: there is one."""

    def __init__(self, time_us: int) -> None:
        self._time_us = time_us
        self.met = False

    def __call__(self, lines: Sequence[bytes]) -> Sequence[bytes]:
        """The lines before that record."""
        if not self._any_after(lines):
            return lines
        self.met = True
        return lines[: next(at for at, line in enumerate(lines) if self._any_after([line]))]

    def _any_after(self, lines: Sequence[bytes]) -> bool:
        times = (record.get("ts") for record in decode_lines(lines)[0])
        return any(type(ts) is int and ts >= self._time_us for ts in times)


def read_segment(
    directory: int,
    name: SegmentName,
    position: Position,
    sink: Sink,
    decode: Decode = decode_lines,
    *,
    trust: bool = True,
    enough: Callable[[], bool] = lambda: False,
    until: StopAtTime | None = None,
) -> bool | None:
    """Pass the records after ``position`` to ``sink``, batch by batch, and advance ``position``.

    Args:
        directory: the descriptor of the segment's directory.
        name: the segment.
        position: how far it was read; it is changed.
        sink: takes the items.
        decode: makes the items.
        trust: a missing lock proves that the writer is dead; otherwise the segment counts as held.
        enough: called after each batch; if it returns True, reading stops.
        until: stops reading at a time.

    Returns:
        Whether the segment's writer still holds it; None if there is no such segment. A segment that was not read to
        its end, or cannot be opened or read, counts as held, so that its writer is not declared dead.

    Raises:
        OSError: there are no descriptors or no memory left to read it.
    """
    fd, held = _open(directory, name)
    if fd is None:
        return held
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return False
        locked = is_held(fd)  # before reading: if it is not held now, nothing is added after what is read below
        position.note_lock(fd, found, locked)
        held = locked or not trust
        if position.sealed and not held and found.st_size <= position.offset:
            return False
        finished = _read(fd, position, held, sink, decode, enough, until)
        position.sealed = finished and not held
        return held or not finished
    finally:
        os.close(fd)


def _open(directory: int, name: SegmentName) -> tuple[int | None, bool | None]:
    """The segment's descriptor, or what :func:`read_segment` returns if it cannot be opened."""
    try:
        # O_NONBLOCK: a FIFO in the place of the file must not block this process.
        fd = os.open(name.filename, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return None, None
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        return None, error.errno != errno.ELOOP
    return fd, None


def _read(
    fd: int,
    position: Position,
    held: bool,
    sink: Sink,
    decode: Decode,
    enough: Callable[[], bool],
    until: StopAtTime | None,
) -> bool:
    """Read from the position; returns whether that reached the end of the segment."""
    size = os.fstat(fd).st_size
    if size < position.offset:
        # If the writer is alive, another program has truncated the file, and what is there now was written after that.
        # If it is dead, the end was lost in a power failure, and what is left is counted already.
        position.offset, position.skipping = (0, False) if held else (size, True)
        position.torn += 1
    elif size == position.offset:
        return True
    elif position.offset and not position.skipping and os.pread(fd, 1, position.offset - 1) != b"\n":
        position.skipping = True
        position.torn += 1
    want = _CHUNK
    # Not beyond that size: a busy writer may append as fast as this reads.
    while data := os.pread(fd, min(want, size - position.offset), position.offset):
        taken = _take(data, position, sink, decode, until)
        if until is not None and until.met:
            return False
        if taken:
            want = _CHUNK
        elif len(data) < want:  # the rest is a torn tail
            if not held:
                _skip(position, len(data))
            return True
        elif want < _LONGEST_LINE:
            want *= 2
            continue
        else:
            _skip(position, len(data))
        if position.offset < size and enough():
            return False
    return True


def _take(data: bytes, position: Position, sink: Sink, decode: Decode, until: StopAtTime | None) -> int:
    """Consume the complete records at the start of ``data``; returns their size in bytes."""
    start = 0
    if position.skipping:
        newline = data.find(b"\n")
        start = len(data) if newline < 0 else newline + 1
        position.skipping = newline < 0
    end = data.rfind(b"\n") + 1
    if end > start:
        lines: Sequence[bytes] = data[start : end - 1].split(b"\n")
        if until is not None:
            lines = until(lines)
            end = start + sum(map(len, lines)) + len(lines)
        if lines:
            items, damaged = decode(lines)
            position.torn += damaged
            sink(items)
        start = end
    position.offset += start
    return start


def _skip(position: Position, count: int) -> None:
    position.offset += count
    position.skipping = True
    position.torn += 1
