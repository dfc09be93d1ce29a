"""Counts by reason that several threads and their signal handlers add to, without a lock.

Each thread counts in a place of its own, in steps between which no signal handler runs. Whoever tells the counts takes
note of what was told, instead of setting anything back.
"""

from __future__ import annotations

from collections import defaultdict

from pyjama_instrument.threads.native import get_ident

__all__ = ["ReasonCounts"]


class ReasonCounts:
    """How often what happened, and how much of that was told. One thread at a time tells."""

    __slots__ = ("_counted", "_told")

    def __init__(self) -> None:
        self._counted: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._told: defaultdict[str, int] = defaultdict(int)

    def add(self, reason: str, count: int = 1) -> None:
        """It happened once, or ``count`` times."""
        place = reason, get_ident()
        self._counted[place] += count  # no call: no signal handler of this thread comes in between

    def total(self) -> int:
        """How often anything happened."""
        return sum(self._counted.copy().values())

    def untold(self) -> dict[str, int]:
        """What was not told yet, by reason; empty if nothing."""
        if not self._counted:
            return {}
        found: defaultdict[str, int] = defaultdict(int)
        for (reason, _), count in self._counted.copy().items():  # a copy is made in one step
            found[reason] += count
        return {reason: count - self._told[reason] for reason, count in found.items() if count > self._told[reason]}

    def told(self, reason: str, count: int) -> None:
        """This much was told; less than nothing takes back what was not."""
        self._told[reason] += count
