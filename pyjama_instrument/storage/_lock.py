"""The two locks around a rewrite of the snapshot.

``metrics.json.lock`` orders the processes of this package: a kernel lock, gone with its holder, never stolen. It is the
lock of ``filelock.FileLock`` on that file, and whoever has time to wait takes it with that. A recording process takes
it by the bare system call: importing filelock costs 16 ms, registers hooks with fork and audit, and these may end a
forked child, which is not ours to do in a host.
``metrics.lock`` is the protocol of the original agents that may share the store: a file that exists only while
somebody rewrites ``metrics.json``. We make it too, as a second name of our own lock file: so it appears in one step,
needs no space on a full disk, and can be told from one of theirs. One of ours that a kill left behind is removed by
the next holder of the kernel lock, one of theirs is waited for and never broken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

from pyjama_instrument.storage._layout import LOCK, ORIGINAL_LOCK

__all__ = ["rewriting", "try_lock", "wait_lock"]

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
            try:
                # Closing is not enough: another thread may have forked, and the child has a copy.
                fcntl.flock(fd, fcntl.LOCK_UN)
            finally:
                os.close(fd)


@contextlib.contextmanager
def wait_lock(path: str, *, wait_seconds: float) -> Iterator[bool]:
    """Hold the kernel lock of the store at ``path`` for the block; yields whether it was got within ``wait_seconds``.

    For programs that nobody is being recorded in.
    """
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(os.path.join(path, LOCK), mode=0o600, fallback_to_soft=False).acquire(timeout=wait_seconds)
    except Timeout:
        yield False
        return
    with lock:
        yield True


@contextlib.contextmanager
def rewriting(
    directory: int, *, wait_seconds: float, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[bool]:
    """Hold the original's lock file for the block; yields whether it was got. The kernel lock must be held."""
    deadline = time.monotonic() + wait_seconds
    while not (got := _mark(directory)) and time.monotonic() < deadline and not should_stop():
        time.sleep(_POLL_SECONDS)
    try:
        yield got
    finally:
        if got:
            _remove_ours(directory)


def _acquire(directory: int) -> int | None:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(LOCK, flags, 0o600, dir_fd=directory)
    except FileNotFoundError:  # the store was removed
        return None
    try:
        # The file may have been removed between open and lock: then others lock another file of that name.
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _same_file(os.fstat(fd), directory, LOCK):
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def _mark(directory: int) -> bool:
    _remove_ours(directory)  # one that a kill left behind: the kernel lock is with us, so it is nobody's
    try:
        os.utime(LOCK, dir_fd=directory)  # the age of the mark is how long somebody has been at it
        os.link(LOCK, ORIGINAL_LOCK, src_dir_fd=directory, dst_dir_fd=directory)
    except (FileExistsError, FileNotFoundError):  # an original has it, or the store was removed
        return False
    return True


def _remove_ours(directory: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        if _same_file(os.stat(LOCK, dir_fd=directory, follow_symlinks=False), directory, ORIGINAL_LOCK):
            os.unlink(ORIGINAL_LOCK, dir_fd=directory)


def _same_file(found: os.stat_result, directory: int, name: str) -> bool:
    try:
        return os.path.samestat(found, os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False
