"""The section ``rate``: how many calls ended in each of the last seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from pyjama_instrument.fold.fields import Document
from pyjama_instrument.fold.limits import LIMITS
from pyjama_instrument.fold.section import FoldState, Section

__all__ = ["RATES", "by_second"]


def by_second(times_us: Sequence[int]) -> Iterable[tuple[str, int]]:
    """How many of the times are in each second, by the key of the second."""
    first = times_us[0] // 1_000_000
    if min(times_us) // 1_000_000 == max(times_us) // 1_000_000:
        return ((str(first), len(times_us)),)
    return [(str(second), count) for second, count in Counter(us // 1_000_000 for us in times_us).items()]


def _repair(document: Document) -> None:
    document["rate"] = {key: count for key, count in document["rate"].items() if key.isdecimal() and type(count) is int}


def _finish(state: FoldState) -> None:
    rate = state.document["rate"]
    if len(rate) > LIMITS["rate-seconds"]:
        newest = sorted(rate, key=int)[-LIMITS["rate-seconds"] :]
        state.document["rate"] = {second: rate[second] for second in newest}


RATES = Section({"rate": dict}, repair=_repair, finish=_finish)
