"""Descriptors and memory: few of the one pause the door and no more, little of the other is an idle client's."""

import os
import resource
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.harness.messages import startup
from tests.harness.postgres import Postgres
from tests.harness.processes import children, wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient

MANY = 2000
_TICKS = 100.0


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / _TICKS


def private_kib(pid: int) -> float:
    """Memory that is this process's own: what is shared with its siblings does not count again."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return float(sizes["Private_Clean"] + sizes["Private_Dirty"])


def limited(pid: int, soft: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def replaced(proxy: ProxyUnderTest) -> None:
    """Worker 0 killed, its successor ready."""
    victim = proxy.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: proxy.ctl("status")["workers"][0]["pid"] not in (None, victim))
    wait_until(lambda: proxy.ctl("status")["workers"][0]["state"] == "ready")


@pytest.mark.edge_case(98)
def test_no_descriptor_left_pauses_the_door_and_nothing_else(pg: Postgres) -> None:
    """The limit is lowered under the living worker, so that accept itself fails (EMFILE)."""
    crowd: list[socket.socket] = []
    with ProxyUnderTest(pg, workers=1) as proxy, FakeClient(proxy.host, proxy.port).login() as client:
        client.ask("SELECT 1")
        (worker,) = proxy.worker_pids()
        limited(worker, descriptors(worker) + 20)
        try:
            for _ in range(60):
                crowd.append(socket.create_connection((proxy.host, proxy.port), 5))
            proxy.wait_for_log("cannot accept clients for now: Too many open files")
            begun, used = time.monotonic(), cpu_s(worker)
            while time.monotonic() < begun + 1.5:
                assert client.ask("SELECT 1")[-1].status == "I"  # who is in is served
                time.sleep(0.1)
            assert cpu_s(worker) - used < 0.5, "it spins"
            assert proxy.log(0).count("cannot accept clients for now") < 12
        finally:
            for sock in crowd:
                sock.close()

        def lets_in() -> bool:
            try:
                with FakeClient(proxy.host, proxy.port).login() as fresh:
                    return fresh.ask("SELECT 1")[-1].status == "I"
            except (OSError, EOFError):
                return False

        wait_until(lets_in, 5, "the door opens again")
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 1, what="nobody is counted twice")


@pytest.mark.edge_case(98)
def test_the_last_descriptors_are_kept_for_the_database(pg: Postgres) -> None:
    """Clients are turned away with an error while there is still room to dial; then a query opens its connection."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (160, before[1]))
    try:
        proxy = ProxyUnderTest(pg, workers=1).start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    crowd: list[FakeClient] = []
    try:
        refused = ""
        for _ in range(160):
            try:
                crowd.append(FakeClient(proxy.host, proxy.port).login())
            except ConnectionRefusedError as error:
                refused = str(error)
                break
        assert refused.startswith("53300"), refused
        for n, client in enumerate(crowd[:10]):
            client.ask("BEGIN")
            assert client.ask(f"SELECT {n}")[-1].status == "T"
        assert pg.connections() >= 10
        for client in crowd:
            client.close()
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0)
        with FakeClient(proxy.host, proxy.port).login() as fresh:
            assert fresh.ask("SELECT 1")[-1].status == "I"
        proxy.stop()
    finally:
        for client in crowd:
            client.close()
        proxy.kill()
        proxy._remove()


def test_nothing_is_left_of_a_thousand_clients(pg: Postgres) -> None:
    """Well-behaved ones, silent ones, half logins, resets: descriptors and counts are what they were."""
    with ProxyUnderTest(pg, workers=1) as proxy:
        with FakeClient(proxy.host, proxy.port).login() as client:
            client.ask("SELECT 1")
        (worker,) = proxy.worker_pids()
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0)
        before = descriptors(worker)
        for n in range(250):
            with FakeClient(proxy.host, proxy.port).login() as client:
                if n % 2:
                    client.ask("SELECT 1")
                if n % 3 == 0:
                    client.reset()
            socket.create_connection((proxy.host, proxy.port)).close()
            with FakeClient(proxy.host, proxy.port) as half:
                half.send(startup())
            with FakeClient(proxy.host, proxy.port) as odd:
                odd.send(startup()[:7])
                odd.reset()
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0)
        wait_until(lambda: descriptors(worker) == before, what=f"{before} descriptors, as before")
        metrics = proxy.metrics()
        assert metrics['sluiceway_client_connections_in_setup{endpoint="default",proxy="test"}'] == 0
        assert metrics['sluiceway_client_connections_received_total{endpoint="default",proxy="test"}'] == 1001


@pytest.mark.timeout(60)
def test_an_idle_client_costs_little(pg: Postgres) -> None:
    """User-space memory by the kernel's books, both threads of both workers, logged in and having asked once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 3 * MANY:
        pytest.skip(f"RLIMIT_NOFILE is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * MANY), hard))
    clients: list[FakeClient] = []
    try:
        with ProxyUnderTest(pg) as proxy:

            def come(n: int) -> float:
                for _ in range(n):
                    clients.append(FakeClient(proxy.host, proxy.port, 10).login())
                    clients[-1].ask("SELECT 1")
                return sum(private_kib(pid) for pid in proxy.worker_pids())

            base = come(50)  # what is needed once is there now
            full = come(MANY)
            each = (full - base) / MANY
            print(f"{each:.2f} KiB of user-space memory for each of {MANY} idle clients")
            for client in clients:
                client.close()
            wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0)
        assert each < 4
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_children_of_the_supervisor_hold_no_more_than_they_need(pg: Postgres) -> None:
    """A restarted worker has as many descriptors as the first one had (edge case 98: none leaks into children)."""
    with ProxyUnderTest(pg, workers=2) as proxy:
        first = descriptors(proxy.worker_pids()[0])
        supervisor = descriptors(proxy.pid)
        for _ in range(4):
            replaced(proxy)
        assert descriptors(proxy.worker_pids()[0]) <= first
        assert descriptors(proxy.pid) == supervisor
        assert len(children(proxy.pid)) == 3
