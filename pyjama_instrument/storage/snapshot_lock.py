"""The two locks around a rewrite of the snapshot.

``metrics.json.lock`` orders the processes of this package: a kernel lock, gone with its holder, never stolen. It is the
lock that ``filelock.FileLock`` takes on that file, so a script can take it too. Here it is taken by the system call:
importing filelock costs 16 ms and registers hooks with fork and audit that may end a forked child, which is not ours to
do in a host.
``metrics.lock`` is the protocol of the original agents that may share the store: a file that exists only while
somebody rewrites ``metrics.json``. We make it too, as a second name of our own lock file: so it appears in one step,
needs no space on a full disk, and can be told from one of theirs. One of ours that a kill left behind is removed by
the next holder of the kernel lock, one of theirs is waited for and never broken.

There are file systems on which every process is given the lock (some network and virtual ones). ``locks_work`` finds
them. There the mark is the only thing that keeps others out, so that one of ours is not removed either.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator

from pyjama_instrument._platform import fcntl
from pyjama_instrument.storage import lock_descriptors
from pyjama_instrument.storage.layout import LOCK, ORIGINAL_LOCK
from pyjama_instrument.storage.liveness import hold, is_held
from pyjama_instrument.storage.store_ownership import owner_only
from pyjama_instrument.threads.native import sleep

__all__ = ["OriginalLock", "hold_original_lock", "locks_work", "try_lock"]

_POLL_SECONDS = 0.01


@contextlib.contextmanager
def try_lock(directory: int, *, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Hold the kernel lock of the store for the block; yields whether it was got within ``wait_seconds``."""
    deadline = time.monotonic() + wait_seconds
    while (fd := _acquire(directory)) is None and time.monotonic() < deadline:
        sleep(_POLL_SECONDS)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            try:
                # Closing is not enough: a library in C may have forked, and the child has a copy.
                fcntl.flock(fd, fcntl.LOCK_UN)
            finally:
                lock_descriptors.close(fd)


def locks_work(directory: int) -> bool:
    """Whether locks on files of the store keep others out. The kernel lock must be held.

    Both kinds are tried from a second open file, which is what another process has: the one that orders folds, and
    the one that tells who is alive.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.ExitStack() as opened:
        try:
            first, second = (lock_descriptors.open_tracked(LOCK, flags, dir_fd=directory) for _ in range(2))
        except FileNotFoundError:  # the store was removed: whoever goes on will notice
            return True
        opened.callback(lock_descriptors.close, first)
        opened.callback(lock_descriptors.close, second)
        try:
            if _flock(first):
                return False
            with contextlib.suppress(BlockingIOError):  # in the hands of a child that was forked during the last trial
                hold(first)
            return is_held(second)
        except OSError:
            return False


class OriginalLock:
    """The original's lock file, as made by us."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._made = os.stat(ORIGINAL_LOCK, dir_fd=directory, follow_symlinks=False)

    def exists(self) -> bool:
        """Whether it is still there. If not, somebody has removed it, and others may be rewriting the snapshot."""
        return _same_file(self._made, self._directory, ORIGINAL_LOCK)

    def remove(self) -> None:
        """Let others in."""
        if self.exists():
            _unlink_mark(self._directory)


@contextlib.contextmanager
def hold_original_lock(
    directory: int, *, wait_seconds: float, should_stop: Callable[[], bool] = lambda: False, alone: bool = True
) -> Iterator[OriginalLock | None]:
    """Hold the original's lock file for the block; yields None if it was not got. The kernel lock must be held.

    Args:
        directory: the store's descriptor.
        wait_seconds: how long to wait for an original agent.
        should_stop: asked while waiting; when true the wait is over.
        alone: the kernel lock keeps others out, so that a mark of ours which is there was left behind by a kill.
    """
    deadline = time.monotonic() + wait_seconds
    while (mark := _mark(directory, alone)) is None and time.monotonic() < deadline and not should_stop():
        sleep(_POLL_SECONDS)
    try:
        yield mark
    finally:
        if mark is not None:
            mark.remove()


def _acquire(directory: int) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = lock_descriptors.open_tracked(LOCK, flags, dir_fd=directory)
    except FileNotFoundError:  # the store was removed
        return None
    try:
        owner_only(fd)
        # The file may have been removed between open and lock: then others lock another file of that name.
        if _flock(fd) and _same_file(os.fstat(fd), directory, LOCK):
            return fd
    except BaseException:
        lock_descriptors.close(fd)
        raise
    lock_descriptors.close(fd)
    return None


def _flock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _mark(directory: int, alone: bool) -> OriginalLock | None:
    if alone:
        _remove_left_behind(directory)
    try:
        os.utime(LOCK, dir_fd=directory)  # the age of the mark is how long somebody has been at it
        os.link(LOCK, ORIGINAL_LOCK, src_dir_fd=directory, dst_dir_fd=directory)
        return OriginalLock(directory)
    except OSError as error:
        # An original has it, the store was removed, or on an overlay somebody made it behind the overlay's back.
        if error.errno not in (errno.EEXIST, errno.ENOENT, errno.ESTALE):
            raise
        return None


def _remove_left_behind(directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if _same_file(os.stat(LOCK, dir_fd=directory, follow_symlinks=False), directory, ORIGINAL_LOCK):
            _unlink_mark(directory)


def _unlink_mark(directory: int) -> None:
    try:
        os.unlink(ORIGINAL_LOCK, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # the latter: it is gone, and an overlay does not know yet
            raise


def _same_file(found: os.stat_result, directory: int, name: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False
