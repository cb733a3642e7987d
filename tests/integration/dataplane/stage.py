"""A front on its own: real sockets, real shared memory, and a relay that only writes down what it is told.

    async with Stage(target=server) as stage:
        client = await stage.client()
        ...

Blocking peers (FakeClient, FakeServer) run in threads; the front runs in the test's own loop, which is uvloop as in a
worker.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Self, TypeVar

import uvloop

import proxy.engines.pgsql  # noqa: F401  (registers itself)
from proxy.dataplane.front import Front
from proxy.model import (
    ClientPasswordAuthType,
    ClientTls,
    Credential,
    Endpoint,
    EngineFamily,
    Proxy,
    ServerTls,
    Snapshot,
    SslMode,
    Target,
    TargetGroup,
    TargetRole,
)
from proxy.net._tls import TlsSession
from proxy.reasons import CloseReason
from proxy.shm._segment import Segment
from tests.harness.messages import complete, ready
from tests.harness.ports import free_port
from tests.harness.wire import FakeClient

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def until(condition: Callable[[], bool], what: str = "") -> None:
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within 5 s: {what or condition}"
        await asyncio.sleep(0.005)


@dataclass
class HandedOver:
    """A client or a server as the relay got it."""

    fd: int
    tls: TlsSession | None
    facts: dict[str, Any]


class FakeRelay:
    """Keeps what it is given; `emit` lets it speak."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._events: list[tuple[Any, ...]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.clients: list[HandedOver] = []
        self.servers: list[HandedOver] = []
        self.opens = 8  # so many times "want" is answered by "open", as the real one does (which knows when to give up)
        self.tried: list[int] = []
        self.pools: dict[int, dict[str, Any]] = {}

    def emit(self, *event: Any) -> None:
        self._events.append(event)
        os.eventfd_write(self.event_fd, 1)

    def events(self) -> list[tuple[Any, ...]]:
        os.eventfd_read(self.event_fd)
        events, self._events = self._events, []
        return events

    def client(self, fd: int, tls: TlsSession | None, **facts: Any) -> None:
        if "peer" not in facts:  # the front itself, which has settings tried: every server takes these
            os.write(fd, complete("SET") + ready())
            self.tried.append(fd)
            self.emit("client_closed", facts["slot"], int(CloseReason.CLIENT_GONE))
            return
        self.clients.append(HandedOver(fd, tls, facts))

    def server(self, fd: int, tls: TlsSession | None, **facts: Any) -> None:
        self.servers.append(HandedOver(fd, tls, facts))

    def want(self, pool_id: int) -> None:
        self.calls.append(("want", pool_id))
        if self.opens:
            self.opens -= 1
            self.emit("open", pool_id, len(self.calls))

    def pool(self, pool_id: int, target_slot: int, **facts: Any) -> None:
        self.pools[pool_id] = {"target": target_slot, **facts}

    def limit(self, target_slot: int, limit: int) -> None:
        self._segment.set_limit(target_slot, limit)

    def shutdown(self, fast: bool = True) -> None:
        self.calls.append(("shutdown", fast))
        self.emit("drained")

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.calls.append((name, *args))

    def told(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]

    def close(self) -> None:
        for each in self.clients + self.servers:
            os.close(each.fd)
        for fd in self.tried:
            os.close(fd)
        os.close(self.event_fd)


@dataclass
class Context:
    segment: Segment
    worker: int
    relay: FakeRelay


class Stage:
    """One proxy, endpoint slot 0 on a free port, one target; `change` publishes another snapshot."""

    def __init__(
        self,
        target: Any = None,
        *,
        workers: int = 1,
        worker: int = 0,
        tls: ClientTls | None = None,
        auth: ClientPasswordAuthType = ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256,
        server_tls: ServerTls | None = None,
        group: dict[str, Any] | None = None,
        **proxy: Any,
    ) -> None:
        self.segment = Segment(workers)
        self.worker = worker
        self.relay = FakeRelay(self.segment)
        self.front = Front(Context(self.segment, worker, self.relay))
        self.port = free_port()
        host, port = (target.host, target.port) if target is not None else ("127.0.0.1", free_port())
        targets = (Target(0, host, port, TargetRole.READ_WRITE),)
        self.proxy = Proxy(
            "test",
            EngineFamily.POSTGRESQL,
            (Endpoint(0, "default", TargetRole.READ_WRITE, "127.0.0.1", self.port),),
            TargetGroup(
                targets, tls=server_tls or ServerTls(SslMode.DISABLE), **{"connect_timeout": 5.0, **(group or {})}
            ),
            (Credential("app", "apppw", auth),),
            tls=tls or ClientTls(),
            **{"login_timeout": 5.0, **proxy},
        )
        self.version = 0
        self._clients: list[FakeClient] = []

    async def __aenter__(self) -> Self:
        await self.front.start()
        await self.change()
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self.relay.told("shutdown"):
            await self.front.stop(True)
        self.relay.close()
        assert not self.front.connector._tasks
        for pool in self.front.pools:
            assert not pool.waiters
            assert not pool.opening
        for client in self._clients:
            client.close()

    async def change(self, **proxy: Any) -> None:
        self.proxy = replace(self.proxy, **proxy)
        self.version += 1
        await self.front.apply(Snapshot(self.version, (self.proxy,)))

    # ------------------------------------------------------------ clients

    async def connect(self) -> FakeClient:
        client = await asyncio.to_thread(FakeClient, "127.0.0.1", self.port)
        self._clients.append(client)
        return client

    async def client(self, **more: str) -> FakeClient:
        client = await self.connect()
        return await asyncio.to_thread(client.login, **more)

    def reading(self, client: FakeClient, name: str = "ErrorResponse") -> Awaitable[Any]:
        """The next message of that name, read in a thread; what came before it is left out."""

        async def last() -> Any:
            return (await asyncio.to_thread(client.read_until, name))[-1]

        return asyncio.create_task(last())

    def count(self, field: str, scope: str = "endpoint") -> int:
        return self.segment.read(scope, 0, field)

    def nobody_left(self) -> bool:
        hall = self.front.doorman.halls["test"]
        return not hall.half_open and not self.count("client_connections_in_setup")
