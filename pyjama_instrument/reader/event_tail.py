"""Single events: the last ones of all processes, and new ones while they are recorded."""

from __future__ import annotations

import heapq
import itertools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import ValidationError

from pyjama_instrument._platform import OPEN_FOLDER
from pyjama_instrument.config import resolve_home
from pyjama_instrument.errors import ConfigError
from pyjama_instrument.events import AnyEvent, parse_event
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, SegmentName, list_segments
from pyjama_instrument.storage.position import Position
from pyjama_instrument.storage.segment_reader import Sink, read_segment

__all__ = ["EventFollower", "last_events", "tail_events"]

_KEPT_RECORDS = 10_000


def last_events(home: str, limit: int) -> list[AnyEvent]:
    """The last ``limit`` events of all journals and of the history, oldest first.

    Raises:
        ConfigError: ``limit`` is not a number of events.
    """
    _check_limit(limit)
    records = (record for _, record in _records(home) if type(record.get("ts")) is int)
    last = sorted(heapq.nlargest(limit, records, key=_ts), key=_ts)
    return [event for event in map(_parsed, last) if event is not None]


def _records(home: str) -> Iterator[tuple[SegmentName, dict[str, Any]]]:
    """All records of the history, then of the journals; a segment that moves during this is read once."""
    seen: set[SegmentName] = set()
    for _ in range(2):  # twice: a segment that was in neither list may have moved between the two
        for place in (HISTORY, JOURNAL):
            for name, records in _segments_in(home, place, seen):
                for record in records:
                    yield name, record


def _segments_in(home: str, place: str, seen: set[SegmentName]) -> Iterator[tuple[SegmentName, list[dict[str, Any]]]]:
    try:
        directory = os.open(os.path.join(home, place), OPEN_FOLDER)
    except OSError:
        return
    try:
        for name in list_segments(directory):
            records: list[dict[str, Any]] = []
            if name not in seen and read_segment(directory, name, Position(), records.extend) is not None:
                seen.add(name)
                yield name, records
    finally:
        os.close(directory)


def tail_events(
    home: str | os.PathLike[str] | None = None,
    *,
    limit: int | None = 100,
    follow: bool = False,
    poll_seconds: float = 0.25,
    stop: Callable[[], bool] | None = None,
    matching: Callable[[AnyEvent], bool] | None = None,
) -> Iterator[AnyEvent]:
    """The last events of all processes in the order of their times and, with ``follow``, new ones as they are recorded.

    Args:
        home: the store's directory; by default the one in force.
        limit: how many past events to begin with; None for all.
        follow: continue with new events; each is returned once, in the order of its process.
        poll_seconds: how often to look for new events.
        stop: called at each check; following ends when it returns True.
        matching: which events are wanted, all by default; ``limit`` counts only these.

    Raises:
        ConfigError: an argument has the wrong type.
        StoreUnavailable: no setting names the store, and there is no home directory.
    """
    if limit is not None:
        _check_limit(limit)
    if isinstance(poll_seconds, bool) or not isinstance(poll_seconds, int | float) or not 0 <= poll_seconds <= 1e9:
        raise ConfigError("poll_seconds must be a number of seconds, at least 0")
    follower = EventFollower(resolve_home(home), matching)
    past = follower.news(limit)  # read now, not at the first ``next``: events after this call are new
    following = _following(follower, poll_seconds, stop or (lambda: False)) if follow else ()
    return filter(None, map(_parsed, itertools.chain(past, following)))


def _following(follower: EventFollower, poll_seconds: float, stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    while not stop():
        news = follower.news()
        yield from news
        if not news:
            time.sleep(poll_seconds)


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
        raise ConfigError("limit must be a number of events, at least 0")


class EventFollower:
    """Remembers how far each segment was read, also if it moves."""

    def __init__(self, home: str, matching: Callable[[AnyEvent], bool] | None = None) -> None:
        self._home = home
        self._matching = matching
        self._positions: dict[SegmentName, Position] = {}

    def news(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Records that were not returned before, oldest first; with ``limit``, only that many of the last."""
        records: list[dict[str, Any]] = []

        def keep(more: list[dict[str, Any]]) -> None:
            records.extend(record for record in more if type(record.get("ts")) is int and self._is_wanted(record))
            if limit is not None and len(records) > limit + _KEPT_RECORDS:
                records[:] = heapq.nlargest(limit, records, key=_ts)

        # The journals first: a segment that moves between the two listings is in both. A segment that was opened and
        # retired since the last check is in the history.
        known, self._positions = self._positions, {}
        for place in (JOURNAL, HISTORY):
            self._read_place(place, known, keep)
        records.sort(key=_ts)
        return records if limit is None else records[len(records) - min(limit, len(records)) :]

    def _is_wanted(self, record: dict[str, Any]) -> bool:
        if self._matching is None:
            return True
        event = _parsed(record)
        return event is not None and self._matching(event)

    def _read_place(self, place: str, known: dict[SegmentName, Position], keep: Sink) -> None:
        try:
            directory = os.open(os.path.join(self._home, place), OPEN_FOLDER)
        except OSError:
            self._positions = known | self._positions  # it may be there again at the next check
            return
        try:
            for name in list_segments(directory):
                position = self._positions.setdefault(name, known.get(name) or Position())
                # In the journal, a sealed segment may have a writer whose lock this process does not see.
                if not position.sealed or place == JOURNAL:
                    read_segment(directory, name, position, keep)
        finally:
            os.close(directory)


def _ts(record: dict[str, Any]) -> int:
    return int(record["ts"])


def _parsed(record: dict[str, Any]) -> AnyEvent | None:
    try:
        return parse_event(record)
    except ValidationError:
        return None
