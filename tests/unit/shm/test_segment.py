"""The segment in one process: words, permits, wants, rings, and what a burial clears."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.reasons import PinReason
from proxy.shm._segment import Segment


def small(workers: int = 2) -> Segment:
    return Segment(workers, endpoints=2, targets=2, permits=64)


# ---------------------------------------------------------------- words


def test_readers_sum_over_workers() -> None:
    segment = small()
    segment.add(0, "endpoint", 1, "query_requests", 5)
    segment.add(1, "endpoint", 1, "query_requests")
    assert segment.read("endpoint", 1, "query_requests") == 6
    assert segment.read("endpoint", 1, "query_requests", 1) == 1
    assert segment.read("endpoint", 0, "query_requests") == 0


def test_gauges_go_down_also_below_zero_in_one_worker() -> None:
    segment = small()
    segment.add(0, "target", 0, "database_connections", 3)
    segment.add(1, "target", 0, "database_connections", -1)
    assert segment.read("target", 0, "database_connections") == 2
    assert segment.read("target", 0, "database_connections", 1) == -1


def test_arrays_count_by_reason() -> None:
    segment = small()
    segment.add(0, "target", 1, "pins", 2, element=3)
    segment.add(1, "target", 1, "pins", element=16)
    pins = segment.read_array("target", 1, "pins")
    assert (pins[3], pins[16], sum(pins)) == (2, 1, 3)
    assert sum(segment.read_array("target", 0, "pins")) == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.add(2, "worker", 0, "loop_turns"),
        lambda s: s.add(0, "endpoint", 2, "query_requests"),
        lambda s: s.add(0, "target", -1, "pins"),
        lambda s: s.add(0, "target", 0, "pins", element=PinReason.PIN_REASON_COUNT),
        lambda s: s.add(0, "target", 0, "max_database_connections_allowed"),
        lambda s: s.read("target", 2, "pins"),
        lambda s: s.take_permit(2, 0),
        lambda s: s.take_permit(0, 2),
        lambda s: s.give_permit(0, 64),
        lambda s: s.wake_fd(2),
        lambda s: s.pop(2, 0),
    ],
)
def test_what_is_outside_is_refused(call: Callable[[Segment], object]) -> None:
    with pytest.raises(LookupError):
        call(small())


@pytest.mark.parametrize("workers", [0, -1, 129])
def test_the_number_of_workers_has_bounds(workers: int) -> None:
    with pytest.raises(ValueError, match="workers"):
        Segment(workers)


def test_a_counter_is_no_histogram() -> None:
    with pytest.raises(TypeError):
        small().observe(0, "endpoint", 0, "query_requests", 1)


def test_heartbeats_of_both_threads() -> None:
    segment = small()
    assert segment.heartbeat_of(1) == (0, 0)
    segment.beat_relay(1, 17)
    segment.beat(1, 18)
    assert segment.heartbeat_of(1) == (17, 18)
    assert segment.heartbeat_of(0) == (0, 0)


# ---------------------------------------------------------------- permits


def test_permits_end_at_the_limit() -> None:
    segment = small()
    assert segment.take_permit(0, 0) == -1, "without a limit there are none"
    segment.set_limit(0, 3)
    slots = [segment.take_permit(0, worker) for worker in (0, 1, 1)]
    assert sorted(slots) == [0, 1, 2]
    assert segment.take_permit(0, 0) == -1
    assert (segment.permits_held(0, 0), segment.permits_held(0, 1), segment.permits_used(0)) == (1, 2, 3)
    assert segment.permits_used(1) == 0
    segment.give_permit(0, slots[1])
    assert segment.take_permit(0, 0) == slots[1]


def test_a_lowered_limit_holds_although_lower_slots_come_free() -> None:
    segment = small()
    segment.set_limit(0, 20)
    slots = [segment.take_permit(0, 0) for _ in range(20)]
    segment.set_limit(0, 10)
    for slot in slots[:5]:
        segment.give_permit(0, slot)
    assert segment.permits_used(0) == 15
    assert segment.take_permit(0, 1) == -1, "slots 0-4 are free, but 15 are held"
    for slot in slots[10:16]:
        segment.give_permit(0, slot)
    assert segment.permits_used(0) == 9
    assert segment.take_permit(0, 1) >= 0
    assert segment.take_permit(0, 1) == -1
    segment.set_limit(0, 12)
    assert [segment.take_permit(0, 1) >= 0 for _ in range(3)] == [True, True, False]


def test_a_limit_beyond_the_table_is_the_table() -> None:
    segment = small()
    segment.set_limit(0, 1_000_000)
    assert segment.limit(0) == 64
    assert sum(segment.take_permit(0, 0) >= 0 for _ in range(100)) == 64


# ---------------------------------------------------------------- wants


def test_the_longest_want_is_served_first() -> None:
    segment = small(workers=3)
    assert segment.longest_want(0) == -1
    segment.set_want(0, 2, 100)
    segment.set_want(0, 0, 200)
    segment.set_want(1, 1, 1)
    assert segment.longest_want(0) == 2
    assert segment.longest_want(0, except_worker=2) == 0
    segment.set_want(0, 2, 0)
    assert segment.longest_want(0) == 0
    assert segment.want(0, 0) == 200


# ---------------------------------------------------------------- rings


def test_a_ring_keeps_order_and_bounds() -> None:
    segment = small()
    messages = [bytes([i]) * (1 + i % 120) for i in range(64)]
    assert all(segment.push(0, 1, message) for message in messages)
    assert not segment.push(0, 1, b"one too many")
    assert segment.pop(0, 1) is None, "the other direction is another ring"
    assert [segment.pop(1, 0) for _ in range(65)] == [*messages, None]


def test_a_ring_goes_round() -> None:
    segment = small()
    for i in range(1000):
        assert segment.push(1, 0, i.to_bytes(4, "big"))
        assert segment.pop(0, 1) == i.to_bytes(4, "big")


@pytest.mark.parametrize("size", [0, 121])
def test_a_message_has_1_to_120_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="bytes"):
        small().push(0, 1, bytes(size))


def test_waking_makes_the_eventfd_readable() -> None:
    segment = small()
    segment.wake(1)
    segment.wake(1)
    assert os.eventfd_read(segment.wake_fd(1)) == 2
    with pytest.raises(BlockingIOError):
        os.eventfd_read(segment.wake_fd(0))


# ---------------------------------------------------------------- burial


def test_a_burial_clears_what_was_open_and_keeps_what_happened() -> None:
    segment = small()
    segment.set_limit(0, 8)
    for worker in (0, 1):
        segment.add(worker, "target", 0, "database_connections", 2)
        segment.add(worker, "target", 0, "pins", 4, element=1)
        segment.add(worker, "endpoint", 1, "clients_waiting", 5)
        segment.add(worker, "endpoint", 1, "query_requests", 7)
        segment.observe(worker, "endpoint", 1, "query_response_latency", 9)
        segment.beat(worker, 1)
        segment.beat_relay(worker, 1)
        segment.set_want(0, worker, 50)
        assert segment.take_permit(0, worker) >= 0
    segment.push(0, 1, b"to the dead")
    segment.push(1, 0, b"from the dead")
    segment.bury(1)
    assert segment.read("target", 0, "database_connections") == 2
    assert segment.read("endpoint", 1, "clients_waiting") == 5
    assert segment.heartbeat_of(1) == (0, 0)
    assert segment.heartbeat_of(0) == (1, 1)
    assert segment.read_array("target", 0, "pins")[1] == 8
    assert segment.read("endpoint", 1, "query_requests") == 14
    assert segment.histogram("endpoint", 1, "query_response_latency").count == 2
    assert (segment.permits_held(0, 0), segment.permits_held(0, 1)) == (1, 0)
    assert (segment.want(0, 0), segment.want(0, 1)) == (50, 0)
    assert segment.pop(1, 0) is None, "its successor knows none of the dead one's clients"
    assert segment.pop(0, 1) == b"from the dead"


def test_a_burial_wakes_those_who_wait_for_a_permit() -> None:
    segment = small(workers=3)
    segment.set_want(1, 0, 10)
    segment.bury(2)
    assert os.eventfd_read(segment.wake_fd(0)) == 1
    with pytest.raises(BlockingIOError):
        os.eventfd_read(segment.wake_fd(1))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_no_descriptor_is_left_behind() -> None:
    before = descriptors()
    segments = [small(4) for _ in range(10)]
    assert descriptors() == before + 40
    segments.clear()
    assert descriptors() == before
