"""The database is down, restarts, crashes, is full, or does not know the password: who waits, who is told, and what."""

import signal
import threading
import time

import psycopg
import pytest

from tests.harness.load import Load
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient, query


def attempts(proxy: ProxyUnderTest) -> float:
    found = proxy.metrics()
    return sum(n for name, n in found.items() if name.startswith("sluiceway_database_connection_requests_total"))


class Asker(threading.Thread):
    """Logs in and asks one question; `answer` or `error` when it is over, `took` seconds after its begin."""

    def __init__(self, proxy: ProxyUnderTest, n: int, **more: str) -> None:
        super().__init__(name=f"asker {n}")
        self._dsn, self._n = proxy.dsn(connect_timeout=20, **more), n
        self.answer: object = None
        self.error, self.took = "", 0.0
        self.start()

    def run(self) -> None:
        begun = time.monotonic()
        try:
            with psycopg.connect(self._dsn, autocommit=True) as connection:
                self.answer = connection.execute("SELECT %s::int", (self._n,)).fetchone()
        except psycopg.Error as error:
            self.error = str(error)
        self.took = time.monotonic() - begun


def end(askers: list[Asker]) -> list[Asker]:
    for asker in askers:
        asker.join(20)
        assert not asker.is_alive()
    return askers


@pytest.mark.edge_case(12)
@pytest.mark.parametrize("how", ["fast", "crash"])
def test_clients_wait_for_a_database_that_restarts(how: str) -> None:
    """Those who wait for a place at the time, those who are idle and ask now, and those who log in now: all succeed."""
    with (
        Postgres(settings={"max_connections": "30"}) as pg,
        ProxyUnderTest(pg, target_group={"max_connections": 4, "connection_borrow_timeout": 15}) as proxy,
    ):
        idle = [FakeClient(proxy.host, proxy.port, 20).login() for _ in range(6)]
        try:
            for client in idle:
                client.ask("SELECT 1")
            pg.crash() if how == "crash" else pg._end(signal.SIGINT)
            wait_until(lambda: proxy.ctl("status")["targets"][0]["connections"] == 0, what="dead connections discarded")
            for n, client in enumerate(idle):
                client.send(query(f"SELECT {n}"))
            askers = [Asker(proxy, n) for n in range(6)]
            time.sleep(1.0)
            tried = attempts(proxy)
            time.sleep(1.0)
            assert attempts(proxy) - tried < 15, "a closed door is hammered"
            pg.restart()
            back = time.monotonic()
            for n, client in enumerate(idle):
                replies = client.read_until("ReadyForQuery")
                assert [m.values for m in replies if m.name == "DataRow"] == [[str(n).encode()]], replies
            assert [(a.answer, a.error) for a in end(askers)] == [((n,), "") for n in range(6)]
            assert time.monotonic() - back < 8, "found it again too late"
        finally:
            for client in idle:
                client.close()


@pytest.mark.edge_case(12)
def test_a_restart_under_load() -> None:
    """Whoever is at work is told; whoever waits, waits; nothing that was acknowledged is lost (this one is durable)."""
    durable = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
    with Postgres(settings=durable) as pg:
        Load.prepare(pg)
        with ProxyUnderTest(pg, target_group={"max_connections": 5, "connection_borrow_timeout": 15}) as proxy:
            with Load(proxy, clients=20, seed=8) as load:
                for crash in (True, False):
                    load.wait_for_progress(3)
                    failures = len(load.failures)
                    if crash:
                        pg.crash()
                    pg.restart()
                    load.wait_for_progress(3)
                    # five connections were at work at most; a few more may be lent before all are known to be dead
                    met = load.failures[failures:]
                    assert len({f.client for f in met}) <= 10, "\n".join(map(str, met))
            load.audit(pg)


def test_the_borrow_timeout_ends_the_wait() -> None:
    with (
        Postgres() as pg,
        ProxyUnderTest(pg, target_group={"connection_borrow_timeout": 2}) as proxy,
        FakeClient(proxy.host, proxy.port, 10).login() as client,
    ):
        client.ask("SELECT 1")
        pg.crash()
        wait_until(lambda: proxy.ctl("status")["targets"][0]["connections"] == 0)
        begun = time.monotonic()
        asker = Asker(proxy, 1)
        client.send(query("SELECT 1"))
        error = client.expect("ErrorResponse", "ReadyForQuery")[0].fields
        assert (error["S"], error["C"]) == ("ERROR", "08000")
        assert "Timed-out waiting to acquire database connection" in error["M"]
        assert 1.8 < time.monotonic() - begun < 4
        end([asker])
        assert "Timed-out waiting to acquire database connection" in asker.error
        assert 1.8 < asker.took < 6
        pg.restart()
        assert client.ask("SELECT 1")[-1].status == "I"  # the same client connection


@pytest.mark.edge_case(12)
def test_a_wrong_password_is_told_and_not_tried_for_ever(pg: Postgres) -> None:
    """The database's own words (28P01), at once; and as long as nobody asks, nobody tries."""
    pg.sql("DROP ROLE IF EXISTS elsewhere", "CREATE ROLE elsewhere LOGIN PASSWORD 'databases'")
    with ProxyUnderTest(pg, users=[("elsewhere", "proxys")]) as proxy:
        askers = end([Asker(proxy, n) for n in range(8)])
        assert all("password authentication failed" in asker.error for asker in askers), [a.error for a in askers]
        assert all(asker.took < 5 for asker in askers)
        tried = attempts(proxy)
        assert tried <= 8, f"{tried:.0f} attempts for 8 clients"
        time.sleep(1.5)
        assert attempts(proxy) == tried, "tried though nobody asked"
        pg.sql("ALTER ROLE elsewhere PASSWORD 'proxys'")

        def works() -> bool:
            (asker,) = end([Asker(proxy, 1)])
            return asker.answer == (1,)

        wait_until(works, 5, "the password is right now")
    pg.sql("DROP ROLE elsewhere")


@pytest.mark.edge_case(12)
def test_a_full_database_is_a_reason_to_wait() -> None:
    """53300 from the server: others use its places, and our ceiling does not know it."""
    with Postgres(settings={"max_connections": "10", "superuser_reserved_connections": "2"}) as pg:
        pg.sql("CREATE ROLE other LOGIN PASSWORD 'other'", database="postgres")
        group = {"max_connections": 8, "connection_borrow_timeout": 10}
        with ProxyUnderTest(pg, workers=1, target_group=group) as proxy:
            others = [psycopg.connect(pg.dsn(user="other", password="other", database="test")) for _ in range(5)]
            try:
                clients = [FakeClient(proxy.host, proxy.port, 15).login() for _ in range(6)]
                for client in clients:
                    client.send(query("SELECT pg_sleep(0.2)"))
                for client in clients:
                    assert client.read_until("ReadyForQuery")[0].name == "RowDescription"
                inside = clients[:3]
                for client in inside:
                    client.ask("BEGIN")  # all three places that are left
                clients[3].send(query("SELECT 1"))
                assert clients[3].silent_for(0.7), "told before its time"
                for other in others:
                    other.close()
                assert clients[3].read_until("ReadyForQuery")[0].name == "RowDescription"
                assert all(client.ask("COMMIT")[-1].status == "I" for client in inside)
                for client in clients:
                    client.close()
            finally:
                for other in others:
                    other.close()


def test_an_idle_connection_that_the_server_ended_is_never_lent(pg: Postgres) -> None:
    """EC-5 under load: terminated by an administrator again and again; only who was at work is told."""
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": 8}) as proxy:
        with Load(proxy, clients=10, seed=9, pause_s=0.02) as load:
            idle = "usename = 'app' AND state = 'idle' AND state_change < now() - interval '5 ms'"
            killed = 0
            for _ in range(15):
                sql = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {idle}"
                killed += int(pg.sql(sql))
                time.sleep(0.05)
            load.wait_for_progress(2)
        assert killed > 10
        # a query that is already on its way to a connection being ended is the one thing nobody can save
        assert len(load.failures) <= killed / 4, f"{len(load.failures)} errors for {killed}: {load.failures[0]}"
        load.audit(pg)

