"""Lock domains: processes that write into one store and do not see each other's locks.

A container on a directory that a virtual machine shares, or an overlay file system seen from inside and from its upper
directory: the bytes are the same and the locks are not. The locks of either side work among themselves, so nothing is
amiss until a journal that was found unlocked, whose writer ought to be dead, is written to by that very writer. Then
the document says so for a while, and for that while an unlocked journal proves nothing.

A file that was restored or copied is another inode, or holds nothing that was recorded after it was found unlocked. It
proves nothing either.
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
    """That a segment was found unlocked: which file, of what size, when for the first time, whether it grew since."""

    inode: int
    size: int
    since_us: int
    grew: bool = False

    @classmethod
    def now(cls, inode: int, size: int) -> Unlocked:
        """It was found so just now."""
        return cls(inode, size, time.time_ns() // 1000)

    @classmethod
    def load(cls, stored: Any) -> Unlocked | None:
        """From the snapshot's form."""
        if type(stored) is list and [type(part) for part in stored] == [int, int, int, bool]:
            return cls(*stored)
        return None

    def is_refuted(self, newest_us: int) -> bool:
        """Whether its own writer goes on, given the time of the newest record in the same file, which has grown.

        If clocks differ, the record may seem older; what grows twice is no restored file either.
        """
        return self.grew or newest_us > self.since_us


def are_locks_divided(document: dict[str, Any]) -> bool:
    """Whether some of the store's processes are known not to see the locks of others."""
    return _marker(document) is not None


def unlocked_means_dead(document: dict[str, Any]) -> bool:
    """Whether that a journal is unlocked proves its writer's death: locks work here, and everybody sees them."""
    return locks_are_trusted(document) and not are_locks_divided(document)


def mark_divided(document: dict[str, Any], writers: Iterable[str]) -> None:
    """Write down that the locks of these writers are not seen by all."""
    known = _marker(document) or {"writers": {}}
    named = known["writers"] | {writer: _process(document, writer) for writer in writers}
    kept = list(named.items())[-_MOST_WRITERS:]
    document["health"][_KEY] = {"seen": int(elapsed_now(document.get("clock"))), "writers": dict(kept)}


def unmark_divided(document: dict[str, Any]) -> None:
    """Take it back: somebody has seen to it."""
    health = document.get("health")
    if type(health) is dict:
        health.pop(_KEY, None)


def expire_divided(document: dict[str, Any]) -> None:
    """Take it back if there was no sign of it for long."""
    marker = _marker(document)
    if marker is None or elapsed_now(document.get("clock")) - marker["seen"] > _LASTS_SECONDS:
        unmark_divided(document)


def copy_lock_findings(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Let the document ``new``, as it was loaded, know what was found out with ``old``.

    For somebody who only reads: what others write down may say nothing of what is seen from here.
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
