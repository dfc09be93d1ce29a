"""Durations as a histogram: bounded error, bounded size."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyjama_instrument.fold.histogram import bucket, percentile_ms

DURATIONS = st.integers(1, 30 * 24 * 3600 * 10**9)


@given(DURATIONS)
def test_a_duration_lies_within_its_bucket(duration_ns: int) -> None:
    exponent = math.log2(duration_ns) * 8
    index = int(bucket(duration_ns))
    assert index == 0 or index < exponent + 1e-9  # as exact as a logarithm is
    assert exponent <= index + 1 + 1e-9


@pytest.mark.parametrize(("duration_ns", "index"), [(0, 0), (1, 0), (2, 7), (3, 12), (4, 15), (1024, 79)])
def test_upper_bounds_of_buckets_belong_to_them(duration_ns: int, index: int) -> None:
    assert bucket(duration_ns) == str(index)


@given(DURATIONS, DURATIONS)
def test_a_longer_duration_is_never_in_a_lower_bucket(one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert int(bucket(shorter)) <= int(bucket(longer))


@given(st.lists(st.integers(2, 10**13), min_size=1, max_size=50), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_within_five_per_cent_of_the_true_one(durations_ns: list[int], fraction: float) -> None:
    buckets: dict[str, int] = {}
    for duration_ns in durations_ns:
        buckets[bucket(duration_ns)] = buckets.get(bucket(duration_ns), 0) + 1
    true_ns = sorted(durations_ns)[math.ceil(len(durations_ns) * fraction) - 1]
    assert percentile_ms(buckets, fraction) == pytest.approx(true_ns / 1e6, rel=0.05)


def test_nothing_recorded_has_no_percentile() -> None:
    assert percentile_ms({}, 0.5) is None
    assert percentile_ms({"3": 0}, 0.5) is None


def test_a_month_of_durations_needs_a_bounded_number_of_buckets() -> None:
    assert int(bucket(30 * 24 * 3600 * 10**9)) < 512
