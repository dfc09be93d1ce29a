"""A lock with a time-out that no exception of a signal handler can leave taken.

A signal handler or a finalizer of the host may run wherever Python code runs, also in the thread that holds the lock,
and wait for a lock of the host. If the thread that holds that one waited for ours without a limit, both would wait for
ever. So :meth:`BoundedLock.wait` has a limit.

There is no lock object in here: a thread holds the lock while its entry is in a dictionary. ``setdefault`` adds the
entry in one step, and the thread that added it removes it, wherever the exception of a signal handler occurs. ``with``
and a lock object do not guarantee it: Python 3.14 runs signal handlers between taking a lock and entering the block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyjama_instrument.threads.native import get_ident, sleep

__all__ = ["BoundedLock"]

_QUICK_POLLS = 50  # the lock is mostly held for microseconds
_MOST_POLLS = 300
_POLL_SECONDS = 0.001


class BoundedLock:
    """Held by one thread at a time while a function runs. A thread may take it again while it holds it."""

    __slots__ = ("_at_end", "_entries", "_gave_up_on")

    def __init__(self, at_end: Callable[[BoundedLock], None] = lambda lock: None) -> None:
        """``at_end`` is called before each release, while the lock is still held."""
        self._at_end = at_end
        self._entries: dict[str, list[int]] = {}  # at most one: the thread that holds the lock
        self._gave_up_on: list[int] | None = None

    def run(self, function: Callable[..., None], *args: Any) -> None:
        """Call the function while this thread holds the lock. Waits for the lock without a limit."""
        entry, polls = [get_ident()], 0  # a list: no two of them are the same object
        try:
            while (held := self._entries.setdefault("holder", entry))[0] != entry[0]:
                polls += 1
                _pause(polls)
            function(*args)
            if held is entry:
                self._at_end(self)
        finally:
            try:
                if self._entries["holder"] is entry:  # no call from here on: no signal handler runs in between
                    del self._entries["holder"]
            except KeyError:
                pass

    def is_held(self) -> bool:
        """Whether any thread holds the lock."""
        return bool(self._entries)

    def is_mine(self) -> bool:
        """Whether the running thread holds the lock."""
        entry = self._entries.get("holder")
        return entry is not None and entry[0] == get_ident()

    def wait(self) -> bool:
        """Wait until no other thread holds the lock, for a quarter of a second at most; returns whether none does.

        If a thread has waited in vain, others do not wait for the same holder again.
        """
        polls = 0
        while (entry := self._entries.get("holder")) is not None and entry[0] != get_ident():
            if polls >= _MOST_POLLS or entry is self._gave_up_on:
                self._gave_up_on = entry
                return False
            polls += 1
            _pause(polls)
        return True


def _pause(polls: int) -> None:
    sleep(_POLL_SECONDS if polls > _QUICK_POLLS else 0)
