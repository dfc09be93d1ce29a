"""Loading the snapshot, whatever state it is in. Reads only.

Four states: whole; *cleared*, when somebody removed it or emptied it but its predecessor is there; *corrupt*,
when it is there but cannot be read; and *absent*, when there never was one.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pyjama_instrument.errors import SchemaTooNew
from pyjama_instrument.fold import new_document
from pyjama_instrument.storage._layout import PREVIOUS, SCHEMA, SNAPSHOT

__all__ = ["Identity", "Snapshot", "identity", "load"]

Identity: TypeAlias = tuple[int, int, int]
"""Which generation of a file this is: inode, modification time in ns, size."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A document to fold onto.

    When it was cleared, ``document`` is the one from before, ``cleared_us`` the time from which events count again,
    and ``found`` what stands in the file if it carries no offsets of ours: totals that somebody else wrote.
    """

    document: dict[str, Any]
    state: Literal["whole", "cleared", "corrupt", "absent"]
    identity: Identity | None = None
    cleared_us: int | None = None
    found: dict[str, Any] | None = None


def identity(directory: int, name: str = SNAPSHOT) -> Identity | None:
    """The identity of the file under ``name`` now; None if there is none."""
    try:
        return _identity(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except OSError:
        return None


def load(directory: int, directory_changed_ns: int | None = None) -> Snapshot:
    """The snapshot of the store in that directory.

    Args:
        directory: its descriptor.
        directory_changed_ns: when the directory was last modified by others, if the caller has modified it since.

    Raises:
        SchemaTooNew: it was written by a newer version of this package.
    """
    if directory_changed_ns is None:
        directory_changed_ns = os.fstat(directory).st_mtime_ns
    document, which, problem = _load_file(directory, SNAPSHOT)
    if document is not None and "journals" in document:
        return Snapshot(document, "whole", which)
    previous, _, _ = _load_file(directory, PREVIOUS)
    if problem:
        return Snapshot(previous or new_document(), "corrupt", which)
    if previous is not None and "journals" in previous:
        # Removing a file is the last change of its directory's entries; emptying it, the last change of the file.
        changed_ns = which[1] if which else directory_changed_ns
        return Snapshot(previous, "cleared", which, changed_ns // 1000, document)
    return Snapshot(document or new_document(), "absent", which)


def _load_file(directory: int, name: str) -> tuple[dict[str, Any] | None, Identity | None, bool]:
    """The document, its identity, and whether the file is there but cannot be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return None, None, False
    except OSError:
        return None, None, True
    found = os.fstat(fd)
    which = _identity(found)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        return None, which, True
    with open(fd, "rb") as file:
        try:
            document = json.loads(file.read())
        except (ValueError, OSError, RecursionError):
            return None, which, True
    if type(document) is not dict or type(document.get("journals", {})) is not dict:
        return None, which, True
    schema = document.get("schema", SCHEMA)
    if type(schema) is int and schema > SCHEMA:
        raise SchemaTooNew(
            f"the store was written by a newer version (schema {schema}, this one knows {SCHEMA}): "
            "upgrade pyjama_instrument to read it"
        )
    return document, which, False


def _identity(found: os.stat_result) -> Identity:
    return found.st_ino, found.st_mtime_ns, found.st_size
