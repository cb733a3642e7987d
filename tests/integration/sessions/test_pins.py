"""Pins through a whole proxy with one database connection: they begin, tell of themselves, and end with their cause.

That one has ended is seen by a neighbour, who gets no connection as long as it lasts.
"""

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.integration.sessions import scenery

AUDIT_AFTER_S = 0.3
NPGSQL_RESET = (
    "set session authorization default;reset all;close all;unlisten *;select pg_advisory_unlock_all();"
    "discard sequences;discard temp"
)


@pytest.fixture(scope="module")
def proxy(server: Postgres) -> Iterator[ProxyUnderTest]:
    group = {"max_connections": 1, "connection_borrow_timeout": 5, "pin_audit_after": AUDIT_AFTER_S}
    with ProxyUnderTest(server, workers=1, users=scenery.USERS, target_group=group, alone=False) as proxy:
        yield proxy


def connect(proxy: ProxyUnderTest) -> psycopg.Connection:
    return psycopg.connect(proxy.dsn(), autocommit=True, connect_timeout=10)


def goes_on(proxy: ProxyUnderTest) -> None:
    """Somebody else gets the one connection, and meets nothing there."""
    with connect(proxy) as other:
        assert other.execute(
            "select not exists (select from pg_class where relnamespace = pg_my_temp_schema()),"
            " (select count(*) from pg_listening_channels()), (select count(*) from pg_cursors where is_holdable),"
            " (select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),"
            " (select count(*) from pg_prepared_statements where from_sql)"
        ).fetchone() == (True, 0, 0, 0, 0)


# what pins, what ends it, and the reason
ENDED_BY_TEXT = {
    "UNLISTEN": (["listen a"], ["unlisten a"], "listen"),
    "unlock": (["select pg_advisory_lock(1)"], ["select pg_advisory_unlock(1)"], "advisory_lock"),
    "unlock in a transaction": (
        ["select pg_try_advisory_lock(1)"],
        ["begin", "select pg_advisory_unlock(1)", "commit"],
        "advisory_lock",
    ),
    "the second unlock": (
        ["select pg_advisory_lock(1), pg_advisory_lock(1)"],
        ["select pg_advisory_unlock(1)", "select pg_advisory_unlock(1)"],
        "advisory_lock",
    ),
    "DROP": (["create temp table mine (n int)"], ["drop table mine"], "temporary_object"),
    "ON COMMIT DROP": (["begin", "create temp table mine on commit drop as select 1"], ["commit"], "temporary_object"),
    "CLOSE": (["begin", "declare c cursor with hold for select 1", "commit"], ["close c"], "cursor"),
    "DEALLOCATE": (["prepare p as select 1", "execute p"], ["deallocate p"], "prepared_sql"),
    "DISCARD ALL": (["listen a", "create temp table mine (n int)"], ["discard all"], "listen"),
    "DISCARD TEMP": (["create temp table mine (n int)"], ["discard temp"], "temporary_object"),
    "DISCARD SEQUENCES": (
        ["begin", "create sequence s1.seq", "select nextval('s1.seq')", "rollback"],
        ["discard sequences"],
        "sequence",
    ),
    "asyncpg's reset": (
        ["listen a", "select pg_advisory_lock(1)", "begin", "declare c cursor with hold for select 1", "commit"],
        ["select pg_advisory_unlock_all();\nclose all;\nunlisten *;\nreset all;"],
        "listen",
    ),
    "Npgsql's reset": (
        ["listen a", "create temp table mine (n int)", "select pg_advisory_lock(1)"],
        [NPGSQL_RESET],
        "listen",
    ),
}


@pytest.fixture(autouse=True)
def may_create(server: Postgres) -> None:
    server.sql("grant create on schema s1 to app")


@pytest.mark.edge_case(28, 51, 52)
@pytest.mark.parametrize("what", ENDED_BY_TEXT)
def test_a_pin_ends_with_its_cause(what: str, proxy: ProxyUnderTest) -> None:
    begin, end, reason = ENDED_BY_TEXT[what]
    with connect(proxy) as client:
        for statement in begin:
            client.execute(statement)
        (pin,) = proxy.ctl("pins")
        assert reason in pin["reasons"]
        assert pin["user"] == "app" and pin["database"] == "test" and pin["proxy"] == "test"
        for statement in end:
            client.execute(statement)
        wait_until(lambda: not proxy.ctl("pins"), 5, "it is pinned no longer")
        goes_on(proxy)
        assert client.execute("select 1").fetchone() == (1,)


@pytest.mark.edge_case(52)
@pytest.mark.parametrize(
    "texts",
    [
        ["set search_path = 'pg_temp'", "create table hidden (n int)"],
        ["set search_path = E'\\x70g_temp'", "create table hidden (n int)"],
        ["set search_path = 'pg_temp', s1; create table hidden (n int); set search_path = s1"],
        ["select set_config('search_path', 'pg_' || 'temp', false)", "create table hidden (n int)"],
        ["begin", "set local search_path to 'pg_temp'", "create table hidden (n int)", "commit"],
        ["begin", "select set_config('search_path', 'pg_temp,s1', true)", "select 1 as n into hidden", "commit"],
        ["set schema 'pg_temp'", "create view hidden as select 1 as n"],
    ],
)
def test_a_temporary_table_that_does_not_say_so(texts: list[str], proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        for text in texts:
            client.execute(text.encode())
        (pin,) = proxy.ctl("pins")
        assert pin["reasons"] == ["temporary_object"]
        assert client.execute("select count(*) from pg_temp.hidden").fetchone() is not None
    goes_on(proxy)


@pytest.mark.edge_case(52)
def test_the_temporary_schema_by_startup_packet(proxy: ProxyUnderTest) -> None:
    with psycopg.connect(proxy.dsn(options="-csearch_path=pg_temp"), autocommit=True) as client:
        client.execute("create table hidden (n int)")
        assert [pin["reasons"] for pin in proxy.ctl("pins")] == [["temporary_object"]]
    goes_on(proxy)


@pytest.mark.edge_case(28)
def test_a_pin_whose_cause_a_function_takes_away_ends_after_a_rest(server: Postgres, proxy: ProxyUnderTest) -> None:
    server.sql(
        "create or replace function s1.tidy() returns void language plpgsql as"
        " $$ begin drop table pg_temp.mine; perform set_config('work_mem', '3MB', false); end $$"
    )
    with connect(proxy) as client:
        client.execute("create temp table mine (n int)")
        client.execute("select s1.tidy()")
        wait_until(lambda: not proxy.ctl("pins"), 5, "the server was asked")
        with connect(proxy) as other:
            assert other.execute("show work_mem").fetchone() == ("5MB",)
        assert client.execute("show work_mem").fetchone() == ("3MB",), "what the function set is the client's own"


@pytest.mark.edge_case(28)
def test_what_cannot_be_asked_for_pins_for_good(proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        client.execute("select setseed(0.5)")
        client.execute("listen a")
        client.execute("unlisten a")
        before = proxy.metrics()
        client.execute("select pg_sleep(0.1)")
        assert [set(pin["reasons"]) for pin in proxy.ctl("pins")] == [{"function", "listen"}]
        client.execute("select 1")
        wait_until(lambda: proxy.ctl("pins")[0]["held_ms"] > AUDIT_AFTER_S * 2000, 10, "it rests")
        assert [set(pin["reasons"]) for pin in proxy.ctl("pins")] == [{"function", "listen"}]
        after = proxy.metrics()
        audits = [name for name in after if "pin_audits" in name]
        assert audits and all(after[name] == before[name] for name in audits), "nobody asks in vain"


def test_a_pin_tells_of_itself(proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        client.execute("select pg_advisory_lock(4711), 'secret'")
        client.execute("listen a")
        (pin,) = proxy.ctl("pins")
        assert "pg_advisory_lock" in pin["digest"] and "$2" in pin["digest"]
        assert "4711" not in pin["digest"] and "secret" not in pin["digest"]
        assert pin["reasons"] == ["listen", "advisory_lock"]
        assert pin["id"] == client.info.backend_pid
        assert pin["pid"] == client.execute("select pg_backend_pid()").fetchone()[0]  # type: ignore[index]
        proxy.wait_for_log("The client session was pinned to the database connection")
        proxy.wait_for_log("[pinReason=advisory_lock]")
        wait_until(lambda: proxy.ctl("pins")[0]["held_ms"] > 0, 5, "its rest is counted")
        assert "4711" not in proxy.log(0)
    wait_until(lambda: not proxy.ctl("pins"), 5, "its end")


@pytest.fixture(scope="module")
def strict(server: Postgres) -> Iterator[ProxyUnderTest]:
    group = {
        "max_connections": 1,
        "connection_borrow_timeout": 5,
        "pin_policy": {"listen": "refuse", "advisory_lock": "refuse", "setting": "refuse", "sequence": "ignore"},
    }
    with ProxyUnderTest(server, workers=1, users=scenery.USERS, target_group=group, alone=False) as proxy:
        yield proxy


def test_what_pin_policy_refuses(strict: ProxyUnderTest) -> None:
    with connect(strict) as client:
        for statement in (
            "listen a",
            "select pg_advisory_lock(1)",
            "select 1; listen a",
            "select set_config(name, setting, false) from pg_settings where name = 'work_mem'",
        ):
            for parameters in (None, ()) if ";" not in statement else (None,):
                with pytest.raises(psycopg.errors.FeatureNotSupported, match="bind the session") as refused:
                    client.execute(statement.encode(), parameters, prepare=parameters is not None)
                assert "pin_policy" in (refused.value.diag.message_hint or "")
        with client.transaction():
            client.execute("create temp table if not exists mine (n int) on commit drop")
            with pytest.raises(psycopg.errors.FeatureNotSupported), client.transaction():
                client.execute("select pg_try_advisory_lock(%s)", (1,))
            assert client.execute("select 1").fetchone() == (1,)
        client.execute("set work_mem = '3MB'")
        wait_until(lambda: not strict.ctl("pins"), 5, "nothing pins")
        goes_on(strict)


def test_what_pin_policy_ignores(strict: ProxyUnderTest, server: Postgres) -> None:
    server.sql("create sequence s1.policy", "grant usage on s1.policy to app")
    with connect(strict) as client:
        assert client.execute("select nextval('s1.policy')").fetchone() == (1,)
        assert strict.ctl("pins") == []
        goes_on(strict)
        ignored = [value for name, value in strict.metrics().items() if "pins_ignored" in name and "sequence" in name]
        assert sum(ignored) == 1
