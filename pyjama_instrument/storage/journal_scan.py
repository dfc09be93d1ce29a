"""Folding the new events of all journals, from the offsets that the snapshot carries."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pyjama_instrument.fold.document import cleared_document
from pyjama_instrument.fold.fold import Fold
from pyjama_instrument.storage.decoding import CallDecoder
from pyjama_instrument.storage.encoded_cache import ChangedEntries
from pyjama_instrument.storage.layout import CONTINUE_AT, SegmentName, list_segments, segments_of
from pyjama_instrument.storage.lock_domains import are_locks_divided, mark_divided, unlocked_means_dead
from pyjama_instrument.storage.position import Position
from pyjama_instrument.storage.process_identity import is_gone
from pyjama_instrument.storage.segment_reader import StopAtTime, read_segment
from pyjama_instrument.storage.snapshot import Snapshot, locks_are_trusted

__all__ = ["CatchUpResult", "catch_up"]

_PORTION = 50  # items folded in one go
_MOST_RETIRED = 256


class CatchUpResult(NamedTuple):
    """The result of :func:`catch_up`.

    Attributes:
        document: the document with the new events. It is the snapshot's own, unless that was cleared.
        changed: whether anything in it has changed.
        changed_entries: the entries that may have changed.
        complete: everything was read; otherwise the offsets in the document show how far it was read.
        clear_pending_us: the time of a clear that reading has not reached, so the document is still the one before it.
    """

    document: dict[str, Any]
    changed: bool
    changed_entries: ChangedEntries
    complete: bool = True
    clear_pending_us: int | None = None


def catch_up(
    snapshot: Snapshot,
    journal: int,
    history: int | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    enough: Callable[[], bool] = lambda: False,
    probe: bool = True,
) -> CatchUpResult:
    """Fold the events that are in the journals beyond the offsets of the snapshot.

    The offsets advance, those of missing segments are dropped, and sessions whose process is proven dead have crashed.
    If the snapshot was cleared, the totals are those of the events since then, and the sessions that ran at that time
    are kept.

    Args:
        snapshot: the snapshot; its document is changed.
        journal: the descriptor of the directory of the journals.
        history: the descriptor of the directory of the history. The offset of a segment there is kept as long as its
            writer may still exist.
        should_stop: called often; if it returns True, the scan is abandoned.
        enough: called after each portion. If it returns True, reading stops. No writer is declared dead then, because
            its last events may be unread, and the next scan begins with the writer that comes next.
        probe: test the lock of each segment. Otherwise the writer of a segment that has not grown counts as alive,
            which is four times quicker, if you have tested the locks just before.

    Raises:
        InterruptedError: ``should_stop`` returned True; the snapshot's document is incomplete then.
        OSError: the journals cannot be read now, for example because no descriptor is free.
    """
    document, sound, cleared_us = snapshot.document, snapshot.sound, snapshot.cleared_us
    locks_work, trust = locks_are_trusted(document), unlocked_means_dead(document)
    options = _ScanOptions(journal, history, should_stop, enough, probe, locks_work, trust)
    if cleared_us is not None:
        before = _JournalScan(Fold(document, sound=sound), options, cleared_us)
        if not before.run():
            return CatchUpResult(document, True, before.fold.changed, False, cleared_us)
        document, sound = cleared_document(document, snapshot.found, cleared_us), False
        options = options._replace(trust=before.trust)
    news = _JournalScan(Fold(document, sound=sound), options)
    complete = news.run()
    return CatchUpResult(document, news.changed or cleared_us is not None, news.fold.changed, complete)


class _ScanOptions(NamedTuple):
    """The arguments of :func:`catch_up`. ``trust``: a missing lock proves that a writer is dead."""

    journal: int
    history: int | None
    should_stop: Callable[[], bool]
    enough: Callable[[], bool]
    probe: bool
    locks_work: bool
    trust: bool


class _JournalScan:
    """Reads all segments once, to their ends or to the first record from ``until_us`` or later."""

    def __init__(self, fold: Fold, options: _ScanOptions, until_us: int | None = None) -> None:
        self.fold = fold
        self.journal, self.history, self.should_stop, self.enough, self.probe, self.locks_work, self.trust = options
        self.until_us = until_us
        self.before: dict[str, Any] = fold.document["journals"]
        self.retired_before: dict[str, Any] = fold.document["retired"]
        self.after: dict[str, Any] = {}
        self.retired: dict[str, Any] = {}
        self.unseen: set[str] = set()  # writers whose locks some processes do not see, as this scan has found
        self.alive: set[str] = set()  # they hold a segment, or were not read to their end
        self.cut: set[str] = set()  # writers with a record from ``until_us`` or later
        self.changed = self.stopped = False
        self.calls = CallDecoder()

    def run(self) -> bool:
        """Read the segments and finish the fold; returns whether everything was read."""
        document = self.fold.document
        segments = self._in_order(document.pop(CONTINUE_AT, None))
        self._read_retired(segments)
        self._read_all(segments)
        if not self.stopped:
            self._read_new_segments(segments)
        self.unseen |= self.fold.unseen_writers
        if self.unseen:
            mark_divided(document, self.unseen)
        dead = set() if self.stopped else self._dead()
        self.fold.writers_died(dead)
        self.fold.finish()
        document["journals"], document["retired"] = self.after, self._newest_retired()
        known = {key.partition("-")[0] for key in self.after} | self.fold.running_writers()
        document["writers"] = {key: value for key, value in document["writers"].items() if key in known}
        self.changed = bool(dead) or self.before != self.after or self.retired_before != document["retired"]
        return not self.stopped

    def _dead(self) -> set[str]:
        if self.locks_work and are_locks_divided(self.fold.document):
            self._check_processes()
        return self.fold.running_writers() - self.alive

    def _in_order(self, first: Any) -> list[SegmentName]:
        segments = self._segments()
        at = bisect_left(segments, (first, 0)) if type(first) is str else 0
        return segments[at:] + segments[:at]

    def _read_all(self, segments: list[SegmentName]) -> None:
        last = ""
        for name in segments:
            if self.stopped and name.writer != last:
                self.fold.document.setdefault(CONTINUE_AT, name.writer)
            if self.stopped or name.writer in self.cut:
                self._skip(name)
            else:
                last = name.writer
                self._read(name)

    def _read_new_segments(self, segments: list[SegmentName]) -> None:
        """Read segments that writers have opened after the directory was listed."""
        last = {name.writer: name for name in segments}
        for writer in last.keys() - self.alive:
            name = last[writer].next
            while (there := self._exists(name)) and self._read(name):
                if self.stopped:
                    return
                name = name.next
            if there is None:  # it cannot be checked, so its writer is not declared dead
                self.alive.add(writer)

    def _skip(self, name: SegmentName) -> None:
        self.alive.add(name.writer)
        if (stored := self.before.get(name.key)) is not None:
            self.after[name.key] = stored

    def _is_over_budget(self) -> bool:
        self.stopped = self.stopped or self.enough()
        return self.stopped

    def _add(self, writer: str, items: Sequence[Any]) -> None:
        for start in range(0, len(items) or 1, _PORTION):
            if self.should_stop():  # between batches too, because a fork or the end of the process waits for this
                raise InterruptedError("asked to stop")
            self.fold.add(writer, items[start : start + _PORTION])

    def _segments(self) -> list[SegmentName]:
        """The segments in the journal, in the order of each writer.

        If a directory changes while it is listed, the list may lack some. So segments with an offset in the snapshot,
        and segments that come before others, are looked up by name. If a segment were missed, its offset would be lost
        and it would be counted again, or its events would be folded after those of the next segment.
        """
        found = set(list_segments(self.journal))
        to_check = [*segments_of(self.before), *(name.previous for name in found if name.number > 1)]
        while to_check:
            name = to_check.pop()
            if name is None or name in found:
                continue
            there = self._exists(name)
            if there is not False:  # a segment that cannot be checked keeps its offset
                found.add(name)
            if there:
                to_check.append(name.previous)
        return sorted(found)

    def _exists(self, name: SegmentName) -> bool | None:
        """Whether the segment is in the journal; None if this cannot be checked."""
        try:
            os.stat(name.filename, dir_fd=self.journal, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError:
            return None
        return True

    def _read(self, name: SegmentName, directory: int | None = None) -> bool:
        """Fold the new records of one segment; returns whether the segment exists."""
        if self.should_stop():
            raise InterruptedError("asked to stop")
        key, writer = name.key, name.writer
        place, after = (self.journal, self.after) if directory is None else (directory, self.retired)
        stored = self.before.get(key, self.retired_before.get(key))
        # If locks prove nothing, there is no need to test one.
        if stored is not None and not (self.probe and self.trust) and _has_size(place, name, stored):
            self.alive.add(writer)
            after[key] = stored
            return True
        position = Position.load(stored)
        torn, was_sealed, unlocked = position.torn, position.sealed, position.unlocked
        until = None if self.until_us is None else StopAtTime(self.until_us)
        held = read_segment(
            place,
            name,
            position,
            lambda items: self._add(writer, items),
            self.calls,
            trust=self.trust,
            enough=self._is_over_budget,
            until=until,
        )
        if calls := self.calls.take_pending():
            self._add(writer, calls)
        if held is None:
            return False
        self.fold.count_damaged(position.torn - torn)
        if held:
            self.alive.add(writer)
            if was_sealed:
                self.fold.writers_live({writer})
        if not self.locks_work:
            position.unlocked = unlocked
        elif position.refuted:
            self.unseen.add(writer)
            self.trust = False
        if until is not None and until.met:
            self.cut.add(writer)
        after[key] = position.dump()
        if after[key] != stored:
            self._is_over_budget()
        return True

    def _check_processes(self) -> None:
        """If a missing lock proves nothing, only writers whose process is known to be gone are dead."""
        for entry in self.after.values():
            entry.pop("sealed", None)
        there = {key.partition("-")[0] for key in self.after}
        retired = {key.partition("-")[0] for key in self.retired}
        concerned = (there & self.fold.crashed_writers()) | ((there | retired) & self.fold.running_writers())
        writers = self.fold.document["writers"]
        self.alive = {writer for writer in concerned if not is_gone(writers.get(writer, {}))}
        self.fold.writers_live(self.alive)

    def _read_retired(self, segments: Sequence[SegmentName]) -> None:
        """Fold what has been added to segments in the history, whose writers may still be alive."""
        if self.history is None:
            self.retired = dict(self.retired_before)
            return
        there = set(segments)
        for name in sorted(set(segments_of([*self.retired_before, *self.before])) - there):
            stored: dict[str, Any] = self.before.get(name.key) or self.retired_before[name.key]
            try:
                size = os.stat(name.filename, dir_fd=self.history, follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
            except OSError:
                size = -1
            process = stored.get("process") or self.fold.document["writers"].get(name.writer, {})
            if size > Position.load(stored).offset:
                self.fold.document["writers"].setdefault(name.writer, process)
                self._read(name, self.history)
                self.retired[name.key] |= {"process": process}
            elif not (self._has_moved_on(name, there) or is_gone(process)):
                self.retired[name.key] = stored | {"process": process}

    def _has_moved_on(self, name: SegmentName, there: set[SegmentName]) -> bool:
        return name.next in there or name.next.key in self.retired_before or name.next.key in self.before

    def _newest_retired(self) -> dict[str, Any]:
        if len(self.retired) <= _MOST_RETIRED:
            return self.retired
        found = {key: Position.load(stored).unlocked for key, stored in self.retired.items()}
        newest = sorted(found, key=lambda key: at.since_us if (at := found[key]) else 0)[-_MOST_RETIRED:]
        return {key: self.retired[key] for key in sorted(newest)}


def _has_size(directory: int, name: SegmentName, stored: Any) -> bool:
    """Whether the segment ends where reading stopped, without damage, and its writer was not found dead."""
    try:
        found = os.stat(name.filename, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return False
    if not stat.S_ISREG(found.st_mode) or type(stored) is not dict:
        return False
    return {key: stored[key] for key in stored if key != "unlocked"} == {"offset": found.st_size}
