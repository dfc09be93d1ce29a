"""Arithmetic on measurements, and how figures are written. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

__all__ = ["amount", "median", "ns", "percentile", "ratio", "seconds", "share", "spread", "times"]


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The nearest-rank percentile of values that are in ascending order.

    Raises:
        ValueError: there are no values.
    """
    if not ordered:
        raise ValueError("no values")
    return ordered[max(0, math.ceil(len(ordered) * fraction) - 1)]


def median(values: Iterable[float]) -> float:
    """The middle value, or the mean of the two in the middle.

    Raises:
        ValueError: there are no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def spread(values: Iterable[float]) -> float:
    """Half the distance between the quartiles, as a fraction of the median: how much the noise moved a figure."""
    ordered = sorted(values)
    middle = median(ordered)
    return (percentile(ordered, 0.75) - percentile(ordered, 0.25)) / 2 / middle if middle else 0.0


def ratio(value: float | None, base: float | None) -> float | None:
    """``value / base``; None if either is missing or the base is not positive."""
    return None if value is None or base is None or base <= 0 else value / base


def ns(value: float | None) -> str:
    """A duration given in nanoseconds, with a unit that suits it."""
    if value is None:
        return "–"
    for limit, divisor, unit in ((1e3, 1, "ns"), (1e6, 1e3, "µs"), (1e9, 1e6, "ms")):
        if abs(value) < limit:
            return f"{_three_digits(value / divisor)} {unit}"
    return f"{_three_digits(value / 1e9)} s"


def seconds(value: float | None) -> str:
    """A duration given in seconds, with a unit that suits it."""
    return ns(None if value is None else value * 1e9)


def times(value: float | None) -> str:
    """A ratio."""
    return "–" if value is None else f"{_three_digits(value)} ×"


def share(value: float | None) -> str:
    """A fraction as a percentage."""
    return "–" if value is None else f"{_three_digits(value * 100)} %"


def amount(value: float | None) -> str:
    """A count."""
    return "–" if value is None else f"{value:,.0f}"


def _three_digits(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
