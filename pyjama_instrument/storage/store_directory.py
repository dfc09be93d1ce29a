"""The store's directories, for the write side: made when missing, checked, and held open by descriptor.

Everything the write side does is relative to these descriptors, so a process that was stopped for an hour cannot
overwrite a store that was removed and made anew meanwhile. Our descriptors have high numbers, and one is closed only
while it is still ours: a program may close and reopen descriptors wholesale.
"""

from __future__ import annotations

import contextlib
import errno
import os
import weakref

from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.storage.layout import HISTORY, JOURNAL
from pyjama_instrument.storage.lock_descriptors import Inode, inode, move_high
from pyjama_instrument.storage.store_ownership import open_home, open_subdirectory

__all__ = ["Store"]


class Store:
    """An open store: ``fd`` is its directory, ``journal`` and ``history`` the two below it.

    The descriptors are closed with the object, and not before while somebody may be using it in another thread: a
    number that is closed too early may lead to another store by the time it is used.

    Attributes:
        kept: what the last run of a compaction has left for the next one; None gives its memory back.
    """

    def __init__(self, path: str) -> None:
        """Open the store at ``path``, making its directories (0700) where they are missing.

        Raises:
            StoreUnavailable: the directory cannot be made or opened, or is not to be trusted.
        """
        self.path = path
        self.kept: object = None
        self._open: list[tuple[int, Inode]] = []
        self._root = _root()
        weakref.finalize(self, _close, self._open).atexit = False
        try:
            self.fd = self._keep(open_home(path))
            self.journal = self._keep(open_subdirectory(self.fd, JOURNAL))
            self.history = self._keep(open_subdirectory(self.fd, HISTORY))
        except OSError as error:
            self.close()
            raise StoreUnavailable(
                f"cannot use {path}: {error.strerror or error}; set PYJAMA_HOME to a directory you own"
            ) from error
        except BaseException:
            self.close()
            raise

    def is_current(self) -> bool:
        """Whether this is still the store at its path: neither it nor a part of it was removed or replaced.

        A directory that cannot be looked at was not removed: a process that gave up its rights, or whose disk fails,
        goes on with what it has open. Below another root directory the path means nothing, so it is not asked.
        """
        known = [*self._open]
        if len(known) < 3:  # closed
            return False
        (home, ours), *parts = known
        try:
            if any(inode(fd) != directory for fd, directory in known) or not os.fstat(home).st_nlink:
                return False
        except OSError as error:
            if error.errno == errno.EBADF:  # the program has closed it
                return False
        moved = _root() != self._root
        return (moved or _leads_to(self.path, ours)) and all(
            _leads_to(name, part, dir_fd=home) for name, (_, part) in zip((JOURNAL, HISTORY), parts, strict=True)
        )

    def close(self) -> None:
        """Close the descriptors at once. Nobody may be using them."""
        _close(self._open)

    def _keep(self, fd: int) -> int:
        fd = move_high(fd)
        try:
            self._open.append((fd, inode(fd)))
        except BaseException:
            os.close(fd)
            raise
        _kept[fd] = self._open
        return fd


def _leads_to(path: str, ours: Inode, dir_fd: int | None = None) -> bool:
    """Whether the file at ``path`` is ours. Only a file that is missing, or another one, proves that it is not."""
    try:
        found = os.stat(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == ours


def _root() -> Inode | None:
    """Which directory absolute paths begin at; another one after ``chroot``."""
    try:
        found = os.stat("/")
    except OSError:
        return None
    return found.st_dev, found.st_ino


_kept: dict[int, list[tuple[int, Inode]]] = {}
"""Whose each descriptor is. A program that closes ours has them open again, the same directory under the same number,
for the next store; the one before must not close those."""


def _close(descriptors: list[tuple[int, Inode]]) -> None:
    while descriptors:
        fd, ours = descriptors.pop()
        if _kept.get(fd) is not descriptors:
            continue
        del _kept[fd]
        with contextlib.suppress(OSError):
            if inode(fd) == ours:
                os.close(fd)
