"""Names and places: what the files of a store are called."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

__all__ = [
    "CLEARED_AT",
    "CONTINUE_AT",
    "CORRUPT_PREFIX",
    "HISTORY",
    "JOURNAL",
    "LOCK",
    "ORIGINAL_LOCK",
    "PREVIOUS",
    "SCHEMA",
    "SIGNATURE",
    "SNAPSHOT",
    "SegmentName",
    "list_segments",
    "segments_of",
]

SCHEMA = 1
SNAPSHOT = "metrics.json"
SIGNATURE = b"} \n"
"""How a snapshot of this package ends: other programs that write JSON put no blank before the newline."""
PREVIOUS = "metrics.json.prev"
LOCK = "metrics.json.lock"
ORIGINAL_LOCK = "metrics.lock"
CORRUPT_PREFIX = "metrics.json.corrupt-"
JOURNAL = "journal"
HISTORY = "history"

CLEARED_AT = "cleared-at"
"""In the previous generation, while a clear is in progress: when the snapshot was removed (µs since the epoch)."""
CONTINUE_AT = "continue-at"
"""In a snapshot whose fold has stopped early: the writer at which the next fold begins."""

_SEGMENT = re.compile(r"([0-9a-f]{16})-(\d{1,9})\.jsonl")


class SegmentName(NamedTuple):
    """A journal segment: the ``number``-th file of one writer."""

    writer: str
    number: int

    @property
    def key(self) -> str:
        """The key of the segment in the snapshot."""
        return f"{self.writer}-{self.number}"

    @property
    def filename(self) -> str:
        """The segment's name in ``journal/`` or ``history/``."""
        return f"{self.writer}-{self.number}.jsonl"

    @property
    def next(self) -> SegmentName:
        """The segment that the writer opens after this one."""
        return SegmentName(self.writer, self.number + 1)

    @property
    def previous(self) -> SegmentName | None:
        """The segment that the writer had before this one; None for its first."""
        return SegmentName(self.writer, self.number - 1) if self.number > 1 else None

    @staticmethod
    def parse(filename: str) -> SegmentName | None:
        """The segment of that file name, or None for any other file."""
        match = _SEGMENT.fullmatch(filename)
        return SegmentName(match[1], int(match[2])) if match else None


def segments_of(keys: Iterable[str]) -> list[SegmentName]:
    """The segments with these keys in the snapshot; other keys are skipped."""
    names = (SegmentName.parse(f"{key}.jsonl") for key in keys)
    return [name for name in names if name]


def list_segments(directory: str | int) -> list[SegmentName]:
    """The segments in a directory (path or descriptor), each writer's in order; none if it does not exist."""
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(name for name in map(SegmentName.parse, names) if name)
