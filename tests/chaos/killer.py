"""Who is killed when, and what that excuses: a worker's death excuses errors of its own clients and nobody else's."""

import os
import random
import signal
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.harness.load import Failure
from tests.harness.processes import children, state, wait_until
from tests.harness.proxy import ProxyUnderTest


@dataclass(frozen=True)
class Death:
    who: str  # "worker 0", "controller"
    worker: int | None
    at: float  # SIGKILL sent (monotonic)
    gone: float  # the process is no more; in between it may still have been given clients by the kernel
    ports: frozenset[int] = field(default_factory=frozenset)  # its connections to the database: local port numbers

    def excuses(self, failure: Failure) -> bool:
        mine = failure.worker is None or failure.worker == self.worker
        return self.worker is not None and mine and failure.begun <= self.gone and self.at <= failure.at


def processes(proxy: ProxyUnderTest) -> dict[str, int]:
    """Living children of the supervisor by name, without asking the controller, who may be dead."""
    found: dict[str, int] = {}
    for pid in children(proxy.pid):
        try:
            name = Path(f"/proc/{pid}/comm").read_text().strip().removeprefix("sluice ")
        except OSError:
            continue
        found["controller" if name.startswith("controll") else name] = pid  # the kernel keeps 15 bytes
    return found


def connections_to(pid: int, port: int) -> frozenset[int]:
    """Local ports of the process's TCP connections to that port of this machine."""
    inodes: set[str] = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found: set[int] = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if words[9] in inodes and int(words[2].rpartition(":")[2], 16) == port:
            found.add(int(words[1].rpartition(":")[2], 16))
    return frozenset(found)


def kill(proxy: ProxyUnderTest, who: str) -> Death | None:
    """None if it is just being born again."""
    pid = processes(proxy).get(who)
    if pid is None:
        return None
    worker = int(who.rpartition(" ")[2]) if who.startswith("worker") else None
    ports = frozenset[int]()
    if worker is not None and proxy.pg is not None:
        os.kill(pid, signal.SIGSTOP)  # what it has now is what it dies with
        ports = connections_to(pid, proxy.pg.port)
    at = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: state(pid) in {"Z", ""}, what=f"{who} dies")
    return Death(who, worker, at, time.monotonic(), ports)


class Killer:
    """`with Killer(proxy, seed)`: a worker a second, and a controller now and then, in a thread of its own."""

    def __init__(self, proxy: ProxyUnderTest, seed: int, *, every_s: float = 1.0, workers: int = 2) -> None:
        self._proxy, self._every_s, self._workers = proxy, every_s, workers
        self._dice = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer")
        self.deaths: list[Death] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s * self._dice.uniform(0.7, 1.3)):
            victims = [f"worker {self._dice.randrange(self._workers)}"]
            if self._dice.random() < 0.25:
                victims.insert(self._dice.randrange(2), "controller")
            for who in victims:
                death = kill(self._proxy, who)
                if death is not None:
                    self.deaths.append(death)

    def unexcused(self, failures: Iterable[Failure]) -> list[Failure]:
        return [f for f in failures if not any(death.excuses(f) for death in self.deaths)]
