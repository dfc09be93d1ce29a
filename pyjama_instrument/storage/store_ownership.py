"""Which directory may be a store: one of this user that no other user can write into or has linked to.

A user who can write into a store can invent events, block the locks, or redirect writes with a link. Files and
directories are created for their owner alone, whatever the umask is.
"""

from __future__ import annotations

import contextlib
import os
import stat

from pyjama_instrument._platform import OPEN_FOLDER
from pyjama_instrument.errors import StoreUnavailable
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, ORIGINAL_LOCK, SNAPSHOT

__all__ = ["open_home", "open_subdirectory", "owner_only", "refusal"]

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def open_home(path: str) -> int:
    """Open the store's directory. It and missing directories above it are created with mode 0700.

    It may be a link of this user or of root, for example to a larger disk. If others can write into it and it holds
    nothing but a store, it is closed to them: with a lax umask, a plain ``mkdir`` creates such a directory.

    Raises:
        StoreUnavailable: other users control it.
        OSError: it cannot be created or opened.
    """
    _make(path)
    fd = os.open(path, OPEN_FOLDER)
    try:
        if reason := refusal(path, fd):
            raise StoreUnavailable(reason)
        _forbid(fd, _WRITABLE_BY_OTHERS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_subdirectory(home: int, name: str) -> int:
    """Open the directory of that name in the store. If it is missing, it is created, for its owner alone.

    Raises:
        StoreUnavailable: it belongs to another user.
        OSError: it cannot be created or opened.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, mode=0o700, dir_fd=home)
        os.chmod(name, 0o700, dir_fd=home)  # the umask may have removed rights of the owner
    fd = os.open(name, OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=home)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise StoreUnavailable(f"{name}/ in the store belongs to another user: remove it, or set PYJAMA_HOME")
        _forbid(fd, stat.S_IRWXG | stat.S_IRWXO)
    except BaseException:
        os.close(fd)
        raise
    return fd


def refusal(path: str, fd: int) -> str | None:
    """The reason why the directory at ``path``, open at ``fd``, is not used as a store; None if it is used."""
    found, named = os.fstat(fd), os.lstat(path)
    if found.st_uid != os.geteuid():
        return _of_another(path, found)
    if stat.S_ISLNK(named.st_mode) and named.st_uid not in (os.geteuid(), 0):
        return f"{path} is a link that belongs to another user; set PYJAMA_HOME to a directory you own"
    sticky = found.st_mode & stat.S_ISVTX  # like /tmp, which is open to others on purpose
    if found.st_mode & _WRITABLE_BY_OTHERS and (sticky or not _holds_only_a_store(fd)):
        return f"others can write into {path}: run  chmod go-w {path}  or set PYJAMA_HOME to a directory of its own"
    return None


def _of_another(path: str, found: os.stat_result) -> str:
    # Container platforms provide volumes like this to programs that run as an arbitrary user.
    if found.st_uid == 0 and found.st_mode & _WRITABLE_BY_OTHERS and os.access(path, os.W_OK):
        return f"{path} belongs to root and is shared; set PYJAMA_HOME={path}/store, a directory of your own"
    return f"{path} belongs to another user; set PYJAMA_HOME to a directory you own"


def owner_only(fd: int) -> None:
    """Give a file that was just created mode 0600, whatever the umask is."""
    if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
        os.fchmod(fd, 0o600)


def _holds_only_a_store(fd: int) -> bool:
    for name in os.listdir(fd):
        known = name in (JOURNAL, HISTORY, ORIGINAL_LOCK) or name.startswith(SNAPSHOT)
        if not known or os.stat(name, dir_fd=fd, follow_symlinks=False).st_uid != os.geteuid():
            return False
    return True


def _forbid(fd: int, rights: int) -> None:
    mode = stat.S_IMODE(os.fstat(fd).st_mode)
    if mode & rights:
        os.fchmod(fd, mode & ~rights)


def _make(path: str) -> None:
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        parent = os.path.dirname(path)
        if parent == path:
            raise
        _make(parent)
        os.mkdir(path, 0o700)
    if stat.S_IMODE(os.lstat(path).st_mode) & 0o777 != 0o700:
        os.chmod(path, 0o700)
