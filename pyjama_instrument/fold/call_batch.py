"""Calls that are counted together, instead of one event each."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["CallBatch"]


class CallBatch(NamedTuple):
    """Calls of one tool in one session that have the same outcome.

    The three lists are of one length, in the order in which the calls were recorded: span ids, times of the end in µs
    since the epoch, and durations in ns.
    """

    agent: str
    session: str
    tool: str
    spans: list[str]
    times_us: list[int]
    durations_ns: list[int]
