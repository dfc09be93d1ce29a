"""One thread at a time, and nobody waits long for it.

A signal handler or a finalizer of the host's may come in between wherever Python runs, also in the thread whose turn
it is, and wait for a lock of the host's. Whoever has that lock and wanted a turn would wait for ever.

There is no lock in here: a thread has its turn while its note is the one in a dictionary. To put it there takes one
step, ``setdefault``, and whoever has put it there takes it out again, wherever a signal's exception comes in. ``with``
and a lock do not promise that: Python 3.14 runs signal handlers between taking the lock and entering the block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pyjama_instrument.threads.native import get_ident, sleep

__all__ = ["BoundedLock"]

_QUICK_POLLS = 50  # most turns take microseconds
_MOST_POLLS = 300
_POLL_SECONDS = 0.001


class BoundedLock:
    """What one thread has at a time, while a function runs. A thread may take its turn again within it."""

    __slots__ = ("_at_end", "_given_up", "_taken")

    def __init__(self, at_end: Callable[[BoundedLock], None] = lambda turn: None) -> None:
        """``at_end`` is called at the end of each turn, as its last part."""
        self._at_end = at_end
        self._taken: dict[str, list[int]] = {}  # at most one note: which thread's turn it is
        self._given_up: list[int] | None = None

    def take(self, do: Callable[..., None], *args: Any) -> None:
        """Do something while no other thread has its turn, whenever that is."""
        note, polls = [get_ident()], 0  # a list: no two of them are the same object
        try:
            while (taken := self._taken.setdefault("turn", note))[0] != note[0]:
                polls += 1
                _pause(polls)
            do(*args)
            if taken is note:
                self._at_end(self)
        finally:
            try:
                if self._taken["turn"] is note:  # no call from here on: no signal handler runs in between
                    del self._taken["turn"]
            except KeyError:
                pass

    def is_taken(self) -> bool:
        """Whether it is anybody's turn."""
        return bool(self._taken)

    def is_mine(self) -> bool:
        """Whether it is the running thread's turn."""
        note = self._taken.get("turn")
        return note is not None and note[0] == get_ident()

    def wait(self) -> bool:
        """Wait until it is no other thread's turn, a quarter of a second at most; whether that came to pass.

        Nobody waits once more for a turn that somebody has waited for in vain.
        """
        polls = 0
        while (note := self._taken.get("turn")) is not None and note[0] != get_ident():
            if polls >= _MOST_POLLS or note is self._given_up:
                self._given_up = note
                return False
            polls += 1
            _pause(polls)
        return True


def _pause(polls: int) -> None:
    sleep(_POLL_SECONDS if polls > _QUICK_POLLS else 0)
