"""SIGTERM lets transactions end, SIGINT does not; either way nothing is left and the exit code is 0."""

import signal
import time

import psycopg
import pytest

from tests.harness.load import INSIDE, Load
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient, query
from tests.integration.lifecycle.crowd import clients, told


def test_term_lets_transactions_end_and_tells_who_is_idle(pg: Postgres) -> None:
    pg.sql("DROP TABLE IF EXISTS drained", "CREATE TABLE drained (n int)", "GRANT ALL ON drained TO app")
    with ProxyUnderTest(pg, server={"drain_timeout": 10}) as proxy, clients(proxy, 12) as all_of_them:
        busy, running, idle = all_of_them[:4], all_of_them[4:6], all_of_them[6:]
        for n, client in enumerate(busy):
            client.ask(f"BEGIN; INSERT INTO drained VALUES ({n})")
        for client in running:
            client.send(query("SELECT pg_sleep(1)"))
        proxy.signal(signal.SIGTERM)
        assert [told(client) for client in idle] == ["57P01"] * len(idle)
        with pytest.raises((ConnectionRefusedError, ConnectionResetError, EOFError)):
            FakeClient(proxy.host, proxy.port).login()
        for client in running:
            names = [m.name for m in client.read_until("ReadyForQuery")]
            assert names == ["RowDescription", "DataRow", "CommandComplete", "ReadyForQuery"]
            assert told(client) == "57P01"
        for client in busy:
            assert client.ask("SELECT 1")[-1].status == "T"
            assert [m.name for m in client.ask("COMMIT")] == ["CommandComplete", "ReadyForQuery"]
            assert told(client) == "57P01"
        assert proxy.wait(5) == 0
        assert pg.sql("SELECT count(*) FROM drained") == "4"
        wait_until(lambda: pg.connections() == 0, what="no connection left")


def test_term_under_load_loses_no_transaction(pg: Postgres) -> None:
    """Whoever is between transactions is told 57P01; nobody is cut in the middle of one."""
    Load.prepare(pg)
    with ProxyUnderTest(pg, server={"drain_timeout": 10}) as proxy:
        with Load(proxy, clients=30, seed=3) as load:
            load.wait_for_progress(3)
            begun = time.monotonic()
            proxy.signal(signal.SIGTERM)
            assert proxy.wait(12) == 0
            took = time.monotonic() - begun
            load.stop()
        assert took < 8, f"the drain took {took:.1f} s though every transaction is short"
        load.audit(pg)
        cut = [f for f in load.failures if f.doing == INSIDE]
        assert not cut, "\n".join(map(str, cut[:5]))
        told = [f for f in load.failures if f.begun < begun and f.worker is not None]
        # who was just connecting again was not a client then
        elsewhere = {f.client for f in load.failures if f.begun >= begun or f.worker is None}
        assert {f.client for f in told} | elsewhere == set(range(30)), "somebody was not told"
        assert len(told) > 20


def test_the_drain_has_a_deadline(pg: Postgres) -> None:
    """A client that never ends its transaction is told at the deadline, and its work is undone."""
    pg.sql("DROP TABLE IF EXISTS late", "CREATE TABLE late (n int)", "GRANT ALL ON late TO app")
    with ProxyUnderTest(pg, server={"drain_timeout": 1}) as proxy, clients(proxy, 2) as (stubborn, sleeper):
        stubborn.ask("BEGIN; INSERT INTO late VALUES (1)")
        sleeper.send(query("SELECT pg_sleep(60)"))
        begun = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert told(stubborn) == "57P01"
        assert 0.9 <= time.monotonic() - begun < 3
        assert told(sleeper) == "57P01"
        assert proxy.wait(5) == 0
        assert time.monotonic() - begun < 6
        wait_until(lambda: pg.connections() == 0, what="the sleeper's statement ends, too")
        assert pg.sql("SELECT count(*) FROM late") == "0"


def test_int_waits_for_nobody(pg: Postgres) -> None:
    with ProxyUnderTest(pg, server={"drain_timeout": 60}) as proxy, clients(proxy, 3) as (idle, busy, sleeper):
        busy.ask("BEGIN; SELECT 1")
        sleeper.send(query("SELECT pg_sleep(60)"))
        begun = time.monotonic()
        proxy.signal(signal.SIGINT)
        assert [told(client) for client in (idle, busy, sleeper)] == ["57P01"] * 3
        assert proxy.wait(5) == 0
        assert time.monotonic() - begun < 4
        wait_until(lambda: pg.connections() == 0, what="the sleeper's statement ends, too")


def test_int_hurries_a_drain(pg: Postgres) -> None:
    with ProxyUnderTest(pg, server={"drain_timeout": 60}) as proxy, clients(proxy, 2) as (idle, busy):
        busy.ask("BEGIN; SELECT 1")
        proxy.signal(signal.SIGTERM)
        assert told(idle) == "57P01"
        assert busy.ask("SELECT 2")[-1].status == "T"
        proxy.signal(signal.SIGINT)
        assert told(busy) == "57P01"
        assert proxy.wait(5) == 0


def test_a_client_that_reads_nothing_does_not_hold_up_the_stop(pg: Postgres) -> None:
    with ProxyUnderTest(pg, server={"drain_timeout": 1}) as proxy, clients(proxy, 1) as (deaf,):
        deaf.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
        deaf.read_exactly(1)
        begun = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait(8) == 0
        assert time.monotonic() - begun < 7
        wait_until(lambda: pg.connections() == 0, what="no connection left")


def test_a_login_that_waits_is_told(pg: Postgres) -> None:
    """In the queue for a place at the database, when the stop comes."""
    with (
        ProxyUnderTest(pg, target_group={"max_connections": 1}, server={"drain_timeout": 5}) as proxy,
        psycopg.connect(proxy.dsn()) as holder,
        FakeClient(proxy.host, proxy.port, 10).login() as waiting,
    ):
        holder.execute("SELECT 1")
        waiting.send(query("SELECT 2"))
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["waiting"] == 1, what="a waiting client")
        proxy.signal(signal.SIGTERM)
        # it has asked, so it is served when the place becomes free, and closed then
        holder.commit()
        assert [m.name for m in waiting.read_until("ReadyForQuery")][-2:] == ["CommandComplete", "ReadyForQuery"]
        assert told(waiting) == "57P01"
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 3")
        assert proxy.wait(5) == 0
