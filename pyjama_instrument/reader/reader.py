"""The reader: reads a store without writing to it or locking anything.

It reads the snapshot and the events that the journals hold beyond its offsets. So it is current to the last write even
if no process folds. Files may appear, grow, move and disappear during a read.

Why nothing is counted twice or missed: the snapshot and its offsets are one file, replaced in one step. A segment is
moved away only after two generations of the snapshot cover it. So a reader with one generation finds all segments that
it needs, as long as at most one newer generation was written. The reader checks this at the end, and reads again if
there were more.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Collection
from typing import Any, Unpack

from pyjama_instrument._platform import OPEN_FOLDER
from pyjama_instrument.config import resolve_home
from pyjama_instrument.document import DashboardData, SessionSummary, SessionTree
from pyjama_instrument.errors import ConfigError, SchemaTooNew, SessionNotFound
from pyjama_instrument.events import AnyEvent
from pyjama_instrument.fold.document import new_document, repaired
from pyjama_instrument.reader.dashboard_data import DashboardBuilder
from pyjama_instrument.reader.event_tail import last_events
from pyjama_instrument.reader.run_lookup import RunLookup
from pyjama_instrument.reader.session_history import sessions_with_prefix
from pyjama_instrument.storage.change_detection import ChangeDetector
from pyjama_instrument.storage.history_search import SearchBounds, SearchResult, Wanted, look_back
from pyjama_instrument.storage.journal_scan import catch_up
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, ORIGINAL_LOCK, PREVIOUS
from pyjama_instrument.storage.lock_domains import copy_lock_findings
from pyjama_instrument.storage.snapshot import Snapshot, identity, load, locks_are_trusted

__all__ = ["Reader"]

_ATTEMPTS = 10
_PROBE_SECONDS = 0.5  # the death of a process is noticed within this time
_STALE_LOCK_SECONDS = 10.0


class Reader:
    """Reads a store again and again, and each time only what is new.

    Not thread-safe: use a reader in one thread at a time.

    Args:
        home: the store's directory; by default the one in force. It need not exist.

    Raises:
        ConfigError: ``home`` cannot be a path.
        StoreUnavailable: no setting names the store, and there is no home directory.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = resolve_home(home)
        self._snapshot: Snapshot | None = None
        self._lookup = RunLookup(self.home)
        self._probed_at = float("-inf")
        self._builder = DashboardBuilder()
        self._changes = ChangeDetector(self.home)
        self._current: dict[str, Any] | None = None  # the document of the last read; None if that failed
        self._reads = 0
        self._last_notes: list[str] = []

    def revision(self) -> int:
        """A number that changes only if something happens in the store. Reading it is cheap.

        Changes by time alone do not count: ``calls_per_second`` falls for ten seconds after the last call.
        """
        is_current = self._current is not None and not self._has_changed() and self._notes() == self._last_notes
        return self._reads if is_current else self._reads + 1

    def metrics(self) -> dict[str, Any]:
        """The document of the snapshot with the events of all journals folded in.

        Raises:
            SchemaTooNew: the store was written by a newer version of this package.
        """
        return copy.deepcopy(self._document())

    def dashboard(self) -> DashboardData:
        """The data of the dashboard as of now.

        If the store does not exist, the data is empty. If a newer version has written it, the data is empty and has a
        note in ``health``.
        """
        try:
            document, notes = self._document(), self._notes()
        except SchemaTooNew as error:
            document, notes = new_document(), [str(error)]
        if notes != self._last_notes:
            self._last_notes = notes
            self._reads += 1
        data = self._builder.dashboard(document, notes)
        data.sessions |= self._lookup.incomplete_sessions(document, self._builder)
        return data

    def session(self, session_id: str) -> SessionTree:
        """The tree of spans of one session, from the history and the journals.

        For one of the last few sessions, it reads only what is new. If nothing is, it returns the same tree again, so
        do not change it.

        Raises:
            ConfigError: a session id is a string.
            SessionNotFound: no such session is known.
            SchemaTooNew: the store was written by a newer version of this package.
        """
        if not isinstance(session_id, str):
            raise ConfigError(f"a session id is a string, not {type(session_id).__name__}")
        tree = self._lookup.tree(session_id, self._document(), self._builder)
        if tree is None:
            raise SessionNotFound(f"no session {session_id!r:.80} in {self.home}")
        return tree

    def sessions(self, session_ids: Collection[str]) -> dict[str, SessionSummary]:
        """The summaries of these sessions by id, without unknown sessions.

        Raises:
            SchemaTooNew: the store was written by a newer version of this package.
        """
        return self._lookup.summaries(session_ids, self._document(), self._builder)

    def sessions_beginning(self, beginning: str) -> list[str]:
        """The ids that begin with this text: of the sessions in the dashboard, or otherwise of those in the history.

        The history is read at most once, and only until a few ids are found.

        Raises:
            SchemaTooNew: the store was written by a newer version of this package.
        """
        document = self._document()
        known = [sid for part in ("sessions", "unlisted") for sid in document[part] if sid.startswith(beginning)]
        return known or sessions_with_prefix(self.home, beginning)

    def tail(self, limit: int = 100) -> list[AnyEvent]:
        """The last ``limit`` events of all journals, oldest first.

        Raises:
            ConfigError: ``limit`` is not a number of events.
        """
        return last_events(self.home, limit)

    def latency(self, tool: str) -> dict[int, int]:
        """The latency of one tool: the number of calls by bucket, see ``fold.histogram.bounds_ms``."""
        buckets = self._document()["tools"].get(tool, {}).get("latency", {}).get("buckets", {})
        return {int(key): count for key, count in buckets.items() if key.isdecimal() and len(key) < 4}

    def look_back(self, wanted: Wanted, **bounds: Unpack[SearchBounds]) -> SearchResult:
        """The newest records that are wanted, from the journals and the history, with bounded work.

        Args:
            wanted: which records.
            **bounds: ``before``, ``after`` and ``limit``, see
                :class:`~pyjama_instrument.storage.history_search.SearchBounds`.
        """
        places = [os.path.join(self.home, place) for place in (JOURNAL, HISTORY)]
        return look_back(places, wanted, **bounds)

    # -- the document

    def _document(self) -> dict[str, Any]:
        """The snapshot with the new events of the journals. The caller must not change it."""
        # The first read does not check for changes, so reading once costs nothing more.
        if self._reads and not self._has_changed() and self._current is not None:
            return self._current
        self._current = None
        try:
            document = self._read_consistent()
        finally:
            self._reads += 1
        self._changes.mark_read(document["journals"])
        self._current = document
        return document

    def _read_consistent(self) -> dict[str, Any]:
        document = None
        for _ in range(_ATTEMPTS):
            try:
                directory = os.open(self.home, OPEN_FOLDER)
            except OSError:
                self._snapshot = None
                return new_document()
            try:
                document, overtaken = self._read(directory)
                if not overtaken:
                    break
            finally:
                os.close(directory)
        return document or new_document()

    def _has_changed(self) -> bool:
        """Whether the store must be read again, because it has changed or a process has died."""
        if self._changes.has_changed():
            return True
        if time.monotonic() - self._probed_at < _PROBE_SECONDS:
            return False
        self._probed_at = time.monotonic()
        if self._current is not None and locks_are_trusted(self._current) and self._changes.has_dead_writer():
            self._probed_at = float("-inf")
            return True
        return False

    def _read(self, directory: int) -> tuple[dict[str, Any], bool]:
        """One attempt, and whether so many generations were written meanwhile that a segment may have been missed."""
        held = self._snapshot
        if held is None or held.state != "whole" or held.identity != identity(directory):
            last, held = held, load(directory)
            if last is not None:
                copy_lock_findings(last.document, held.document)
        self._snapshot = None  # until the read is complete
        try:
            journal = os.open(JOURNAL, OPEN_FOLDER, dir_fd=directory)
        except OSError:
            return repaired(held.document), False
        try:
            history = os.open(HISTORY, OPEN_FOLDER, dir_fd=directory)
        except OSError:
            history = None
        probe = time.monotonic() - self._probed_at >= _PROBE_SECONDS
        try:
            news = catch_up(held, journal, history, probe=probe)
            document, changed_entries = news.document, news.changed_entries
        except BaseException:
            self._builder = DashboardBuilder()  # the incomplete read has changed unknown entries
            raise
        finally:
            os.close(journal)
            if history is not None:
                os.close(history)
        if probe:
            self._probed_at = time.monotonic()
        self._builder.forget(changed_entries)
        self._snapshot = held._replace(sound=True)
        overtaken = held.identity not in (identity(directory), identity(directory, PREVIOUS))
        return document, overtaken

    def _notes(self) -> list[str]:
        notes = []
        state = self._snapshot.state if self._snapshot else "absent"
        if state == "corrupt":
            notes.append("metrics.json cannot be read: the data comes from its previous generation and the journals")
        try:
            held_for = time.time() - os.stat(os.path.join(self.home, ORIGINAL_LOCK)).st_mtime
        except OSError:
            return notes
        if held_for > _STALE_LOCK_SECONDS:
            age = f"{held_for // 60:.0f} min" if held_for >= 60 else f"more than {_STALE_LOCK_SECONDS:.0f} s"
            notes.append(f"metrics.lock has been there for {age}: metrics.json is not being updated")
        return notes
