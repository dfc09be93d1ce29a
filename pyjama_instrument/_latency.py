"""Latency as a sparse base-2 exponential histogram: bounded size, bounded relative error, mergeable.

The scheme of OpenTelemetry's exponential histograms and Prometheus' native ones: bucket ``i`` holds durations in
``(2**(i / 8), 2**((i + 1) / 8)]`` nanoseconds (scale 3). A percentile is the geometric middle of its bucket, so it
is within 4.5 % of the true value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["bounds_ms", "bucket", "percentile_ms"]

_PER_DOUBLING = 8


def bucket(duration_ns: int) -> str:
    """The key of the bucket for a duration; durations under a nanosecond count as one."""
    return str(math.ceil(math.log2(duration_ns) * _PER_DOUBLING) - 1) if duration_ns > 1 else "0"


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
