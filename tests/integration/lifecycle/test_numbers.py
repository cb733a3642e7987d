"""/metrics, /healthz and /readyz on the living proxy: each number is what was done, no more and no less."""

import os
import signal
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack

import psycopg
import pytest

from tests.harness.certs import Authority
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient, bind, cancel_request, execute, parse, query, sync
from tests.integration.lifecycle import crowd

ENDPOINT = 'endpoint="default",proxy="test"'


class Numbers:
    """What has changed since the last look; worker and label order aside."""

    def __init__(self, proxy: ProxyUnderTest, pg: Postgres) -> None:
        self._proxy = proxy
        self._target = f'proxy="test",target="{pg.host}:{pg.port}"'
        self._before = proxy.metrics()

    def now(self, name: str, labels: str = ENDPOINT) -> float:
        return self._proxy.metrics().get(f"sluiceway_{name}{{{labels}}}", 0.0)

    def endpoint(self, name: str) -> float:
        key = f"sluiceway_{name}{{{ENDPOINT}}}"
        return self._proxy.metrics().get(key, 0.0) - self._before.get(key, 0.0)

    def target(self, name: str, reason: str = "") -> float:
        key = f'sluiceway_{name}{{proxy="test",' + (f'reason="{reason}",' if reason else "")
        key += self._target.removeprefix('proxy="test",') + "}"
        return self._proxy.metrics().get(key, 0.0) - self._before.get(key, 0.0)

    def close(self, reason: str) -> float:
        key = f'sluiceway_client_closes_total{{{ENDPOINT},reason="{reason}"}}'
        return self._proxy.metrics().get(key, 0.0) - self._before.get(key, 0.0)


def becomes(look: Callable[[], float], value: float, what: str) -> None:
    """The relay's numbers are there at once, the front's when it has heard: never later than a moment."""
    seen: list[float] = []

    def there() -> bool:
        seen.append(look())
        return seen[-1] == value

    try:
        wait_until(there, 3)
    except AssertionError:
        raise AssertionError(f"{what} is {seen[-1]:g}, not {value:g}") from None


def test_clients_queries_and_transactions(pg: Postgres) -> None:
    with ProxyUnderTest(pg) as proxy, ExitStack() as stack:
        numbers = Numbers(proxy, pg)
        clients = stack.enter_context(crowd.clients(proxy, 7))
        for client in clients:
            client.ask("SELECT 1")  # 7 queries, 7 transactions
        clients[0].ask("BEGIN")
        clients[0].ask("SELECT 1; SELECT 2")  # counts once
        clients[0].ask("COMMIT")  # 3 queries, 1 transaction
        clients[1].send(parse("SELECT 1"), bind(), execute(), bind(), execute(), sync())
        clients[1].read_until("ReadyForQuery")  # 2 executions, 1 transaction
        becomes(lambda: numbers.endpoint("client_connections"), 7, "client_connections")
        becomes(lambda: numbers.endpoint("client_connections_received_total"), 7, "received")
        becomes(lambda: numbers.endpoint("client_connections_setup_succeeded_total"), 7, "succeeded")
        becomes(lambda: numbers.endpoint("client_connections_no_tls"), 7, "without TLS")
        becomes(lambda: numbers.endpoint("transactions_total"), 9, "transactions")
        queries = numbers.endpoint("query_requests_total")
        assert queries == 12, queries
        assert numbers.endpoint("query_requests_no_tls_total") == queries
        assert numbers.endpoint("query_requests_tls_total") == 0
        # one borrow for each transaction, and each one measured
        becomes(lambda: numbers.endpoint("database_connections_borrow_latency_seconds_count"), 9, "borrows")
        latency = numbers.endpoint("query_response_latency_seconds_count")
        assert 0 < latency <= queries
        assert numbers.endpoint("bytes_from_clients_total") > 7 * 14
        assert numbers.endpoint("bytes_to_clients_total") > numbers.endpoint("bytes_from_clients_total")
        for client in clients[:3]:
            client.send(b"X\0\0\0\4")
            client.close()
        clients[3].reset()
        clients[4].close()
        becomes(lambda: numbers.endpoint("client_connections"), 2, "client_connections")
        becomes(lambda: numbers.endpoint("client_connections_closed_total"), 5, "closed")
        becomes(lambda: numbers.close("client_terminated"), 3, "closed with a Terminate")


def test_server_connections_and_borrowing(pg: Postgres) -> None:
    with ProxyUnderTest(pg, workers=1, target_group={"max_connections": 2}) as proxy, ExitStack() as stack:
        numbers = Numbers(proxy, pg)
        clients = stack.enter_context(crowd.clients(proxy, 4))
        for client in clients[:2]:
            client.ask("BEGIN")
        clients[2].send(query("SELECT 1"))
        becomes(lambda: numbers.endpoint("clients_waiting"), 1, "clients_waiting")
        assert numbers.target("database_connections") == 2
        assert numbers.target("database_connections_currently_borrowed") == 2
        assert numbers.target("database_connections_currently_in_transaction") == 2
        assert numbers.now("max_database_connections_allowed", f'proxy="test",target="{pg.host}:{pg.port}"') == 2
        assert numbers.target("database_connections_setup_succeeded_total") == 2
        clients[0].ask("COMMIT")
        clients[2].read_until("ReadyForQuery")
        becomes(lambda: numbers.endpoint("clients_waiting"), 0, "clients_waiting")
        clients[1].ask("COMMIT")
        becomes(lambda: numbers.target("database_connections_currently_borrowed"), 0, "borrowed")
        assert numbers.target("database_connections_currently_in_transaction") == 0
        # the one that waited shows in the histogram: its wait is the sum, nearly
        assert numbers.endpoint("database_connections_borrow_latency_seconds_sum") > 0
        pg.kill_connections()
        becomes(lambda: numbers.target("database_connections"), 0, "database_connections")


def test_pins_by_reason(pg: Postgres) -> None:
    with ProxyUnderTest(pg, workers=1) as proxy:
        numbers = Numbers(proxy, pg)
        dsn = proxy.dsn()
        with psycopg.connect(dsn, autocommit=True) as temp, psycopg.connect(dsn, autocommit=True) as lock:
            temp.execute("CREATE TEMP TABLE numbers_t (n int)")
            lock.execute("SELECT pg_advisory_lock(1)")
            becomes(lambda: numbers.target("database_connections_currently_session_pinned"), 2, "pinned now")
            pins = {row["id"]: row["pins"] for row in proxy.ctl("clients")}
            (temp_reason,), (lock_reason,) = pins[temp.info.backend_pid], pins[lock.info.backend_pid]
            assert temp_reason != lock_reason
            for reason in (temp_reason, lock_reason):
                assert sum(numbers.target("pins_total", r) for r in (reason, f"pin_{reason}")) == 1, proxy.metrics()
        becomes(lambda: numbers.target("database_connections_currently_session_pinned"), 0, "pinned now")
        becomes(lambda: numbers.target("database_connections_currently_borrowed"), 0, "borrowed")


def test_refusals_and_timeouts_and_cancels(pg: Postgres) -> None:
    group = {"max_connections": 1, "connection_borrow_timeout": 1}
    with ProxyUnderTest(pg, workers=1, target_group=group) as proxy:
        numbers = Numbers(proxy, pg)
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError, match="28P01"):
                FakeClient(proxy.host, proxy.port).login(password="wrong")
        becomes(lambda: numbers.endpoint("client_connections_setup_failed_auth_total"), 3, "failed logins")
        becomes(lambda: numbers.endpoint("client_connections"), 0, "client_connections")
        with (
            FakeClient(proxy.host, proxy.port).login() as holder,
            FakeClient(proxy.host, proxy.port).login() as waiter,
        ):
            holder.ask("BEGIN")
            assert waiter.ask("SELECT 1")[0].fields["C"] == "08000"
            becomes(lambda: numbers.endpoint("borrow_timeouts_total"), 1, "borrow timeouts")
            holder.send(query("SELECT pg_sleep(30)"))
            wait_until(lambda: pg.sql("SELECT count(*) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'") == "1")
            for key in (b"\0\0\0\0", holder.key):
                with FakeClient(proxy.host, proxy.port) as canceller:
                    canceller.send(cancel_request(holder.pid, key))
                    assert canceller.at_end()
            assert holder.read_until("ReadyForQuery")[-2].fields["C"] == "57014"
            becomes(lambda: numbers.endpoint("cancels_received_total"), 2, "cancels received")
            becomes(lambda: numbers.endpoint("cancels_forwarded_total"), 1, "cancels forwarded")


def test_tls_is_counted_apart(pg: Postgres, authority: Authority) -> None:
    with ProxyUnderTest(pg, workers=1, tls=authority.issue("localhost")) as proxy:
        numbers = Numbers(proxy, pg)
        with FakeClient(proxy.host, proxy.port).start_tls().login() as client:
            client.ask("SELECT 1")
            becomes(lambda: numbers.endpoint("client_connections_tls"), 1, "with TLS")
            assert numbers.endpoint("query_requests_tls_total") == 1
            assert numbers.endpoint("query_requests_no_tls_total") == 0
        becomes(lambda: numbers.endpoint("client_connections_tls"), 0, "with TLS")


def test_gauges_do_not_keep_a_dead_workers_clients(pg: Postgres) -> None:
    with ProxyUnderTest(pg, workers=1) as proxy, ExitStack() as stack:
        numbers = Numbers(proxy, pg)
        clients = stack.enter_context(crowd.clients(proxy, 5))
        for client in clients:
            client.ask("BEGIN")
        becomes(lambda: numbers.target("database_connections_currently_borrowed"), 5, "borrowed")
        (worker,) = proxy.worker_pids()
        os.kill(worker, signal.SIGKILL)
        becomes(lambda: numbers.target("database_connections_currently_borrowed"), 0, "borrowed")
        becomes(lambda: numbers.endpoint("client_connections"), 0, "client_connections")
        becomes(lambda: numbers.target("database_connections"), 0, "database_connections")
        assert numbers.endpoint("query_requests_total") == 5, "counters never go back"
        wait_until(lambda: proxy.ctl("status")["state"] == "ready")


def page(proxy: ProxyUnderTest, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{proxy.metrics_port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()


def test_health(pg: Postgres) -> None:
    with ProxyUnderTest(pg, workers=1) as proxy, FakeClient(proxy.host, proxy.port).login() as client:
        client.ask("BEGIN")
        assert page(proxy, "/healthz")[0] == 200
        assert page(proxy, "/readyz")[0] == 200
        proxy.ctl("drain", "--deadline", "30")
        assert page(proxy, "/healthz")[0] == 200
        code, text = page(proxy, "/readyz")
        assert (code, "draining" in text) == (503, True), text
        proxy.ctl("drain", "--undo")
        assert page(proxy, "/readyz")[0] == 200
        assert page(proxy, "/nothing")[0] == 404
        (worker,) = proxy.worker_pids()
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: proxy.ctl("status")["workers"][0]["restarts"] == 1, what="its death is known")
        wait_until(lambda: page(proxy, "/readyz")[0] == 200, 10, "ready again")
