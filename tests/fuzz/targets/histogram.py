"""Every value is counted once, in the bucket that holds it; sums are exact; percentiles are off by an eighth at most.

Input: values of eight bytes each.
"""

import struct
from functools import cache

from proxy.shm._segment import Segment
from proxy.shm.fields import BUCKETS
from proxy.shm.histogram import lower_bound, upper_bound


@cache
def segment() -> Segment:
    return Segment(1, endpoints=1, targets=1, permits=1)


def seeds() -> list[bytes]:
    ladder = [value for bit in range(64) for value in ((1 << bit) - 1, 1 << bit, (1 << bit) + 1) if value < 1 << 64]
    return [struct.pack("=Q", value) for value in ladder] + [
        struct.pack("=20Q", *range(20)),
        struct.pack("=5Q", *[1 << 40] * 5),
    ]


def check(data: bytes) -> None:
    values = [value for (value,) in struct.iter_unpack("=Q", data[: len(data) // 8 * 8])][:200]
    shared, field = segment(), "query_response_latency"
    before = shared.histogram("endpoint", 0, field)
    last = before
    for value in values:
        shared.observe(0, "endpoint", 0, field, value)
        now = shared.histogram("endpoint", 0, field)
        added = now.since(last)
        assert added.count == 1
        assert added.sum % (1 << 64) == value
        (bucket,) = [i for i, n in enumerate(added.buckets) if n]
        assert lower_bound(bucket) <= value
        assert value < upper_bound(bucket) or bucket == BUCKETS - 1
        last = now
    mine = sorted(value for value in values if value < lower_bound(BUCKETS - 1))
    if mine and len(mine) == len(values):
        found = last.since(before)
        for share in (0.01, 0.5, 0.99, 1.0):
            rank = max(1, -(-int(share * 100) * len(mine) // 100))
            near = mine[rank - 1]
            low = min(mine, key=lambda value: abs(value - found.percentile(share)))
            assert abs(found.percentile(share) - low) <= low / 8 + 1, (near, found.percentile(share))
