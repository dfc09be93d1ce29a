"""The records of one session, wherever they lie, read as they come.

A session may be written by several processes, and its segments move from the journal to the history meanwhile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from pyjama_instrument._system import OPEN_FILE, OPEN_FOLDER
from pyjama_instrument.storage._codec import decode_lines
from pyjama_instrument.storage._layout import HISTORY, JOURNAL, SegmentName, list_segments
from pyjama_instrument.storage._scan import Position, read_segment

__all__ = ["SessionRecords"]

_BLOCK_BYTES = 256 * 1024


class SessionRecords:
    """What the store holds of one session; ``refresh()`` reads only what is new since the last one.

    ``found`` are the records with the id of their writer, in the order of each writer.
    """

    def __init__(self, home: str, session_id: str) -> None:
        self.found: list[tuple[str, dict[str, Any]]] = []
        self._home = home
        self._session_id = session_id
        self._needle = json.dumps(session_id).encode("ascii")
        self._positions: dict[SegmentName, Position] = {}
        self._sources: set[SegmentName] = set()

    def refresh(self) -> bool:
        """Read what is new; whether ``found`` has changed."""
        before = len(self.found)
        self._read()
        if self._sources <= self._positions.keys():
            return len(self.found) != before
        # A segment of the session is gone: the store was cleared, or the history's limit was reached.
        self.found, self._sources, self._positions = [], set(), {}
        self._read()
        return True

    def _read(self) -> None:
        with ExitStack() as stack:
            journal, history = self._open(JOURNAL, stack), self._open(HISTORY, stack)
            places = [place for place in (journal, history) if place is not None]
            # The journal is listed and tried first: a segment that moves meanwhile is then found in the history.
            segments = sorted({name for place in places for name in list_segments(place)})
            known, self._positions = self._positions, {}
            for name in segments:
                position = known.get(name) or Position()
                if not position.offset and history is not None and self._is_without(history, name):
                    position.sealed = True
                if position.sealed or any(self._read_segment(place, name, position) for place in places):
                    self._positions[name] = position

    def _is_without(self, history: int, name: SegmentName) -> bool:
        """Whether this is a segment of the history, which does not change any more, and nothing of the session."""
        try:
            fd = os.open(name.filename, OPEN_FILE, dir_fd=history)
        except OSError:
            return False
        try:
            end = b""
            while block := os.read(fd, _BLOCK_BYTES):
                if self._needle in end + block:
                    return False
                end = block[-len(self._needle) :]
        except OSError:  # a directory, or a disk that fails
            return False
        finally:
            os.close(fd)
        return True

    def _open(self, name: str, stack: ExitStack) -> int | None:
        try:
            place = os.open(os.path.join(self._home, name), OPEN_FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            return None
        stack.callback(os.close, place)
        return place

    def _read_segment(self, place: int, name: SegmentName, position: Position) -> bool:
        def keep(records: Sequence[dict[str, Any]]) -> None:
            mine = [(name.writer, record) for record in records if record.get("session") == self._session_id]
            if mine:
                self.found += mine
                self._sources.add(name)

        return read_segment(place, name, position, keep, self._decode) is not None

    def _decode(self, lines: Sequence[bytes]) -> tuple[list[dict[str, Any]], int]:
        """The records of the lines that hold the session's id; damage in the others is not looked for."""
        mine = [line for line in lines if self._needle in line]
        return decode_lines(mine) if mine else ([], 0)
