"""/metrics, /healthz and /readyz over TCP, and the judgement behind readiness."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from proxy.control.addresses import Address
from proxy.model import Snapshot
from proxy.observe.health import start, unready
from proxy.shm._segment import Segment

LISTEN = Address("127.0.0.1", 21310)
SECOND = 1_000_000_000


class FakePort:
    def __init__(self) -> None:
        self.numbers = Segment(1, endpoints=2, targets=2, permits=2)
        self.snapshot: Snapshot | None = None
        self.reasons: list[str] = []

    def availability(self) -> Mapping[int, float]:
        return {}

    def unready(self) -> Sequence[str]:
        return self.reasons


def get(path: str, method: str = "GET", listen: Address = LISTEN) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://{listen}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def served(port: FakePort, *args: Any, **kwargs: Any) -> tuple[int, str, str]:
    async def run() -> tuple[int, str, str]:
        running = await start(port, kwargs.get("listen", LISTEN))
        try:
            return await asyncio.to_thread(get, *args, **kwargs)
        finally:
            await running.stop()

    return asyncio.run(run())


def test_metrics() -> None:
    status, kind, text = served(FakePort(), "/metrics")
    assert status == 200
    assert kind.startswith("text/plain; version=")
    assert 'sluiceway_worker_loop_turns_total{worker="0"} 0.0' in text


def test_healthy_and_ready() -> None:
    assert served(FakePort(), "/healthz")[::2] == (200, "ok\n")
    assert served(FakePort(), "/readyz")[::2] == (200, "ok\n")
    assert served(FakePort(), "/readyz", "HEAD")[::2] == (200, "")
    assert served(FakePort(), "/readyz", listen=Address("::1", 21311))[0] == 200


def test_not_ready_says_why() -> None:
    port = FakePort()
    port.reasons = ["draining", "no writer"]
    assert served(port, "/readyz")[::2] == (503, "draining\nno writer\n")
    assert served(port, "/healthz")[0] == 200


def test_nothing_can_be_changed() -> None:
    assert served(FakePort(), "/metrics", "POST")[0] == 405
    assert served(FakePort(), "/v1/shutdown", "POST")[0] == 404


def test_an_address_in_use() -> None:
    async def run() -> None:
        first = await start(FakePort(), LISTEN)
        with pytest.raises(OSError, match="address already in use"):
            await start(FakePort(), LISTEN)
        await first.stop()
        again = await start(FakePort(), LISTEN)
        await again.stop()

    asyncio.run(run())


def test_judgement() -> None:
    segment = Segment(3, endpoints=1, targets=1, permits=1)
    now = 100 * SECOND
    assert unready(segment, [], now) == ["none of 3 workers is ready"]
    for worker, age in ((0, 1), (1, 60)):
        segment.beat(worker, now - age * SECOND)
        segment.beat_relay(worker, now)
    assert unready(segment, [0], now) == []
    assert unready(segment, [0, 1], now) == []  # the other one serves
    assert unready(segment, [1], now) == ["worker 1 has not moved for 5 s"]
    segment.beat(1, now)
    segment.beat_relay(1, now - 60 * SECOND)
    assert unready(segment, [1], now) == ["worker 1 has not moved for 5 s"]
    assert unready(segment, [0], now, draining=True) == ["draining: no new clients are accepted"]
