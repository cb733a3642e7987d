"""SIGHUP and `ctl reload`: what changed is applied, what did not is not touched, what is wrong is refused."""

import contextlib
import json
import signal
import socket
import subprocess
import time

import psycopg
import pytest

from tests.harness.load import Load
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient, query


def edit(proxy: ProxyUnderTest, old: str, new: str) -> None:
    text = proxy.config_path.read_text()
    assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in\n{text}"
    proxy.config_path.write_text(text.replace(old, new))


def hup(proxy: ProxyUnderTest) -> None:
    """SIGHUP, and wait until the controller says that it is done with it."""
    before = proxy.log(0).count("reload")
    proxy.signal(signal.SIGHUP)
    ends = ("reloaded: ", "old configuration stays in force")
    wait_until(lambda: any(end in proxy.log(0)[-4000:] for end in ends) and proxy.log(0).count("reload") > before)


def backends(pg: Postgres, user: str = "app") -> set[str]:
    """Which server connections there are: process id and birth."""
    text = pg.sql(f"SELECT pid, backend_start FROM pg_stat_activity WHERE usename = '{user}'")
    return set(text.splitlines())


@pytest.mark.edge_case(13)
def test_a_reload_under_load_costs_nobody_anything(pg: Postgres) -> None:
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": 10}) as proxy:
        with Load(proxy, clients=20, seed=4) as load:
            for seconds in (21, 22, 23):
                load.wait_for_progress(2)
                edit(proxy, f"connection_borrow_timeout = {10 if seconds == 21 else seconds - 1}",
                     f"connection_borrow_timeout = {seconds}")  # fmt: skip
                assert proxy.ctl("reload")["changes"]
                hup(proxy)
            load.wait_for_progress(2)
        assert not load.failures, "\n".join(map(str, load.failures[:5]))
        load.audit(pg)


@pytest.mark.edge_case(13)
def test_what_did_not_change_is_not_touched(pg: Postgres) -> None:
    """Clients stay, in and between transactions; server connections are the same ones; the version is the same."""
    with ProxyUnderTest(pg) as proxy, psycopg.connect(proxy.dsn()) as inside, psycopg.connect(proxy.dsn()) as idle:
        inside.execute("SELECT 1")
        idle.execute("SELECT 1")
        idle.commit()
        before, version = backends(pg), proxy.ctl("status")["snapshot"]
        hup(proxy)
        assert proxy.ctl("reload") == {"snapshot": version, "changes": []}
        edit(proxy, "idle_client_timeout = 1800", "idle_client_timeout = 1700") if "idle_client_timeout" in (
            proxy.config_path.read_text()
        ) else edit(proxy, "require_tls = false", "require_tls = false\nidle_client_timeout = 1700")
        assert proxy.ctl("reload")["changes"]
        inside.execute("SELECT 2")
        inside.commit()
        idle.execute("SELECT 3")
        idle.commit()
        assert backends(pg) == before


def test_a_changed_password_replaces_server_connections_as_they_come_free(pg: Postgres) -> None:
    pg.sql("DROP ROLE IF EXISTS changes", "CREATE ROLE changes LOGIN PASSWORD 'old'")
    with (
        ProxyUnderTest(pg, users=[("changes", "old")]) as proxy,
        psycopg.connect(proxy.dsn(), autocommit=True) as client,
        psycopg.connect(proxy.dsn()) as inside,
    ):
        inside.execute("SELECT 1")
        client.execute("SELECT 1")
        before = backends(pg, "changes")
        pg.sql("ALTER ROLE changes PASSWORD 'new'")
        (proxy.folder / "changes.json").write_text(json.dumps({"username": "changes", "password": "new"}))
        assert proxy.ctl("reload")["changes"]
        inside.execute("SELECT 2")  # its transaction goes on where it began
        inside.commit()
        inside.execute("SELECT 3")
        inside.commit()
        client.execute("SELECT 4")
        with psycopg.connect(proxy.dsn(password="new"), autocommit=True) as fresh:
            fresh.execute("SELECT 5")
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(proxy.dsn(password="old"))
        wait_until(lambda: not backends(pg, "changes") & before, what="connections of the old password gone")
    pg.sql("DROP ROLE changes")


def test_endpoints_come_and_go(pg: Postgres) -> None:
    second = free_port()
    with ProxyUnderTest(pg) as proxy, psycopg.connect(proxy.dsn(), autocommit=True) as stays:
        stays.execute("SELECT 1")
        before = backends(pg)
        standard = proxy.config_path.read_text()
        endpoint = f'\n[[proxy.endpoint]]\nname = "more"\ntarget_role = "READ_WRITE"\nlisten = "127.0.0.1:{second}"\n'
        proxy.config_path.write_text(standard + endpoint)
        hup(proxy)
        with FakeClient("127.0.0.1", second).login() as guest:
            assert guest.ask("SELECT 1")[1].values == [b"1"]
            assert [e["endpoint"] for e in proxy.ctl("status")["endpoints"]] == ["default", "more"]
            proxy.config_path.write_text(standard)
            hup(proxy)
            error = guest.expect("ErrorResponse")[0].fields
            assert (error["S"], error["C"][:2]) == ("FATAL", "57")
            assert guest.at_end()
        with pytest.raises(ConnectionRefusedError):
            FakeClient("127.0.0.1", second)
        stays.execute("SELECT 2")
        assert backends(pg) >= before, "what did not change was touched"


def limited(proxy: ProxyUnderTest, was: int, limit: int) -> None:
    edit(proxy, f"max_connections = {was}", f"max_connections = {limit}")
    hup(proxy)
    assert proxy.ctl("status")["targets"][0]["limit"] == limit


def test_a_lower_limit_closes_connections_and_a_higher_one_opens_them(pg: Postgres) -> None:
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": 8}) as proxy:
        with Load(proxy, clients=30, seed=5) as load:
            load.wait_for_progress(3)
            wait_until(lambda: pg.connections() >= 7, what="8 connections")
            limited(proxy, 8, 3)
            wait_until(lambda: pg.connections() <= 3, what="no more than 3")
            end = time.monotonic() + 1
            while time.monotonic() < end:
                assert pg.connections() <= 3
            load.wait_for_progress(3)
            limited(proxy, 3, 12)
            wait_until(lambda: pg.connections() > 3, what="more than 3")
            load.wait_for_progress(3)
        assert not load.failures, "\n".join(map(str, load.failures[:5]))
        load.audit(pg)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("max_connections = 20", "max_connections = 'many'", "max_connections"),
        ("[proxy.target_group]", "[proxy.target_group", "line"),
        ("apppw", "", ""),
    ],
    ids=["value", "syntax", "secret"],
)
def test_a_broken_file_keeps_the_old_configuration_and_says_why(pg: Postgres, old: str, new: str, why: str) -> None:
    with ProxyUnderTest(pg) as proxy, psycopg.connect(proxy.dsn(), autocommit=True) as client:
        client.execute("SELECT 1")
        before = backends(pg)
        if old == "apppw":
            (proxy.folder / "app.json").unlink()
            why = "app.json"
        else:
            edit(proxy, old, new)
        with pytest.raises(RuntimeError, match=why):
            proxy.ctl("reload")
        proxy.signal(signal.SIGHUP)
        proxy.wait_for_log("reload refused, the old configuration stays in force")
        assert why in proxy.log()
        client.execute("SELECT 2")
        with psycopg.connect(proxy.dsn(), autocommit=True) as fresh:
            fresh.execute("SELECT 3")
        assert backends(pg) >= before
        assert proxy.ctl("status")["state"] == "ready"


def test_an_address_in_use_is_refused_as_a_whole(pg: Postgres) -> None:
    """The file is fine, a worker is not: nothing of the file comes into force, not even its limits."""
    with socket.create_server(("127.0.0.1", 0)) as taken, ProxyUnderTest(pg) as proxy:
        port = taken.getsockname()[1]
        endpoint = f'\n[[proxy.endpoint]]\nname = "more"\ntarget_role = "READ_WRITE"\nlisten = "127.0.0.1:{port}"\n'
        edit(proxy, "max_connections = 20", "max_connections = 7")
        proxy.config_path.write_text(proxy.config_path.read_text() + endpoint)
        with FakeClient(proxy.host, proxy.port).login() as client:
            client.ask("SELECT 1")
            with pytest.raises(RuntimeError, match=f"{port}"):
                proxy.ctl("reload")
            status = proxy.ctl("status")
            assert [e["endpoint"] for e in status["endpoints"]] == ["default"]
            assert status["targets"][0]["limit"] == 20
            assert client.ask("SELECT 1")[-1].name == "ReadyForQuery"


# ---------------------------------------------------------------- starting


def start(proxy: ProxyUnderTest, *words: str) -> subprocess.CompletedProcess[str]:
    command = [*proxy.command, "serve", "-c", str(proxy.config_path), *words]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=15, env=proxy.environment)


def test_a_second_instance_on_the_same_run_directory_is_refused(pg: Postgres) -> None:
    with ProxyUnderTest(pg) as proxy, FakeClient(proxy.host, proxy.port).login() as client:
        begun = time.monotonic()
        second = ProxyUnderTest(pg)
        done = start(second, "--run-dir", str(proxy.run_dir))
        second._remove()
        assert done.returncode == 78
        errors = [line for line in done.stderr.splitlines() if "[FATAL]" in line and "another proxy serves" in line]
        assert len(errors) == 1, done.stderr
        assert time.monotonic() - begun < 10
        # the first one has noticed nothing
        assert client.ask("SELECT 1")[-1].name == "ReadyForQuery"
        assert proxy.ctl("status")["state"] == "ready"
        with FakeClient(proxy.host, proxy.port).login() as another:
            another.send(query("SELECT 1"))
            another.read_until("ReadyForQuery")


@pytest.mark.parametrize("who", ["stranger", "another proxy"])
def test_a_port_in_use_ends_the_start_with_one_clear_error(pg: Postgres, who: str) -> None:
    """Another proxy's listeners would let us listen beside them (SO_REUSEPORT), and each would get half the clients."""
    with contextlib.ExitStack() as stack:
        if who == "stranger":
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        else:
            taken = stack.enter_context(ProxyUnderTest(pg)).port
        proxy = ProxyUnderTest(pg, workers=4, endpoints=[{"listen": f"127.0.0.1:{taken}"}])
        stack.callback(proxy._remove)
        done = start(proxy)
        assert done.returncode == 78
        assert "ready" not in done.stdout
        errors = [line for line in done.stderr.splitlines() if "[INFO]" not in line and "[supervisor]" not in line]
        assert len(errors) == 1, done.stderr
        assert f"cannot listen on 127.0.0.1 port {taken}: Address already in use" in errors[0]
        assert "starting again" not in done.stderr, done.stderr
