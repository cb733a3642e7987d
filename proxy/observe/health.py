"""The HTTP side for machines: `/metrics`, `/healthz` and `/readyz` over TCP on `[server] metrics_listen`.

`/healthz` says that the controller lives; `/readyz` that clients can be served, else 503 and the reasons, a line each.
Nothing here is secret and nothing can be changed, so there is no login. Knows the controller only as an `ObservePort`.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from aiohttp import web

from proxy.control.addresses import Address
from proxy.model import Snapshot
from proxy.observe.aggregate import Numbers, samples
from proxy.observe.prometheus import render

__all__ = ["ObservePort", "Running", "start", "unready"]

STALE_HEARTBEAT_S = 5.0


class ObservePort(Protocol):
    """What the controller lets itself be asked."""

    @property
    def numbers(self) -> Numbers: ...

    @property
    def snapshot(self) -> Snapshot | None: ...

    def availability(self) -> Mapping[int, float]:
        """Percent of time up, by target slot; empty if nobody measures it."""
        ...

    def unready(self) -> Sequence[str]:
        """Why clients cannot be served now, one sentence each; empty if they can."""
        ...


class Heartbeats(Protocol):
    @property
    def workers(self) -> int: ...

    def heartbeat_of(self, worker: int) -> tuple[int, int]: ...


def unready(heartbeats: Heartbeats, ready_workers: Sequence[int], now_ns: int, draining: bool = False) -> list[str]:
    """The usual judgement: no drain, and at least one of the `ready_workers` (numbers) alive."""
    if draining:
        return ["draining: no new clients are accepted"]
    stale = [
        worker
        for worker in ready_workers
        if now_ns - min(heartbeats.heartbeat_of(worker)) > STALE_HEARTBEAT_S * 1_000_000_000
    ]
    if len(stale) < len(ready_workers):
        return []
    if not ready_workers:
        return [f"none of {heartbeats.workers} workers is ready"]
    return [f"worker {worker} has not moved for {STALE_HEARTBEAT_S:g} s" for worker in stale]


class Running:
    """An HTTP server that is open."""

    def __init__(self, runner: web.AppRunner, address: Address) -> None:
        self._runner = runner
        self.address = address

    async def stop(self) -> None:
        await self._runner.cleanup()


async def start(port: ObservePort, listen: Address) -> Running:
    """Serve on `listen`. Raises OSError if the address cannot be had."""
    app = web.Application(client_max_size=1024)
    pages = Pages(port)
    app.add_routes(
        [
            web.get("/metrics", pages.metrics),
            web.get("/healthz", pages.healthz),
            web.get("/readyz", pages.readyz),
        ]
    )
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        # a restarted controller takes the address over although its predecessor's connections still fade away
        await web.TCPSite(runner, listen.host, listen.port, reuse_address=True).start()
    except BaseException:
        await runner.cleanup()
        raise
    return Running(runner, listen)


class Pages:
    def __init__(self, port: ObservePort) -> None:
        self._port = port

    async def metrics(self, request: web.Request) -> web.Response:
        found = samples(self._port.numbers, self._port.snapshot, self._port.availability())
        body, content_type = render(found, time.monotonic_ns(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        reasons = self._port.unready()
        if reasons:
            return web.Response(status=503, text="".join(f"{reason}\n" for reason in reasons))
        return web.Response(text="ok\n")
