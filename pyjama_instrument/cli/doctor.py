"""``pyjama doctor``: check the store, the file system under it, and the installation."""

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

from pyjama_instrument.cli._terminal import paint, safe, say
from pyjama_instrument.config import disabled_by_environment, resolve_home
from pyjama_instrument.errors import PyjamaError, SchemaTooNew
from pyjama_instrument.presentation.formatting import count
from pyjama_instrument.storage.journal import waiting
from pyjama_instrument.storage.layout import HISTORY, JOURNAL, ORIGINAL_LOCK, SCHEMA, SNAPSHOT, list_segments
from pyjama_instrument.storage.liveness import hold, is_held
from pyjama_instrument.storage.snapshot import load
from pyjama_instrument.storage.store_ownership import refusal

__all__ = ["doctor"]

Level: TypeAlias = Literal["ok", "warn", "fail"]

_LITTLE_BYTES = 64 * 1024 * 1024
_STALE_SECONDS = 10.0
_REMOTE = ("nfs", "cifs", "smb", "9p", "fuse", "ceph", "lustre", "glusterfs", "afs")
_NEEDED = ("wrapt", "filelock", "pydantic")
_FOR_THE_DASHBOARD = ("starlette", "uvicorn")


class _Finding(NamedTuple):
    """What a check found: how bad, and a sentence with the next step in it where there is one."""

    level: Level
    text: str


def doctor(_: argparse.Namespace) -> int:
    """Run every check and say what it found; 1 when one fails.

    Raises:
        PyjamaError: nothing says where the store is.
    """
    home = resolve_home()
    failed = False
    for name, check in _CHECKS.items():
        for finding in _checked(check, home):
            failed |= finding.level == "fail"
            say(f"{paint(finding.level.ljust(4), finding.level)}  {name:12} {safe(finding.text, 500)}")
    return 1 if failed else 0


def _checked(check: Callable[[str], Iterator[_Finding]], home: str) -> Iterator[_Finding]:
    """The check's findings; a place that cannot be looked at is one more of them."""
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
            "warn", f"no dashboard without {' and '.join(missing)}: run  pip install 'pyjama_instrument[viewer]'"
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
        yield _Finding("warn", "switched off by PYJAMA_DISABLED in this environment")
    else:
        yield _Finding("ok", "switched on")


def _home(home: str) -> Iterator[_Finding]:
    try:
        found = os.stat(home)
    except FileNotFoundError:
        place = _existing(home)
        if os.access(place, os.W_OK | os.X_OK):
            yield _Finding("ok", f"{home} does not exist yet; the first event makes it")
        else:
            yield _Finding("fail", f"{home} does not exist and {place} cannot be written: set PYJAMA_HOME")
        return
    if not stat.S_ISDIR(found.st_mode):
        yield _Finding("fail", f"{home} is not a directory: move it away or set PYJAMA_HOME")
    elif found.st_uid != os.geteuid():
        yield _Finding("fail", f"{home} belongs to user {found.st_uid}, you are {os.geteuid()}: set PYJAMA_HOME")
    elif not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        yield _Finding("fail", f"{home} cannot be written: events are dropped until it can")
    elif reason := _refusal(home):
        yield _Finding("fail", reason)
    elif found.st_mode & 0o077:
        yield _Finding("warn", f"{home} is open to others ({stat.filemode(found.st_mode)}): run  chmod 700 {home}")
    else:
        yield _Finding("ok", f"{home}, yours alone")


def _refusal(home: str) -> str | None:
    fd = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return refusal(home, fd)
    finally:
        os.close(fd)


def _existing(path: str) -> str:
    """The path itself or the nearest directory above it that exists."""
    while not os.path.isdir(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _disk(home: str) -> Iterator[_Finding]:
    place = _existing(home)
    kind = _file_system(place)
    remote = kind is not None and kind.startswith(_REMOTE)
    yield _Finding(
        "warn" if remote else "ok",
        f"file system: {kind or 'unknown'}" + ("; a local disk is faster and its locks are surer" if remote else ""),
    )
    space = os.statvfs(place)
    free = space.f_bavail * space.f_frsize
    text = f"{_size(free)} free"
    if space.f_files and not space.f_favail:
        yield _Finding("fail", f"{text}, but not one file more can be made (no inodes)")
    elif free == 0:
        yield _Finding("fail", "no space left: events are dropped until there is")
    else:
        yield _Finding("warn" if free < _LITTLE_BYTES else "ok", text)


def _file_system(place: str) -> str | None:
    """The type of the file system at ``place``, where the system tells (Linux)."""
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
        # A lock counts only if another open file, which is what another process has, runs into it.
        other = os.open(file.name, os.O_RDWR | os.O_CLOEXEC)
        try:
            yield _verdict("liveness lock", lambda: _is_seen_held(file.fileno(), other))
            yield _verdict("flock", lambda: _is_refused(file.name))
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


def _verdict(kind: str, works: Callable[[], bool]) -> _Finding:
    try:
        well, why = works(), "it does not keep others out"
    except OSError as error:
        well, why = False, error.strerror or str(error)
    if well:
        return _Finding("ok", f"{kind} works")
    return _Finding("fail", f"{kind} does not work here ({why}): set PYJAMA_HOME to a directory on a local disk")


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
        yield _Finding("warn", f"{path} cannot be read; the next event has it rebuilt and keeps the damaged copy")
    elif state == "whole":
        yield _Finding("ok", f"readable, schema {SCHEMA}, {_size(os.path.getsize(path))}")
    else:
        yield _Finding("ok", "none yet" if state == "absent" else "cleared; the next event begins it anew")


def _journals(home: str) -> Iterator[_Finding]:
    for name in (JOURNAL, HISTORY):
        with _directory(os.path.join(home, name)) as directory:
            segments = [] if directory is None else list_segments(directory)
            total = 0
            alive = set()
            for segment in segments:
                with contextlib.suppress(FileNotFoundError):  # folded away meanwhile
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
        except SchemaTooNew:  # said elsewhere
            folded = None
        backlog = waiting(journal, folded=folded)
    if backlog.share() >= 0.5:
        yield _Finding(
            "warn",
            f"{backlog.segments} files, {_size(backlog.bytes)} wait to be added up, {backlog.share():.0%} of what may "
            "wait before events are dropped; the next program that records goes on with it. If it does not shrink, see "
            "locks, snapshot and metrics.lock here",
        )


def _original_lock(home: str) -> Iterator[_Finding]:
    path = os.path.join(home, ORIGINAL_LOCK)
    try:
        age = time.time() - os.stat(path, follow_symlinks=False).st_mtime
    except (FileNotFoundError, NotADirectoryError):
        yield _Finding("ok", "free")
        return
    if age < _STALE_SECONDS:
        yield _Finding("ok", "held by a process that is rewriting the snapshot")
        return
    yield _Finding(
        "warn",
        f"{path} has been there for {age:.0f} s. If it is ours the next event removes it; if an agent of the original "
        f"left it, run  rm {path}",
    )


def _health(home: str) -> Iterator[_Finding]:
    from pyjama_instrument.reader import get_dashboard_data

    notes = get_dashboard_data(home).health.notes
    for note in notes:
        yield _Finding("warn", note)
    if not notes:
        yield _Finding("ok", "no record damaged, none dropped")


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
