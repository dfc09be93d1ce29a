"""Compaction: fold everybody's journals into the snapshot, then retire what is wholly folded.

Whoever gets the lock without waiting does it for all. The order is what makes counting exact: lock, load, fold,
write and sync a temporary file, rename it over the snapshot, sync the directory, and only then move away segments
that this generation *and* the one before it cover. A crash at any point leaves a state from which the next run
continues: the offsets travel in the same file as the totals.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from pyjama_instrument.storage._atomic import replace_keeping_previous, write_file
from pyjama_instrument.storage._layout import CORRUPT_PREFIX, PREVIOUS, SCHEMA, SNAPSHOT, SegmentName
from pyjama_instrument.storage._liveness import is_held
from pyjama_instrument.storage._lock import rewriting, try_lock
from pyjama_instrument.storage._scan import catch_up
from pyjama_instrument.storage._snapshot import load
from pyjama_instrument.storage._store import Store

__all__ = ["Outcome", "clear", "compact"]

Outcome: TypeAlias = Literal["folded", "current", "busy"]

_HISTORY_BYTES = 256 * 1024 * 1024
_HISTORY_SECONDS = 7 * 24 * 3600
_HISTORY_FILES = 4096
_KEPT_CORRUPT = 3
_HALF_WRITTEN_SECONDS = 0.02
_TIDY_EVERY = 16  # generations


def compact(
    store: Store,
    *,
    wait_seconds: float = 0.0,
    original_wait_seconds: float = 0.25,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Bring the snapshot up to date with all journals.

    Args:
        store: the open store.
        wait_seconds: how long to wait for the lock; by default whoever has it does the work.
        original_wait_seconds: how long to wait for an original agent that rewrites the snapshot.
        should_stop: asked often; when true the run is given up and nothing has changed.

    Returns:
        ``folded``; ``current`` if there was nothing to fold; ``busy`` if somebody else is at it, the store was
        removed, or the run was given up.

    Raises:
        OSError: the snapshot cannot be written; it is as it was.
        SchemaTooNew: the snapshot was written by a newer version; it is left alone.
    """
    with _exclusively(store, wait_seconds, original_wait_seconds, should_stop) as changed_ns:
        if changed_ns is None:
            return "busy"
        try:
            return _compact(store, changed_ns, should_stop)
        except (InterruptedError, FileNotFoundError):  # the latter: somebody has just removed the snapshot or the store
            return "busy"


def clear(store: Store, *, wait_seconds: float = 10.0) -> bool:
    """Start all totals from zero; sessions that run stay visible. Returns False if the lock was not to be had.

    Raises:
        OSError: the snapshot cannot be written; it is as it was.
        SchemaTooNew: the snapshot was written by a newer version; it is left alone.
    """
    with _exclusively(store, wait_seconds, wait_seconds) as changed_ns:
        if changed_ns is not None:
            snapshot = load(store.fd, changed_ns)
            now_us = time.time_ns() // 1000
            document, _ = catch_up(replace(snapshot, cleared_us=now_us, found=None), store.journal)
            _write_both(store, document)
        return changed_ns is not None


@contextlib.contextmanager
def _exclusively(
    store: Store, wait_seconds: float, original_wait_seconds: float, should_stop: Callable[[], bool] = lambda: False
) -> Iterator[int | None]:
    """Hold both locks; yields when the store's directory was last modified by others, None if a lock was missed."""
    with try_lock(store.fd, wait_seconds=wait_seconds) as locked:
        if not locked or not store.is_current():
            yield None
            return
        changed_ns = os.fstat(store.fd).st_mtime_ns  # before our own lock file changes it
        with rewriting(store.fd, wait_seconds=original_wait_seconds, should_stop=should_stop) as got:
            yield changed_ns if got else None


def _compact(store: Store, changed_ns: int, should_stop: Callable[[], bool]) -> Outcome:
    snapshot = load(store.fd, changed_ns)
    if snapshot.state == "corrupt":  # or somebody who knows none of the locks is writing it just now
        time.sleep(_HALF_WRITTEN_SECONDS)
        snapshot = load(store.fd, changed_ns)
    covered = _sealed(snapshot.document) if snapshot.state == "whole" else []
    document, changed = catch_up(snapshot, store.journal, should_stop=should_stop)
    if snapshot.state != "whole":
        if snapshot.state == "corrupt":
            _keep_corrupt(store)
        _write_both(store, document)
    elif changed or covered:
        _stamp(document)
        replace_keeping_previous(store.fd, SNAPSHOT, PREVIOUS, _dump(document))
        _retire(store, covered)
        if document["generation"] % _TIDY_EVERY == 0:
            _tidy(store)
    else:
        return "current"
    return "folded"


def _write_both(store: Store, document: dict[str, Any]) -> None:
    """Write a document that has no valid predecessor: both generations are the same then.

    The snapshot first: one that is missing beside a predecessor always means that somebody removed it.
    """
    _stamp(document)
    data = _dump(document)
    write_file(store.fd, SNAPSHOT, data)
    write_file(store.fd, PREVIOUS, data)


def _stamp(document: dict[str, Any]) -> None:
    generation = document.get("generation", 0)
    document["schema"] = SCHEMA
    document["generation"] = (generation if type(generation) is int else 0) + 1


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n"


def _sealed(document: dict[str, Any]) -> list[SegmentName]:
    """Segments that the stored generation covers wholly: nothing can be appended to them any more."""
    sealed = (key for key, stored in document["journals"].items() if type(stored) is dict and stored.get("sealed"))
    names = (SegmentName.parse(f"{key}.jsonl") for key in sealed)
    return [name for name in names if name]


def _retire(store: Store, segments: Iterable[SegmentName]) -> None:
    for name in segments:
        with contextlib.suppress(FileNotFoundError):
            os.rename(name.filename, name.filename, src_dir_fd=store.journal, dst_dir_fd=store.history)


def _keep_corrupt(store: Store) -> None:
    """Keep an unreadable snapshot under another name for its owner to look at, but only the newest few."""
    aside = f"{CORRUPT_PREFIX}{time.time_ns()}"
    try:
        # A second name, not a rename: the snapshot must not be missing, that would mean "cleared".
        os.link(SNAPSHOT, aside, src_dir_fd=store.fd, dst_dir_fd=store.fd, follow_symlinks=False)
    except OSError:  # a directory has no second name, and has to be out of the way
        os.rename(SNAPSHOT, aside, src_dir_fd=store.fd, dst_dir_fd=store.fd)
    kept = sorted(name for name in os.listdir(store.fd) if name.startswith(CORRUPT_PREFIX))
    for name in kept[:-_KEPT_CORRUPT]:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=store.fd)


def _tidy(store: Store) -> None:
    """Keep the history within its bounds, and remove segments whose writer died before publishing them."""
    files = []
    for name in os.listdir(store.history):
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=store.history, follow_symlinks=False)
            files.append((found.st_mtime, found.st_size, name))
    files.sort(reverse=True)
    oldest, total = time.time() - _HISTORY_SECONDS, 0
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
