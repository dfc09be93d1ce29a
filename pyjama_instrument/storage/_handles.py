"""Descriptors that hold a lock: a forked child must not keep its copies, or the lock would outlive its holder.

A lock of the kernel's belongs to the open file, which a child shares. If the parent dies, its journal would look
written and its fold unfinished for as long as the child lives. So the child closes its copies, first of all. For it
to know them, no fork happens between the opening of such a descriptor and the note that is taken of it.

What runs before and after the fork are functions in C. A signal's exception that ended a function of ours there would
leave the lock taken for ever.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import threading

from pyjama_instrument._unforked import unforked_mark

__all__ = ["close", "close_copies", "inode", "move_high", "open_noted", "put_in_place", "raised"]

_HIGHEST_FD = 4096
_FDS = 64  # a few for each store that is open

_no_fork = threading.RLock()
_noted: dict[int, tuple[int, int]] = {}
_unforked = unforked_mark()
_unforked[0] = 1


def inode(fd: int) -> tuple[int, int]:
    """What file the descriptor leads to."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def open_noted(name: str, flags: int, mode: int = 0o600, *, dir_fd: int) -> int:
    """Open a file whose descriptor will hold a lock.

    Raises:
        OSError: it cannot be opened.
    """
    with _no_fork:
        fd = os.open(name, flags, mode, dir_fd=dir_fd)
        _note(fd)
    return fd


def raised(fd: int) -> int:
    """:func:`move_high` for a descriptor that was noted."""
    with _no_fork:
        _noted.pop(fd, None)
        fd = move_high(fd)
        _note(fd)
    return fd


def put_in_place(fd: int, number: int) -> tuple[int, int]:
    """Let ``number`` lead to the file that is open at ``fd``, which stays open. One step for whoever writes to it.

    Returns what :func:`inode` says of it.
    """
    ours = inode(fd)
    with _no_fork:
        os.dup2(fd, number, inheritable=False)
        _noted[number] = ours
    return ours


def close(fd: int) -> None:
    """Close a descriptor that was noted, if it is still ours."""
    with _no_fork:
        _close(fd, _noted.pop(fd, None))


def close_copies() -> None:
    """In a child, however it was forked: close what is the parent's. Nothing happens where that was done."""
    if _unforked[0]:
        return
    _no_fork._at_fork_reinit()  # type: ignore[attr-defined]  # as the standard library does with its own
    while _noted:
        _close(*_noted.popitem())
    _unforked[0] = 1


def _note(fd: int) -> None:
    try:
        _noted[fd] = inode(fd)
    except BaseException:
        os.close(fd)
        raise


def _close(fd: int, ours: tuple[int, int] | None) -> None:
    """Close it unless it leads to another file by now: a program may close and reopen descriptors wholesale."""
    with contextlib.suppress(OSError):
        try:
            found: tuple[int, int] | None = inode(fd)
        except OSError as error:
            found = None if error.errno == errno.EBADF else ours  # what cannot be asked is not left open either
        if ours is not None and found == ours:
            os.close(fd)


def move_high(fd: int) -> int:
    """The same open file under a number that is not likely to be handed out again; ``fd`` itself is closed.

    A program that closes all descriptors is given the lowest numbers again. Ours are at the upper end of what it may
    have, or of the first few thousand: the kernel copies the table up to the highest number at each fork.
    """
    try:
        soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        highest = soft_limit if 0 < soft_limit < _HIGHEST_FD else _HIGHEST_FD
        for lowest in (highest - _FDS, highest // 2):
            with contextlib.suppress(OSError):
                return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 0)
    finally:
        os.close(fd)


# When the module is imported, not later: in the middle of a fork by another thread only the second half would run.
os.register_at_fork(before=_no_fork.acquire, after_in_parent=_no_fork.release, after_in_child=close_copies)
