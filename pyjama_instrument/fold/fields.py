"""Reading the fields of events and of entries, whose types nothing guarantees."""

from __future__ import annotations

from typing import Any, TypeAlias

__all__ = ["Document", "Record", "failure", "integer", "number", "text", "time_ms"]

Document: TypeAlias = dict[str, Any]
Record: TypeAlias = dict[str, Any]


def text(event: Record, key: str) -> str:
    """The string in that field.

    Raises:
        KeyError: the field is missing.
        TypeError: it is not a string.
    """
    value = event[key]
    if type(value) is not str:
        raise TypeError(key)
    return value


def integer(event: Record, key: str) -> int:
    """The integer in that field.

    Raises:
        KeyError: the field is missing.
        TypeError: it is not an integer.
    """
    value = event[key]
    if type(value) is not int:
        raise TypeError(key)
    return value


def time_ms(event: Record) -> int:
    """The event's time in ms since the epoch.

    Raises:
        KeyError: it has no time.
        TypeError: its time is not an integer.
    """
    value = event["ts"]
    if type(value) is not int:
        raise TypeError("ts")
    return value // 1000


def number(entry: Record, key: str) -> int:
    """The number in that field of an entry; 0 if it is missing or of another type."""
    value = entry.get(key, 0)
    return value if type(value) in (int, float) else 0


def failure(event: Record) -> Record | None:
    """The event's error with its texts cut to a bounded length; None if it has none."""
    error = event.get("error")
    if type(error) is not dict:
        return None
    return {"type": str(error.get("type", ""))[:256], "message": str(error.get("message", ""))[:1000]}
