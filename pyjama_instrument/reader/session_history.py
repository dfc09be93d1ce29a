"""Sessions made from their events in the journals and the history, whether the document still lists them or not.

The same fold makes the document and a session's record, from the same events, and the same test decides whether the
processes are alive. So a session that the document no longer lists reads as it did when it was listed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Set
from typing import Any

from pyjama_instrument.fold.call_batch import CallBatch
from pyjama_instrument.fold.document import new_document
from pyjama_instrument.fold.eviction import end_quiet, is_quiet
from pyjama_instrument.fold.fold import Fold
from pyjama_instrument.fold.limits import LIMITS, OTHER
from pyjama_instrument.reader.journal_search import JournalSearch
from pyjama_instrument.storage.layout import SegmentName
from pyjama_instrument.storage.lock_domains import are_locks_divided, unlocked_means_dead
from pyjama_instrument.storage.process_identity import is_gone
from pyjama_instrument.storage.snapshot import locks_are_trusted

__all__ = ["ChildSessions", "SessionRecords", "sessions_with_prefix"]

_OPENED = b'{"kind":"writer.opened",'
_ANY_ID = re.compile(rb'session": ?"([^"\\]{1,256})"')
_PARENT = b'"parent_session":'
_COUNTED = ("calls", "errors", "total-duration")
_NOTHING: dict[str, Any] = dict.fromkeys(_COUNTED, 0)
_MOST_FOUND = 6
_MOST_CHILDREN = 100_000

Record = dict[str, Any]
Document = dict[str, Any]


class SessionRecords:
    """The records of these sessions in journals and history. ``refresh()`` reads only what is new.

    Args:
        home: the store's directory.
        sessions: their ids.
        keep: keep the single records, too.

    Attributes:
        found: the single records with the id of their writer, in the order of each writer.
    """

    def __init__(self, home: str, sessions: Iterable[str], *, keep: bool = False) -> None:
        self.sessions = frozenset(sessions)
        self.found: list[tuple[str, Record]] = []
        self._keep = keep
        self._history = JournalSearch(
            home, holds=_holds_one_of(self.sessions), keep=self._add, also=_OPENED, grouped=not keep
        )
        self._begin()

    def _begin(self, since_us: int | None = None) -> None:
        self.found = []
        self._counted_since = since_us
        self._not_counted: dict[str, Record] = {}  # by session: what it counted before the totals were cleared
        self._history.positions = {}
        self._fold = Fold(new_document(), sound=True)
        self._sources: set[SegmentName] = set()
        self._changed = False

    def refresh(self, document: Document, *, since_us: int | None = None) -> bool:
        """Read what is new; returns whether there was anything about these sessions.

        Args:
            document: the store's document, which shows whether locks prove anything here.
            since_us: none of the sessions began before this time (µs since the epoch).
        """
        trust, cleared_us = unlocked_means_dead(document), document.get("counted-since")
        self._changed = False
        if cleared_us != self._counted_since:
            self._begin(cleared_us)
        self._history.refresh(trust=trust, since_us=since_us, grows=document["retired"].keys())
        if not self._sources <= self._history.positions.keys():
            # A segment of a session is gone: the store was removed, or the history's limit was reached.
            self._begin(cleared_us)
            self._history.refresh(trust=trust, since_us=since_us)
            self._changed = True
        dead = self._dead(document, trust)
        if dead:
            self._fold.writers_died(dead)
            self._changed = True
        return self._changed

    def _dead(self, document: Document, trust: bool) -> set[str]:
        """The dead writers of these sessions, by the same test as for the document."""
        writers = self._fold.document["writers"]
        if locks_are_trusted(document) and are_locks_divided(document):
            revived = {writer for writer in self._fold.crashed_writers() if not is_gone(writers.get(writer, {}))}
            self._fold.writers_live(revived)
            self._changed |= bool(revived)
            return {writer for writer in self._fold.running_writers() if is_gone(writers.get(writer, {}))}
        if seem_dead := self._fold.running_writers() - self._history.alive():
            self._history.follow_moved(seem_dead, trust=trust)
        return self._fold.running_writers() - self._history.alive()

    def record(self, session: str, document: Document) -> Record | None:
        """The session as the document would have it; None if there are no events of it."""
        found: Record | None = self._fold.document["sessions"].get(session)
        if found is None:
            return None
        newest = max((each["last-seen"] for each in document["sessions"].values()), default=0)
        if is_quiet(found, newest):
            end_quiet(found)
        if found["end-time"] is None or found["end-time"] * 1000 >= (self._counted_since or 0):
            off = self._not_counted.get(session, {})  # it was running when the totals were cleared
            found = found | {key: found[key] - off[key] for key in off}
        agents = document["agents"]
        if found["agent-id"] not in agents and len(agents) >= LIMITS["agents"]:
            return found | {"agent-id": OTHER}
        return found

    @property
    def begin_ms(self) -> int | None:
        """When the first of the sessions began."""
        return min((each["start-time"] for each in self._fold.document["sessions"].values()), default=None)

    def _add(self, name: SegmentName, items: list[Any]) -> None:
        mine = [item for item in items if self._is_mine(item)]
        if any(type(item) is CallBatch or item.get("kind") != "writer.opened" for item in mine):
            self._sources.add(name)
            self._changed = True
        self._fold_items(name.writer, mine)
        if self._keep:
            self.found += [(name.writer, item) for item in mine if item.get("kind") != "writer.opened"]

    def _fold_items(self, writer: str, items: list[Any]) -> None:
        if self._counted_since is not None:
            earlier = [part for item in items if (part := _part_of(item, self._counted_since, before=True))]
            items = [part for item in items if (part := _part_of(item, self._counted_since, before=False))]
            if earlier:
                self._add_uncounted(writer, earlier)
        self._fold.add(writer, items)

    def _add_uncounted(self, writer: str, items: list[Any]) -> None:
        sessions = self._fold.document["sessions"]
        known = {sid: {key: sessions[sid][key] for key in _COUNTED} for sid in self.sessions & sessions.keys()}
        self._fold.add(writer, items)
        for sid in self.sessions & sessions.keys():
            before, off = known.get(sid, _NOTHING), self._not_counted.get(sid, _NOTHING)
            self._not_counted[sid] = {key: off[key] + sessions[sid][key] - before[key] for key in _COUNTED}

    def _is_mine(self, item: Any) -> bool:
        if type(item) is CallBatch:
            return item.session in self.sessions
        session = item.get("session")
        return item.get("kind") == "writer.opened" or (type(session) is str and session in self.sessions)


def _part_of(item: Any, us: int, *, before: bool) -> Any:
    """The part of an item from before that time, or from that time on; None if there is none."""
    if type(item) is not CallBatch:
        ts = item.get("ts")
        return item if before == (type(ts) is not int or ts < us) else None
    mine = [at for at, ts in enumerate(item.times_us) if before == (ts < us)]
    spans, times_us, durations_ns = item.spans, item.times_us, item.durations_ns
    if not mine:
        return None
    return item._replace(
        spans=[spans[at] for at in mine],
        times_us=[times_us[at] for at in mine],
        durations_ns=[durations_ns[at] for at in mine],
    )


def _holds_one_of(sessions: Set[str]) -> Callable[[bytes], bool]:
    if len(sessions) == 1:
        (session,) = sessions
        needle = json.dumps(session).encode("ascii")
        return lambda data: needle in data
    ids = {json.dumps(session).encode("ascii")[1:-1] for session in sessions}
    return lambda data: not ids.isdisjoint(_ANY_ID.findall(data))


class ChildSessions:
    """Which session was begun in which, from journals and history. ``refresh()`` reads only what is new."""

    def __init__(self, home: str) -> None:
        self._in_segment: dict[SegmentName, dict[str, str]] = {}
        self._by_parent: dict[str, list[str]] | None = None
        self._count = 0
        self._history = JournalSearch(home, holds=lambda data: _PARENT in data, keep=self._add)

    def refresh(self) -> None:
        """Read what is new."""
        self._history.refresh()
        for name in self._in_segment.keys() - self._history.positions.keys():
            self._count -= len(self._in_segment.pop(name))
            self._by_parent = None

    def by_parent(self) -> dict[str, list[str]]:
        """The ids of the sessions begun in each, by its id."""
        if self._by_parent is None:
            self._by_parent = {}
            for found in self._in_segment.values():
                for child, parent in found.items():
                    self._by_parent.setdefault(parent, []).append(child)
        return self._by_parent

    def _add(self, name: SegmentName, items: list[Any]) -> None:
        found = self._in_segment.setdefault(name, {})
        before = len(found)
        for record in items:
            child, parent = record.get("session"), record.get("parent_session")
            is_one = record.get("kind") == "session.started" and type(child) is str and type(parent) is str
            if is_one and self._count < _MOST_CHILDREN:
                found[child] = sys.intern(parent)
        self._count += len(found) - before
        self._by_parent = None


def sessions_with_prefix(home: str, beginning: str) -> list[str]:
    """Ids in journals and history that begin with this text; if there are many, some of them.

    Journals and history, which are bounded to some hundred MB, are read at most once.
    """
    needle = f'"session":"{beginning}'.encode("ascii", "replace")
    found: dict[str, None] = {}

    def keep(_: SegmentName, records: list[Any]) -> None:
        for record in records:
            session = record.get("session")
            if type(session) is str and session.startswith(beginning):
                found[session] = None

    def holds(data: bytes) -> bool:
        return len(found) < _MOST_FOUND and needle in data

    JournalSearch(home, holds=holds, keep=keep).refresh()
    return list(found)
