"""The two locks around a rewrite of the snapshot.

``metrics.json.lock`` is a kernel lock for the processes of this package. The kernel releases it when its holder ends.
It is the lock that ``filelock.FileLock`` takes on that file, so a script can take it too. Here a system call takes it,
because importing filelock costs 16 ms and registers hooks for fork and audit that may end a forked child.

``metrics.lock`` is the protocol of the original tool, whose agents may use the same store: a file that exists only
while one of them rewrites ``metrics.json``. This package creates it as a second name of its own lock file: in one step,
without space on the disk, and distinguishable from a file of the original tool. If a kill has left our file behind, the
next holder of the kernel lock removes it. A file of the original tool is waited for and never removed.

On some network and virtual file systems every process gets the kernel lock. ``locks_work`` detects them. There, only
``metrics.lock`` excludes others, so it is not removed even if it is ours.
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
    """Hold the kernel lock of the store during the block; yields whether it was taken within ``wait_seconds``."""
    deadline = time.monotonic() + wait_seconds
    while (fd := _acquire(directory)) is None and time.monotonic() < deadline:
        sleep(_POLL_SECONDS)
    try:
        yield fd is not None
    finally:
        if fd is not None:
            try:
                # Closing is not enough: a C library may have forked, and then the child has a copy.
                fcntl.flock(fd, fcntl.LOCK_UN)
            finally:
                lock_descriptors.close(fd)


def locks_work(directory: int) -> bool:
    """Whether locks on files of the store exclude other processes. The kernel lock must be held.

    Both kinds of lock are tested through a second open file, as another process would: the lock around a rewrite, and
    the lock of a live writer.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with contextlib.ExitStack() as opened:
        try:
            first, second = (lock_descriptors.open_tracked(LOCK, flags, dir_fd=directory) for _ in range(2))
        except FileNotFoundError:  # the store was removed, which the caller will notice
            return True
        opened.callback(lock_descriptors.close, first)
        opened.callback(lock_descriptors.close, second)
        try:
            if _flock(first):
                return False
            with contextlib.suppress(BlockingIOError):  # a child that was forked during the last test holds it
                hold(first)
            return is_held(second)
        except OSError:
            return False


class OriginalLock:
    """The lock file of the original tool, created by this process."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._made = os.stat(ORIGINAL_LOCK, dir_fd=directory, follow_symlinks=False)

    def exists(self) -> bool:
        """Whether it is still there. If not, it was removed, and others may be rewriting the snapshot."""
        return _same_file(self._made, self._directory, ORIGINAL_LOCK)

    def remove(self) -> None:
        """Remove it, if it is still ours."""
        if self.exists():
            _unlink_mark(self._directory)


@contextlib.contextmanager
def hold_original_lock(
    directory: int, *, wait_seconds: float, should_stop: Callable[[], bool] = lambda: False, alone: bool = True
) -> Iterator[OriginalLock | None]:
    """Hold the lock file of the original tool during the block; yields None without it. Hold the kernel lock first.

    Args:
        directory: the store's descriptor.
        wait_seconds: how long to wait for an agent of the original tool.
        should_stop: called while waiting; if it returns True, waiting ends.
        alone: the kernel lock excludes others, so a lock file of ours that exists was left behind by a kill.
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
        os.utime(LOCK, dir_fd=directory)  # the age of the lock file is the time since the rewrite began
        os.link(LOCK, ORIGINAL_LOCK, src_dir_fd=directory, dst_dir_fd=directory)
        return OriginalLock(directory)
    except OSError as error:
        # The original tool holds it, the store was removed, or it was created below an overlay file system.
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
        if error.errno not in (errno.ENOENT, errno.ESTALE):  # the latter: it was removed below an overlay file system
            raise


def _same_file(found: os.stat_result, directory: int, name: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False
