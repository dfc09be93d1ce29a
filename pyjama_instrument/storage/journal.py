"""The journal: append-only segments that this process alone writes.

One record is one ``write(2)`` to a file opened with O_APPEND; after it returns, the record survives the death of the
process. A segment is locked (see :mod:`~pyjama_instrument.storage.liveness`) before it gets its final name, so another
process that finds it can test at once whether its writer is alive. The descriptor keeps its number when a segment is
rotated. The number is high, so that a program that closes and reopens many descriptors rarely gets it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pyjama_instrument.errors import StoreError, StoreUnavailable
from pyjama_instrument.storage import lock_descriptors
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, SegmentName
from pyjama_instrument.storage.liveness import hold
from pyjama_instrument.storage.lock_descriptors import inode
from pyjama_instrument.storage.store_directory import Store
from pyjama_instrument.storage.store_ownership import owner_only

__all__ = ["SEGMENT_BYTES", "Backlog", "Journal", "JournalFull", "measure_backlog"]

SEGMENT_BYTES = 8 * 1024 * 1024
"""When a segment has grown beyond this size, the writer opens the next one."""

_WRITER_BYTES = 256 * 1024 * 1024
_STORE_BYTES = 1024 * 1024 * 1024
_STORE_SEGMENTS = 10_000
_SIZES_ASKED = 256
_ATTEMPTS = 5


class JournalFull(StoreUnavailable):
    """So many events wait to be folded that no more may be added."""


class Journal:
    """The open segment of one writer.

    Attributes:
        name: the segment that is written to.
        last: the last segment that was created; it is not ``name`` if a rotation has failed halfway.
    """

    def __init__(self, store: Store, name: SegmentName, header: Callable[[SegmentName], bytes]) -> None:
        """Open the first segment.

        Args:
            store: where to write.
            name: the segment to begin with; no file of that name may exist.
            header: returns the first line of a segment.

        Raises:
            OSError: the segment cannot be created, locked or published.
            JournalFull: too many events wait to be folded.
        """
        if _looks_full(store) and _is_full(store, name.writer):
            raise JournalFull(f"{store.path}/journal is full: no process folds its events. Run  pyjama doctor")
        self.store = store
        self.name = self.last = name
        self._header = header
        self.fd = lock_descriptors.move_tracked_high(_create(store.journal, name, header(name)))
        self._identity = inode(self.fd)

    def size(self) -> int:
        """Bytes in the current segment."""
        return os.fstat(self.fd).st_size

    def is_full(self) -> bool:
        """Whether this writer, or all writers together, have so much that is not folded that no more may be added."""
        return _is_full(self.store, self.name.writer)

    def is_ours(self) -> bool:
        """Whether the descriptor still leads to our segment, and the segment still has a name.

        False if the program has closed the descriptor, or the file was removed. A file that cannot be checked counts
        as not removed.
        """
        try:
            if os.fstat(self.fd).st_nlink == 0 or inode(self.fd) != self._identity:
                return False
        except OSError as error:
            if error.errno == errno.EBADF:
                return False
        return self.store.is_current()

    def has_left(self) -> bool:
        """Whether the segment no longer has its name in the journal, although it was not removed."""
        try:
            os.stat(self.name.filename, dir_fd=self.store.journal, follow_symlinks=False)
        except FileNotFoundError:
            return True
        except OSError:
            pass
        return False

    def is_retired(self) -> bool:
        """Whether another process has declared this one dead and moved the segment to the history."""
        try:
            found = os.stat(self.name.filename, dir_fd=self.store.history, follow_symlinks=False)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == self._identity

    def is_replaced(self) -> bool:
        """Whether the descriptor leads to another file: the program has closed it and then got its number again."""
        try:
            return inode(self.fd) != self._identity
        except OSError:
            return False

    def lines_since(self, offset: int) -> list[bytes]:
        """The lines of the segment from that offset on, in the journal or the history; none if it was removed."""
        for place in (JOURNAL, HISTORY):
            with (
                contextlib.suppress(OSError),
                open(os.path.join(self.store.path, place, self.name.filename), "rb", opener=_open_to_read) as file,
            ):
                if inode(file.fileno()) == self._identity:
                    file.seek(offset)
                    return file.read().splitlines()
        return []

    def rotate(self) -> None:
        """Open the next segment.

        Raises:
            OSError: the old segment stays in use then.
        """
        name = self.last.next
        fd = _create(self.store.journal, name, self._header(name))
        self.last = name  # whatever fails now, this name must not be used again
        try:
            # A thread that writes to the descriptor at this moment writes to the old file or to the new one.
            self._identity = lock_descriptors.replace_tracked(fd, self.fd)
            self.name = name
        finally:
            lock_descriptors.close(fd)

    def close(self) -> None:
        """Close the descriptor if it is still ours."""
        lock_descriptors.close(self.fd)
        self.fd = -1


def _open_to_read(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)


class Backlog(NamedTuple):
    """What waits to be folded: the number of segments, the bytes, and the bytes of one writer."""

    segments: int = 0
    bytes: int = 0
    of_writer: int = 0

    def share(self) -> float:
        """The used share of the limit. At 1, new events are dropped; events that wait are never removed."""
        return max(self.segments / _STORE_SEGMENTS, self.bytes / _STORE_BYTES, self.of_writer / _WRITER_BYTES)


def measure_backlog(journal: int, writer: str = "-", folded: Mapping[str, Any] | None = None) -> Backlog:
    """What waits to be folded in the directory ``journal``; ``folded`` are the offsets of a snapshot."""
    return _backlog_of(_sizes(journal), writer, folded)


def _backlog_of(sizes: Iterable[tuple[str, int]], writer: str, folded: Mapping[str, Any] | None = None) -> Backlog:
    segments = total = ours = 0
    for name, size in sizes:
        stored = folded.get(name.removesuffix(".jsonl")) if folded else None
        offset = stored.get("offset") if type(stored) is dict else 0
        left = size - offset if type(offset) is int and offset >= 0 else size
        if left > 0 or not folded:
            segments += 1
            total += left
            ours += left * name.startswith(writer)
    return Backlog(segments, total, ours)


def _looks_full(store: Store) -> bool:
    """Whether :func:`_is_full` may be true. Takes a bounded time, because the first call of a program waits for it."""
    count = size = 0
    for _, more in _sizes(store.journal, _SIZES_ASKED):
        count += 1
        size += more
        if count >= _STORE_SEGMENTS:
            return True
    return size * max(1.0, count / _SIZES_ASKED) >= _STORE_BYTES


def _is_full(store: Store, writer: str) -> bool:
    """Whether so much waits to be folded that no more may be added."""
    sizes = [*_sizes(store.journal)]
    if _backlog_of(sizes, writer).share() < 1:
        return False
    from pyjama_instrument.storage.snapshot import load  # rarely needed, and slow to import

    try:
        folded = load(store.fd).document.get("journals")
    except (OSError, StoreError):
        return True
    return _backlog_of(sizes, writer, folded).share() >= 1


def _sizes(journal: int, asked: int | None = None) -> Iterator[tuple[str, int]]:
    """The files in the directory with their sizes; after the first ``asked``, sizes are not read and are 0."""
    with contextlib.suppress(FileNotFoundError), os.scandir(journal) as entries:
        for at, entry in enumerate(entries):
            if asked is not None and at >= asked:
                yield entry.name, 0
                continue
            with contextlib.suppress(FileNotFoundError):  # it was moved meanwhile
                yield entry.name, entry.stat(follow_symlinks=False).st_size


def _create(directory: int, name: SegmentName, header: bytes) -> int:
    """Create a segment with a lock, under its final name; returns the descriptor.

    Before it is locked, a compaction may remove it as the segment of a dead writer; then it is created again.
    """
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(FileNotFoundError, BlockingIOError):  # the latter if testing a lock takes it
            return _publish(directory, name, header)
    return _publish(directory, name, header)


def _publish(directory: int, name: SegmentName, header: bytes) -> int:
    temporary = f".{name.filename}.tmp"
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = None
    try:
        fd = lock_descriptors.open_tracked(temporary, flags, dir_fd=directory)
        owner_only(fd)
        hold(fd)
        if os.write(fd, header) != len(header):
            raise OSError("short write")
        os.rename(temporary, name.filename, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        if fd is not None:
            lock_descriptors.close(fd)
        with contextlib.suppress(OSError):  # if it stayed, the next attempt would fail
            os.unlink(temporary, dir_fd=directory)
        raise
    return fd
