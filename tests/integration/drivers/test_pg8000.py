"""pg8000: written in Python without libpq, it uses the unnamed statement with Flush and Sync in its own way."""

import datetime as dt
import io
import ssl
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pg8000.dbapi
import pg8000.native
import pytest

from tests.integration.drivers.sides import APPLICATION, Say, Script, Side, Sides


def words(side: Side) -> dict[str, Any]:
    return {
        "host": side.host, "port": side.port, "user": side.user, "password": side.password, "database": side.database,
        "ssl_context": ssl.create_default_context(cafile=str(side.ca)), "application_name": APPLICATION, "timeout": 20,
    }  # fmt: skip


def attempt(say: Say, conn: Any, query: str, **values: Any) -> None:
    try:
        say(conn.run(query, **values), conn.row_count)
    except pg8000.native.DatabaseError as error:
        say(error)


def native(say: Say, side: Side) -> None:
    conn = pg8000.native.Connection(**words(side))
    with suppress(pg8000.native.InterfaceError), conn:
        say(sorted(conn.parameter_statuses.items()))
        attempt(say, conn, "create table t (id int primary key, v text, d date, n numeric, a int[])")
        for n in range(30):
            attempt(
                say, conn, "insert into t values (:id, :v, :d, :n, :a) returning id",
                id=n, v=f"v{n}ü", d=dt.date(2026, 11, 22), n=Decimal(n) / 7, a=[n, None],
            )  # fmt: skip
        attempt(say, conn, "select * from t where id < :top order by id", top=4)
        attempt(say, conn, "insert into t (id) values (1)")
        attempt(say, conn, "selec")
        attempt(say, conn, "select 1/0")
        attempt(say, conn, "begin")
        attempt(say, conn, "select 1/:z", z=0)
        attempt(say, conn, "select 'in error'")
        attempt(say, conn, "rollback")
        statement = conn.prepare("select id, :x::text from t where id = :id")
        for n in range(5):
            say(statement.run(id=n, x=str(n)))
        statement.close()
        data = io.StringIO("100\tcopied\n101\tagain\n")
        say(conn.run("copy t (id, v) from stdin", stream=data), conn.row_count)
        out = io.BytesIO()
        conn.run("copy (select id, v from t order by id) to stdout with (format csv)", stream=out)
        say(out.getvalue().decode())
        attempt(say, conn, "listen ch")
        attempt(say, conn, "notify ch, 'payload'")
        attempt(say, conn, "select 1")
        say([(pid == own(conn), channel, payload) for pid, channel, payload in conn.notifications])
        attempt(say, conn, "do $$ begin raise notice 'n'; raise warning 'w'; end $$")
        say([notice[b"M"] for notice in conn.notices])
        with pytest.raises(pg8000.native.InterfaceError) as lost:
            conn.run("select pg_terminate_backend(pg_backend_pid())")
        say(lost.value)
        conn._usock.close()  # its close() would say goodbye first, to nobody
    with pytest.raises(pg8000.native.DatabaseError) as refused:
        pg8000.native.Connection(**(words(side) | {"password": "wrong"}))
    say(refused.value.args[0]["C"])  # the words are RDS Proxy's


def own(conn: Any) -> int:
    return int.from_bytes(conn._backend_key_data[:4])


def dbapi(say: Say, side: Side) -> None:
    conn = pg8000.dbapi.connect(**words(side))
    cur = conn.cursor()
    cur.execute("create table d (id int, t text)")
    cur.executemany("insert into d values (%s, %s)", [(n, f"t{n}") for n in range(50)])
    say(cur.rowcount)
    conn.commit()
    cur.execute("select * from d where id > %s order by id", (40,))
    say(cur.description, cur.fetchone(), cur.fetchmany(3), cur.fetchall())
    try:
        cur.execute("select * from nothing")
    except pg8000.dbapi.DatabaseError as error:
        say(error)
    conn.rollback()
    conn.autocommit = True
    cur.execute("show transaction_isolation")
    say(cur.fetchall())
    conn.autocommit = False
    conn.tpc_begin(conn.xid(1, "g", "b"))
    cur.execute("delete from d where id < 10")
    conn.tpc_prepare()
    conn.tpc_commit()
    say(conn.tpc_recover())
    cur.execute("select count(*) from d")
    say(cur.fetchone())
    conn.close()


@pytest.mark.parametrize("script", [native, dbapi], ids=lambda script: script.__name__)
def test_pg8000_prints_the_same(script: Script, sides: Sides) -> None:
    sides.same(script)
