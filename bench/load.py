"""One run of pgbench against one contender, and what happened in the middle of it.

Connections are opened, and the run settles, before the measured window begins; it ends before the first client stops.
Within it, transactions and latencies come from pgbench's own log (a line per transaction with its time of completion),
CPU from the kernel. So the cost of logging in is no part of a number about transactions.
"""

import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.accounting import Cpu, cpu
from tests.harness.postgres import client_tool

_SETTLE_S = 0.5
_NEVER_S = 600  # its clock starts before the logins, so we end the run ourselves
_GIVE_UP_S = 90.0  # for 1000 logins on a slow machine


@dataclass(frozen=True)
class Load:
    """What pgbench is told, beyond where to."""

    name: str
    script: str  # SQL
    clients: int
    mode: str = "simple"
    tls: bool = False
    reconnect: bool = False  # a new connection for each transaction


@dataclass(frozen=True)
class Sample:
    """The measured window of one run."""

    transactions: int
    seconds: float
    p50_us: float
    p99_us: float
    cpu: Cpu

    @property
    def tps(self) -> float:
        return self.transactions / self.seconds

    @property
    def user_us(self) -> float:
        return self.cpu.user * 1e6 / max(1, self.transactions)

    @property
    def sys_us(self) -> float:
        return self.cpu.sys * 1e6 / max(1, self.transactions)

    @property
    def cpu_us(self) -> float:
        return self.user_us + self.sys_us

    def as_dict(self) -> dict[str, Any]:
        names = ("transactions", "seconds", "tps", "p50_us", "p99_us", "user_us", "sys_us", "cpu_us")
        return {name: getattr(self, name) for name in names}


class LoadFailed(Exception):
    """pgbench could not do it; its own words."""


def run(load: Load, dsn: str, password: str, pids: Iterable[int], seconds: float) -> Sample:
    """Runs `load` for `seconds` of measured time against `dsn`; `pids` are whose CPU counts."""
    pids = list(pids)
    with tempfile.TemporaryDirectory(prefix="sluiceway-load-") as folder:
        script = Path(folder, "script.sql")
        script.write_text(load.script + ";\n")
        command = [client_tool("pgbench"), "-n", "-f", str(script), "-M", load.mode, "-c", str(load.clients)]
        command += ["-j", str(min(2, load.clients)), "-T", str(_NEVER_S), "-P", "1", "-l"]
        command += ["--log-prefix", str(Path(folder, "log")), *(["-C"] if load.reconnect else []), dsn]
        env = {**os.environ, "PGPASSWORD": password, "PGSSLMODE": "require" if load.tls else "disable"}
        errors = Path(folder, "errors")
        with errors.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=out, env=env
            )
            try:
                _await_first_second(process, errors)
                time.sleep(_SETTLE_S)
                begin, before = time.time(), cpu(pids)
                time.sleep(seconds)
                end, after = time.time(), cpu(pids)
                # what its own timer would send: it finishes what is running, and writes its logs
                process.send_signal(signal.SIGALRM)
                process.wait(_GIVE_UP_S)
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
        if process.returncode:
            raise LoadFailed(_complaint(errors))
        latencies = sorted(_latencies(Path(folder), begin, end))
    if not latencies:
        raise LoadFailed("no transaction finished in the measured window")
    at = len(latencies) - 1
    return Sample(
        len(latencies), end - begin, latencies[round(at * 0.5)], latencies[round(at * 0.99)], after - before
    )


def _await_first_second(process: "subprocess.Popen[bytes]", errors: Path) -> None:
    """pgbench's first progress line: everybody is connected."""
    deadline = time.monotonic() + _GIVE_UP_S
    while not re.search(rb"^progress: ", errors.read_bytes(), re.MULTILINE):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise LoadFailed(_complaint(errors))
        time.sleep(0.01)


def _complaint(errors: Path) -> str:
    lines = [line for line in errors.read_text(errors="replace").splitlines() if not line.startswith("progress: ")]
    return "; ".join(lines[:3]) or "pgbench said nothing"


def _latencies(folder: Path, begin: float, end: float) -> Iterable[float]:
    """Microseconds of each transaction that ended in the window.

    Taken between two ends of one client, which has no pause in between: pgbench's own latency leaves out the time to
    connect (with -C), and is 0 where the answer was there before it looked.
    """
    previous: dict[str, float] = {}
    for path in folder.glob("log.*"):
        with path.open() as lines:
            for line in lines:
                client, _, _, _, seconds, microseconds = line.split()[:6]  # client, number, latency, script, end
                now = int(seconds) + int(microseconds) / 1e6
                if client in previous and begin <= now < end:
                    yield (now - previous[client]) * 1e6
                previous[client] = now
