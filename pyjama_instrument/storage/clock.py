"""Clocks that jump: the true age of files, and times that are in the future.

A person, a time server or a flat battery can set the wall clock. If it jumps ahead by years, no history must be deleted
as too old. So the document stores by how much the wall clock has jumped ahead. This is measured with the clock since
boot, which cannot be set; after a reboot, only a plausible step of the wall clock counts as time that has passed.
"""

from __future__ import annotations

import functools
import time
from typing import Any

__all__ = ["boot_id", "clamp_times", "elapsed_now", "updated_clock", "was_set_back"]

_SLACK_SECONDS = 60.0  # small corrections are no jumps
_PLAUSIBLE_SECONDS = 30 * 24 * 3600.0
_END_OF_TIME = 1e12  # in seconds; a damaged document may hold 10**400, which floats cannot express
_TIMES = ("timestamp", "start-time", "end-time", "last-seen")


def updated_clock(known: Any) -> dict[str, Any]:
    """The clocks now, which replace in the document those of the last rewrite."""
    wall, running, boot = time.time(), _since_boot(), _boot()
    skew = 0.0
    if _is_sound(known):
        passed = wall - known["wall"]
        really = running - known["running"]
        if known["boot"] != boot or really < 0:
            really = passed if 0 <= passed <= _PLAUSIBLE_SECONDS else 0.0
        skew = known["skew"] + (passed - really if abs(passed - really) > _SLACK_SECONDS else 0.0)
    # Never negative: it is better to keep history too long than not long enough.
    return {"wall": wall, "running": running, "boot": boot, "skew": max(0.0, skew)}


def elapsed_now(known: Any) -> float:
    """The time from which ages are measured, in seconds since the epoch."""
    return time.time() - (known["skew"] if _is_sound(known) else 0.0)


def was_set_back(known: Any) -> bool:
    """Whether the wall clock was set back since the last rewrite."""
    return _is_sound(known) and time.time() < known["wall"] - 1.0


def clamp_times(document: dict[str, Any], now_ms: int) -> None:
    """Set times in the future, which a clock that was ahead has recorded, to now.

    Otherwise these entries would stay the newest until that time, and hide later ones.
    """
    for entry in document.get("recent-logs", ()):
        _not_after(entry, now_ms)
    for section in ("sessions", "agents"):
        for entry in document.get(section, {}).values():
            _not_after(entry, now_ms)
            for step in entry.get("steps") or ():
                _not_after(step, now_ms)
    rate = document.get("rate", {})
    document["rate"] = {second: count for second, count in rate.items() if int(second) * 1000 <= now_ms}


def _not_after(entry: Any, now_ms: int) -> None:
    for key in _TIMES:
        if type(entry.get(key)) is int and entry[key] > now_ms:
            entry[key] = now_ms


def _is_sound(known: Any) -> bool:
    if type(known) is not dict or type(known.get("boot")) is not str:
        return False
    times: list[Any] = [known.get(key) for key in ("wall", "running", "skew")]
    return all(type(value) in (int, float) and abs(value) < _END_OF_TIME for value in times)


def _since_boot() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def boot_id() -> str:
    """The id of this boot of this kernel; empty if the system does not provide one."""
    return _boot()


@functools.cache
def _boot() -> str:
    try:
        # As bytes: text would import a codec, which a process that has changed its user may not be able to do.
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip().decode("ascii")
    except OSError:
        return ""
