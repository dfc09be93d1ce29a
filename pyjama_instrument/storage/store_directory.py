"""The store's directories, for the write side: created if missing, checked, and held open by descriptor.

The write side uses only paths relative to these descriptors. So a process that was stopped for an hour cannot overwrite
a store that was removed and created again. The descriptors have high numbers, and one is closed only if it is still
ours, because a program may close many descriptors and reopen them for its own files.
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

    The descriptors are closed with the object, and not before, because another thread may still use it: a number that
    is closed too early may lead to another store when it is used.

    Attributes:
        kept: what the last compaction keeps for the next one; set it to None to free the memory.
    """

    def __init__(self, path: str) -> None:
        """Open the store at ``path``; missing directories are created (0700).

        Raises:
            StoreUnavailable: the directory cannot be created or opened, or other users can write into it.
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

        A directory that cannot be checked counts as not removed: a process that gave up its rights, or whose disk
        fails, continues with the open descriptors. After ``chroot`` the path leads elsewhere and is not checked.
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
        """Close the descriptors at once. No thread may be using them."""
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
    """Whether the file at ``path`` is ours: no, if it is missing or another one; yes, if it cannot be checked."""
    try:
        found = os.stat(path, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return (found.st_dev, found.st_ino) == ours


def _root() -> Inode | None:
    """The root directory of absolute paths; after ``chroot`` it is another one."""
    try:
        found = os.stat("/")
    except OSError:
        return None
    return found.st_dev, found.st_ino


_kept: dict[int, list[tuple[int, Inode]]] = {}
"""The store that each descriptor belongs to. If a program closes our descriptors, the next store opens the same
directory under the same number, and the store before must not close it."""


def _close(descriptors: list[tuple[int, Inode]]) -> None:
    while descriptors:
        fd, ours = descriptors.pop()
        if _kept.get(fd) is not descriptors:
            continue
        del _kept[fd]
        with contextlib.suppress(OSError):
            if inode(fd) == ours:
                os.close(fd)
