"""Counts by reason that several threads and their signal handlers add to, without a lock.

Each thread counts in an entry of its own, in steps between which no signal handler runs. What was reported is counted
too, instead of setting anything back.
"""

from __future__ import annotations

from collections import defaultdict

from pyjama_instrument.threads.native import get_ident

__all__ = ["ReasonCounts"]


class ReasonCounts:
    """How often what happened, and how much of that was reported. Only one thread at a time may report."""

    __slots__ = ("_counted", "_reported")

    def __init__(self) -> None:
        self._counted: defaultdict[tuple[str, int], int] = defaultdict(int)
        self._reported: defaultdict[str, int] = defaultdict(int)

    def add(self, reason: str, count: int = 1) -> None:
        """It happened once, or ``count`` times."""
        entry = reason, get_ident()
        self._counted[entry] += count  # no call: no signal handler of this thread comes in between

    def total(self) -> int:
        """How often anything happened."""
        return sum(self._counted.copy().values())

    def unreported(self) -> dict[str, int]:
        """What was not reported yet, by reason; empty if nothing."""
        if not self._counted:
            return {}
        found: defaultdict[str, int] = defaultdict(int)
        for (reason, _), count in self._counted.copy().items():  # a copy is made in one step
            found[reason] += count
        reported = self._reported
        return {reason: count - reported[reason] for reason, count in found.items() if count > reported[reason]}

    def mark_reported(self, reason: str, count: int) -> None:
        """Note that ``count`` of them were reported; a negative number undoes it."""
        self._reported[reason] += count
