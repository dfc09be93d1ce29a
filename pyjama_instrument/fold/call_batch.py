"""Many ordinary calls as one item: what a fold is given instead of an event each."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Calls"]


class Calls(NamedTuple):
    """Calls of one tool in one session that went well and have nothing else to tell.

    The three lists are of one length, in the order in which the calls were recorded: span ids, times of the end in µs
    since the epoch, and durations in ns.
    """

    agent: str
    session: str
    tool: str
    spans: list[str]
    times_us: list[int]
    durations_ns: list[int]
