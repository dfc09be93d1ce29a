"""Loading the snapshot in any state. Reads only.

Four states: *whole*; *cleared*, if it was removed or emptied and its predecessor is there; *corrupt*, if it is there
and cannot be read; *absent*, if there never was one.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any, Literal, NamedTuple, NoReturn, TypeAlias

from pyjama_instrument.errors import SchemaTooNew
from pyjama_instrument.fold.document import new_document
from pyjama_instrument.storage.layout import CLEARED_AT, PREVIOUS, SCHEMA, SIGNATURE, SNAPSHOT

__all__ = [
    "Identity",
    "Snapshot",
    "identity",
    "identity_of",
    "load",
    "locks_are_trusted",
    "parse",
    "trust_locks",
]

_NO_FILE = (errno.ELOOP, errno.ENXIO, errno.ENODEV)
_LARGEST_BYTES = 256 * 1024 * 1024  # a hundred times what ours have; reading more would harm the program

Identity: TypeAlias = tuple[int, int, int]
"""Identifies one generation of a file: inode, modification time in ns, size."""


class Snapshot(NamedTuple):
    """A document to fold onto.

    Attributes:
        document: the document; if it was cleared, the one from before.
        state: see above.
        identity: of the file that was read.
        cleared_us: the time from which events count again; a corrupt snapshot may have one too.
        found: if it was cleared, the document that another program has written in its place, without offsets.
        sound: a fold has made the document, so it needs no repair.
    """

    document: dict[str, Any]
    state: Literal["whole", "cleared", "corrupt", "absent"]
    identity: Identity | None = None
    cleared_us: int | None = None
    found: dict[str, Any] | None = None
    sound: bool = False


def identity(directory: int, name: str = SNAPSHOT) -> Identity | None:
    """The identity of the file under ``name`` now; None if there is none."""
    try:
        return identity_of(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except OSError:
        return None


def load(directory: int, directory_changed_ns: int | None = None) -> Snapshot:
    """The snapshot of the store in that directory.

    Args:
        directory: its descriptor.
        directory_changed_ns: when others last changed the directory, if the caller has changed it since.

    Raises:
        OSError: the snapshot is damaged, and its predecessor cannot be opened now.
        SchemaTooNew: it was written by a newer version of this package.
    """
    if directory_changed_ns is None:
        directory_changed_ns = os.fstat(directory).st_mtime_ns
    document, which, problem = _load_file(directory, SNAPSHOT)
    if document is not None and "journals" in document:
        return Snapshot(document, "whole", which)
    previous, _, _ = _load_file(directory, PREVIOUS)
    cleared_us = previous.pop(CLEARED_AT, None) if previous is not None else None
    if type(cleared_us) is not int:
        cleared_us = None
    if problem:
        return Snapshot(previous or new_document(), "corrupt", which, cleared_us)
    if previous is not None and "journals" in previous:
        if cleared_us is None:
            # Removing a file is the last change of its directory's entries; emptying it, the last change of the file.
            cleared_us = (which[1] if which else directory_changed_ns) // 1000
        return Snapshot(previous, "cleared", which, cleared_us, document)
    return Snapshot(document or new_document(), "absent", which)


def _load_file(directory: int, name: str) -> tuple[dict[str, Any] | None, Identity | None, bool]:
    """The document, its identity, and whether the file is there but cannot be read."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return None, None, False
    except OSError as error:
        # The predecessor counts as unreadable only if it can never be opened. Otherwise a temporary fault would lose
        # what it alone holds.
        if name == PREVIOUS and error.errno not in _NO_FILE:
            raise
        return None, identity(directory, name), True
    found = os.fstat(fd)
    which = identity_of(found)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_BYTES:
        os.close(fd)
        return None, which, True
    with open(fd, "rb") as file:
        try:
            document = parse(file.read())
        except OSError:
            if name == PREVIOUS:
                raise
            return None, which, True
        except (ValueError, RecursionError):
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


def identity_of(found: os.stat_result) -> Identity:
    """The identity of a file with that status."""
    return found.st_ino, found.st_mtime_ns, found.st_size


def parse(data: bytes) -> Any:
    """The document in these bytes.

    Agents of the original tool may write a key twice, each time with a part of the values. Then both parts count:
    counters are added, lists are joined, and the latest of two times is taken. Documents of this package never contain
    a key twice and are read the quick way.

    Raises:
        ValueError: it is not JSON; NaN and Infinity are not.
        RecursionError: it is nested too deeply.
    """
    if data.endswith(SIGNATURE):
        return json.loads(data)
    return json.loads(data, object_pairs_hook=_merged, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_ADDED = {
    "count",
    "success",
    "error",
    "cancelled",
    "total-duration",
    "running",
    "completed",
    "failed",
    "crashed",
    "ended",
}


def _merged(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    merged = dict(pairs)
    if len(merged) == len(pairs):
        return merged
    merged = {}
    for key, value in pairs:
        merged[key] = _joined(key, merged[key], value) if key in merged else value
    return merged


def _joined(key: str, one: Any, other: Any) -> Any:
    if type(one) is dict and type(other) is dict:
        return one | {name: _joined(name, one[name], part) if name in one else part for name, part in other.items()}
    if type(one) is list and type(other) is list:
        return one + other
    if type(one) in (int, float) and type(other) in (int, float):
        return one + other if key in _ADDED or key.isdecimal() else max(one, other)
    return one if other is None else other


def trust_locks(document: dict[str, Any], trusted: bool) -> None:
    """Write into the document whether locks exclude other processes on the file system of the store."""
    health = document.get("health")
    if type(health) is not dict:
        health = document["health"] = {}
    if trusted:
        health.pop("locks", None)
    else:
        health["locks"] = "untrusted"


def locks_are_trusted(document: dict[str, Any]) -> bool:
    """Whether locks exclude other processes here, according to the document."""
    health = document.get("health")
    return type(health) is not dict or health.get("locks") != "untrusted"
