"""How far a segment of a journal has been read."""

from __future__ import annotations

import os
from typing import Any

from pyjama_instrument.storage.decoding import decode_lines
from pyjama_instrument.storage.encoding import MAX_RECORD_BYTES
from pyjama_instrument.storage.lock_domains import Unlocked

__all__ = ["Position"]


class Position:
    """How far a segment has been read.

    Attributes:
        offset: the byte up to which it was read.
        torn: how many damaged records were skipped.
        sealed: the writer is dead or uses another segment, and everything was read.
        skipping: the offset is inside a damaged stretch, which ends with the next newline.
        unlocked: when the segment was found unlocked. If its writer still writes, this process does not see the
            writer's lock, see :mod:`~pyjama_instrument.storage.lock_domains`.
        refuted: the last check has shown this.
    """

    __slots__ = ("offset", "refuted", "sealed", "skipping", "torn", "unlocked")
    __hash__ = None  # type: ignore[assignment]  # it changes

    def __init__(
        self,
        offset: int = 0,
        torn: int = 0,
        sealed: bool = False,
        skipping: bool = False,
        unlocked: Unlocked | None = None,
    ) -> None:  # not a data class: making one takes long, and each program that records would pay for it at its end
        self.offset, self.torn, self.sealed, self.skipping = offset, torn, sealed, skipping
        self.unlocked, self.refuted = unlocked, False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position) and self.dump() == other.dump()

    def __repr__(self) -> str:
        return f"Position({self.dump()})"

    @classmethod
    def load(cls, stored: Any) -> Position:
        """The position as the snapshot stores it; anything invalid counts as the beginning of the segment."""
        stored = stored if type(stored) is dict else {}
        offset, torn = stored.get("offset"), stored.get("torn")
        if type(offset) is not int or offset < 0:
            return cls()
        sealed, skipping = stored.get("sealed") is True, stored.get("skipping") is True
        unlocked = Unlocked.load(stored.get("unlocked"))
        return cls(offset, torn if type(torn) is int and torn >= 0 else 0, sealed, skipping, unlocked)

    def dump(self) -> dict[str, Any]:
        """The position as the snapshot stores it, without defaults."""
        stored: dict[str, Any] = {"offset": self.offset}
        if self.torn:
            stored["torn"] = self.torn
        if self.sealed:
            stored["sealed"] = True
        if self.skipping:
            stored["skipping"] = True
        if self.unlocked:
            stored["unlocked"] = [*self.unlocked]
        return stored

    def note_lock(self, fd: int, found: os.stat_result, locked: bool) -> None:
        """Note whether the segment is locked, and whether this refutes that it was unlocked because of a death."""
        known, inode, size = self.unlocked, found.st_ino, found.st_size
        self.refuted = False
        if known is None or (known.inode != inode and not locked):  # nothing is known of another file
            self.unlocked = None if locked else Unlocked.now(inode, size)
        elif known.inode == inode and locked:
            self.refuted, self.unlocked = True, None
        elif known.inode == inode and size > known.size:
            self.refuted = known.is_refuted(_newest_us(fd, size))
            self.unlocked = known._replace(size=size, grew=True)


def _newest_us(fd: int, size: int) -> int:
    """The time of the last record in the first ``size`` bytes; 0 if there is none."""
    start = max(0, size - 2 * MAX_RECORD_BYTES)
    lines = os.pread(fd, size - start, start).rpartition(b"\n")[0].split(b"\n")
    times = [record.get("ts") for record in decode_lines(lines[-1:])[0]]
    return times[0] if times and type(times[0]) is int else 0
