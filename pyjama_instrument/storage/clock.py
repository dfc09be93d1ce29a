"""Clocks that jump: how old things really are, and times that lie in the future.

The wall clock can be set, by a person, a time server or a flat battery. Retention must not take ten years that never
passed for age, so a document carries how far the wall clock is ahead of the time that has really gone by: told by the
clock since boot, which nobody can set, or after a reboot by what is plausible.
"""

from __future__ import annotations

import functools
import time
from typing import Any

__all__ = ["boot_id", "clamp_times", "elapsed_now", "updated_clock", "was_set_back"]

_SLACK_SECONDS = 60.0  # clocks are corrected little by little too
_PLAUSIBLE_SECONDS = 30 * 24 * 3600.0
_END_OF_TIME = 1e12  # in seconds; somebody's 10**400 cannot be reckoned with
_TIMES = ("timestamp", "start-time", "end-time", "last-seen")


def updated_clock(known: Any) -> dict[str, Any]:
    """The clocks now, to be kept in the document in the place of those from the last time."""
    wall, running, boot = time.time(), _since_boot(), _boot()
    skew = 0.0
    if _is_sound(known):
        passed = wall - known["wall"]
        really = running - known["running"]
        if known["boot"] != boot or really < 0:
            really = passed if 0 <= passed <= _PLAUSIBLE_SECONDS else 0.0
        skew = known["skew"] + (passed - really if abs(passed - really) > _SLACK_SECONDS else 0.0)
    # Never negative: things are kept too long rather than not long enough.
    return {"wall": wall, "running": running, "boot": boot, "skew": max(0.0, skew)}


def elapsed_now(known: Any) -> float:
    """The time to compare the age of things with, in seconds since the epoch."""
    return time.time() - (known["skew"] if _is_sound(known) else 0.0)


def was_set_back(known: Any) -> bool:
    """Whether the wall clock was set back since the last time."""
    return _is_sound(known) and time.time() < known["wall"] - 1.0


def clamp_times(document: dict[str, Any], now_ms: int) -> None:
    """What a clock that was ahead has dated into the future happened now, at the latest.

    Otherwise it would stay the newest until that future has come, and hide what comes after it.
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
    """Which boot of which kernel this is; empty if the system does not tell."""
    return _boot()


@functools.cache
def _boot() -> str:
    try:
        # As bytes: the codec of a text file is imported, which a process that has changed its user may not do any more.
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return file.read().strip().decode("ascii")
    except OSError:
        return ""
