"""The store's directories, for the write side: made when missing, checked, and held open by descriptor.

Everything the write side does is relative to these descriptors, so a process that was stopped for an hour cannot
overwrite a store that was removed and made anew meanwhile. Our descriptors have high numbers, and one is closed only
while it is still ours: a program may close and reopen descriptors wholesale.
"""

from __future__ import annotations

import contextlib
import os
import weakref

from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.storage._handles import inode, move_high
from pyjama_instrument.storage._layout import HISTORY, JOURNAL
from pyjama_instrument.storage._trust import open_home, open_subdirectory

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
        self._open: list[tuple[int, tuple[int, int]]] = []
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
        """Whether the path still leads to this very store: neither it nor a part of it was removed or replaced."""
        try:
            return (
                os.path.samestat(os.stat(self.path), os.fstat(self.fd))
                and os.path.samestat(os.stat(JOURNAL, dir_fd=self.fd), os.fstat(self.journal))
                and os.path.samestat(os.stat(HISTORY, dir_fd=self.fd), os.fstat(self.history))
            )
        except OSError:
            return False

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


_kept: dict[int, list[tuple[int, tuple[int, int]]]] = {}
"""Whose each descriptor is. A program that closes ours has them open again, the same directory under the same number,
for the next store; the one before must not close those."""


def _close(descriptors: list[tuple[int, tuple[int, int]]]) -> None:
    while descriptors:
        fd, ours = descriptors.pop()
        if _kept.get(fd) is not descriptors:
            continue
        del _kept[fd]
        with contextlib.suppress(OSError):
            if inode(fd) == ours:
                os.close(fd)
