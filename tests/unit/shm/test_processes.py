"""The segment between real processes: permits stay exact, rings stay in order, whoever is killed, and wherever."""

import os
import random
import signal
from collections.abc import Callable
from functools import partial

from proxy.shm._segment import Segment

LIMIT = 7


def forked(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            os._exit(code)
    return pid


def reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_competing_workers_never_exceed_the_limit() -> None:
    segment = Segment(4, endpoints=1, targets=1, permits=64)
    segment.set_limit(0, LIMIT)

    def compete(worker: int) -> None:
        rng = random.Random(worker)
        held: list[int] = []
        for _ in range(5000):
            if held and rng.random() < 0.5:
                segment.give_permit(0, held.pop())
            elif (slot := segment.take_permit(0, worker)) >= 0:
                assert slot < LIMIT
                assert slot not in held
                held.append(slot)
            # each slot has one holder: what we hold is counted under our name and under nobody else's
            assert segment.permits_held(0, worker) == len(held)
            assert segment.permits_used(0) <= LIMIT
        for slot in held:
            segment.give_permit(0, slot)

    pids = [forked(partial(compete, worker)) for worker in range(4)]
    assert [reap(pid) for pid in pids] == [0] * 4
    assert segment.permits_used(0) == 0


def test_permits_of_the_killed_come_back_exactly() -> None:
    segment = Segment(3, endpoints=1, targets=2, permits=64)
    segment.set_limit(0, LIMIT)
    segment.set_limit(1, LIMIT)
    mine = [segment.take_permit(0, 0), segment.take_permit(0, 0)]
    rng = random.Random(1)

    def grab(worker: int, ready: int) -> None:
        os.write(ready, b"x")
        while True:
            for target in (0, 1):
                slots = [segment.take_permit(target, worker) for _ in range(3)]
                segment.set_want(target, worker, 1)
                for slot in slots:
                    if slot >= 0:
                        segment.give_permit(target, slot)

    for round_ in range(30):
        read, write = os.pipe()
        pids = {worker: forked(partial(grab, worker, write)) for worker in (1, 2)}
        os.close(write)
        got = 0
        while got < 2:
            got += len(os.read(read, 2))
        os.close(read)
        for _ in range(rng.randrange(200)):  # somewhere in the middle of their work
            segment.permits_used(0)
        victim = rng.choice((1, 2))
        os.kill(pids[victim], signal.SIGKILL)
        assert reap(pids[victim]) == -signal.SIGKILL
        segment.bury(victim)
        for target in (0, 1):
            assert segment.permits_held(target, victim) == 0, f"round {round_}"
            assert segment.want(target, victim) == 0
        other = 3 - victim
        os.kill(pids[other], signal.SIGKILL)
        reap(pids[other])
        segment.bury(other)
        assert (segment.permits_used(0), segment.permits_used(1)) == (2, 0), f"round {round_}"
    for slot in mine:
        segment.give_permit(0, slot)
    assert segment.permits_used(0) == 0


def test_a_ring_between_processes_loses_and_reorders_nothing() -> None:
    segment = Segment(2, endpoints=1, targets=1, permits=1)
    total = 20_000

    def produce() -> None:
        sent = 0
        while sent < total:
            if segment.push(0, 1, sent.to_bytes(8, "big") * 15):
                sent += 1
            else:
                os.sched_yield()

    pid = forked(produce)
    expected = 0
    while expected < total:
        message = segment.pop(1, 0)
        if message is None:
            os.sched_yield()
            continue
        assert message == expected.to_bytes(8, "big") * 15
        expected += 1
    assert reap(pid) == 0
    assert segment.pop(1, 0) is None


def test_a_ring_survives_the_death_of_its_producer() -> None:
    segment = Segment(2, endpoints=1, targets=1, permits=1)

    def produce() -> None:
        n = 0
        while True:
            if segment.push(0, 1, n.to_bytes(8, "big") * 15):
                n += 1

    for _ in range(20):
        pid = forked(produce)
        expected = 0
        while expected < 500:
            message = segment.pop(1, 0)
            if message is not None:
                assert message == expected.to_bytes(8, "big") * 15
                expected += 1
        os.kill(pid, signal.SIGKILL)
        reap(pid)
        while (message := segment.pop(1, 0)) is not None:
            assert message == expected.to_bytes(8, "big") * 15
            expected += 1
