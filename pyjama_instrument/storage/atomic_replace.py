"""Replacing a file in one step: a program that opens it gets the old bytes or the new, never a mixture."""

from __future__ import annotations

import contextlib
import errno
import os
import time

from pyjama_instrument.storage.snapshot import Identity, identity, identity_of
from pyjama_instrument.storage.store_ownership import owner_only

__all__ = ["FileChanged", "replace_keeping_previous", "write_file", "write_over"]

_TEMPORARY = "metrics.json.tmp"  # always the same: the caller holds the lock, and overwrites what a kill left
_TEMPORARY_OLD = "metrics.json.tmp.old"


class FileChanged(Exception):
    """The file that was to be replaced has changed. Nothing has been replaced."""


def write_file(directory: int, name: str, data: bytes) -> Identity:
    """Write ``data`` durably under ``name``, with a temporary file and a rename; returns the new file's identity.

    Raises:
        FileChanged: a process that does not see our lock writes at the same time.
        OSError: nothing under ``name`` has changed then.
    """
    written = _write_temporary(directory, data)
    _check_temporary(directory, written)
    _rename(directory, _TEMPORARY, name)
    os.fsync(directory)
    return written


def write_over(directory: int, name: str, data: bytes, expected: Identity | None) -> Identity:
    """Like :func:`write_file`, but only if the file has that identity, or, if it is None, does not exist.

    Raises:
        FileChanged: another file has the name.
        OSError: nothing under ``name`` has changed then.
    """
    written = _write_temporary(directory, data)
    try:
        if expected is None:
            _give_name(directory, name)
        else:
            _check(directory, name, expected)
            _check_temporary(directory, written)
            _rename(directory, _TEMPORARY, name)
    except BaseException:
        _unlink(directory, _TEMPORARY)
        raise
    os.fsync(directory)
    return written


def replace_keeping_previous(
    directory: int, name: str, previous: str, data: bytes, expected: Identity | None = None
) -> Identity:
    """Like :func:`write_over`, but the file that had the name before is under ``previous`` afterwards.

    ``name`` exists at every moment if it did before. Without ``expected``, any file is replaced.

    Raises:
        FileChanged: the file under ``name`` is not the ``expected`` one.
        OSError: ``name`` has not changed then.
    """
    written = _write_temporary(directory, data)
    try:
        _unlink(directory, _TEMPORARY_OLD)
        os.link(name, _TEMPORARY_OLD, src_dir_fd=directory, dst_dir_fd=directory)
        if expected is not None:
            _check(directory, _TEMPORARY_OLD, expected)  # it must not become the predecessor
        _rename(directory, _TEMPORARY_OLD, previous)
        if expected is not None:
            _check(directory, name, expected)  # again, as late as possible
    except BaseException:
        _unlink(directory, _TEMPORARY_OLD)
        _unlink(directory, _TEMPORARY)
        raise
    _check_temporary(directory, written)
    _rename(directory, _TEMPORARY, name)
    os.fsync(directory)
    return written


def _check(directory: int, name: str, expected: Identity) -> None:
    if identity(directory, name) != expected:
        raise FileChanged(name)


def _check_temporary(directory: int, written: Identity) -> None:
    """Raise if another process, which does not see our lock, has put its own temporary file in the place of ours."""
    found = identity(directory, _TEMPORARY)
    if found is None or found[0] != written[0]:  # the inode; times are rounded by some file systems
        raise FileChanged(_TEMPORARY)


def _give_name(directory: int, name: str) -> None:
    """Give the temporary file the name in one step, if no file has it."""
    try:
        os.link(_TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
    except FileExistsError:
        raise FileChanged(name) from None
    _unlink(directory, _TEMPORARY)


def _write_temporary(directory: int, data: bytes) -> Identity:
    _unlink(directory, _TEMPORARY)  # left by a writer that was killed
    try:
        fd = os.open(_TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except FileExistsError:  # a process that does not see our lock has made it meanwhile
        raise FileChanged(_TEMPORARY) from None
    try:
        owner_only(fd)
        remaining = memoryview(data)
        while remaining:
            written = os.write(fd, remaining)
            if not written:  # a file system that takes nothing and reports nothing must not have us try for ever
                raise OSError(errno.EIO, "nothing could be written", _TEMPORARY)
            remaining = remaining[written:]
        # The kernel's own times are coarse: a write in place within the same tick would go unnoticed.
        os.utime(fd, ns=(now_ns := time.time_ns(), now_ns))
        os.fsync(fd)
        return identity_of(os.fstat(fd))
    except BaseException:
        _unlink(directory, _TEMPORARY)
        raise
    finally:
        os.close(fd)


def _rename(directory: int, source: str, target: str) -> None:
    os.replace(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
