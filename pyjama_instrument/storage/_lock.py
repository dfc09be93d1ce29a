"""The two locks around a rewrite of the snapshot.

``metrics.json.lock`` orders the processes of this package: a kernel lock, gone with its holder, never stolen.
``metrics.lock`` is the protocol of the original agents that may share the store: a file that exists only while
somebody rewrites ``metrics.json``. We make it too, marked as ours; one of ours that a kill left behind is removed
by the next holder of the kernel lock, one of theirs is waited for and never broken.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator

from filelock import lock_descriptor

from pyjama_instrument.storage._layout import LOCK, ORIGINAL_LOCK

__all__ = ["rewriting", "try_lock"]

_MARK = b"pyjama_instrument\n"
_POLL_SECONDS = 0.01


@contextlib.contextmanager
def try_lock(directory: int, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold the kernel lock of the store for the block; yields whether it was got within ``wait_seconds``."""
    deadline = time.monotonic() + wait_seconds
    while (fd := _acquire(directory)) is None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            os.close(fd)  # the lock goes with the descriptor


@contextlib.contextmanager
def rewriting(directory: int, *, wait_seconds: float) -> Iterator[bool]:
    """Hold the original's lock file for the block; yields whether it was got. The kernel lock must be held."""
    deadline = time.monotonic() + wait_seconds
    while not (got := _mark(directory)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    try:
        yield got
    finally:
        if got:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(ORIGINAL_LOCK, dir_fd=directory)


def _acquire(directory: int) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(LOCK, flags, 0o600, dir_fd=directory)
    try:
        # The file may have been removed between open and lock: then others lock another file of that name.
        if lock_descriptor(fd, blocking=False) and _is_at(fd, directory):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _is_at(fd: int, directory: int) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(LOCK, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _mark(directory: int) -> bool:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        fd = os.open(ORIGINAL_LOCK, flags, 0o600, dir_fd=directory)
    except FileExistsError:
        _remove_ours(directory)
        return False
    try:
        os.write(fd, _MARK)
    finally:
        os.close(fd)
    return True


def _remove_ours(directory: int) -> None:
    """Nobody of ours can hold the file now: the caller has the kernel lock. Then a mark of ours is a leftover."""
    with contextlib.suppress(FileNotFoundError, OSError):
        fd = os.open(ORIGINAL_LOCK, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        try:
            ours = os.read(fd, len(_MARK)) == _MARK
        finally:
            os.close(fd)
        if ours:
            os.unlink(ORIGINAL_LOCK, dir_fd=directory)
