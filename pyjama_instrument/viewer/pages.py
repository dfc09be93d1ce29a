"""Draws what the pages ask for from one look at the store.

To be used in the source's thread only. What it remembers from look to look is bounded: counts of the last minutes,
and the newest activity of each page that shows any.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyjama_instrument.document import DashboardData
from pyjama_instrument.fold.histogram import bounds_ms
from pyjama_instrument.viewer import activity
from pyjama_instrument.viewer.activity import Entry, crashes, entries_of, merged, names_of, wanted_by
from pyjama_instrument.viewer.asked import Asked
from pyjama_instrument.viewer.recent import LINE_MS, LINE_SLOTS, Recent
from pyjama_instrument.viewer.source import Source
from pyjama_instrument.viewer.tools import tool_of, tools_of
from pyjama_instrument.viewer.view import shell_of, view_of

__all__ = ["Drawing", "older"]

_MOST_CALLS_BEFORE = 5_000
_CALLS_OF_A_TOOL = 20
# An event is on file a moment after the time it carries: what is looked at again for those that came late.
_LATE_US = 2_000_000


class Drawing:
    """The views of one moment. ``look()`` first, then ``view()`` for each page."""

    def __init__(self, source: Source, store: str | None, clearable: bool = False) -> None:
        self._source = source
        self._store = store
        self._clearable = clearable
        self._data = DashboardData()
        self._recent: Recent | None = None
        self._drawn: int | None = None  # which of the source's reads was looked at
        self._next_change: float = 0
        self._feeds: dict[Asked, _Feed] = {}

    def look(self, asked: Iterable[Asked]) -> bool:
        """Read the store if anything has happened there; whether the views may have changed.

        What is not asked for any more is forgotten.
        """
        pages = list(asked)
        self._data = self._source.dashboard()
        self._feeds = {each: self._feeds.get(each) or _Feed(each) for each in pages if each.page in _WITH_FEED}
        if self._source.reads == self._drawn and self._data.timestamp < self._next_change:
            return False
        if self._recent is not None:
            self._recent.observe(self._data)
        elif self._drawn is not None:
            self._recent = _recent(self._source, self._data)
        # What was before the first look can wait for the second: the page is to be seen at once.
        lines = any(each.page == "tool" for each in pages)
        now = self._data.timestamp
        self._next_change = self._recent.next_change(now, lines=lines) if self._recent else now
        self._drawn = self._source.reads
        return True

    def view(self, asked: Asked) -> dict[str, Any]:
        """The view that a page asks for."""
        return self._draw(asked, self._data, self._recent or Recent(), self._feeds.get(asked) or _Feed(asked))

    def once(self, asked: Asked) -> dict[str, Any]:
        """The view of this moment, for somebody who does not watch."""
        return self._draw(asked, self._source.dashboard(), self._recent or Recent(), _Feed(asked))

    def forget(self) -> None:
        """Nobody watches any more."""
        self._recent = None
        self._drawn = None
        self._feeds = {}

    def _draw(self, asked: Asked, data: DashboardData, recent: Recent, feed: _Feed) -> dict[str, Any]:
        if asked.page == "overview":
            return view_of(data, self._store, asked, recent) | {"clearable": self._clearable}
        shell = shell_of(data, self._store) | {"clearable": self._clearable}
        if asked.page == "tools":
            return shell | tools_of(data, asked, recent)
        if asked.page == "tool":
            buckets = self._source.latency(asked.name)
            return shell | tool_of(data, asked, recent, buckets, bounds_ms) | {"calls": feed.rows(self._source, data)}
        rows = feed.rows(self._source, data)
        return shell | names_of(data) | {"rows": rows, "older": feed.older}


_WITH_FEED = frozenset({"tool", "activity"})


class _Feed:
    """The newest entries that one page asks for, brought up to date by reading only what is new."""

    def __init__(self, asked: Asked) -> None:
        self._asked = Asked(page="activity", tool=asked.name) if asked.page == "tool" else asked
        self._limit = _CALLS_OF_A_TOOL if asked.page == "tool" else activity.MAX_ROWS
        self._entries: list[Entry] = []
        self._looked_us: int | None = None
        self._reached: tuple[int, str] | None = None  # what is newer than this is known; None: everything is

    @property
    def older(self) -> str | None:
        """Where to go on from; None if there is nothing older."""
        return None if self._reached is None else cursor_of(self._reached)

    def rows(self, source: Source, data: DashboardData) -> list[dict[str, Any]]:
        """The rows, newest first."""
        after = None if self._looked_us is None else self._looked_us - _LATE_US
        past = source.look_back(wanted_by(self._asked), after=after, limit=self._limit)
        known = [entry for entry in self._entries if not entry.key.startswith("crash ")]
        if after is None or (past.reached is not None and past.reached > (after, "")):
            known, self._reached = [], past.reached  # what is older does not follow on
        entries = merged(known, entries_of(past.found), limit=self._limit)
        if len(entries) == self._limit:
            self._reached = entries[-1][:2]
        dead = crashes(data, self._asked)
        if self._reached is not None:
            dead = [entry for entry in dead if entry[:2] > self._reached]
        self._entries = merged(entries, dead, limit=self._limit)
        if len(self._entries) == self._limit:  # a crash may have pushed another entry out
            self._reached = self._entries[-1][:2]
        self._looked_us = data.timestamp * 1000
        return [entry.row for entry in self._entries]


def older(source: Source, asked: Asked, before: tuple[int, str]) -> dict[str, Any]:
    """The entries before a place in time: ``rows``, ``older`` to go on from, and ``at``, how far it got (ms)."""
    past = source.look_back(wanted_by(asked), before=before, limit=activity.MAX_ROWS)
    dead = [entry for entry in crashes(source.dashboard(), asked) if entry[:2] < before]
    if past.reached is not None:
        dead = [entry for entry in dead if entry[:2] >= past.reached]
    entries = merged(entries_of(past.found), dead, limit=2 * activity.MAX_ROWS)
    return {
        "rows": [entry.row for entry in entries],
        "older": None if past.reached is None else cursor_of(past.reached),
        "at": None if past.reached is None else past.reached[0] // 1000,
    }


def cursor_of(reached: tuple[int, str]) -> str:
    """A place in time as text for an address."""
    return f"{reached[0]}.{reached[1]}"


def _recent(source: Source, data: DashboardData) -> Recent:
    """The counts of the last minutes, as far as they can be had with bounded work."""
    recent = Recent()
    begin = data.timestamp - LINE_MS * LINE_SLOTS
    past = source.look_back(_is_call, after=begin * 1000, limit=_MOST_CALLS_BEFORE)
    since = begin if past.reached is None else past.reached[0] // 1000
    recent.begin([found.record for found in reversed(past.found)], since, data)
    return recent


def _is_call(record: dict[str, Any]) -> bool:
    return record.get("kind") == "tool.ended"
