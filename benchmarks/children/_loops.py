"""Ways to call a function many times; all of them return nanoseconds and do nothing else in between."""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Callable
from itertools import repeat
from typing import Any

__all__ = ["LOOPS", "time_each"]

_clock = time.perf_counter_ns
_Function = Callable[..., Any]


def _call(function: _Function, calls: int) -> int:
    began = _clock()
    for _ in repeat(None, calls):
        function(1, 2)
    return _clock() - began


def _iterate(function: _Function, calls: int) -> int:
    began = _clock()
    for _ in repeat(None, calls):
        for _item in function(1, 2):
            pass
    return _clock() - began


def _await(function: _Function, calls: int) -> int:
    async def loop() -> int:
        began = _clock()
        for _ in repeat(None, calls):
            await function(1, 2)
        return _clock() - began

    return _runner().run(loop())


def _iterate_async(function: _Function, calls: int) -> int:
    async def loop() -> int:
        began = _clock()
        for _ in repeat(None, calls):
            async for _item in function(1, 2):
                pass
        return _clock() - began

    return _runner().run(loop())


LOOPS: dict[str, Callable[[_Function, int], int]] = {
    "call": _call,
    "slow": _call,
    "iterate": _iterate,
    "await": _await,
    "iterate async": _iterate_async,
}
"""By the style of a row: call it so many times and return how long that took."""


def time_each(function: _Function, times: array[int]) -> None:
    """Call once for each place in ``times`` and put the call's duration there; one clock read of it is ours."""
    for at in range(len(times)):
        began = _clock()
        function(1, 2)
        times[at] = _clock() - began


def _runner() -> asyncio.Runner:
    global _the_runner
    if _the_runner is None:
        _the_runner = asyncio.Runner()
    return _the_runner


_the_runner: asyncio.Runner | None = None
