"""Histograms: where a value lands, and how far a percentile may be off."""

import random

import pytest

from proxy.shm._segment import Segment
from proxy.shm.fields import BUCKETS
from proxy.shm.histogram import Histogram, lower_bound, upper_bound

FIELD = ("endpoint", 0, "query_response_latency")


def bucket_of(value: int) -> int:
    segment = Segment(1, endpoints=1, targets=1, permits=1)
    segment.observe(0, *FIELD, value)
    (bucket,) = [i for i, n in enumerate(segment.histogram(*FIELD).buckets) if n]
    return bucket


def test_bounds_meet_and_cover_everything() -> None:
    assert lower_bound(0) == 0
    for bucket in range(BUCKETS):
        assert lower_bound(bucket) < upper_bound(bucket) == lower_bound(bucket + 1)
    assert upper_bound(BUCKETS - 1) == 1 << 32


@pytest.mark.parametrize("bucket", [0, 1, 7, 8, 9, 15, 16, 17, 23, 24, 100, BUCKETS - 2, BUCKETS - 1])
def test_a_value_lands_between_the_bounds_of_its_bucket(bucket: int) -> None:
    assert bucket_of(lower_bound(bucket)) == bucket
    assert bucket_of(upper_bound(bucket) - 1) == bucket


@pytest.mark.parametrize("value", [1 << 32, 1 << 40, (1 << 64) - 1])
def test_what_is_too_large_counts_in_the_last_bucket(value: int) -> None:
    assert bucket_of(value) == BUCKETS - 1


def test_count_and_sum_are_exact() -> None:
    segment = Segment(2, endpoints=1, targets=1, permits=1)
    values = [0, 3, 8, 1000, 1 << 33]
    for i, value in enumerate(values):
        segment.observe(i % 2, *FIELD, value)
    histogram = segment.histogram(*FIELD)
    assert (histogram.count, histogram.sum) == (len(values), sum(values))
    assert segment.histogram(*FIELD, 0).count == 3
    assert histogram.mean == sum(values) / len(values)


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_off_by_at_most_one_sixteenth(seed: int) -> None:
    rng = random.Random(seed)
    values = sorted(int(rng.lognormvariate(6, 2)) + 1 for _ in range(5000))
    segment = Segment(1, endpoints=1, targets=1, permits=1)
    for value in values:
        segment.observe(0, *FIELD, value)
    histogram = segment.histogram(*FIELD)
    for share in (0.01, 0.25, 0.5, 0.9, 0.99, 0.999):
        exact = values[max(0, -(-len(values) * share // 1).__int__() - 1)]
        assert histogram.percentile(share) == pytest.approx(exact, rel=1 / 16, abs=0.5), f"seed {seed}, {share}"


def test_a_difference_of_two_readings() -> None:
    segment = Segment(1, endpoints=1, targets=1, permits=1)
    segment.observe(0, *FIELD, 5)
    before = segment.histogram(*FIELD)
    segment.observe(0, *FIELD, 100)
    since = segment.histogram(*FIELD).since(before)
    assert (since.count, since.sum, sum(since.buckets)) == (1, 100, 1)


def test_nothing_has_no_percentile() -> None:
    assert Histogram(0, 0).percentile(0.5) == 0.0
    assert Histogram(0, 0).mean == 0.0
