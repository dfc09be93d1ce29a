"""Descriptors that hold a lock: a forked child closes its copies, or the lock would outlive its holder.

A kernel lock belongs to the open file, which a child shares. If the parent died, its journal would look held and its
fold would look unfinished as long as the child lives. So the child closes its copies first. Open descriptors are
tracked by inode. A fork may happen while one is being opened, so until then it is tracked by the name of its file.
"""

from __future__ import annotations

import contextlib
import errno
import os

from pyjama_instrument._fork_detection import fork_marker
from pyjama_instrument._platform import after_fork_in_child, fcntl, resource

__all__ = [
    "Inode",
    "close",
    "close_copies",
    "inode",
    "move_high",
    "move_tracked_high",
    "open_tracked",
    "replace_tracked",
]

Inode = tuple[int, int]

_HIGHEST_FD = 4096
_FDS = 64  # a few for each open store
_OPEN_FDS = "/dev/fd"

_tracked: dict[int, Inode] = {}
_opening: dict[object, tuple[str, int] | None] = {}
"""Descriptors that are being opened: by the name of the file, or None if the file is tracked under another number."""
_unforked = fork_marker()
_unforked[0] = 1


def inode(fd: int) -> Inode:
    """The file that the descriptor leads to."""
    return _inode(os.fstat(fd))


def open_tracked(name: str, flags: int, mode: int = 0o600, *, dir_fd: int) -> int:
    """Open and track a file whose descriptor will hold a lock.

    Raises:
        OSError: it cannot be opened.
    """
    close_copies()
    this = object()
    _opening[this] = name, dir_fd
    try:
        fd = os.open(name, flags, mode, dir_fd=dir_fd)
        try:
            _tracked[fd] = inode(fd)
        except BaseException:
            os.close(fd)
            raise
    finally:
        _opening.pop(this, None)
    return fd


def move_tracked_high(fd: int) -> int:
    """:func:`move_high` for a descriptor that was noted."""
    ours, this = _tracked[fd], object()
    _opening[this] = None
    try:
        high = move_high(fd)
        _tracked[high] = ours
        _forget(fd, ours)
    finally:
        _opening.pop(this, None)
    return high


def replace_tracked(fd: int, number: int) -> Inode:
    """Make ``number`` lead to the file that is open at ``fd``, which stays open. For a writer, this is one step.

    Returns its :func:`inode`.
    """
    ours = inode(fd)
    os.dup2(fd, number, inheritable=False)
    _tracked[number] = ours
    return ours


def close(fd: int) -> None:
    """Close a tracked descriptor, unless it leads to another file now.

    A program may have closed it and opened its own file under the same number.
    """
    ours = _tracked.get(fd)
    if ours is None:
        return
    try:
        found = inode(fd)
    except OSError as error:
        found = (0, 0) if error.errno == errno.EBADF else ours  # if this cannot be checked, it is closed
    if found == ours:
        with contextlib.suppress(OSError):
            os.close(fd)
    _forget(fd, ours)


def close_copies() -> None:
    """In a forked child, close the copies of the parent's descriptors, once."""
    if _unforked[0]:
        return
    ours = set(_tracked.values())
    opening = list(_opening.values())
    for name, dir_fd in filter(None, opening):
        with contextlib.suppress(OSError):
            ours.add(_inode(os.stat(name, dir_fd=dir_fd, follow_symlinks=False)))
    for fd in _open_descriptors() if opening else list(_tracked):
        with contextlib.suppress(OSError):
            if inode(fd) in ours:
                os.close(fd)
    _tracked.clear()
    _opening.clear()
    _unforked[0] = 1  # last: if the exception of a signal handler interrupts this, it is done again


def move_high(fd: int) -> int:
    """Move the open file to a number that other files rarely get; ``fd`` itself is closed.

    A program that closes all descriptors then gets the lowest numbers. So these are the highest that it may use, but
    only among the first few thousand, because each fork copies the table up to the highest number.
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


def _inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def _forget(fd: int, ours: Inode) -> None:
    """Stop tracking the descriptor, unless it is tracked for another file now."""
    if _tracked.get(fd) is ours:
        del _tracked[fd]


def _open_descriptors() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_OPEN_FDS)]
    except (OSError, ValueError):  # this system has no such directory, or no descriptor is free to read it
        return list(_tracked)


after_fork_in_child(close_copies)
