"""Latency as a sparse base-2 exponential histogram: bounded size, bounded relative error, mergeable.

The scheme of OpenTelemetry's exponential histograms and Prometheus' native ones: bucket ``i`` holds durations in
``(2**(i / 8), 2**((i + 1) / 8)]`` nanoseconds (scale 3). A percentile is the geometric middle of its bucket, so it
is within 4.5 % of the true value.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

__all__ = ["bounds_ms", "bucket", "buckets", "percentile_ms"]

_PER_DOUBLING = 8
_FEW = 6  # that many are quicker one by one
_LONGEST = 64 * _PER_DOUBLING  # 2**64 ns are 585 years
_UPPER_NS = [math.floor(2.0 ** ((index + 1) / _PER_DOUBLING)) for index in range(_LONGEST)]


def bucket(duration_ns: int) -> str:
    """The key of the bucket for a duration; durations under a nanosecond count as one."""
    return str(bisect_left(_UPPER_NS, duration_ns))


def buckets(durations_ns: Sequence[int]) -> Iterable[tuple[str, int]]:
    """How many of the durations belong into a bucket, by its key; a key may come more than once."""
    if len(durations_ns) < _FEW:
        return [(bucket(duration_ns), 1) for duration_ns in durations_ns]
    counts = Counter(map(bisect_left, repeat(_UPPER_NS), durations_ns))
    return [(str(index), count) for index, count in counts.items()]


def bounds_ms(index: int) -> tuple[float, float]:
    """The durations that a bucket holds: more than the first, up to the second."""
    return 2.0 ** (index / _PER_DOUBLING) / 1e6, 2.0 ** ((index + 1) / _PER_DOUBLING) / 1e6


def percentile_ms(buckets: Mapping[str, int], fraction: float) -> float | None:
    """The duration, in ms, that ``fraction`` of the recorded ones do not exceed; None if there are none."""
    counts = sorted((int(key), count) for key, count in buckets.items())
    rank = math.ceil(sum(count for _, count in counts) * fraction)
    if rank <= 0:
        return None
    for index, count in counts:
        rank -= count
        if rank <= 0:
            return float(2.0 ** ((index + 0.5) / _PER_DOUBLING) / 1e6)
    return None
