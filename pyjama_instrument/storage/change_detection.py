"""Detects whether a store has changed since it was read, without reading it: by names, sizes and locks.

Invariants: the state is taken before the store is read, so a change during the reading is detected afterwards; segments
that may still grow are checked each time; no file stays open between checks.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyjama_instrument._platform import OPEN_FILE, OPEN_FOLDER
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, ORIGINAL_LOCK, PREVIOUS, SNAPSHOT, list_segments
from pyjama_instrument.storage.liveness import is_held
from pyjama_instrument.storage.snapshot import Identity, identity

__all__ = ["ChangeDetector"]

# The clock for the times of directories ticks, on some file systems only every two seconds. A directory that was
# changed within the last tick may change again without a new time.
_TICK_NS = 2_000_000_000


class _StoreState(NamedTuple):
    """The store's own entries, and the segments that may grow."""

    entries: tuple[Identity | None, ...]
    segments: dict[str, Identity | None]


class ChangeDetector:
    """Notices changes of one store for a reader. Not thread-safe.

    Call ``has_changed()`` before you read the store, and ``mark_read()`` after.
    """

    def __init__(self, home: str) -> None:
        self._home = home
        self._now: _StoreState | None = None
        self._known: _StoreState | None = None
        self._growing: list[str] = []  # the names of the segments that may grow
        self._listed: Identity | None = None  # the journal's directory when it was listed; None: list it
        self._finished: frozenset[str] = frozenset()

    def has_changed(self) -> bool:
        """Whether anything has changed since the check before the store was last read; True if it was never read."""
        self._now = self._state()
        return self._known is None or self._now != self._known

    def mark_read(self, journals: Mapping[str, Any]) -> None:
        """The store has been read since the last check, up to the offsets ``journals`` of the snapshot."""
        finished = (key for key, position in journals.items() if type(position) is dict and position.get("sealed"))
        self._finished = frozenset(f"{key}.jsonl" for key in finished)
        self._growing = [name for name in self._growing if name not in self._finished]
        if self._now is not None:
            segments = {name: self._now.segments[name] for name in self._growing if name in self._now.segments}
            self._known = self._now._replace(segments=segments)

    def has_dead_writer(self) -> bool:
        """Whether the writer of a segment that may grow has died."""
        try:
            journal = os.open(os.path.join(self._home, JOURNAL), OPEN_FOLDER)
        except OSError:
            return False
        try:
            return any(_is_unlocked(journal, name) for name in self._growing)
        finally:
            os.close(journal)

    def _state(self) -> _StoreState:
        try:
            home = os.open(self._home, OPEN_FOLDER)
        except OSError:
            return _StoreState((), {})
        try:
            own = os.fstat(home)
            entries = [identity(home, name) for name in (SNAPSHOT, PREVIOUS, ORIGINAL_LOCK, HISTORY, JOURNAL)]
            return _StoreState(((own.st_ino, 0, 0), *entries), self._segments(home, entries[-1]))
        finally:
            os.close(home)

    def _segments(self, home: int, directory: Identity | None) -> dict[str, Identity | None]:
        try:
            journal = os.open(JOURNAL, OPEN_FOLDER, dir_fd=home)
        except OSError:
            self._listed = None
            return {}
        try:
            if self._listed is None or directory != self._listed:
                self._growing = [
                    name.filename for name in list_segments(journal) if name.filename not in self._finished
                ]
                settled = directory is not None and abs(time.time_ns() - directory[1]) > _TICK_NS
                self._listed = directory if settled else None
            return {name: identity(journal, name) for name in self._growing}
        finally:
            os.close(journal)


def _is_unlocked(journal: int, name: str) -> bool:
    """Whether no process holds the segment; a segment that cannot be opened counts as held."""
    try:
        fd = os.open(name, OPEN_FILE, dir_fd=journal)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode) and not is_held(fd)
    except OSError:
        return False
    finally:
        os.close(fd)
