"""What passes through stays the server's own: refusals, last words, parameters. Each client has its own settings."""

from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from tests.harness.messages import Message, query, startup
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient

BOTH = 24  # connections after which both workers have had some, for all practical purposes


def worker(conn: psycopg.Connection) -> int:
    """Which worker a client is on: the pid it was told names it."""
    return conn.info.backend_pid % 128


def on_worker(proxy: ProxyUnderTest, wanted: Callable[[int], bool], **more: str) -> psycopg.Connection:
    """A connection on a worker for which `wanted` holds; the kernel deals them out."""
    for _ in range(200):
        conn = psycopg.connect(proxy.dsn(**more), autocommit=True)
        if wanted(worker(conn)):
            return conn
        conn.close()
    raise AssertionError("200 connections, none on the wanted worker")


def refusal(dsn: str) -> tuple[object, ...]:
    with pytest.raises(psycopg.OperationalError) as refused:
        psycopg.connect(dsn)
    text = str(refused.value)
    return text[text.index("FATAL") :], refused.value.sqlstate


def refused_fields(host: str, port: int, **login: str) -> dict[str, str]:
    """The ErrorResponse that a login gets, field by field."""
    client = FakeClient(host, port)
    seen: dict[str, str] = {}
    real = client._read_login

    def read() -> object:
        m = client.read()
        if m.name == "ErrorResponse":
            seen.update(m.fields)
        client.pending = m.raw + client.pending
        return real()

    client._read_login = read  # type: ignore[method-assign, assignment]
    with client, pytest.raises(ConnectionRefusedError):
        client.login(**login)
    return seen


@pytest.mark.parametrize(
    "login",
    [
        {"database": "no_such_database"},
        {"no_such_setting": "1"},
        {"work_mem": "plenty"},
        {"default_transaction_isolation": "none"},
        {"options": "-c datestyle=never"},
        {"options": "-c no_such_setting=1"},
        {"options": "--work-mem=plenty"},
        {"shared_buffers": "1GB"},
        {"client_encoding": "EBCDIC"},
        {"session_authorization": "postgres"},
    ],
    ids=str,
)
def test_a_refusal_by_the_database_reaches_the_client_verbatim(
    login: dict[str, str], pg: Postgres, proxy: ProxyUnderTest
) -> None:
    direct = refused_fields(pg.host, pg.port, **login)
    assert direct["S"] == "FATAL"
    for _ in range(2):
        assert refused_fields(proxy.host, proxy.port, **login) == direct


def test_a_wrong_password_is_28p01(proxy: ProxyUnderTest) -> None:
    fields = refused_fields(proxy.host, proxy.port, password="wrong")
    assert (fields["C"], fields["S"], fields["V"]) == ("28P01", "FATAL", "FATAL")
    with psycopg.connect(proxy.dsn()):
        pass


def test_the_servers_last_words_are_its_own(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """57P01 by pg_terminate_backend on itself, 25P03 by a timeout, 57P01 by another: the same bytes as direct."""

    def words(host: str, port: int, way: str) -> list[tuple[str, object]]:
        settings = {"idle_in_transaction_session_timeout": "100"} if way == "timeout" else {}
        with FakeClient(host, port).login(application_name=way, **settings) as client:
            if way == "itself":
                client.send(query("select 1; select pg_terminate_backend(pg_backend_pid())"))
            else:
                client.ask("begin")
            if way == "administrator":
                pg.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where application_name = '{way}'")
            return [(m.name, m.body) for m in _until_end(client)]

    for way in ("itself", "timeout", "administrator"):
        told = words(pg.host, pg.port, way)
        assert told[-1][0] == "ErrorResponse"
        assert words(proxy.host, proxy.port, way) == told


def _until_end(client: FakeClient) -> list[Message]:
    got: list[Message] = []
    try:
        while True:
            got.append(client.read())
    except (EOFError, ConnectionError):
        return got


def test_every_parameter_is_as_the_server_names_it(pg: Postgres, proxy: ProxyUnderTest) -> None:
    for settings in (
        {},
        {"application_name": "me", "TimeZone": "Asia/Tokyo", "DateStyle": "German", "client_encoding": "LATIN1"},
    ):
        with (
            FakeClient(pg.host, pg.port).login(**settings) as direct,
            FakeClient(proxy.host, proxy.port).login(**settings) as through,
        ):
            assert through.parameters == direct.parameters
            assert through.ask("set intervalstyle = 'iso_8601'") == direct.ask("set intervalstyle = 'iso_8601'")


STARTUP_SETTINGS = [
    {"search_path": "pg_catalog,public"},
    {"work_mem": "5MB"},
    {"statement_timeout": "12345"},
    {"default_transaction_read_only": "on"},
    {"my.own_setting": "any value; with 'quotes'"},
    {"options": r"-c my.own_setting=a\ b,c -c work_mem=6MB"},
    {"options": "--statement-timeout=777 -clock_timeout=5s"},
    {"extra_float_digits": "0", "geqo": "off"},
    {"application_name": "name of its own"},
    {"timezone": "America/New_York", "datestyle": "SQL, DMY"},
    {},
]


def test_startup_settings_are_honoured_and_never_shared(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """All clients at once, interleaved over two workers: each sees what a direct connection with its settings sees."""
    asked = [
        "search_path",
        "work_mem",
        "statement_timeout",
        "lock_timeout",
        "default_transaction_read_only",
        "extra_float_digits",
        "geqo",
        "application_name",
        "TimeZone",
        "DateStyle",
    ]
    query = (
        "select "
        + ", ".join(f"current_setting('{name}')" for name in asked)
        # null before anybody set it and '' afterwards: also on a direct connection, for which "anybody" is this session
        + ", nullif(current_setting('my.own_setting', true), '')"
    )
    expected = []
    for settings in STARTUP_SETTINGS:
        with FakeClient(pg.host, pg.port).login(**settings) as direct:
            expected.append((direct.parameters, direct.ask(query)))
    clients = [FakeClient(proxy.host, proxy.port).login(**settings) for settings in STARTUP_SETTINGS * 3]
    try:
        assert len({client.pid % 128 for client in clients}) == 2, "both workers"
        for _ in range(3):
            for client, (parameters, answer) in zip(clients, expected * 3, strict=True):
                assert client.parameters == parameters
                assert client.ask(query) == answer
    finally:
        for client in clients:
            client.close()


def test_settings_in_a_connection_string(pg: Postgres, proxy: ProxyUnderTest) -> None:
    for more in (
        {"options": r"'-c search_path=one,two -c my.x=a\\ b'"},
        {"options": "'-c geqo=off --work_mem=9MB'", "application_name": "app"},
        {"client_encoding": "latin1"},
    ):
        found = []
        for side in (pg, proxy):
            with psycopg.connect(side.dsn(**more)) as conn:
                # where a setting comes from differs: 'client' there, 'session' here
                mine = "('search_path', 'my.x', 'geqo', 'work_mem', 'application_name', 'client_encoding')"
                rows = conn.execute(f"select name, setting from pg_settings where name in {mine}").fetchall()
                rows += conn.execute("select 'my.x', nullif(current_setting('my.x', true), '')").fetchall()
                found.append((sorted(rows), conn.info.encoding, conn.execute("show search_path").fetchone()))
        assert found[0] == found[1]


def test_a_notification_carries_the_pid_the_client_knows_as_its_own(proxy: ProxyUnderTest) -> None:
    for _ in range(BOTH // 8):
        with psycopg.connect(proxy.dsn(), autocommit=True) as one, psycopg.connect(proxy.dsn(), autocommit=True) as two:
            one.execute("listen ch")
            one.execute("notify ch, 'own'")
            two.execute("notify ch, 'other'")
            notes = {n.payload: n.pid for n in one.notifies(timeout=5, stop_after=2)}
            assert notes["own"] == one.info.backend_pid
            assert notes["other"] != one.info.backend_pid


def test_drop_database_goes_through_idle_pooled_connections(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """Both workers hold idle connections to it. Dropped through the proxy, it is gone as if nobody had been there."""
    with psycopg.connect(proxy.dsn(), autocommit=True) as admin:
        statements = ("drop database {}", 'DROP  DATABASE /* x */ IF EXISTS "{}"', "drop database {} with (force)")
        for number, statement in enumerate(statements):
            name = f"doomed{number}"
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            clients = [psycopg.connect(proxy.dsn(database=name)) for _ in range(BOTH)]
            assert len({worker(client) for client in clients}) == 2
            for client in clients:
                client.execute("select 1")
                client.rollback()
            assert int(pg.sql(f"select count(*) from pg_stat_activity where datname = '{name}'")) >= 2
            for client in clients:
                client.close()
            admin.execute(statement.format(name))
            assert pg.sql(f"select count(*) from pg_database where datname = '{name}'") == "0"
            with pytest.raises(psycopg.OperationalError, match=f'database "{name}" does not exist'):
                psycopg.connect(proxy.dsn(database=name)).execute("select 1")


def test_drop_database_waits_for_what_is_being_cleaned_up(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """Clients leave in the middle of transactions; their connections are rolled back while the DROP already runs."""
    with psycopg.connect(proxy.dsn(), autocommit=True) as admin:
        for number in range(4):
            name = f"left{number}"
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
            clients = [psycopg.connect(proxy.dsn(database=name)) for _ in range(6)]
            for client in clients:
                client.execute("select pg_sleep(0.01)")
            for client in clients:
                client.close()
            admin.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))


def test_a_database_can_be_used_as_soon_as_it_is_there(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """Missed, created, used within a moment: what migration tools do."""
    for n in range(3):
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(proxy.dsn(database="late"))
        with psycopg.connect(proxy.dsn(), autocommit=True) as admin:
            admin.execute("create database late")
            with psycopg.connect(proxy.dsn(database="late")) as conn:
                assert conn.execute("select %s", [n]).fetchone() == (n,)
            admin.execute("drop database late")


def test_create_database_from_a_template_with_idle_pooled_connections(proxy: ProxyUnderTest) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as admin:
        admin.execute("create database mould")
        try:
            for conn in [psycopg.connect(proxy.dsn(database="mould")) for _ in range(BOTH // 2)]:
                conn.execute("select 1")
                conn.close()
            admin.execute("create database cast_of_it template mould")
            admin.execute("drop database cast_of_it")
            for conn in [psycopg.connect(proxy.dsn(database="mould")) for _ in range(BOTH // 2)]:
                conn.execute("select 1")
                conn.close()
            admin.execute("alter database mould rename to mould2")
            admin.execute("alter database mould2 rename to mould")
        finally:
            admin.execute("drop database mould with (force)")


def test_a_session_in_use_still_blocks_drop_database(pg: Postgres, proxy: ProxyUnderTest) -> None:
    with psycopg.connect(proxy.dsn(), autocommit=True) as admin:
        admin.execute("create database used")
        with psycopg.connect(proxy.dsn(database="used")) as user:
            user.execute("select 1")  # a transaction is open
            with pytest.raises(psycopg.errors.ObjectInUse, match="1 other session"):
                admin.execute("drop database used")
            assert user.execute("select 2").fetchone() == (2,)
        admin.execute("drop database used")


def test_the_server_restarts_and_clients_that_were_idle_notice_nothing(pg: Postgres) -> None:
    """They hold no server connection; the next query gets a new one."""
    with Postgres() as own, ProxyUnderTest(own) as proxy, psycopg.connect(proxy.dsn(), autocommit=True) as conn:
        for _ in range(2):
            assert conn.execute("select 1").fetchone() == (1,)
            own.restart()
        assert conn.execute("select 2").fetchone() == (2,)
        wait_until(lambda: proxy.server_connections() == 1)


def test_the_database_defaults_to_the_user(proxy: ProxyUnderTest) -> None:
    fields = refused_fields(proxy.host, proxy.port, database="")
    assert fields["C"] == "3D000"
    assert fields["M"] == 'database "app" does not exist'
    with FakeClient(proxy.host, proxy.port) as client:
        client.send(startup("app", None))
        assert client.read().name == "Authentication"


@pytest.mark.edge_case(48)
def test_ec48_settings_that_cannot_be_had_any_more_end_the_session(pg: Postgres) -> None:
    """A role is revoked while its client rests: nothing of it runs under another one, and the log says why."""
    pg.sql("drop role if exists passing", "create role passing", "grant passing to app")
    try:
        with ProxyUnderTest(pg, workers=1, alone=False, target_group={"max_connections": 1}) as proxy:
            conn = psycopg.connect(proxy.dsn(), autocommit=True)
            other = psycopg.connect(proxy.dsn(), autocommit=True)
            conn.execute("set role passing")
            assert other.execute("select current_user").fetchone() == ("app",), "on the same database connection"
            assert conn.execute("select current_user").fetchone() == ("passing",)
            other.execute("select 1")
            pg.sql("revoke passing from app")
            with pytest.raises(psycopg.OperationalError, match="could not be restored"):
                conn.execute("create table should_not_be (a int)")
            assert conn.closed
            assert other.execute("select to_regclass('should_not_be'), current_user").fetchone() == (None, "app")
            proxy.wait_for_log("were refused on another database connection")
            proxy.wait_for_log("permission denied to set role")
            conn.close()
            other.close()
    finally:
        pg.sql("drop role passing")
