"""The proxy's processes with small bodies, started as `python bodies.py CONFIG SCENARIO`: what the tests of this
folder run.

`plain`: controller and workers are a few lines, to watch the supervisor alone; what they do is told by files in
the folder of the configuration. `links`: the real controller and the real worker around a front of a few lines,
which listens on the configured endpoints and greets each client with its pid and the version in force.
"""

import asyncio
import os
import select
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

from proxy.model import Snapshot
from proxy.net import packets
from proxy.shm._segment import Segment
from proxy.supervisor import table
from proxy.supervisor.main import Programs, serve
from proxy.supervisor.table import CANNOT_BOOT

# ---------------------------------------------------------------- plain


class Plain:
    """Bodies that obey files: FOLDER/<name>.<what> exists or not, name being `controller` or `worker0`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def settings(self, path: Path) -> packets.Message:
        text = path.read_text()
        if "broken" in text:
            print("bodies.toml: 1 error", file=sys.stderr)
            sys.exit(CANNOT_BOOT)
        return {"workers": 2, "run_dir": str(self.folder), "drain_timeout": 1.0, "text": text}

    def controller(self, *, segment: Segment, line: socket.socket, **_: Any) -> int:
        return self._body("controller", line, None, segment)

    def worker(self, *, segment: Segment, index: int, line: socket.socket, **_: Any) -> int:
        segment.set_limit(0, 10)
        segment.take_permit(0, index)
        segment.add(index, "target", 0, "database_connections")
        return self._body(f"worker{index}", line, index, segment)

    def _note(self, name: str, text: str) -> None:
        with (self.folder / f"{name}.notes").open("a") as notes:
            notes.write(f"{time.monotonic():.3f} {os.getpid()} {text}\n")

    def _is(self, name: str, what: str) -> bool:
        return (self.folder / f"{name}.{what}").exists()

    def _body(self, name: str, line: socket.socket, worker: int | None, segment: Segment) -> int:
        self._note(name, "born")
        if self._is(name, "cannot-boot"):
            return CANNOT_BOOT
        if self._is(name, "fails"):
            return 3
        heard, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.set_wakeup_fd(tell)
        for caught in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(caught, lambda *_: None)
        if not self._is(name, "silent"):
            packets.send(line, {"ready": True, "greeting": "endpoint plain"})
        lines: list[socket.socket] = [line]
        while True:
            if worker is not None and not self._is(name, "hangs"):
                segment.beat(worker, time.monotonic_ns())
                segment.beat_relay(worker, time.monotonic_ns())
            readable, _, _ = select.select([heard, *(each.fileno() for each in lines)], [], [], 0.2)
            if line.fileno() in readable:
                try:
                    message, _ = packets.receive(line)
                except EOFError:  # the supervisor is dead; its death signal says what to do
                    lines.clear()
                else:
                    self._note(name, f"told {message}")
            if heard not in readable:
                continue
            for signum in os.read(heard, 100):
                self._note(name, f"signal {signal.Signals(signum).name}")
                if signum == signal.SIGHUP:
                    packets.send(line, {"reloaded": "as told"})
                elif not self._is(name, "deaf") or signum == signal.SIGINT:
                    return 0


# ---------------------------------------------------------------- links


class Relay:
    """Beats, and nothing else."""

    def __init__(self, segment: Segment, worker: int) -> None:
        self._segment, self._worker = segment, worker
        self._stop = threading.Event()

    def run(self) -> None:
        while not self._stop.wait(0.1):
            self._segment.beat_relay(self._worker, time.monotonic_ns())

    def stop(self) -> None:
        self._stop.set()


class Front:
    """Greets clients and keeps them until they go, or the drain ends."""

    def __init__(self, segment: Segment, worker: int) -> None:
        self._segment, self._worker = segment, worker
        self._version = 0
        self._servers: dict[tuple[str, int], asyncio.Server] = {}
        self._clients: set[asyncio.StreamWriter] = set()
        self._told: list[str] = []
        self._gone = asyncio.Event()
        self._slots: dict[tuple[str, int], int] = {}

    async def start(self) -> None:
        assert "aiohttp" not in sys.modules
        assert "pydantic" not in sys.modules

    async def apply(self, snapshot: Snapshot) -> None:
        wanted = {(e.host, e.port): e.slot for p in snapshot.proxies for e in p.endpoints}
        if self._servers.keys() < wanted.keys() and Path(sys.argv[1]).with_name("unable").exists():
            raise OSError("unable, as told")
        for address in wanted.keys() - self._servers.keys():
            sock = socket.create_server(address, reuse_port=True)
            self._servers[address] = await asyncio.start_server(self._greet, sock=sock)
        for address in self._servers.keys() - wanted.keys():
            self._servers.pop(address).close()
        self._slots = wanted
        self._version = snapshot.version

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        slot = self._slots[writer.get_extra_info("sockname")]
        self._clients.add(writer)
        self._segment.add(self._worker, "endpoint", slot, "client_connections")
        try:
            writer.write(f"{os.getpid()} {self._version}\n".encode())
            while await reader.read(100):
                writer.write(b"still here\n")
        except OSError:
            pass
        finally:
            self._segment.add(self._worker, "endpoint", slot, "client_connections", -1)
            self._clients.discard(writer)
            writer.close()
            if not self._clients:
                self._gone.set()

    async def handle(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        if verb == "fail":
            raise ValueError("as asked")
        if verb == "dump":
            if args["what"] == "pools":
                return {"rows": [{"told": self._told}]}
            return {"rows": [{"n": n, "pad": "x" * 100} for n in range(1000)]}  # more than a packet holds
        self._told.append(f"{verb} {sorted(args.items())}")
        return {}

    async def drain(self, deadline: float) -> None:
        for server in self._servers.values():
            server.close()
        if self._clients:
            try:
                await asyncio.wait_for(self._gone.wait(), deadline)
            except TimeoutError:
                pass

    async def stop(self, fast: bool) -> None:
        for server in self._servers.values():
            server.close()
        for client in list(self._clients):
            client.write(b"good bye\n")
            client.close()


def linked_worker(**arguments: Any) -> int:
    from proxy.worker.main import run_worker

    def parts(segment: Segment, index: int) -> tuple[Relay, Front]:
        return Relay(segment, index), Front(segment, index)

    return run_worker(**arguments, parts=parts)


if __name__ == "__main__":
    config = Path(sys.argv[1])
    # the processes are real; ten seconds of real waiting would show no more than one
    table.STALE_S = float(os.environ.get("TEST_STALE_S", table.STALE_S))
    table.FAST_S = float(os.environ.get("TEST_FAST_S", table.FAST_S))
    if sys.argv[2] == "plain":
        plain = Plain(config.parent)
        programs = Programs(settings=plain.settings, controller=plain.controller, worker=plain.worker, preload=())
    else:
        programs = Programs(worker=linked_worker)
    sys.exit(serve(config, programs=programs))
