"""Messages to the service manager (sd_notify(3)): READY, RELOADING, STOPPING, WATCHDOG, STATUS, over $NOTIFY_SOCKET.

A handful of datagrams, so it is written here and not taken from libsystemd. Without $NOTIFY_SOCKET it does
nothing.
"""

import contextlib
import os
import socket
import time
from collections.abc import Mapping


class Notifier:
    def __init__(self, environ: Mapping[str, str] = os.environ, pid: int | None = None) -> None:
        self._socket: socket.socket | None = None
        self.watchdog_s: float | None = None  # how often the manager wants to hear from us at the least
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] in ("/", "@"):
            # "@" stands for the zero byte of Linux's abstract namespace
            self._address = "\0" + address[1:] if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        watchdog, addressee = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if watchdog.isdigit() and addressee in ("", str(os.getpid() if pid is None else pid)):
            self.watchdog_s = int(watchdog) / 1_000_000

    def send(self, *assignments: str) -> None:
        if self._socket is None:
            return
        # the manager may be restarting, or its queue full: the service goes on without it
        with contextlib.suppress(OSError):
            self._socket.sendto("\n".join(assignments).encode(), self._address)

    def state(self, state: str, status: str) -> None:
        """`state`: READY, RELOADING, STOPPING, or "" for the status line alone."""
        assignments = [f"{state}=1"] if state else []
        if state == "RELOADING":  # required with Type=notify-reload, to tell this reload from an earlier one
            assignments.append(f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
        if status:
            assignments.append("STATUS=" + " ".join(status.split()))
        self.send(*assignments)

    def watchdog(self) -> None:
        self.send("WATCHDOG=1")

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
