"""Detects a fork at the price of reading a byte.

``os.getpid()`` is a system call, too expensive for every call of a tool. Linux can wipe a page of memory in each forked
child (``MADV_WIPEONFORK``), also if a library in C forks, for which Python's hooks do not run.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

__all__ = ["fork_marker"]

_WIPE_ON_FORK = 18  # Linux's MADV_WIPEONFORK, which the mmap module does not define


def fork_marker() -> Any:
    """A sequence of a few items: each is 1 once it is set to 1, and 0 again in every child that is forked later."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (AttributeError, OSError, ValueError):  # another system, or no memory
        return _ProcessNumber()
    return page


class _ProcessNumber:
    """The same with the process's number, on other systems."""

    def __init__(self) -> None:
        self._pids: dict[int, int] = {}

    def __getitem__(self, index: int) -> int:
        return int(os.getpid() == self._pids.get(index))

    def __setitem__(self, index: int, value: int) -> None:
        self._pids[index] = os.getpid() if value else 0
