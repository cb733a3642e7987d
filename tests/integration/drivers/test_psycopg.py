"""psycopg 3, synchronous: types, errors, cursors, transactions, prepared statements, notices, COPY."""

import datetime as dt
import io
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import ClientCursor, sql
from psycopg.rows import dict_row, namedtuple_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

from tests.integration.drivers.sides import Say, Script, Side, Sides


def failure(error: psycopg.Error) -> str:
    d = error.diag
    told = (
        d.sqlstate,
        d.severity,
        d.message_primary,
        d.message_detail,
        d.message_hint,
        d.statement_position,
        d.context,
    )
    return f"{type(error).__name__} {told} {(d.schema_name, d.table_name, d.column_name, d.constraint_name)}"


def attempt(say: Say, conn: psycopg.Connection, query: str, *args: Any, **more: Any) -> None:
    """The rows or the error, and the transaction's state afterwards."""
    try:
        cur = conn.execute(query, *args, **more)
        say(cur.statusmessage, cur.fetchall() if cur.description else "", conn.info.transaction_status.name)
    except psycopg.Error as error:
        say(failure(error), conn.info.transaction_status.name)


def connection_facts(say: Say, side: Side) -> None:
    """What the login tells: every ParameterStatus, in the server's order, and the protocol's version."""
    with psycopg.connect(side.dsn()) as conn:
        info = conn.info
        say(info.server_version, info.encoding, info.timezone, info.user, info.dbname, info.transaction_status)
        names = (
            "server_version server_encoding client_encoding application_name default_transaction_read_only "
            "in_hot_standby is_superuser session_authorization DateStyle IntervalStyle TimeZone integer_datetimes "
            "standard_conforming_strings scram_iterations search_path"
        )
        for name in names.split():
            say(name, info.parameter_status(name))
        say(conn.pgconn.ssl_in_use, conn.pgconn.used_password, conn.pgconn.needs_password)
        say(getattr(conn.pgconn, "full_protocol_version", None))


def types(say: Say, side: Side) -> None:
    values = [
        True, 0, -1, 2**31, 2**63 - 1, Decimal("12345678901234567890.123"), 1.5, float("nan"), "", "tëxt ☃ '\\\"", b"",
        bytes(range(256)), dt.date(2026, 11, 22), dt.datetime(2026, 11, 22, 1, 2, 3, 4),  # noqa: DTZ001
        dt.timedelta(days=3, seconds=5),
        dt.datetime(2026, 11, 22, 1, 2, tzinfo=dt.UTC), UUID(int=77), [1, 2, None], [["a", "b"], ["c,}", '"']], None,
        Jsonb({"k": [1, None, "ü"]}), Range(1, 5), dt.time(23, 59, 59),
    ]  # fmt: skip
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        for binary in (False, True):
            for value in values:
                cur = conn.execute("select %s", [value], binary=binary)
                assert cur.description is not None
                say(binary, cur.description[0].type_display, cur.fetchone())
        with conn.cursor(row_factory=dict_row) as cur2:
            say(cur2.execute("select 1 as a, 'x' as b").fetchall())
        with conn.cursor(row_factory=namedtuple_row) as cur3:
            say(cur3.execute("select 1 as a, 'x' as b").fetchone())
        say(ClientCursor(conn).execute("select %s, %s; select %s", ["a'b", [1, 2], 3]).fetchall())
        big = "x" * 3_000_000
        row = conn.execute("select %s, length(%s)", [big, big]).fetchone()
        say(row is not None and row[0] == big and row[1])
        say(conn.execute("select repeat('z', 20000000)").fetchall() == [("z" * 20_000_000,)])
        say(len(conn.execute("select g, repeat('r', 90) from generate_series(1, 30000) g").fetchall()))
        many = conn.execute(sql.SQL("select {}").format(sql.SQL(", ").join(sql.Literal(n) for n in range(1600))))
        say(sum(many.fetchone() or ()))


def errors(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn()) as conn:
        attempt(say, conn, "create table e (id int primary key, n int not null check (n > 0))")
        conn.commit()
        for query in (
            "selec", "select 1/0", "select %s::int", "insert into e values (1, 0)", "insert into e values (1, null)",
            "insert into e values (1, 1), (1, 1)", "select * from none", "select none from e", "select f(1)",
            "do $$ begin raise exception using message = 'm', detail = 'd', hint = 'h', errcode = '22012'; end $$",
        ):  # fmt: skip
            attempt(say, conn, query, ["x"] if "%s" in query else None)
            attempt(say, conn, "select 'in error'")
            conn.rollback()
        attempt(say, conn, "select 1; select 2; select 1/0; select 3")
        conn.rollback()
        attempt(say, conn, "commit")
        attempt(say, conn, "select 'alive'")


def notices(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(options="-c client_min_messages=debug1"), autocommit=True) as conn:
        conn.add_notice_handler(lambda d: say(d.severity, d.sqlstate, d.message_primary, d.message_detail))
        conn.execute("drop table if exists never")
        conn.execute("do $$ begin raise notice 'n'; raise warning 'w' using detail = 'd'; raise debug 'x'; end $$")
        conn.execute("do $$ begin for i in 1..300 loop raise notice 'n%', i; end loop; end $$")
        say(conn.execute("select 1").fetchone())


def cursors(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn()) as conn:
        with conn.cursor("named", scrollable=True) as cur:
            cur.itersize = 7
            cur.execute("select g, %s from generate_series(1, 30) g", ["p"])
            say(cur.fetchone(), cur.fetchmany(5), cur.rownumber)
            cur.scroll(-3)
            say(cur.fetchone())
            cur.scroll(25, mode="absolute")
            say(cur.fetchall())
        with conn.cursor("bin") as cur:
            cur.execute("select g, g::numeric / 7 from generate_series(1, 5) g", binary=True)
            say(list(cur))
        conn.commit()
        with conn.cursor("held", withhold=True) as cur:
            cur.execute("select generate_series(1, 10)")
            conn.commit()
            say(cur.fetchmany(4))
            say(conn.execute("select 'between'").fetchone())
            conn.commit()
            say(cur.fetchall())
        conn.commit()
        say(sum(row[0] for row in conn.cursor().stream("select generate_series(1, 5000)")))
        if psycopg.pq.version() >= 170000:
            say(sum(row[0] for row in conn.cursor().stream("select generate_series(1, 5000)", size=64)))
        conn.execute("declare c cursor for select generate_series(1, 3)")
        say(conn.execute("fetch 2 from c").fetchall(), conn.execute("move 1 c").statusmessage)
        try:
            list(conn.cursor().stream("select 10 / (3 - g) from generate_series(1, 5) g"))
        except psycopg.Error as error:
            say(failure(error))


def transactions(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        conn.execute("create table t (n int)")
        with conn.transaction():
            conn.execute("insert into t values (1)")
            try:
                with conn.transaction("inner"):
                    conn.execute("insert into t values (2)")
                    conn.execute("select 1/0")
            except psycopg.errors.DivisionByZero as error:
                say(failure(error))
            with conn.transaction(force_rollback=True):
                conn.execute("insert into t values (3)")
        say(conn.execute("table t").fetchall())
    for level in psycopg.IsolationLevel:
        with psycopg.connect(side.dsn()) as conn:
            conn.isolation_level = level
            conn.read_only = True
            conn.deferrable = True
            say(
                conn.execute("show transaction_isolation").fetchone(),
                conn.execute("show transaction_deferrable").fetchone(),
            )
            attempt(say, conn, "insert into t values (9)")
            conn.rollback()
    one, two = psycopg.connect(side.dsn()), psycopg.connect(side.dsn())
    with one, two:
        one.isolation_level = two.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        for conn in (one, two):
            say(conn.execute("select count(*) from t").fetchone())
        for conn in (one, two):
            conn.execute("insert into t values (7)")
        one.commit()
        try:
            two.commit()
        except psycopg.Error as error:
            say(type(error).__name__, error.sqlstate)


def two_phase(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn()) as conn:
        conn.execute("create table t (n int)")
        conn.commit()
        for number, finish in enumerate(("commit", "rollback")):
            conn.tpc_begin(conn.xid(1, f"gtrid{number}", "bqual"))
            conn.execute("insert into t values (%s)", [number])
            conn.tpc_prepare()
            conn.tpc_commit() if finish == "commit" else conn.tpc_rollback()
    later = psycopg.connect(side.dsn())
    later.tpc_begin(later.xid(1, "later", "bqual"))
    later.execute("insert into t values (2)")
    later.tpc_prepare()
    later.close()
    with psycopg.connect(side.dsn()) as conn:
        waiting = conn.tpc_recover()
        say([(x.gtrid, x.bqual, x.database, x.owner) for x in waiting], conn.execute("table t").fetchall())
        conn.rollback()
        conn.tpc_commit(waiting[0])
        say(conn.execute("select * from t order by 1").fetchall(), conn.tpc_recover())


def prepared(say: Say, side: Side) -> None:
    """`prepare_threshold=0` prepares at once, and beyond `prepared_max` psycopg deallocates the oldest."""
    with psycopg.connect(side.dsn(), autocommit=True, prepare_threshold=0) as conn:
        conn.prepared_max = 30
        for again in range(2):
            for n in range(130):
                cur = conn.execute(f"select %s + {n}, current_setting('application_name')", [again])
                say(n, cur.fetchone())
        say(
            len(conn.execute("select name from pg_prepared_statements where name like 'no%'", prepare=False).fetchall())
        )
        conn.execute("create table p (id int, a text)")
        conn.execute("insert into p values (%s, %s)", [1, "one"])
        say(conn.execute("select * from p where id = %s", [1]).fetchall())
        conn.execute("deallocate all")
        say(conn.execute("select * from p where id = %s", [2]).fetchall(), conn.execute("select 1").fetchone())
        with pytest.raises(psycopg.errors.UndefinedTable):
            conn.execute("select * from missing where id = %s", [1])
        conn.execute("create table missing (id int)")
        say(conn.execute("select * from missing where id = %s", [1]).fetchall())
    with psycopg.connect(side.dsn(), prepare_threshold=2) as conn:
        for n in range(6):
            say(conn.execute("select %s::text, %s::int", [f"v{n}", n], binary=n % 2 == 0).fetchone())
            if n == 3:
                conn.rollback()


def low_level(say: Say, side: Side) -> None:
    """libpq's own calls: named statements and portals, described and closed."""
    pq = psycopg.pq
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        pg = conn.pgconn

        def told(result: psycopg.pq.abc.PGresult) -> None:
            status = pq.ExecStatus(result.status).name
            say(status, result.error_message, result.ntuples, result.nfields, result.nparams, result.command_status)
            say([(result.fname(n), result.ftype(n), result.fformat(n)) for n in range(result.nfields)])
            say([[result.get_value(r, c) for c in range(result.nfields)] for r in range(min(result.ntuples, 5))])

        told(pg.prepare(b"one", b"select $1::int + 1 as n, $2::text as t", [23, 25]))
        told(pg.describe_prepared(b"one"))
        told(pg.exec_prepared(b"one", [b"41", b"x"]))
        told(pg.exec_prepared(b"one", [b"\0\0\0\x29", None], [1, 0], 1))  # type: ignore[list-item]
        told(pg.exec_prepared(b"one", [b"nan", None]))  # type: ignore[list-item]
        told(pg.exec_prepared(b"two", [b"1"]))
        told(pg.describe_prepared(b"two"))
        told(pg.prepare(b"", b"select 'unnamed', $1::text", None))
        told(pg.describe_prepared(b""))
        told(pg.exec_prepared(b"", [b"u"]))
        told(pg.exec_(b"begin; declare cur cursor for select g from generate_series(1, 3) g"))
        told(pg.describe_portal(b"cur"))
        told(pg.describe_portal(b"nocur"))
        told(pg.exec_(b"rollback"))
        if pq.version() >= 170000:
            told(pg.close_prepared(b"one"))
            told(pg.close_prepared(b"never was"))
            told(pg.close_portal(b"never was"))
        told(pg.exec_params(b"select $1::int4, $2, $3::bytea", [b"1", b"t", b"\0\xff"], [0, 25, 0], [0, 0, 1], 1))
        told(pg.exec_params(b"select 1; select 2", []))
        told(pg.exec_(b""))
        told(pg.exec_params(b"", []))
        told(pg.exec_(b"select 1; select 2"))


def executemany(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn()) as conn:
        cur = conn.execute("create table m (id int, t text)")
        cur.executemany("insert into m values (%s, %s)", [(n, f"t{n}") for n in range(500)])
        say(cur.rowcount)
        cur.executemany(
            "insert into m values (%s, %s) returning id * 2, t", [(n, "r") for n in range(20)], returning=True
        )
        while True:
            say(cur.fetchall())
            if not cur.nextset():
                break
        try:
            cur.executemany("insert into m values (%s / (10 - %s), 'x')", [(n, n) for n in range(20)])
        except psycopg.Error as error:
            say(failure(error))
        conn.rollback()
        attempt(say, conn, "table m")


def copy(say: Say, side: Side) -> None:
    rows = [(n, f"ro\tw\\{n}\n", None if n % 3 else b"\x00\xff", Decimal(n) / 7) for n in range(2000)]
    with psycopg.connect(side.dsn()) as conn:
        conn.execute("create table c (id int primary key, t text, b bytea, n numeric)")
        conn.commit()
        for form in ("text", "binary"):
            with conn.cursor().copy(f"copy c from stdin (format {form})") as into:
                if form == "binary":
                    into.set_types(["int4", "text", "bytea", "numeric"])
                for row in rows:
                    into.write_row(row)
            say(conn.execute("select count(*), sum(id), sum(n), sum(length(t)) from c").fetchone())
            with conn.cursor().copy(f"copy (select * from c order by id) to stdout (format {form})") as out:
                out.set_types(["int4", "text", "bytea", "numeric"])
                back = list(out.rows())
            say(back == rows, len(back))
            with conn.cursor().copy(f"copy (select * from c order by id limit 40) to stdout (format {form})") as out:
                say(hash_of(b"".join(out)))
            conn.execute("truncate c")
        with conn.cursor().copy("copy c (id, t) from stdin (format csv)") as into:
            for chunk in io.StringIO("".join(f"{n},{'y' * 500}\n" for n in range(20000))):
                into.write(chunk)
        say(conn.execute("select count(*), sum(length(t)) from c").fetchone())
        conn.commit()
        with conn.cursor().copy("copy c to stdout") as out:
            say(sum(len(block) for block in out))
    with psycopg.connect(side.dsn()) as conn:
        for data, what in (
            ("1\tx\n", "duplicate"),
            ("q\tx\n", "not a number"),
            ("1\n", "too few"),
            ("1\t2\t3\t4\t5\n", "too many"),
        ):
            try:
                with conn.cursor().copy("copy c from stdin") as into:
                    for _ in range(3000):
                        into.write(data)
            except psycopg.Error as error:
                say(what, type(error).__name__, error.sqlstate, error.diag.message_primary, error.diag.context)
            conn.rollback()
        try:
            with conn.cursor().copy("copy c (id) from stdin") as into:
                into.write("900000\n")
                raise ValueError("changed my mind")
        except ValueError as changed:
            say(changed, conn.info.transaction_status.name)
        except psycopg.Error as error:
            say(failure(error))
        conn.rollback()
        say(conn.execute("select count(*) from c").fetchone())
        attempt(say, conn, "copy nothing to stdout")
        conn.rollback()
        attempt(say, conn, "select count(*) from c")


def hash_of(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def settings(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        for query in (
            "set work_mem = '7MB'", "show work_mem", "set client_encoding = 'latin1'", "select 'é', octet_length('é')",
            "set datestyle = 'sql, dmy'", "select date '2026-11-22'::text", "set timezone = 'Asia/Tokyo'",
            "select timestamptz '2026-11-22 00:00Z'::text", "reset all", "show work_mem", "select 'é'", "show timezone",
            "select set_config('search_path', 'pg_catalog', false)", "show search_path", "discard all",
            "show search_path",
            "set statement_timeout = 50", "select pg_sleep(5)", "set statement_timeout = 0", "select 'still'",
        ):  # fmt: skip
            attempt(say, conn, query)
            say(conn.info.encoding, conn.info.timezone)


def notifications(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(), autocommit=True) as one, psycopg.connect(side.dsn(), autocommit=True) as two:
        one.execute("listen a")
        one.execute("listen b")
        one.execute("notify a, 'mine'")
        two.execute("notify b, 'theirs'")
        two.execute("select pg_notify('a', 'x' || g) from generate_series(1, 3) g")
        for note in one.notifies(timeout=5, stop_after=5):
            say(note.channel, note.payload, note.pid == one.info.backend_pid)
        one.execute("unlisten a")
        two.execute("notify a, 'unheard'")
        two.execute("notify b, 'heard'")
        say([(n.channel, n.payload) for n in one.notifies(timeout=5, stop_after=1)])


SCRIPTS: list[Script] = [
    connection_facts,
    types,
    errors,
    notices,
    cursors,
    transactions,
    two_phase,
    prepared,
    low_level,
    executemany,
    copy,
    settings,
    notifications,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_psycopg_prints_the_same(script: Script, sides: Sides) -> None:
    sides.same(script)
