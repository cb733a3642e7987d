"""sd_notify(3): what is sent, where, and that nothing can go wrong with it."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.supervisor.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        yield manager


def notifier(manager: socket.socket, **more: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **more})


def test_states_and_status_lines(manager: socket.socket) -> None:
    told = notifier(manager)
    told.state("READY", "2 of 2\nworkers")
    assert manager.recv(1000) == b"READY=1\nSTATUS=2 of 2 workers", "a line break would begin another assignment"
    told.state("", "draining")
    assert manager.recv(1000) == b"STATUS=draining"
    told.state("STOPPING", "")
    assert manager.recv(1000) == b"STOPPING=1"
    told.watchdog()
    assert manager.recv(1000) == b"WATCHDOG=1"
    told.close()


def test_reloading_carries_the_monotonic_clock(manager: socket.socket) -> None:
    told = notifier(manager)
    before = time.monotonic_ns() // 1000
    told.state("RELOADING", "")
    first, second = manager.recv(1000).decode().splitlines()
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    told.close()


def test_an_abstract_address() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"sluiceway-unit-{os.getpid()}"
        manager.bind("\0" + name)
        told = Notifier({"NOTIFY_SOCKET": "@" + name})
        told.state("READY", "")
        assert manager.recv(1000) == b"READY=1"
        told.close()


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "relative", "vsock:2:1"])
def test_without_a_manager_nothing_happens(address: str) -> None:
    told = Notifier({"NOTIFY_SOCKET": address} if address else {})
    told.state("READY", "up")
    told.watchdog()
    told.close()
    told.state("STOPPING", "")


def test_a_manager_that_does_not_read_is_not_waited_for(manager: socket.socket) -> None:
    told = notifier(manager)
    for _ in range(5000):
        told.watchdog()
    told.close()


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "17"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "18"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_it_names(environ: dict[str, str], wanted: float | None) -> None:
    assert Notifier(environ, pid=17).watchdog_s == wanted
