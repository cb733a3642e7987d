"""A worker process: the relay thread beside the front's loop, from the fork to the exit code.

Composition root of the data plane. The main thread runs uvloop with the front (logins, dialling); a second
thread runs the relay, which holds no GIL. Snapshots and verbs come over the link; with the first snapshot in
force the worker is ready. Nothing of AWS and no HTTP is imported here.

    TERM   listeners close, transactions end, clients between transactions are told; at the deadline the rest is closed
    INT    all clients are told and closed now
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import uvloop

from proxy.control.accepted import AcceptedFile
from proxy.model import Snapshot
from proxy.net import packets
from proxy.shm._segment import Segment
from proxy.supervisor.table import CANNOT_BOOT
from proxy.worker.link import ControllerLink

log = logging.getLogger(__name__)

BEAT_S = 1.0
LATE_S = 3.0  # beyond the drain's own deadline, before we stop believing in it
JOIN_S = 3.0
RELAY_DIED = 70  # EX_SOFTWARE of sysexits.h


class RelayThread(Protocol):
    def run(self) -> None: ...
    def stop(self) -> None: ...


class FrontLike(Protocol):
    async def start(self) -> None: ...
    async def apply(self, snapshot: Snapshot) -> None: ...
    async def handle(self, verb: str, args: dict[str, Any]) -> dict[str, Any]: ...
    async def drain(self, deadline: float) -> None: ...
    async def stop(self, fast: bool) -> None: ...


Build = Callable[[Segment, int], tuple[RelayThread, FrontLike]]


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What the front is given."""

    segment: Segment
    worker: int
    relay: Any


def build(segment: Segment, index: int) -> tuple[RelayThread, FrontLike]:
    import proxy.engines.pgsql  # noqa: F401  (registers itself)
    from proxy.dataplane._relay import Relay
    from proxy.dataplane.family import families
    from proxy.dataplane.front import Front

    relay = Relay(segment, index, {})
    for family in families():
        relay.words(family.number, *family.words())
    return relay, Front(WorkerContext(segment, index, relay))


class Worker:
    def __init__(
        self,
        segment: Segment,
        index: int,
        link: socket.socket,
        line: socket.socket,
        accepted: AcceptedFile,
        parts: Build,
    ) -> None:
        self.segment = segment
        self.index = index
        self.relay, self.front = parts(segment, index)
        self._link = ControllerLink(link, self._apply, self.front.handle)
        self._line = line
        self._accepted = accepted
        self._ready = False
        self._drain_timeout = 0.0  # until there is a snapshot there is nobody to wait for
        self._stopping = False  # seen by the relay thread: from here on its return is no accident
        self._stop: asyncio.Task[None] | None = None
        self._fast = False
        self._code: asyncio.Future[int]

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._code = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop, False)
        loop.add_signal_handler(signal.SIGINT, self._on_stop, True)
        self.segment.set(self.index, "worker", 0, "started", int(time.time()))
        thread = threading.Thread(target=self._relay_thread, name="relay", daemon=True)
        thread.start()
        self._beat()
        await self.front.start()
        self._start = asyncio.create_task(self._resume())
        try:
            return await self._code
        finally:
            self._start.cancel()
            self._link.close()
            self._stopping = True
            self.relay.stop()
            thread.join(JOIN_S)
            if thread.is_alive():  # not worth a hang: the process ends now
                log.error("the relay thread does not stop")

    async def _resume(self) -> None:
        """What a predecessor served, at once and without a controller; then the controller may speak."""
        accepted = self._accepted.read()
        self._accepted.close()
        if accepted is not None and accepted.snapshot is not None:
            try:
                for target in accepted.paused:
                    await self.front.handle("pause", {"target": target})
                await self._apply(accepted.snapshot)
                if accepted.drain_until is not None:
                    await self.front.handle("drain", {"deadline": max(0.0, accepted.drain_until - time.monotonic())})
            except Exception:  # said already, and the end has begun if it was about the snapshot
                log.debug("resuming failed", exc_info=True)
            else:
                self._link.version = accepted.snapshot.version
        self._link.open()

    def _relay_thread(self) -> None:
        # Signals are the main thread's: one that interrupted the relay's epoll would only cost a turn.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        try:
            self.relay.run()
        except BaseException:
            log.critical("the relay thread died", exc_info=True)
        if not self._stopping:
            # without it no client can be served; the supervisor knows what to do
            os._exit(RELAY_DIED)

    def _beat(self) -> None:
        self.segment.beat(self.index, time.monotonic_ns())
        asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    async def _apply(self, snapshot: Snapshot) -> None:
        try:
            await self.front.apply(snapshot)
        except Exception as e:
            if not self._ready:
                log.critical(
                    "cannot boot: %s", "; ".join(map(str, e.exceptions)) if isinstance(e, ExceptionGroup) else e
                )
                self._finish(CANNOT_BOOT)
            raise
        self._drain_timeout = snapshot.drain_timeout
        self.segment.set(self.index, "worker", 0, "snapshot_version", snapshot.version)
        if not self._ready:
            self._ready = True
            try:
                packets.send(self._line, {"ready": True})
            except OSError:  # the supervisor is gone, and its death signal on its way
                log.warning("the supervisor does not listen")

    # ------------------------------------------------------------ the end

    def _on_stop(self, fast: bool) -> None:
        if self._fast or (self._stop is not None and not fast):
            return
        self._fast = fast
        if self._stop is not None:
            self._stop.cancel()
        self._stop = asyncio.get_running_loop().create_task(self._shut_down(fast))

    async def _shut_down(self, fast: bool) -> None:
        try:
            if not fast:
                await asyncio.wait_for(self.front.drain(self._drain_timeout), self._drain_timeout + LATE_S)
            await asyncio.wait_for(self.front.stop(fast), LATE_S)
        except TimeoutError:
            log.warning("clients are left at the deadline: closing")
        except Exception:
            log.exception("the stop went wrong: closing")
        self._finish(0)

    def _finish(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)


def run_worker(
    *,
    segment: Segment,
    index: int,
    link: socket.socket,
    line: socket.socket,
    accepted: AcceptedFile,
    parts: Build = build,
) -> int:
    """The body of a worker process; its exit code."""

    async def main() -> int:
        return await Worker(segment, index, link, line, accepted, parts).run()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
