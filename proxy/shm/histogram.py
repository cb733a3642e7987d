"""A log-linear histogram as read from shared memory: sums of the workers' buckets, percentiles, differences.

Values are microseconds. 0 to 7 have a bucket each; above, each power of two is cut in eight, so a percentile is
off by at most 1/8 of itself (a bucket's middle is reported: 1/16). Knows nothing of memory; `_segment` fills
it.
"""

from dataclasses import dataclass

from proxy.shm.fields import BUCKETS, SUB_BUCKETS


def lower_bound(bucket: int) -> int:
    """The smallest value that falls into `bucket`."""
    if bucket < SUB_BUCKETS:
        return bucket
    octave, part = divmod(bucket, SUB_BUCKETS)
    return (SUB_BUCKETS + part) << (octave - 1)


def upper_bound(bucket: int) -> int:
    """The smallest value above `bucket`."""
    return lower_bound(bucket + 1)


@dataclass(frozen=True, slots=True)
class Histogram:
    count: int
    sum: int  # microseconds
    buckets: tuple[int, ...] = (0,) * BUCKETS

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of all values lie: the middle of the bucket where that one fell."""
        total = sum(self.buckets)
        if not total:
            return 0.0
        rank, seen = max(1.0, share * total), 0
        for bucket, n in enumerate(self.buckets):
            seen += n
            if n and seen >= rank:
                low, high = lower_bound(bucket), upper_bound(bucket)
                return float(low) if high - low == 1 else (low + high) / 2
        raise AssertionError("rank beyond the last bucket")

    def since(self, earlier: "Histogram") -> "Histogram":
        """What was added between two readings."""
        return Histogram(
            self.count - earlier.count,
            self.sum - earlier.sum,
            tuple(now - before for now, before in zip(self.buckets, earlier.buckets, strict=True)),
        )
