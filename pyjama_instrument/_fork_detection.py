"""Whether this is still the process that it was, for the price of reading a byte.

``os.getpid()`` is a system call, too dear for every call of a tool. Linux wipes a page of memory in each forked
child if asked to (``MADV_WIPEONFORK``), whoever makes the fork: Python, or a library in C of which Python's hooks
learn nothing.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

__all__ = ["unforked_mark"]

_WIPE_ON_FORK = 18  # Linux's MADV_WIPEONFORK, of which the mmap module knows no name


def unforked_mark() -> Any:
    """A sequence of a few items: each is 1 once it is set to 1, and 0 again in every child that is forked later."""
    try:
        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_WIPE_ON_FORK)
    except (AttributeError, OSError, ValueError):  # another system, or no memory
        return _ProcessNumber()
    return page


class _ProcessNumber:
    """The same by asking for the process's number."""

    def __init__(self) -> None:
        self._pids: dict[int, int] = {}

    def __getitem__(self, index: int) -> int:
        return int(os.getpid() == self._pids.get(index))

    def __setitem__(self, index: int, value: int) -> None:
        self._pids[index] = os.getpid() if value else 0
