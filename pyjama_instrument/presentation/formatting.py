"""Text forms of durations, times, counts and names, for everything that a person reads. Pure functions."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

__all__ = ["clock", "count", "duration", "join_names", "json_or_repr", "moment", "printable", "problem"]

NONE = "–"


def printable(value: object, limit: int = 200) -> str:
    r"""``value`` as printable text on one line, of at most ``limit`` characters before escaping.

    Control characters (and so every terminal escape sequence), line ends, invisible characters, characters that change
    the text direction and halves of surrogate pairs become ``\x1b`` or ``\u202e``.
    """
    text = str(value)
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


def problem(kind: str, message: str, limit: int = 200) -> str:
    """One line for an error: the last part of its qualified type, and its message. Either may be empty."""
    return printable(": ".join(part for part in (kind.rpartition(".")[2], message) if part), limit)


def join_names(names: Sequence[str], limit: int = 3) -> str:
    """``a, b and c``, or ``a, b, c and 4 more`` if there are more than ``limit`` names."""
    parts = list(names[:limit])
    if len(names) > limit:
        parts.append(f"{len(names) - limit:,} more")
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def json_or_repr(value: Any, indent: int | None = None) -> str:
    """A recorded value as JSON, or its ``repr`` if JSON cannot express it."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, default=repr)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def count(number: int, noun: str) -> str:
    """``1 call``, ``1,234 calls``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(ms: float | None) -> str:
    """Milliseconds as ``7 µs``, ``0.42 ms``, ``45 ms``, ``3.2 s``, ``4 min 05 s``, ``2 h 03 min`` or ``3 d 04 h``."""
    if ms is None or not math.isfinite(ms):
        return NONE
    ms = max(ms, 0.0)
    if 0 < ms < 0.0995:
        return f"{max(ms * 1000, 1):.0f} µs"
    if ms < 9.95:
        return "0 ms" if ms == 0 else f"{ms:.2f} ms" if ms < 0.995 else f"{ms:.1f} ms"
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    return _long(round(ms / 1000))


def _long(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days:,} d {hour:02d} h"
    if hours:
        return f"{hours} h {minute:02d} min"
    return f"{minutes} min {second:02d} s"


def moment(us: int | None) -> str:
    """Microseconds since the epoch as local date and time, ``2026-01-31 14:03:22``; a dash for None and 0."""
    return _local(us, "%Y-%m-%d %H:%M:%S")


def clock(us: int | None) -> str:
    """Microseconds since the epoch as local time of day, with milliseconds: ``14:03:22.123``."""
    return _local(us, "%H:%M:%S.%f")[:12]


def clock_or_date(us: int | None, now_us: int) -> str:
    """The time of day if it is on the day of ``now_us``, else with its date: ``2026-01-31T14:03:22.123``."""
    day = _local(us, "%Y-%m-%d")
    return clock(us) if day in (NONE, _local(now_us, "%Y-%m-%d")) else f"{day}T{clock(us)}"


def _local(us: int | None, form: str) -> str:
    if not us:
        return NONE
    try:
        return datetime.fromtimestamp(us / 1e6).strftime(form)
    except (ValueError, OverflowError, OSError):  # the clock was wrong: the year is out of range
        return NONE
