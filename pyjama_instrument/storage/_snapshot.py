"""Loading the snapshot, whatever state it is in. Reads only.

Four states: whole; *cleared*, when somebody removed it or emptied it but its predecessor is there; *corrupt*,
when it is there but cannot be read; and *absent*, when there never was one.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias

from pyjama_instrument.errors import SchemaTooNew
from pyjama_instrument.fold import new_document
from pyjama_instrument.storage._layout import PREVIOUS, SCHEMA, SNAPSHOT

__all__ = ["Identity", "Snapshot", "dump", "identity", "load", "locks_are_trusted", "parse", "trust_locks"]

_LARGEST_BYTES = 256 * 1024 * 1024  # ours have a hundredth of it, and reading more would hurt the host

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
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST_BYTES:
        os.close(fd)
        return None, which, True
    with open(fd, "rb") as file:
        try:
            document = parse(file.read())
        except (ValueError, OSError, RecursionError):
            return None, which, True
    if type(document) is not dict:
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


def dump(document: dict[str, Any]) -> bytes:
    """The document's bytes, with our signature: a blank before the newline, which no other writer of JSON makes."""
    try:
        text = json.dumps(document, separators=(",", ":"), allow_nan=False)
    except ValueError:  # a number beyond all bounds, which somebody else wrote; browsers would read none of it
        text = json.dumps(_finite(document), separators=(",", ":"), allow_nan=False)
    return text.encode("ascii") + _SIGNATURE[1:]


def parse(data: bytes) -> Any:
    """What the bytes of a document say.

    The original's agents may give the same key twice, each with a part of what is to be said. Then both parts count:
    counters are added, lists joined, of times the latest is taken. Ours never do, and are read the quick way.

    Raises:
        ValueError: it is not JSON; NaN and Infinity are not.
        RecursionError: it is nested too deeply.
    """
    if data.endswith(_SIGNATURE):
        return json.loads(data)
    return json.loads(data, object_pairs_hook=_merged, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _finite(value: Any) -> Any:
    if type(value) is dict:
        return {key: _finite(part) for key, part in value.items()}
    if type(value) is list:
        return [_finite(part) for part in value]
    return value if type(value) is not float or math.isfinite(value) else 0.0


_SIGNATURE = b"} \n"
_ADDED = {"count", "success", "error", "cancelled", "total-duration", "running", "completed", "failed", "crashed"}


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
    """Write down in the document whether locks keep others out where the store is."""
    health = document.get("health")
    if type(health) is not dict:
        health = document["health"] = {}
    if trusted:
        health.pop("locks", None)
    else:
        health["locks"] = "untrusted"


def locks_are_trusted(document: dict[str, Any]) -> bool:
    """Whether an unlocked journal is the proof of its writer's death, as the document says."""
    health = document.get("health")
    return type(health) is not dict or health.get("locks") != "untrusted"
