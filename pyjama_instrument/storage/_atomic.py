"""Replacing a file in one step: whoever opens it sees the old bytes or the new, never a mixture."""

from __future__ import annotations

import contextlib
import os

__all__ = ["replace_keeping_previous", "write_file"]


def write_file(directory: int, name: str, data: bytes) -> None:
    """Put ``data`` under ``name`` durably, by way of a temporary file and a rename.

    Raises:
        OSError: nothing under ``name`` has changed then.
    """
    temporary = _write_temporary(directory, name, data)
    _rename(directory, temporary, name)
    os.fsync(directory)


def replace_keeping_previous(directory: int, name: str, previous: str, data: bytes) -> None:
    """Like :func:`write_file`, and what was under ``name`` before is under ``previous`` afterwards.

    ``name`` exists at every moment if it did before.

    Raises:
        OSError: ``name`` has not changed then.
    """
    temporary = _write_temporary(directory, name, data)
    try:
        _unlink(directory, temporary + ".old")
        os.link(name, temporary + ".old", src_dir_fd=directory, dst_dir_fd=directory)
        _rename(directory, temporary + ".old", previous)
    except BaseException:
        _unlink(directory, temporary)
        raise
    _rename(directory, temporary, name)
    os.fsync(directory)


def _write_temporary(directory: int, name: str, data: bytes) -> str:
    temporary = f"{name}.tmp"
    _unlink(directory, temporary)  # left by a writer that was killed; the caller holds the lock
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(fd, remaining) :]
        os.fsync(fd)
    except BaseException:
        _unlink(directory, temporary)
        raise
    finally:
        os.close(fd)
    return temporary


def _rename(directory: int, source: str, target: str) -> None:
    os.replace(source, target, src_dir_fd=directory, dst_dir_fd=directory)


def _unlink(directory: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
