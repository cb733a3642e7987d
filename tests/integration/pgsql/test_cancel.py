"""Cancel through the whole proxy: the right query, from any worker, or waiting, never another's (edge cases 54-57)."""

import random
import select
import threading
import time
from functools import partial

import psycopg
import pytest

from tests.harness.messages import cancel_request, query
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient
from tests.integration.pgsql.test_sessions import on_worker, worker

CANCELED = "canceling statement due to user request"


def running(pg: Postgres, mark: str) -> bool:
    return (
        pg.sql(
            "select count(*) from pg_stat_activity where state = 'active' "
            f"and query like '%{mark}%' and pid <> pg_backend_pid()"
        )
        != "0"
    )


def send_cancel(proxy: ProxyUnderTest, pid: int, key: bytes, *, tls: bool = False) -> None:
    """And waits until the proxy closes the connection, as libpq does."""
    with FakeClient(proxy.host, proxy.port) as client:
        if tls:
            client.start_tls()
        client.send(cancel_request(pid, key))
        assert client.at_end()


def test_ec54_a_running_query_is_cancelled_as_on_a_direct_connection(pg: Postgres, proxy: ProxyUnderTest) -> None:
    def told(dsn: str) -> tuple[object, ...]:
        with psycopg.connect(dsn, autocommit=True) as conn:

            def stop() -> None:
                wait_until(lambda: running(pg, "ec54 mark"))
                conn.cancel()

            thread = threading.Thread(target=stop)
            thread.start()
            with pytest.raises(psycopg.errors.QueryCanceled) as error:
                conn.execute("select pg_sleep(20) /* ec54 mark */")
            thread.join()
            assert conn.execute("select 1").fetchone() == (1,)
            diag = error.value.diag
            return diag.severity, diag.sqlstate, diag.message_primary, diag.source_function

    assert told(proxy.dsn()) == told(pg.dsn())


def test_ec54_a_stale_cancel_never_hits_anothers_query(small: ProxyUnderTest) -> None:
    """Cancels rain on clients whose queries have just ended, on servers that the next client takes at once.

    Whoever cancels itself may be hit; the others never are.
    """
    hit: list[str] = []
    ended = threading.Event()
    counted = {"victim": 0, "canceller": 0, "cancelled": 0}

    def victim() -> None:
        with psycopg.connect(small.dsn(), autocommit=True) as conn:
            while not ended.is_set():
                try:
                    conn.execute("select pg_sleep(0.002)")
                    counted["victim"] += 1
                except psycopg.Error as error:
                    hit.append(str(error))

    def canceller(seed: int) -> None:
        dice = random.Random(seed)
        with psycopg.connect(small.dsn(), autocommit=True) as conn:
            while not ended.is_set():
                if dice.random() < 0.5:
                    conn.execute("select 1")
                    conn.cancel()
                else:
                    thread = threading.Thread(target=conn.cancel)
                    thread.start()
                    try:
                        conn.execute("select pg_sleep(0.001)")
                    except psycopg.errors.QueryCanceled:
                        counted["cancelled"] += 1
                    thread.join()
                counted["canceller"] += 1

    threads = [threading.Thread(target=victim) for _ in range(4)]
    threads += [threading.Thread(target=canceller, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    ended.set()
    for thread in threads:
        thread.join()
    assert not hit
    assert counted["victim"] > 50, counted
    assert counted["canceller"] > 20, counted


def test_ec54_a_wrong_key_cancels_nothing(pg: Postgres, proxy: ProxyUnderTest) -> None:
    with FakeClient(proxy.host, proxy.port).login() as client:
        client.send(query("select pg_sleep(1), 'ec54 key'"))
        wait_until(lambda: running(pg, "ec54 key"))
        for key in (
            bytes(4),
            client.key[::-1] if client.key != client.key[::-1] else b"\1\2\3\4",
            client.key + b"\0",
            client.key * 64,
        ):
            send_cancel(proxy, client.pid, key)
        for pid in (client.pid + 128, client.pid ^ 1, 0, 2**31 - 1, -1, 128 * 1000 + 99):
            send_cancel(proxy, pid, client.key)
        assert [m.name for m in client.read_until("ReadyForQuery")][1] == "DataRow"


def test_ec54_cancel_of_an_idle_client_does_nothing(proxy: ProxyUnderTest) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as conn:
        for n in range(20):
            conn.cancel()
            assert conn.execute("select %s", [n]).fetchone() == (n,)


def test_ec55_a_cancelled_waiter_leaves_the_line(small: ProxyUnderTest) -> None:
    """The pool is exhausted: 57014 at once, and the session goes on; nobody else loses anything."""
    waiter = psycopg.connect(small.dsn(), autocommit=True)  # before: a worker's first login needs a connection
    holders = [psycopg.connect(small.dsn()) for _ in range(2)]
    for holder in holders:
        holder.execute("select 1")
    try:
        for parameters in (None, [1]):
            thread = threading.Timer(0.2, waiter.cancel)
            thread.start()
            started = time.monotonic()
            with pytest.raises(psycopg.errors.QueryCanceled, match=CANCELED):
                waiter.execute("select 1" if parameters is None else "select %s", parameters)
            assert time.monotonic() - started < 5
            thread.join()
            holders[0].commit()
            assert waiter.execute("select 2").fetchone() == (2,)
            holders[0].execute("select 1")
    finally:
        for conn in (*holders, waiter):
            conn.close()


def test_ec56_a_storm_of_cancels_does_not_stop_queries(proxy: ProxyUnderTest) -> None:
    ended = threading.Event()

    def storm(client: FakeClient) -> None:
        while not ended.is_set():
            send_cancel(proxy, client.pid, client.key)

    with (
        FakeClient(proxy.host, proxy.port).login() as target,
        psycopg.connect(proxy.dsn(), autocommit=True) as bystander,
    ):
        target.send(query("select pg_sleep(20)"))
        threads = [threading.Thread(target=storm, args=(target,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            slowest = 0.0
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                began = time.monotonic()
                assert bystander.execute("select 1").fetchone() == (1,)
                slowest = max(slowest, time.monotonic() - began)
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert slowest < 1.0
        assert next(m for m in target.read_until("ReadyForQuery") if m.name == "ErrorResponse").fields["C"] == "57014"
        assert [m.name for m in target.ask("select 1")][1] == "DataRow"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_ec57_cancel_is_heard_by_any_worker(tls: bool, pg: Postgres, proxy: ProxyUnderTest) -> None:
    """The kernel gives the cancel connection to some worker: enough of them, and both kinds have been seen."""
    before = proxy.metrics()
    for n in range(8):
        with on_worker(proxy, (n % 2).__eq__) as conn:
            assert worker(conn) == n % 2
            mark = f"ec57 {tls} {n}"
            with FakeClient(proxy.host, proxy.port).login() as client:
                client.send(query(f"select pg_sleep(20) /* {mark} */"))
                wait_until(partial(running, pg, mark))
                send_cancel(proxy, client.pid, client.key, tls=tls)
                error = client.read_until("ReadyForQuery")[-2]
                assert error.fields["C"] == "57014"
    assert proxy.metrics() != before


def test_ec57_cancel_by_libpq_with_every_sslmode(pg: Postgres, proxy: ProxyUnderTest) -> None:
    for sslmode in ("disable", "prefer", "require"):
        with psycopg.connect(proxy.dsn(sslmode=sslmode), autocommit=True) as conn:
            for safe in (False, True):
                mark = f"ec57 {sslmode} {safe}"

                def stop(mark: str = mark, safe: bool = safe, conn: psycopg.Connection = conn) -> None:
                    wait_until(lambda: running(pg, mark))
                    conn.cancel_safe(timeout=5) if safe else conn.cancel()

                thread = threading.Thread(target=stop)
                thread.start()
                with pytest.raises(psycopg.errors.QueryCanceled):
                    conn.execute(f"select pg_sleep(20) /* {mark} */")
                thread.join()


def test_ec55_a_cancel_between_transactions_spares_the_next_one(small: ProxyUnderTest) -> None:
    """Sent behind the end of a query, it may not hit the same client's next one either, however late it is heard."""
    with FakeClient(small.host, small.port).login() as client:
        for n in range(60):
            client.ask("select 1")
            send_cancel(small, client.pid, client.key)
            names = [m.name for m in client.ask(f"select pg_sleep(0.002), {n}")]
            assert names == ["RowDescription", "DataRow", "CommandComplete", "ReadyForQuery"]
            assert not select.select([client.sock], [], [], 0)[0]
