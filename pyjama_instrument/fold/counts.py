"""Counters of calls, as ``global``, each tool and each agent have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pyjama_instrument.fold.fields import Record

__all__ = ["COUNTS", "latency_buckets", "new_counts", "repaired_counts"]

COUNTS = ("count", "success", "error", "cancelled", "total-duration")


def new_counts() -> Record:
    """Counters at zero."""
    return dict.fromkeys(COUNTS, 0) | {"total-duration": 0.0}


def latency_buckets(counts: Record) -> dict[str, int]:
    """The buckets of the counters' latency histogram, which is made if there is none."""
    if "latency" not in counts:
        counts["latency"] = {"scale": 3, "unit": "ns", "buckets": {}}
    known: dict[str, int] = counts["latency"]["buckets"]
    return known


def repaired_counts(counts: Any, keys: Iterable[str] = COUNTS) -> Record:
    """The counters with a number under each key and a histogram that can be added to, or none."""
    repaired: Record = counts if type(counts) is dict else {}
    for key in keys:
        if type(repaired.get(key)) not in (int, float):
            repaired[key] = 0
    latency: Any = repaired.get("latency")
    if "latency" in repaired and (type(latency) is not dict or type(latency.get("buckets")) is not dict):
        del repaired["latency"]
    elif "latency" in repaired:
        latency["buckets"] = {key: count for key, count in latency["buckets"].items() if type(count) is int}
    return repaired
