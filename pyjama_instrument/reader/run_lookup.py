"""Looking up runs: the same result for each run, whether the document still lists it or not.

If the document has the complete run, it comes from the document. Otherwise it is made again from the events in the
history, by the same fold (see :mod:`~pyjama_instrument.reader.session_history`), as long as these are kept.
"""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pyjama_instrument.document import SessionSummary, SessionTree
from pyjama_instrument.reader.dashboard_data import DashboardBuilder, session_fields
from pyjama_instrument.reader.session_history import ChildSessions, SessionRecords
from pyjama_instrument.reader.span_tree import build_tree

__all__ = ["RunLookup"]

_MAX_SPANS = 20_000
_MAX_RELATIVES = 2_000
_MAX_INCOMPLETE = 200
_SEARCH_SECONDS = 30.0
_KEPT_SESSIONS = 4
_SLACK_US = 2_000_000  # between the clock of events and that of files

Document = dict[str, Any]


class RunLookup:
    """Remembers what it has read of the last few runs, and reads only what is new."""

    def __init__(self, home: str) -> None:
        self._home = home
        self._children = ChildSessions(home)
        self._recent: dict[str, _RunTree] = {}
        self._incomplete = SessionRecords(home, ())
        self._searched_at = float("-inf")

    def incomplete_sessions(self, document: Document, builder: DashboardBuilder) -> dict[str, SessionSummary]:
        """The sessions that the document lists incompletely, by id, made from the events in the history.

        The whole history is searched at most twice a minute.
        """
        listed = _ListedSessions(document, builder)
        incomplete = [sid for sid in document["sessions"] if not listed.is_complete(sid)][-_MAX_INCOMPLETE:]
        if not incomplete:
            return {}
        is_due = time.monotonic() - self._searched_at >= _SEARCH_SECONDS
        if is_due and not self._incomplete.sessions.issuperset(incomplete):
            self._incomplete, self._searched_at = SessionRecords(self._home, incomplete), time.monotonic()
        self._incomplete.refresh(document)
        return {sid: summary for sid in incomplete if (summary := listed.resolve(sid, self._incomplete)) is not None}

    def tree(self, session_id: str, document: Document, builder: DashboardBuilder) -> SessionTree | None:
        """The run's tree as of now; the same object if nothing is new; None if the run is unknown."""
        self._children.refresh()
        run = self._recent.pop(session_id, None) or _RunTree(self._home, session_id)
        tree = run.tree(_ListedSessions(document, builder), self._children.by_parent())
        if tree is not None:
            self._recent[session_id] = run
            if len(self._recent) > _KEPT_SESSIONS:
                del self._recent[next(iter(self._recent))]
        return tree

    def summaries(
        self, sessions: Collection[str], document: Document, builder: DashboardBuilder
    ) -> dict[str, SessionSummary]:
        """The summaries of these runs by id, without unknown runs."""
        listed = _ListedSessions(document, builder)
        found = {sid: summary for sid in sessions if (summary := listed.complete(sid)) is not None}
        unlisted = SessionRecords(self._home, (sid for sid in sessions if sid not in found))
        if unlisted.sessions:
            unlisted.refresh(document)
        return found | {
            sid: summary for sid in unlisted.sessions if (summary := listed.resolve(sid, unlisted)) is not None
        }


class _ListedSessions:
    """The sessions of the document."""

    def __init__(self, document: Document, builder: DashboardBuilder) -> None:
        self.document = document
        self._builder = builder

    def is_complete(self, session_id: str) -> bool:
        """Whether the session's entry is complete: the fold has seen its start and has listed it ever since."""
        entry = self.document["sessions"].get(session_id)
        return entry is not None and entry["writer"] is not None and not entry.get("partial")

    def complete(self, session_id: str) -> SessionSummary | None:
        """The session, if its entry is complete."""
        if not self.is_complete(session_id):
            return None
        return self._builder.session(session_id, self.document["sessions"][session_id])

    def resolve(self, session_id: str, records: SessionRecords) -> SessionSummary | None:
        """The session from its complete entry, or else from the history, or else from what the document has of it."""
        if (summary := self.complete(session_id)) is not None:
            return summary
        entry, replayed = self.document["sessions"].get(session_id), records.record(session_id, self.document)
        if entry is not None and (replayed is None or replayed["writer"] is None):
            return self._builder.session(session_id, entry)
        # A copy, because the fold continues to change it.
        return None if replayed is None else SessionSummary.model_validate(copy.deepcopy(session_fields(replayed)))

    def children(self) -> dict[str, list[str]]:
        """The ids of the sessions begun in each, by its id."""
        found: dict[str, list[str]] = {}
        for sid, session in self.document["sessions"].items():
            if type(parent := session.get("parent-session")) is str:
                found.setdefault(parent, []).append(sid)
        return found


class _RunTree:
    """One run: its records so far, and the last tree with what it was made from."""

    def __init__(self, home: str, session_id: str) -> None:
        self._home = home
        self._id = session_id
        self._records = SessionRecords(home, [session_id], keep=True)
        self._unlisted = SessionRecords(home, ())  # relatives of which the document has no complete entry
        self._ended: dict[str, SessionSummary] = {}  # the summaries of relatives that have ended
        self._last: tuple[SessionSummary, SessionTree] | None = None

    def tree(self, listed: _ListedSessions, children: Mapping[str, list[str]]) -> SessionTree | None:
        changed = self._records.refresh(listed.document)
        summary = listed.resolve(self._id, self._records)
        if summary is None:
            return None
        inside = _Descendants(self._id, listed.children(), children)
        relatives = self._relatives(summary.parent_session, inside, listed)
        direct = inside.of(self._id)
        begun = sorted(
            (sid for sid in direct if sid in relatives), key=lambda sid: (relatives[sid].start_time or 0, sid)
        )
        if len(relatives) >= _MAX_RELATIVES:
            begun += [sid for sid in direct if sid not in relatives]
        if self._last is not None and not changed and self._last[0] == summary:
            tree = self._last[1]
            if tree.child_sessions == begun and tree.relatives == relatives:
                return tree
        tree = build_tree(self._id, summary, self._records.found, begun, limit=_MAX_SPANS)
        tree.relatives = relatives
        self._last = summary, tree
        return tree

    def _relatives(
        self, parent: str | None, inside: _Descendants, listed: _ListedSessions
    ) -> dict[str, SessionSummary]:
        """The run that this one is part of, and those inside it, at any depth."""
        wanted = dict.fromkeys(sid for sid in (parent, *inside.all()) if sid is not None and sid != self._id)
        found = {sid: summary for sid in wanted if (summary := listed.complete(sid)) is not None}
        found |= {sid: self._ended[sid] for sid in wanted if sid not in found and sid in self._ended}
        missing = [sid for sid in wanted if sid not in found][: max(0, _MAX_RELATIVES - len(found))]
        if missing:
            if self._unlisted.sessions != frozenset(missing):
                self._unlisted = SessionRecords(self._home, missing)
            begin_ms = None if parent in missing else self._records.begin_ms
            # What is inside the run was recorded after its beginning.
            self._unlisted.refresh(listed.document, since_us=begin_ms and begin_ms * 1000 - _SLACK_US)
            for sid in missing:
                if (summary := listed.resolve(sid, self._unlisted)) is not None:
                    found[sid] = summary
        self._ended |= {sid: summary for sid, summary in found.items() if summary.status != "running"}
        return {sid: found[sid] for sid in wanted if sid in found}


class _Descendants:
    """The runs inside a run, at any depth, of which one part is known here and another there."""

    def __init__(self, session_id: str, *known: Mapping[str, list[str]]) -> None:
        self._id = session_id
        self._known = known

    def of(self, parent: str) -> list[str]:
        """Those begun in that run."""
        return list(dict.fromkeys(child for known in self._known for child in known.get(parent, ())))

    def all(self) -> Iterable[str]:
        """All of them, those nearest to the run first."""
        found: dict[str, None] = {}
        ahead = deque([self._id])
        while ahead:
            for child in self.of(ahead.popleft()):
                if child not in found and child != self._id:
                    found[child] = None
                    ahead.append(child)
        return found
