"""The reader: everything the store knows, without writing to it or locking anything.

What is read is the snapshot plus what the journals hold beyond its offsets, so it is current to the last write
even when nobody folds. Files may appear, grow, move and vanish meanwhile.

Why nothing is counted twice or missed: the snapshot and its offsets are one file, replaced in one step. A segment
is moved away only once two generations of the snapshot cover it, so whoever holds one generation finds all the
segments it needs as long as it has been followed by at most one other. The reader checks that at the end, and
starts again if it was overtaken.
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
_PROBE_SECONDS = 0.5  # a death is seen that much later at most
_STALE_LOCK_SECONDS = 10.0


class Reader:
    """A reader that is asked again and again, and reads only what is new each time.

    Not thread-safe: use one from one thread at a time.

    Args:
        home: the store's directory; by default the one in force. It need not exist.

    Raises:
        ConfigError: ``home`` cannot be a path.
        StoreUnavailable: nothing says where the store is.
    """

    def __init__(self, home: str | os.PathLike[str] | None = None) -> None:
        self.home = resolve_home(home)
        self._snapshot: Snapshot | None = None
        self._lookup = RunLookup(self.home)
        self._probed_at = float("-inf")
        self._builder = DashboardBuilder()
        self._changes = ChangeDetector(self.home)
        self._current: dict[str, Any] | None = None  # the document as of the last read, if that went well
        self._reads = 0
        self._last_notes: list[str] = []

    def revision(self) -> int:
        """A number that stays the same while nothing happens in the store. It costs next to nothing to ask for it.

        What the clock alone changes does not count: ``calls_per_second`` falls for ten seconds after the last call.
        """
        is_current = self._current is not None and not self._has_changed() and self._notes() == self._last_notes
        return self._reads if is_current else self._reads + 1

    def metrics(self) -> dict[str, Any]:
        """The snapshot document as it would be if everybody's journals were folded this moment.

        Raises:
            SchemaTooNew: the store was written by a newer version of this package.
        """
        return copy.deepcopy(self._document())

    def dashboard(self) -> DashboardData:
        """What the dashboard shows now.

        A store that does not exist is empty; one written by a newer version is empty too, with a note in
        ``health``.
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

        Asked again for one of the last few sessions, it reads only what is new, and while nothing is, it gives the
        same tree again: change nothing in it.

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
        """The summaries of these sessions, by id, without those of which nothing is known.

        Raises:
            SchemaTooNew: the store was written by a newer version of this package.
        """
        return self._lookup.summaries(session_ids, self._document(), self._builder)

    def sessions_beginning(self, beginning: str) -> list[str]:
        """The ids of sessions that begin so: those the dashboard lists, or else those of the raw history.

        The history, which is bounded, is read at most once, and no further than it takes to find a handful.

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
        """How often one tool took how long: calls by bucket, see ``fold.histogram.bounds_ms``."""
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
        """The snapshot with the journals' news folded in. The caller must not change it."""
        # Whoever reads once only does not pay for the watch: it begins with the second time.
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
        """Whether the store has to be read again, because it has changed or because somebody has died."""
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
        """One attempt, and whether folds went on so fast meanwhile that a segment may have been missed."""
        held = self._snapshot
        if held is None or held.state != "whole" or held.identity != identity(directory):
            last, held = held, load(directory)
            if last is not None:
                copy_lock_findings(last.document, held.document)
        self._snapshot = None  # while it is half done
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
            self._builder = DashboardBuilder()  # what was half done has changed entries, and nobody says which
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
            notes.append("metrics.json cannot be read; shown is what the generation before it and the journals say")
        try:
            held_for = time.time() - os.stat(os.path.join(self.home, ORIGINAL_LOCK)).st_mtime
        except OSError:
            return notes
        if held_for > _STALE_LOCK_SECONDS:
            age = f"{held_for // 60:.0f} min" if held_for >= 60 else f"more than {_STALE_LOCK_SECONDS:.0f} s"
            notes.append(f"metrics.lock has been there for {age}: metrics.json is not being updated")
        return notes
