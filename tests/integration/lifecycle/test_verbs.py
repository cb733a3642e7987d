"""`sluiceway ctl` on the living system: what it shows is so, what it orders happens. Scripts rely on the JSON."""

import os
import signal
import subprocess
import threading
import time
from typing import Any

import psycopg
import pytest

from proxy.admin.client import Client
from tests.harness.load import INSIDE, Load
from tests.harness.postgres import Postgres
from tests.harness.processes import state, wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient, query

STATUS = {"version", "pid", "uptime", "snapshot", "state", "config", "workers", "endpoints", "targets", "controller"}
WORKER = {"worker", "pid", "state", "snapshot", "clients", "servers", "restarts", "heartbeat_age"}
ENDPOINT = {"proxy", "endpoint", "role", "listen", "clients", "waiting"}
TARGET = {"proxy", "target", "role", "connections", "borrowed", "pinned", "limit", "permits", "state"}
CLIENT = {"id", "worker", "proxy", "endpoint", "user", "database", "peer", "state", "pins", "tls", "age_ms", "idle_ms",
          "wait_ms", "queries"}  # fmt: skip
SERVER = {"id", "worker", "proxy", "target", "user", "database", "pid", "state", "tx_status", "pins", "tls", "age_ms",
          "borrows"}  # fmt: skip
POOL = {"worker", "proxy", "target", "user", "database", "clients", "waiting", "idle", "servers", "borrowed", "opening",
        "limit", "paused"}  # fmt: skip


def text(proxy: ProxyUnderTest, *words: str) -> str:
    command = [*proxy.command, "ctl", "--run-dir", str(proxy.run_dir), *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=proxy.environment)
    return done.stdout


def waiting(proxy: ProxyUnderTest) -> int:
    return int(proxy.ctl("status")["endpoints"][0]["waiting"])


def test_what_it_shows_is_so(pg: Postgres) -> None:
    with (
        ProxyUnderTest(pg, target_group={"max_connections": 2}) as proxy,
        psycopg.connect(proxy.dsn(application_name="first")) as first,
        psycopg.connect(proxy.dsn(application_name="first")) as second,
        psycopg.connect(proxy.dsn(application_name="first"), autocommit=True) as idle,
        FakeClient(proxy.host, proxy.port, 10).login(application_name="first") as third,
    ):
        idle.execute("SELECT 1")
        first.execute("CREATE TEMP TABLE t (n int)")
        second.execute("SELECT pg_backend_pid()")
        third.send(query("SELECT 3"))
        wait_until(lambda: waiting(proxy) == 1, what="the third waits")
        status = proxy.ctl("status")
        assert status.keys() >= STATUS
        assert (status["pid"], status["state"]) == (proxy.pid, "ready")
        assert all(row.keys() >= WORKER for row in status["workers"])
        assert all(state(row["pid"]) not in {"", "Z"} and row["state"] == "ready" for row in status["workers"])
        (endpoint,), (target,) = status["endpoints"], status["targets"]
        assert endpoint.keys() >= ENDPOINT
        assert target.keys() >= TARGET
        assert (endpoint["clients"], endpoint["waiting"], endpoint["listen"]) == (4, 1, f"127.0.0.1:{proxy.port}")
        assert [target[name] for name in ("connections", "borrowed", "pinned", "limit", "permits")] == [2, 2, 1, 2, 2]

        clients = {row["id"]: row for row in proxy.ctl("clients")}
        assert all(row.keys() >= CLIENT for row in clients.values()), next(iter(clients.values()))
        assert clients.keys() == {c.info.backend_pid for c in (first, second, idle)} | {third.pid}
        assert clients[third.pid]["state"] == "waiting"
        assert clients[third.pid]["wait_ms"] >= 0
        assert clients[idle.info.backend_pid]["state"] == "idle"
        assert clients[first.info.backend_pid]["state"] == "active"
        assert clients[first.info.backend_pid]["pins"]
        port = third.sock.getsockname()[1]
        assert clients[third.pid]["peer"] == f"127.0.0.1:{port}"
        assert {row["id"] & 127 for row in clients.values()} == {row["worker"] for row in clients.values()}

        servers = proxy.ctl("servers")
        assert all(row.keys() >= SERVER for row in servers), servers[0]
        found = pg.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'app'").split()
        assert sorted(str(row["pid"]) for row in servers) == sorted(found)
        assert {row["tx_status"] for row in servers} == {"T"}

        pools = proxy.ctl("pools")
        assert all(row.keys() >= POOL for row in pools), pools[0]
        assert sum(row["clients"] for row in pools) == 4
        assert sum(row["waiting"] for row in pools) == 1
        assert sum(row["servers"] for row in pools) == 2

        # and for people
        assert str(proxy.port) in text(proxy, "status")
        assert len(text(proxy, "clients").splitlines()) > 4
        assert "app" in text(proxy, "servers")
        assert "app" in text(proxy, "pools")
        first.rollback()


@pytest.mark.edge_case(13)
def test_pause_holds_back_and_resume_goes_on_without_an_error(pg: Postgres) -> None:
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": 6}) as proxy:
        with Load(proxy, clients=20, seed=6) as load:
            load.wait_for_progress(2)
            for _ in range(3):
                assert proxy.ctl("pause") == {"paused": "all targets"}
                wait_until(lambda: proxy.ctl("status")["targets"][0]["borrowed"] == 0, what="all transactions end")
                assert proxy.ctl("status")["targets"][0]["state"] == "paused"
                steps = load.steps
                with psycopg.connect(proxy.dsn()):  # logins are served meanwhile
                    pass
                assert load.steps == steps, "something went through"
                idle = pg.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'")
                assert idle == "0"
                proxy.ctl("resume")
                load.wait_for_progress(2)
        assert not load.failures, "\n".join(map(str, load.failures[:5]))
        load.audit(pg)


@pytest.mark.edge_case(13)
def test_clients_log_in_while_paused_also_when_no_server_is_there(pg: Postgres) -> None:
    with ProxyUnderTest(pg, workers=1) as proxy:
        proxy.ctl("pause")
        done: list[Any] = []

        def ask() -> None:
            with psycopg.connect(proxy.dsn(), autocommit=True) as connection:
                done.append(connection.execute("SELECT 1").fetchone())

        thread = threading.Thread(target=ask)
        thread.start()
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 1)
        time.sleep(0.3)
        assert not done
        proxy.ctl("resume")
        thread.join(5)
        assert done == [(1,)]


def test_a_pause_outlives_workers_and_controllers(pg: Postgres) -> None:
    with ProxyUnderTest(pg, workers=1) as proxy, psycopg.connect(proxy.dsn(), autocommit=True) as early:
        early.execute("SELECT 1")
        proxy.ctl("pause")
        old = [*proxy.worker_pids(), proxy.controller_pid()]
        for pid in old:
            os.kill(pid, signal.SIGKILL)

        def back() -> bool:
            try:
                status = proxy.ctl("status")
            except RuntimeError:
                return False
            return bool(status["state"] == "ready" and status["workers"][0]["pid"] not in old)

        wait_until(back, 10, "a new worker and a new controller")
        assert proxy.ctl("status")["targets"][0]["state"] == "paused"
        assert proxy.ctl("pools") == [] or all(row["paused"] for row in proxy.ctl("pools"))
        proxy.ctl("resume")
        with psycopg.connect(proxy.dsn(), autocommit=True) as late:
            assert late.execute("SELECT 1").fetchone() == (1,)


def test_drain_closes_between_transactions_and_undo_lets_in_again(pg: Postgres) -> None:
    Load.prepare(pg)
    with ProxyUnderTest(pg) as proxy:
        with Load(proxy, clients=20, seed=7) as load:
            load.wait_for_progress(2)
            begun = time.monotonic()
            assert proxy.ctl("drain", "--deadline", "20") == {"draining": True, "deadline": 20.0}
            wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0, what="the last client gone")
            assert proxy.ctl("status")["state"] == "draining"
            with pytest.raises(ConnectionRefusedError):
                FakeClient(proxy.host, proxy.port)
            proxy.ctl("drain", "--undo")
            ended = time.monotonic()
            load.wait_for_progress(2)
            assert proxy.ctl("status")["state"] == "ready"
        assert not [f for f in load.failures if f.doing == INSIDE]
        # by a FATAL, or, if it was just coming back, by a refusal
        assert {f.client for f in load.failures} == set(range(20)), "somebody was not told"
        assert [f for f in load.failures if f.worker is not None]
        late = [f for f in load.failures if f.begun > ended + 0.5]
        assert not late, "\n".join(map(str, late[:5]))
        assert ended - begun < 10
        load.audit(pg)


def test_drain_obeys_its_deadline(pg: Postgres) -> None:
    with ProxyUnderTest(pg) as proxy, FakeClient(proxy.host, proxy.port).login() as client:
        client.ask("BEGIN")
        begun = time.monotonic()
        proxy.ctl("drain", "--deadline", "1")
        assert client.ask("SELECT 1")[-1].status == "T"
        assert client.expect("ErrorResponse")[0].fields["C"] == "57P01"
        assert 0.8 < time.monotonic() - begun < 4
        assert client.at_end()
        assert proxy.running


def test_kill_ends_one_client_whatever_it_does(pg: Postgres) -> None:
    with ProxyUnderTest(pg, target_group={"max_connections": 2}) as proxy:
        clients = [FakeClient(proxy.host, proxy.port).login() for _ in range(5)]
        idle, inside, running, queued, untouched = clients
        try:
            idle.ask("SELECT 1")
            inside.ask("BEGIN")
            running.send(query("SELECT pg_sleep(60)"))
            wait_until(lambda: proxy.ctl("status")["targets"][0]["borrowed"] == 2)
            queued.send(query("SELECT 1"))
            wait_until(lambda: waiting(proxy) == 1)
            for victim in (queued, idle, inside, running):
                assert proxy.ctl("kill", str(victim.pid)) == {"killed": victim.pid}
                error = victim.expect("ErrorResponse")[0].fields
                assert (error["S"], error["C"]) == ("FATAL", "57P01")
                assert victim.at_end()
                victim.close()
            assert untouched.ask("SELECT 1")[-1].status == "I"
            wait_until(lambda: len(proxy.ctl("clients")) == 1)
            with pytest.raises(RuntimeError, match="no client"):
                proxy.ctl("kill", str(idle.pid))
            active = "usename = 'app' AND state <> 'idle'"
            wait_until(lambda: pg.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {active}") == "0", what="all idle")
        finally:
            for client in clients:
                client.close()


@pytest.mark.parametrize("fast", [False, True], ids=["graceful", "fast"])
def test_shutdown(pg: Postgres, fast: bool) -> None:
    with ProxyUnderTest(pg, workers=1) as proxy, FakeClient(proxy.host, proxy.port).login() as client:
        client.ask("BEGIN")
        assert proxy.ctl("shutdown", *(["--fast"] if fast else [])) == {"stopping": "fast" if fast else "graceful"}
        if not fast:
            assert client.ask("COMMIT")[-1].status == "I"
        assert client.expect("ErrorResponse")[0].fields["C"] == "57P01"
        assert proxy.wait(5) == 0
        with pytest.raises(RuntimeError, match="no proxy runs"):
            proxy.ctl("status")


EXPLAINED = [
    "select 1",
    "SET search_path = x; SET NAMES 'UTF8'",
    "set seed to 0.5",
    "select set_config(name, setting, false) from pg_settings where name = 'work_mem'",
    "listen c; create temp table explained (a int); select pg_advisory_lock(4711)",
    "prepare p as select 1",
    "create temp sequence explained_s; select nextval('explained_s')",
    "do 'begin perform 1; end'",
    "begin; declare c cursor with hold for select 1; commit",
    "begin; declare c cursor for select 1; set local work_mem = '1MB'; commit",
    'select 1 as u&"\\0061"',
    "set work_mem = '5MB'; reset all",
    "create function pg_temp.f() returns int begin atomic select 1; end; set work_mem = '5MB'",
    "prepare p as select 1; select set_config('work_mem', '5MB', true)",
    "select e'\\';'; set work_mem = '5MB'",
]


def test_what_it_explains_is_so(pg: Postgres) -> None:
    with ProxyUnderTest(pg) as proxy:
        ask = Client(proxy.run_dir)
        for sql in EXPLAINED:
            found = ask.post("explain", text=sql)
            every = [pin for one in (*found["statements"], {"pins": found["together"]}) for pin in one["pins"]]
            with psycopg.connect(proxy.dsn(), autocommit=True) as client:
                client.execute(sql.encode())
                rows = [row for row in ask.get("clients") if row["id"] == client.info.backend_pid]
                pins = set(rows[0]["pins"])
            assert pins == {pin["reason"] for pin in every}, sql
            assert found["outcome"] == ("pinned" if pins else "free")
        assert "Sluiceway: pins by proxy" in text(proxy, "explain", "LISTEN c")
