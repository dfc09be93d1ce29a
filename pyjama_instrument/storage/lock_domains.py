"""Lock domains: processes that write into one store and do not see each other's locks.

Examples are a container on a directory that a virtual machine shares, and an overlay file system that is also used from
its upper directory: both sides have the same bytes and not the same locks. Within each side the locks work, so this is
noticed only when a writer that should be dead, because its segment is not locked, writes to that segment. From then on,
for some days, the document contains a mark, and a missing lock proves nothing.

A restored or copied file is another inode, or holds only records from before it was found unlocked. So it is no sign.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyjama_instrument.storage.clock import elapsed_now
from pyjama_instrument.storage.snapshot import locks_are_trusted

__all__ = [
    "Unlocked",
    "are_locks_divided",
    "copy_lock_findings",
    "expire_divided",
    "mark_divided",
    "unlocked_means_dead",
    "unmark_divided",
]

_KEY = "lock-domains"
_LASTS_SECONDS = 7 * 24 * 3600  # as long as history is kept
_MOST_WRITERS = 10


class Unlocked(NamedTuple):
    """A segment that was found unlocked: its inode, its size, the first time, and whether it has grown since."""

    inode: int
    size: int
    since_us: int
    grew: bool = False

    @classmethod
    def now(cls, inode: int, size: int) -> Unlocked:
        """A segment that is found unlocked now."""
        return cls(inode, size, time.time_ns() // 1000)

    @classmethod
    def load(cls, stored: Any) -> Unlocked | None:
        """From the form in the snapshot; None if it is invalid."""
        if type(stored) is list and [type(part) for part in stored] == [int, int, int, bool]:
            return cls(*stored)
        return None

    def is_refuted(self, newest_us: int) -> bool:
        """Whether the file, which has grown, shows that its writer is alive, given the time of its newest record.

        If clocks differ, the record may seem older. But a file that grows twice is not a restored one.
        """
        return self.grew or newest_us > self.since_us


def are_locks_divided(document: dict[str, Any]) -> bool:
    """Whether the document is marked: some processes do not see the locks of others."""
    return _marker(document) is not None


def unlocked_means_dead(document: dict[str, Any]) -> bool:
    """Whether a missing lock proves that the writer is dead: locks work here, and all processes see them."""
    return locks_are_trusted(document) and not are_locks_divided(document)


def mark_divided(document: dict[str, Any], writers: Iterable[str]) -> None:
    """Mark the document: some processes do not see the locks of these writers."""
    known = _marker(document) or {"writers": {}}
    named = known["writers"] | {writer: _process(document, writer) for writer in writers}
    kept = list(named.items())[-_MOST_WRITERS:]
    document["health"][_KEY] = {"seen": int(elapsed_now(document.get("clock"))), "writers": dict(kept)}


def unmark_divided(document: dict[str, Any]) -> None:
    """Remove the mark, because a person has cleared the store."""
    health = document.get("health")
    if type(health) is dict:
        health.pop(_KEY, None)


def expire_divided(document: dict[str, Any]) -> None:
    """Remove the mark if there has been no sign for a long time."""
    marker = _marker(document)
    if marker is None or elapsed_now(document.get("clock")) - marker["seen"] > _LASTS_SECONDS:
        unmark_divided(document)


def copy_lock_findings(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Copy what a reader has found out about locks from its document ``old`` to ``new``, which it has just loaded.

    Other processes, which see other locks, may not have written it into the store.
    """
    if (marker := _marker(old)) is not None and type(new.get("health")) is dict:
        new["health"].setdefault(_KEY, marker)
    before, after = old.get("journals"), new.get("journals")
    if type(before) is not dict or type(after) is not dict:
        return
    for key, entry in after.items():
        known = before.get(key)
        if type(entry) is dict and type(known) is dict and "unlocked" in known:
            entry.setdefault("unlocked", known["unlocked"])


def _marker(document: dict[str, Any]) -> dict[str, Any] | None:
    health = document.get("health")
    marker = health.get(_KEY) if type(health) is dict else None
    if type(marker) is not dict or type(marker.get("seen")) is not int or type(marker.get("writers")) is not dict:
        return None
    return marker


def _process(document: dict[str, Any], writer: str) -> dict[str, Any]:
    known = document["writers"].get(writer, {})
    return {key: known[key] for key in ("pid", "host", "boot-id", "pid-namespace") if key in known}
