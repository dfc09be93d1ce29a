"""Builds the views of all open pages from one read of the store.

Use it in the reader's thread only. What it keeps between reads is bounded: counts of the last minutes, and the newest
entries of each page that shows an activity log.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyjama_instrument.document import DashboardData
from pyjama_instrument.fold.histogram import bounds_ms
from pyjama_instrument.storage.history_search import SearchResult
from pyjama_instrument.viewer import activity
from pyjama_instrument.viewer.activity import (
    ActivityEntry,
    crash_entries,
    filter_names,
    merge_entries,
    record_filter,
    to_entries,
)
from pyjama_instrument.viewer.call_rates import TIMELINE_SLOT_MS, TIMELINE_SLOTS, CallRates
from pyjama_instrument.viewer.overview import build_overview
from pyjama_instrument.viewer.page_frame import page_frame
from pyjama_instrument.viewer.query_parameters import QueryParameters
from pyjama_instrument.viewer.reader_thread import ReaderThread
from pyjama_instrument.viewer.tools import tool_page, tool_table

__all__ = ["ViewBuilder", "older_entries"]

_MAX_BACKFILLED_CALLS = 5_000
_CALLS_OF_A_TOOL = 20
# An event reaches its file a moment after its timestamp: this much is read again for late ones.
_LATE_US = 2_000_000
_NOTHING = SearchResult([], None)
_WITH_ENTRIES = frozenset({"tool", "activity"})


class ViewBuilder:
    """The views of one moment: call ``refresh()`` first, then ``view()`` for each page."""

    def __init__(self, source: ReaderThread, store: str | None, clearable: bool = False) -> None:
        self._source = source
        self._store = store
        self._clearable = clearable
        self._data = DashboardData()
        self._rates: CallRates | None = None
        self._seen_reads: int | None = None  # the source's ``reads`` at the last refresh
        self._next_change: float = 0
        self._logs: dict[QueryParameters, _ActivityLog] = {}

    def refresh(self, queries: Iterable[QueryParameters]) -> bool:
        """Read the store if anything has happened there; whether the views of these queries may have changed.

        Other queries are forgotten.
        """
        pages = list(queries)
        self._data = self._source.dashboard()
        self._logs = {each: self._logs.get(each) or _ActivityLog(each) for each in pages if each.page in _WITH_ENTRIES}
        if self._source.reads == self._seen_reads and self._data.timestamp < self._next_change:
            return False
        if self._rates is not None:
            self._rates.observe(self._data)
        elif self._seen_reads is not None:
            # Only at the second refresh, since reading old calls would delay the page's first view.
            self._rates = _backfilled_rates(self._source, self._data)
        timelines = any(each.page == "tool" for each in pages)
        now = self._data.timestamp
        self._next_change = self._rates.next_change(now, timelines=timelines) if self._rates else now
        self._seen_reads = self._source.reads
        return True

    def view(self, query: QueryParameters) -> dict[str, Any]:
        """The view of a page, as of the last refresh."""
        return self._build(query, self._data, self._rates or CallRates(), self._logs.get(query) or _ActivityLog(query))

    def current_view(self, query: QueryParameters) -> dict[str, Any]:
        """The view of a page as of now, for a page that has no stream."""
        return self._build(query, self._source.dashboard(), self._rates or CallRates(), _ActivityLog(query))

    def reset(self) -> None:
        """Forget what is kept between reads, when no page is open any more."""
        self._rates = None
        self._seen_reads = None
        self._logs = {}

    def _build(
        self, query: QueryParameters, data: DashboardData, rates: CallRates, log: _ActivityLog
    ) -> dict[str, Any]:
        if query.page == "overview":
            return build_overview(data, self._store, query, rates) | {"clearable": self._clearable}
        frame = page_frame(data, self._store) | {"clearable": self._clearable}
        if query.page == "tools":
            return frame | tool_table(data, query, rates)
        if query.page == "tool":
            buckets: dict[int, int] = self._source.read(lambda reader: reader.latency(query.name), {})
            calls = log.rows(self._source, data)
            return frame | tool_page(data, query, rates, buckets, bounds_ms) | {"calls": calls}
        rows = log.rows(self._source, data)
        return frame | filter_names(data) | {"rows": rows, "older": log.older}


class _ActivityLog:
    """The newest entries of one page. Each update reads only what is new."""

    def __init__(self, query: QueryParameters) -> None:
        self._query = QueryParameters(page="activity", tool=query.name) if query.page == "tool" else query
        self._limit = _CALLS_OF_A_TOOL if query.page == "tool" else activity.MAX_ROWS
        self._entries: list[ActivityEntry] = []
        self._read_at_us: int | None = None
        self._reached: tuple[int, str] | None = None  # everything newer is known; None: everything is known

    @property
    def older(self) -> str | None:
        """The cursor of the next older entries; None if there are none."""
        return None if self._reached is None else format_cursor(self._reached)

    def rows(self, source: ReaderThread, data: DashboardData) -> list[dict[str, Any]]:
        """The rows, newest first."""
        after = None if self._read_at_us is None else self._read_at_us - _LATE_US
        wanted = record_filter(self._query)
        past = source.read(lambda reader: reader.look_back(wanted, after=after, limit=self._limit), _NOTHING)
        known = [entry for entry in self._entries if not entry.key.startswith("crash ")]
        if after is None or (past.reached is not None and past.reached > (after, "")):
            known, self._reached = [], past.reached  # there is a gap between the known entries and the new ones
        entries = merge_entries(known, to_entries(past.found), limit=self._limit)
        if len(entries) == self._limit:
            self._reached = entries[-1][:2]
        crashes = crash_entries(data, self._query)
        if self._reached is not None:
            crashes = [entry for entry in crashes if entry[:2] > self._reached]
        self._entries = merge_entries(entries, crashes, limit=self._limit)
        if len(self._entries) == self._limit:  # a crash may have pushed another entry out
            self._reached = self._entries[-1][:2]
        self._read_at_us = data.timestamp * 1000
        return [entry.row for entry in self._entries]


def older_entries(source: ReaderThread, query: QueryParameters, before: tuple[int, str]) -> dict[str, Any]:
    """The entries before a cursor: ``rows``, the next cursor ``older``, and ``at``, the time reached (ms)."""
    wanted = record_filter(query)
    past = source.read(lambda reader: reader.look_back(wanted, before=before, limit=activity.MAX_ROWS), _NOTHING)
    crashes = [entry for entry in crash_entries(source.dashboard(), query) if entry[:2] < before]
    if past.reached is not None:
        crashes = [entry for entry in crashes if entry[:2] >= past.reached]
    entries = merge_entries(to_entries(past.found), crashes, limit=2 * activity.MAX_ROWS)
    return {
        "rows": [entry.row for entry in entries],
        "older": None if past.reached is None else format_cursor(past.reached),
        "at": None if past.reached is None else past.reached[0] // 1000,
    }


def format_cursor(reached: tuple[int, str]) -> str:
    """A place in the activity log as text for an address."""
    return f"{reached[0]}.{reached[1]}"


def _backfilled_rates(source: ReaderThread, data: DashboardData) -> CallRates:
    """The call rates of the last minutes, as far back as a bounded number of records reaches."""
    rates = CallRates()
    begin = data.timestamp - TIMELINE_SLOT_MS * TIMELINE_SLOTS
    past = source.read(
        lambda reader: reader.look_back(_is_call, after=begin * 1000, limit=_MAX_BACKFILLED_CALLS), _NOTHING
    )
    since = begin if past.reached is None else past.reached[0] // 1000
    rates.backfill([found.record for found in reversed(past.found)], since, data)
    return rates


def _is_call(record: dict[str, Any]) -> bool:
    return record.get("kind") == "tool.ended"
