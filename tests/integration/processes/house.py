"""Starts `bodies.py` as a process and watches it: lines on stdout, the log, notes, children, the notify socket."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import proxy as package
from tests.harness.processes import children, wait_until

BODIES = Path(__file__).with_name("bodies.py")


class House:
    def __init__(self, folder: Path, scenario: str, config: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.config = folder / "bodies.toml"
        self.config.write_text(config)
        self.scenario = scenario
        self.out, self.err = folder / "out", folder / "err"
        self._env = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1]), **(env or {})}
        self.process: subprocess.Popen[bytes]

    def start(self) -> Self:
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-P", str(BODIES), str(self.config), self.scenario]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=self._env)
        return self

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            for pid in [*children(self.process.pid), self.process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.wait()
        if kind is not None:
            sys.stderr.write(f"--- log\n{self.log()}\n")

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self.err.read_text()

    def ready(self) -> str:
        """Waits for the line on stdout."""
        wait_until(lambda: b"\n" in self.out.read_bytes() or self.process.poll() is not None, 10, "ready line")
        text = self.out.read_text()
        assert text.endswith("\n"), f"no ready line, exit code {self.process.poll()}\n{self.log()}"
        return text

    def logged(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.log().count(text) >= times, 10, f"{text!r} in the log:\n{self.log()}")

    def send(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def ends(self, code: int, limit_s: float = 10.0) -> None:
        left = children(self.pid)
        assert self.process.wait(limit_s) == code, self.log()
        for pid in left:
            assert not Path(f"/proc/{pid}").exists(), f"process {pid} outlived its supervisor"

    # the plain scenario

    def tell(self, *files: str) -> None:
        for name in files:
            (self.folder / name).touch()

    def untell(self, name: str) -> None:
        (self.folder / name).unlink()

    def notes(self, name: str, what: str = "") -> list[tuple[float, int, str]]:
        """(when, pid, what) of each note."""
        path = self.folder / f"{name}.notes"
        lines = path.read_text().splitlines() if path.exists() else []
        split = (line.split(" ", 2) for line in lines)
        return [(float(when), int(pid), text) for when, pid, text in split if what in text]

    def pid_of(self, name: str) -> int:
        return self.notes(name, "born")[-1][1]

    def born(self, name: str, times: int) -> None:
        wait_until(lambda: len(self.notes(name, "born")) >= times, 10, f"birth {times} of {name}:\n{self.log()}")


class Manager:
    """The service manager's end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(10)

    def next(self, *, watchdogs: bool = False) -> dict[str, str]:
        while True:
            message = dict(line.split("=", 1) for line in self._socket.recv(4096).decode().splitlines())
            if watchdogs or message != {"WATCHDOG": "1"}:
                return message

    def next_with(self, key: str) -> dict[str, str]:
        while True:
            message = self.next()
            if key in message:
                return message

    def close(self) -> None:
        self._socket.close()


def ask(run_dir: Path, verb: str, arguments: Mapping[str, object] | None = None) -> tuple[int, Any]:
    """One request on the control socket: (status, answer). GET without arguments, else POST."""
    import http.client

    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(str(run_dir / "control.sock"))
    try:
        body = None if arguments is None else json.dumps(arguments)
        connection.request("GET" if arguments is None else "POST", f"/v1/{verb}", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()
