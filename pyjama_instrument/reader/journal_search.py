"""Searching the lines of a store that contain a text, and new ones as they are recorded.

All recorded events are in the journals, which still grow, and in the history, whose segments no longer change. A
segment of the history is read once; of a journal, only what is new is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from typing import Any

from pyjama_instrument._platform import OPEN_FILE, OPEN_FOLDER
from pyjama_instrument.storage.decoding import CallDecoder, decode_lines
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, SegmentName, list_segments
from pyjama_instrument.storage.position import Position
from pyjama_instrument.storage.segment_reader import read_segment

__all__ = ["JournalSearch"]

_BLOCK_BYTES = 256 * 1024
_OVERLAP_BYTES = 512  # the text may lie across two blocks
_MOVES_FOLLOWED = 5

Holds = Callable[[bytes], bool]
"""Whether these bytes contain what is wanted."""

Keep = Callable[[SegmentName, list[Any]], None]
"""Takes the items that were found in a segment, batch by batch."""


class JournalSearch:
    """Searches journals and history again and again, and each time only what is new.

    Args:
        home: the store's directory.
        holds: whether bytes contain what is wanted; a segment of the history that does not is skipped.
        also: lines with this beginning are wanted too, in all segments that are not skipped.
        keep: takes the items of the wanted lines.
        grouped: return ordinary calls in a :class:`CallBatch` instead of one record each.

    Attributes:
        positions: how far each segment has been read.
    """

    def __init__(
        self, home: str, *, holds: Holds, keep: Keep, also: bytes | None = None, grouped: bool = False
    ) -> None:
        self.positions: dict[SegmentName, Position] = {}
        self._home = home
        self._holds = holds
        self._also = also
        self._keep = keep
        self._calls = CallDecoder() if grouped else None

    def refresh(self, *, trust: bool = True, since_us: int | None = None, grows: Collection[str] = ()) -> None:
        """Read what is new.

        Args:
            trust: whether a missing lock proves that a journal's writer is dead.
            since_us: nothing before this time (µs since the epoch) is wanted.
            grows: keys of segments in the history whose writer may be alive.
        """
        with ExitStack() as stack:
            journal, history = self._open(JOURNAL, stack), self._open(HISTORY, stack)
            places = [place for place in (journal, history) if place is not None]
            # The journal comes first: a segment that moves during the search is then found in the history.
            segments = sorted({name for place in places for name in list_segments(place)})
            known, self.positions = self.positions, {}
            for name in segments:
                position = known.get(name) or Position()
                if position == Position():
                    self._skip_unwanted(history, name, position, since_us)
                elif position.sealed:  # its writer may be alive nevertheless
                    place = history if name.key in grows else journal
                    position.sealed = not _has_grown(place, name, position)
                # Segments in the history were proven to be complete.
                if position.sealed or any(
                    self._read_segment(place, name, position, trust or place is history) for place in places
                ):
                    self.positions[name] = position

    def alive(self) -> set[str]:
        """The writers that were alive at the last refresh."""
        return {name.writer for name, position in self.positions.items() if not position.sealed}

    def follow_moved(self, writers: set[str], *, trust: bool = True) -> None:
        """Read again if one of these writers, which seem to be dead, has opened another segment."""
        for _ in range(_MOVES_FOLLOWED):
            last = {name.writer: name for name in sorted(self.positions) if name.writer in writers}
            following = [os.path.join(self._home, JOURNAL, name.next.filename) for name in last.values()]
            if not any(map(os.path.exists, following)):
                return
            self.refresh(trust=trust)
            writers = writers - self.alive()

    def _skip_unwanted(self, history: int | None, name: SegmentName, position: Position, since_us: int | None) -> None:
        """Count a segment of the history as read if it contains nothing that is wanted."""
        if history is None:
            return
        try:
            fd = os.open(name.filename, OPEN_FILE, dir_fd=history)
        except OSError:
            return
        try:
            found = os.fstat(fd)
            is_older = since_us is not None and found.st_mtime_ns // 1000 < since_us
            if is_older or not self._contains_wanted(fd):
                position.offset, position.sealed = found.st_size, True
        except OSError:  # it is a directory, or the disk fails
            return
        finally:
            os.close(fd)

    def _contains_wanted(self, fd: int) -> bool:
        end = b""
        while block := os.read(fd, _BLOCK_BYTES):
            if self._holds(end + block):
                return True
            end = block[-_OVERLAP_BYTES:]
        return False

    def _open(self, name: str, stack: ExitStack) -> int | None:
        try:
            place = os.open(os.path.join(self._home, name), OPEN_FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return None
        stack.callback(os.close, place)
        return place

    def _read_segment(self, place: int, name: SegmentName, position: Position, trust: bool) -> bool:
        def keep(items: Sequence[Any]) -> None:
            if items:
                self._keep(name, list(items))

        held = read_segment(place, name, position, keep, self._decode, trust=trust)
        if self._calls is not None:
            keep(self._calls.take_pending())
        return held is not None

    def _decode(self, lines: Sequence[bytes]) -> tuple[list[Any], int]:
        """The items of the wanted lines; damage in other lines is ignored."""
        block, also = b"\n".join(lines), self._also
        if not self._holds(block):  # most blocks do not, so their lines are not checked one by one
            if also is None or also not in block:
                return [], 0
            wanted = [line for line in lines if line.startswith(also)]
        else:
            wanted = [line for line in lines if self._holds(line) or (also and line.startswith(also))]
        return decode_lines(wanted) if self._calls is None else self._calls(wanted)


def _has_grown(place: int | None, name: SegmentName, position: Position) -> bool:
    """Whether the segment is in that place and longer than it was when it was read to its end."""
    if place is None:
        return False
    try:
        return os.stat(name.filename, dir_fd=place, follow_symlinks=False).st_size > position.offset
    except OSError:
        return False
