"""Compaction: fold the journals of all processes into the snapshot, then retire segments that are completely folded.

The process that gets the lock without waiting compacts for all. The order makes counting exact: lock, load, fold,
write and sync a temporary file, rename it over the snapshot, sync the directory, and only then move away the segments
that this generation *and* the one before it cover. Totals and offsets are in one file, so after a crash at any point
the next compaction continues. For the same reason a compaction may stop early: it writes what it has folded. Right
before it replaces the snapshot, it checks it again, because a program that knows no locks may have changed it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

from pyjama_instrument.fold.document import repaired
from pyjama_instrument.storage.atomic_replace import FileChanged, replace_keeping_previous, write_file, write_over
from pyjama_instrument.storage.clock import clamp_times, elapsed_now, updated_clock, was_set_back
from pyjama_instrument.storage.encoded_cache import EncodedCache
from pyjama_instrument.storage.journal_scan import CatchUpResult, catch_up
from pyjama_instrument.storage.layout import (
    CLEARED_AT,
    CORRUPT_PREFIX,
    PREVIOUS,
    SCHEMA,
    SNAPSHOT,
    SegmentName,
    segments_of,
)
from pyjama_instrument.storage.liveness import is_held
from pyjama_instrument.storage.lock_domains import expire_divided, unlocked_means_dead, unmark_divided
from pyjama_instrument.storage.snapshot import Identity, Snapshot, identity, load, trust_locks
from pyjama_instrument.storage.snapshot_lock import OriginalLock, hold_original_lock, locks_work, try_lock
from pyjama_instrument.storage.store_directory import Store
from pyjama_instrument.threads.native import sleep

__all__ = ["Outcome", "clear", "compact", "goes_on"]

Outcome: TypeAlias = Literal["folded", "partial", "current", "busy"]

_HISTORY_BYTES = 256 * 1024 * 1024
_HISTORY_SECONDS = 7 * 24 * 3600
_HISTORY_FILES = 4096
_KEPT_CORRUPT = 3
_HALF_WRITTEN_SECONDS = 0.02
_TIDY_EVERY = 16  # generations
_ATTEMPTS = 3
_RETIRED_AT_ONCE = 64


def compact(
    store: Store,
    *,
    wait_seconds: float = 0.0,
    original_wait_seconds: float = 0.25,
    should_stop: Callable[[], bool] = lambda: False,
    enough: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Bring the snapshot up to date with all journals.

    Args:
        store: the open store.
        wait_seconds: how long to wait for the lock; by default not at all, because its holder does the work.
        original_wait_seconds: how long to wait for an agent of the original tool that rewrites the snapshot.
        should_stop: called often; if it returns True, the compaction is abandoned and nothing has changed.
        enough: called after each portion; if it returns True, the compaction ends with that portion.

    Returns:
        ``folded``; ``partial`` if ``enough`` ended it early; ``current`` if there was nothing to fold;
        ``busy`` if another process compacts, the store was removed, or the compaction was abandoned.

    Raises:
        OSError: the snapshot cannot be written; it is as it was.
        SchemaTooNew: the snapshot was written by a newer version; it is not changed.
    """
    with _hold_locks(store, wait_seconds, original_wait_seconds, should_stop) as turn:
        if turn is None:
            return "busy"
        for _ in range(_ATTEMPTS):
            try:
                return _compact(store, turn, should_stop, enough)
            except FileChanged:  # the next attempt folds onto what is there now
                continue
            except (InterruptedError, FileNotFoundError):  # the latter: the snapshot or the store was removed
                break
            except OSError as error:
                if error.errno == errno.ESTALE:  # the snapshot was replaced below the overlay file system
                    break
                raise
        return "busy"


def clear(store: Store, *, wait_seconds: float = 10.0) -> bool:
    """Start all totals from zero; running sessions stay. Returns False if the lock cannot be taken in time.

    Raises:
        OSError: the snapshot cannot be written; it is as it was.
        SchemaTooNew: the snapshot was written by a newer version; it is not changed.
    """
    now_us = time.time_ns() // 1000
    with _hold_locks(store, wait_seconds, wait_seconds) as turn:
        for _ in range(_ATTEMPTS):
            if turn is None:
                break
            with contextlib.suppress(FileChanged):
                store.kept = None
                snapshot = load(store.fd, turn.changed_ns)
                unmark_divided(snapshot.document)
                news = catch_up(snapshot._replace(cleared_us=now_us, found=None), store.journal, store.history)
                _write_both(store, snapshot, news, _Kept())
                return True
        return False


class _HeldLocks(NamedTuple):
    """Both locks are held. ``changed_ns``: when others last changed the directory; ``alone``: locks exclude others."""

    changed_ns: int
    mark: OriginalLock
    alone: bool


@contextlib.contextmanager
def _hold_locks(
    store: Store, wait_seconds: float, original_wait_seconds: float, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[_HeldLocks | None]:
    """Hold both locks; yields None if one was missed."""
    with try_lock(store.fd, wait_seconds=wait_seconds) as locked:
        if not locked or not store.is_current():
            yield None
            return
        changed_ns = os.fstat(store.fd).st_mtime_ns  # before our own lock file changes it
        alone = locks_work(store.fd)
        with hold_original_lock(
            store.fd, wait_seconds=original_wait_seconds, should_stop=should_stop, alone=alone
        ) as mark:
            yield _HeldLocks(changed_ns, mark, alone) if mark else None


class _Kept:
    """The snapshot as this process wrote it last. While the file is the same, it need not be read and encoded again."""

    __slots__ = ("document", "identity", "pieces")

    def __init__(self) -> None:
        self.pieces = EncodedCache()
        self.document: dict[str, Any] = {}
        self.identity: Identity | None = None


def _compact(store: Store, turn: _HeldLocks, should_stop: Callable[[], bool], enough: Callable[[], bool]) -> Outcome:
    kept, snapshot = _begin(store, turn)
    sealed = _sealed(snapshot.document) if snapshot.state == "whole" else {}
    news = catch_up(snapshot, store.journal, store.history, should_stop=should_stop, enough=enough)
    trusted = unlocked_means_dead(news.document)
    covered = _still_sealed(sealed, news.document) if trusted else []
    if not turn.mark.exists():  # it was removed meanwhile, and others may have continued from the same snapshot
        return "busy"
    if news.clear_pending_us is not None:
        news.document[CLEARED_AT] = news.clear_pending_us
        write_file(store.fd, PREVIOUS, _encoded(news, kept, should_stop))
    elif snapshot.state != "whole":
        _write_both(store, snapshot, news, kept, enough)
    elif news.changed or covered:
        _replace(store, snapshot, _encoded(news, kept, should_stop), kept)
        _retire(store, covered, enough)
        if news.document["generation"] % _TIDY_EVERY == 0 and trusted and not enough():
            _tidy(store, elapsed_now(news.document["clock"]))
        store.kept = kept
    else:
        if snapshot.sound:
            store.kept = kept
        return "current"
    return "folded" if news.complete else "partial"


def goes_on(store: Store) -> bool:
    """Whether this process wrote the current snapshot. If not, what was kept of an older one is dropped."""
    kept = store.kept
    if type(kept) is _Kept and kept.identity == identity(store.fd):
        return True
    store.kept = None
    return False


def _begin(store: Store, turn: _HeldLocks) -> tuple[_Kept, Snapshot]:
    """The snapshot to fold onto, and its encoded form as far as it is kept."""
    kept, store.kept = store.kept, None  # if this compaction fails halfway, its document must not be used again
    if type(kept) is _Kept and kept.identity == identity(store.fd):
        snapshot = Snapshot(kept.document, "whole", kept.identity, sound=True)
    else:
        kept, snapshot = _Kept(), _load(store, turn.changed_ns)
    trust_locks(snapshot.document, turn.alone)
    expire_divided(snapshot.document)
    if was_set_back(snapshot.document.get("clock")):
        clamp_times(repaired(snapshot.document), time.time_ns() // 1_000_000)
        kept.pieces = EncodedCache()
    return kept, snapshot


def _load(store: Store, changed_ns: int) -> Snapshot:
    snapshot = load(store.fd, changed_ns)
    if snapshot.state == "corrupt":  # or a program that knows none of the locks is writing it
        sleep(_HALF_WRITTEN_SECONDS)
        snapshot = load(store.fd, changed_ns)
    return snapshot


def _write_both(
    store: Store,
    snapshot: Snapshot,
    news: CatchUpResult,
    kept: _Kept,
    enough: Callable[[], bool] = lambda: False,
) -> None:
    """Write a document that has no valid predecessor, as both generations.

    The snapshot is written first: if it is missing and its predecessor is not, this means that it was removed.

    Raises:
        FileChanged: the snapshot has changed since it was loaded.
    """
    trusted = unlocked_means_dead(news.document)
    data = _encoded(news, kept, lambda: False)
    expected = snapshot.identity
    if snapshot.state == "corrupt":
        expected = _keep_corrupt(store, expected, all_of_them=not trusted)
    kept.identity = write_over(store.fd, SNAPSHOT, data, expected)
    write_file(store.fd, PREVIOUS, data)
    if trusted:
        _retire(store, segments_of(_sealed(news.document)), enough)
    store.kept = kept


def _replace(store: Store, snapshot: Snapshot, data: bytes, kept: _Kept) -> None:
    """Write the next generation.

    Raises:
        FileChanged: the snapshot has changed since it was loaded.
    """
    kept.identity = replace_keeping_previous(store.fd, SNAPSHOT, PREVIOUS, data, snapshot.identity)
    if identity(store.fd, PREVIOUS) != snapshot.identity:  # another program wrote to it in place in the last moment
        _set_aside(store, PREVIOUS)
        write_file(store.fd, PREVIOUS, data)


def _encoded(news: CatchUpResult, kept: _Kept, should_stop: Callable[[], bool]) -> bytes:
    """The next generation's bytes.

    Raises:
        InterruptedError: ``should_stop`` became true.
    """

    def pause() -> None:
        if should_stop():
            raise InterruptedError("asked to stop")

    kept.document = document = news.document
    generation = document.get("generation", 0)
    document["schema"] = SCHEMA
    document["clock"] = updated_clock(document.get("clock"))
    document["generation"] = (generation if type(generation) is int else 0) + 1
    return kept.pieces.join(document, news.changed_entries, pause)


def _sealed(document: dict[str, Any]) -> dict[str, int]:
    """Segments that the stored generation covers completely, with their ends: nothing can be appended to them."""
    journals = document["journals"].items()
    return {key: stored.get("offset", 0) for key, stored in journals if type(stored) is dict and stored.get("sealed")}


def _still_sealed(sealed: dict[str, int], document: dict[str, Any]) -> list[SegmentName]:
    """Those of them that the next generation covers too, without segments that have grown or are held again."""
    now = _sealed(document)
    return segments_of(key for key, end in sealed.items() if now.get(key) == end)


def _retire(store: Store, segments: Iterable[SegmentName], enough: Callable[[], bool]) -> None:
    """Move segments to the history. If ``enough`` ends this early, the next compaction moves the others."""
    for at, name in enumerate(segments, 1):
        with contextlib.suppress(FileNotFoundError):
            os.rename(name.filename, name.filename, src_dir_fd=store.journal, dst_dir_fd=store.history)
        if at % _RETIRED_AT_ONCE == 0 and enough():
            return


def _keep_corrupt(store: Store, expected: Identity | None, *, all_of_them: bool) -> Identity | None:
    """Keep an unreadable snapshot under another name for its owner, but only the newest few.

    Returns the identity of the file that still has the snapshot's name; None if there is none.

    Raises:
        FileChanged: it is not the file that could not be read.
    """
    if identity(store.fd) != expected:
        raise FileChanged(SNAPSHOT)
    aside = _set_aside(store, SNAPSHOT)
    if expected not in (identity(store.fd, aside), identity(store.fd)):
        raise FileChanged(SNAPSHOT)
    kept = sorted(name for name in os.listdir(store.fd) if name.startswith(CORRUPT_PREFIX))
    for name in [] if all_of_them else kept[:-_KEPT_CORRUPT]:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=store.fd)
    return identity(store.fd)


def _set_aside(store: Store, name: str) -> str:
    """Give the file a second name, under which its owner can find it."""
    aside = f"{CORRUPT_PREFIX}{time.time_ns()}"
    try:
        # A second name, not a rename: if the snapshot were missing, this would mean that it was cleared.
        os.link(name, aside, src_dir_fd=store.fd, dst_dir_fd=store.fd, follow_symlinks=False)
    except FileNotFoundError:
        raise FileChanged(name) from None
    except OSError:  # a directory cannot have a second name, and must not stay in the way
        os.rename(name, aside, src_dir_fd=store.fd, dst_dir_fd=store.fd)
    return aside


def _tidy(store: Store, now: float) -> None:
    """Keep the history within its bounds, and remove segments whose writer died before they had their final name."""
    files = []
    for name in os.listdir(store.history):
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=store.history, follow_symlinks=False)
            files.append((found.st_mtime, found.st_size, name))
    files.sort(reverse=True)
    oldest, total = now - _HISTORY_SECONDS, 0
    for kept, (modified, size, name) in enumerate(files):
        total += size
        if kept >= _HISTORY_FILES or total > _HISTORY_BYTES or modified < oldest:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=store.history)
    for name in os.listdir(store.journal):
        if name.startswith(".") and name.endswith(".tmp"):
            _remove_unheld(store.journal, name)


def _remove_unheld(directory: int, name: str) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
        try:
            if not is_held(fd):
                os.unlink(name, dir_fd=directory)
        finally:
            os.close(fd)
