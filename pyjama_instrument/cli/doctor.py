"""``pyjama doctor``: checks the store, the file system under it, and the installation."""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, NamedTuple, TypeAlias

from pyjama_instrument.cli.terminal import print_line, style, terminal_columns, wrap
from pyjama_instrument.config import disabled_by_environment, resolve_home
from pyjama_instrument.errors import PyjamaError, SchemaTooNew
from pyjama_instrument.presentation.formatting import count, printable
from pyjama_instrument.storage.journal import measure_backlog
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, ORIGINAL_LOCK, SCHEMA, SNAPSHOT, list_segments
from pyjama_instrument.storage.liveness import hold, is_held
from pyjama_instrument.storage.snapshot import load
from pyjama_instrument.storage.store_ownership import refusal

__all__ = ["doctor"]

Level: TypeAlias = Literal["ok", "warn", "fail"]

_INDENT = 19
_LITTLE_BYTES = 64 * 1024 * 1024
_STALE_SECONDS = 10.0
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "lustre", "glusterfs", "afs")
_NEEDED = ("wrapt", "filelock", "pydantic")
_FOR_THE_DASHBOARD = ("starlette", "uvicorn")


class _Finding(NamedTuple):
    """What a check found, and if something is wrong, what to do."""

    level: Level
    text: str


def doctor(_: argparse.Namespace) -> int:
    """Run every check and print what it found. Returns 1 if one fails.

    Raises:
        PyjamaError: there is no home directory, and ``PYJAMA_HOME`` is not set.
    """
    home = resolve_home()
    columns = terminal_columns()
    failed = False
    for name, check in _CHECKS.items():
        for finding in _checked(check, home):
            failed |= finding.level == "fail"
            line = f"{style(finding.level.ljust(4), finding.level)}  {name:12} {printable(finding.text, 500)}"
            for part in wrap(line, columns, " " * _INDENT):
                print_line(part)
    return 1 if failed else 0


def _checked(check: Callable[[str], Iterator[_Finding]], home: str) -> Iterator[_Finding]:
    """The check's findings. A file that cannot be read is one of them."""
    try:
        yield from check(home)
    except OSError as error:
        yield _Finding("fail", f"{error.filename or home}: {error.strerror or error}")
    except PyjamaError as error:
        yield _Finding("fail", str(error))


def _versions(_: str) -> Iterator[_Finding]:
    found = [f"Python {platform.python_version()} on {platform.system()} {platform.release()}"]
    found += [f"{name} {_version(name)}" for name in ("pyjama_instrument", *_NEEDED)]
    yield _Finding("ok", ", ".join(found))
    missing = [name for name in _FOR_THE_DASHBOARD if _version(name) is None]
    if missing:
        yield _Finding(
            "warn", f"the dashboard needs {' and '.join(missing)}. Run: pip install 'pyjama_instrument[viewer]'"
        )
    else:
        yield _Finding("ok", "dashboard: " + ", ".join(f"{name} {_version(name)}" for name in _FOR_THE_DASHBOARD))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _recording(_: str) -> Iterator[_Finding]:
    if disabled_by_environment():
        yield _Finding("warn", "switched off by PYJAMA_DISABLED. To record, run: unset PYJAMA_DISABLED")
    else:
        yield _Finding("ok", "switched on")


def _home(home: str) -> Iterator[_Finding]:
    try:
        found = os.stat(home)
    except FileNotFoundError:
        place = _existing(home)
        if os.access(place, os.W_OK | os.X_OK):
            yield _Finding("ok", f"{home} does not exist yet; the first event creates it")
        else:
            yield _Finding("fail", f"{home} does not exist, and {place} cannot be written. Set PYJAMA_HOME")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield _Finding("fail", f"{home} is not a directory. Move it away, or set PYJAMA_HOME")
    elif found.st_uid != os.geteuid():
        yield _Finding(
            "fail", f"{home} belongs to user {found.st_uid}, and you are user {os.geteuid()}. Set PYJAMA_HOME"
        )
    elif not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield _Finding("fail", f"{home} cannot be written, so events are dropped. Run: chmod 700 {home}")
    elif reason := _refusal(home):
        yield _Finding("fail", reason)
    elif found.st_mode & 0o077:
        yield _Finding("warn", f"{home} is open to other users ({stat.filemode(found.st_mode)}). Run: chmod 700 {home}")
    else:
        yield _Finding("ok", f"{home} is private (mode {stat.S_IMODE(found.st_mode):04o})")


def _refusal(home: str) -> str | None:
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return refusal(home, fd)
    finally:
        os.close(fd)


def _existing(path: str) -> str:
    """The path, or the nearest directory above it that exists."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _disk(home: str) -> Iterator[_Finding]:
    place = _existing(home)
    kind = _file_system(place)
    remote = kind is not None and kind.startswith(_REMOTE)
    yield _Finding(
        "warn" if remote else "ok",
        f"file system: {kind or 'unknown'}"
        + (" is remote; a local disk is faster, and its locks are more reliable" if remote else ""),
    )
    space = os.statvfs(place)
    free = space.f_bavail * space.f_frsize
    text = f"{_size(free)} free"
    if space.f_files and not space.f_favail:
        yield _Finding(
            "fail", f"{text}, but no inodes: no file can be created, and events are dropped. Delete some files"
        )
    elif free == 0:
        yield _Finding("fail", "the disk is full, so events are dropped. Free some space")
    else:
        yield _Finding("warn" if free < _LITTLE_BYTES else "ok", text)


def _file_system(place: str) -> str | None:
    """The type of the file system at ``place``; None if it is unknown, for example on macOS."""
    best, kind = -1, None
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
        real = os.path.realpath(place)
        for line in mounts:
            left, _, right = line.partition(" - ")
            mounted = left.split()[4].replace("\\040", " ")
            # A later mount of the same point hides an earlier one.
            if os.path.commonpath((real, mounted)) == mounted and len(mounted) >= best:
                best, kind = len(mounted), right.split()[0]
    return kind


def _locks(home: str) -> Iterator[_Finding]:
    place = _existing(home)
    with tempfile.NamedTemporaryFile(dir=place, prefix=".pyjama-doctor-") as file:
        # Another process would open the file again: this second descriptor stands for it.
        other = os.open(file.name, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield _lock_finding("liveness lock", lambda: _is_seen_held(file.fileno(), other))
            yield _lock_finding("flock", lambda: _is_refused(file.name))
        finally:
            os.close(other)


def _is_seen_held(holder: int, other: int) -> bool:
    hold(holder)
    return is_held(other)


def _is_refused(path: str) -> bool:
    from filelock import FileLock, Timeout

    with FileLock(path, fallback_to_soft=False):
        try:
            FileLock(path, fallback_to_soft=False).acquire(timeout=0)
        except Timeout:
            return True
    return False


def _lock_finding(kind: str, is_working: Callable[[], bool]) -> _Finding:
    try:
        working, why = is_working(), "a second process can take it too"
    except OSError as error:
        working, why = False, error.strerror or str(error)
    if working:
        return _Finding("ok", f"{kind} works")
    return _Finding("fail", f"{kind} does not work here: {why}. Set PYJAMA_HOME to a directory on a local disk")


def _snapshot(home: str) -> Iterator[_Finding]:
    with _directory(home) as store:
        if store is None:
            yield _Finding("ok", "none yet")
            return
        try:
            state = load(store).state
        except SchemaTooNew as error:
            yield _Finding("fail", str(error))
            return
    path = os.path.join(home, SNAPSHOT)
    if state == "corrupt":
        yield _Finding("warn", f"{path} is damaged. The next event rebuilds it, and keeps the damaged file")
    elif state == "whole":
        yield _Finding("ok", f"readable, schema {SCHEMA}, {_size(os.path.getsize(path))}")
    else:
        yield _Finding("ok", "none yet" if state == "absent" else "cleared; the next event creates it again")


def _journals(home: str) -> Iterator[_Finding]:
    for name in (JOURNAL, HISTORY):
        with _directory(os.path.join(home, name)) as directory:
            segments = [] if directory is None else list_segments(directory)
            total = 0
            alive = set()
            for segment in segments:
                with contextlib.suppress(FileNotFoundError):  # folded and removed meanwhile
                    fd = os.open(segment.filename, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory)
                    try:
                        total += os.fstat(fd).st_size
                        if is_held(fd):
                            alive.add(segment.writer)
                    finally:
                        os.close(fd)
        text = f"{name}: {count(len(segments), 'file')}, {_size(total)}"
        yield _Finding("ok", text + (f", {len(alive)} with a live writer" if name == JOURNAL else ""))
    yield from _backlog(home)


def _backlog(home: str) -> Iterator[_Finding]:
    with _directory(home) as store, _directory(os.path.join(home, JOURNAL)) as journal:
        if store is None or journal is None:
            return
        try:
            folded = load(store).document.get("journals")
        except SchemaTooNew:  # the check of the snapshot reports it
            folded = None
        backlog = measure_backlog(journal, folded=folded)
    if backlog.share() >= 0.5:
        yield _Finding(
            "warn",
            f"{backlog.segments} files, {_size(backlog.bytes)}, are not in the totals yet, {backlog.share():.0%} of "
            "what may wait before events are dropped. The next program that records adds them. If they stay, look at "
            "locks, snapshot and metrics.lock in this list",
        )


def _original_lock(home: str) -> Iterator[_Finding]:
    path = os.path.join(home, ORIGINAL_LOCK)
    try:
        age = time.time() - os.stat(path, follow_symlinks=False).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        yield _Finding("ok", "free")
        return
    if age < _STALE_SECONDS:
        yield _Finding("ok", "held by a process that is writing the snapshot")
        return
    yield _Finding(
        "warn",
        f"{path} was left behind {age:.0f} s ago. The next event removes it; if it does not, run: rm {path}",
    )


def _health(home: str) -> Iterator[_Finding]:
    from pyjama_instrument.reader import get_dashboard_data

    notes = get_dashboard_data(home).health.notes
    for note in notes:
        yield _Finding("warn", note)
    if not notes:
        yield _Finding("ok", "no damaged records, no dropped events")


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int | None]:
    """The directory's descriptor; None if there is no such directory."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} B"


_CHECKS: dict[str, Callable[[str], Iterator[_Finding]]] = {
    "versions": _versions,
    "recording": _recording,
    "home": _home,
    "disk": _disk,
    "locks": _locks,
    "snapshot": _snapshot,
    "journals": _journals,
    "metrics.lock": _original_lock,
    "health": _health,
}
