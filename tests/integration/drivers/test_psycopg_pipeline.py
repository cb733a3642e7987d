"""psycopg 3 in pipeline mode, cancelled, async, and cut off by the server."""

import asyncio
import threading

import psycopg
import pytest

from tests.harness.processes import wait_until
from tests.integration.drivers.sides import Say, Script, Side, Sides
from tests.integration.drivers.test_psycopg import attempt, failure


def pipeline(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        conn.execute("create table t (n int primary key)")
        with conn.pipeline():
            curs = [conn.execute("select %s, %s", [n, "x" * (n * 10)]) for n in range(200)]
            conn.execute("insert into t values (1)")
            curs.append(conn.execute("table t"))
        for cur in curs:
            say(cur.fetchall())
        with conn.pipeline() as p:
            for n in range(10):
                conn.execute("insert into t values (%s)", [n + 10])
                p.sync()
            say(conn.execute("select count(*) from t").fetchone())
        with conn.pipeline(), conn.transaction():
            conn.execute("insert into t values (100)")
            say(conn.execute("select max(n) from t").fetchone())
            with conn.transaction():
                conn.execute("insert into t values (101)")
        say(conn.execute("table t").fetchall(), conn.info.transaction_status.name)
        with conn.pipeline():
            cur = conn.execute("select g, repeat('w', 1000) from generate_series(1, 9000) g")
            other = conn.execute("select %s", ["behind"])
            say(len(cur.fetchall()), other.fetchall())


def pipeline_errors(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        conn.execute("create table t (n int primary key)")
        # how many statements behind the error are sent depends on when its answer comes: only the outcome counts
        try:
            with conn.pipeline():
                for n in (1, 2, 2, 3):
                    conn.execute("insert into t values (%s) returning n", [n])
        except psycopg.Error as error:
            say(failure(error))
        say(conn.execute("table t").fetchall(), conn.info.transaction_status.name)
        for broken in ("selec", "select * from missing", "select 1/0", "insert into t values (null)"):
            try:
                with conn.pipeline():
                    conn.execute("insert into t values (50)")
                    conn.execute(broken)
                    conn.execute("insert into t values (51)")
            except psycopg.Error as error:
                say(failure(error))
            say(conn.execute("select array_agg(n) from t").fetchone())
        try:
            with conn.transaction(), conn.pipeline():
                conn.execute("insert into t values (60)")
                conn.execute("select 1/0")
        except psycopg.errors.DivisionByZero as error:
            say(failure(error))
        say(conn.execute("select array_agg(n) from t").fetchone())


def raw_pipeline(say: Say, side: Side) -> None:
    """Flush without Sync, two Syncs in a row, an error and what follows it: libpq's results one by one."""
    pq = psycopg.pq
    with psycopg.connect(side.dsn(), autocommit=True) as conn:
        pg = conn.pgconn

        def results(n: int) -> None:
            for _ in range(n):
                result = pg.get_result()
                if result is None:
                    say("-")
                else:
                    rows = [result.get_value(row, 0) for row in range(min(result.ntuples, 3))]
                    say(pq.ExecStatus(result.status).name, result.error_message, rows)

        pg.enter_pipeline_mode()
        pg.send_query_params(b"select 1", [])
        pg.send_flush_request()
        pg.flush()
        results(2)
        pg.send_prepare(b"st", b"select $1::int * 2")
        pg.send_query_prepared(b"st", [b"4"])
        pg.send_describe_prepared(b"st")
        pg.send_flush_request()
        pg.flush()
        results(6)
        pg.pipeline_sync()
        pg.pipeline_sync()
        results(2)
        pg.send_query_prepared(b"st", [b"bad"])
        pg.send_query_prepared(b"st", [b"5"])
        pg.send_prepare(b"other", b"select 'other'")
        pg.pipeline_sync()
        pg.send_query_prepared(b"st", [b"6"])
        pg.pipeline_sync()
        results(10)
        pg.send_query_prepared(b"other", [])
        pg.send_prepare(b"other", b"select 'made'")
        pg.pipeline_sync()
        results(5)
        pg.send_prepare(b"other", b"select 'made'")
        pg.send_query_prepared(b"other", [])
        pg.pipeline_sync()
        results(5)
        say(pq.PipelineStatus(pg.pipeline_status).name, pq.TransactionStatus(pg.transaction_status).name)
        for _ in range(300):
            pg.send_query_prepared(b"st", [b"1"])
            pg.pipeline_sync()
        results(900)
        pg.exit_pipeline_mode()
        attempt(say, conn, "select 'after'")


def cancels(say: Say, side: Side) -> None:
    with psycopg.connect(side.dsn(), autocommit=True) as conn, psycopg.connect(side.dsn(), autocommit=True) as watch:
        mark = "select pg_sleep(20) /* to be cancelled */"
        running = "select count(*) from pg_stat_activity where state = 'active' and query = %s"

        def stop(safe: bool) -> None:
            wait_until(lambda: watch.execute(running, [mark]).fetchone() == (1,), 10, "the query runs")
            if safe:
                conn.cancel_safe(timeout=10)
            else:
                conn.cancel()

        for safe in (False, True):
            thread = threading.Thread(target=stop, args=(safe,))
            thread.start()
            attempt(say, conn, mark)
            thread.join()
            attempt(say, conn, "select 'alive'")
        conn.cancel()  # nothing runs: nothing happens
        for n in range(20):
            say(conn.execute("select %s", [n]).fetchone())


def killed(say: Say, side: Side) -> None:
    """The server ends the session: its words reach the client unchanged, and the connection is gone."""
    for query in (
        "select pg_terminate_backend(pg_backend_pid())",
        "select 1; select pg_terminate_backend(pg_backend_pid()); select 2",
    ):
        conn = psycopg.connect(side.dsn(), autocommit=True)
        try:
            conn.execute(query)
        except psycopg.Error as error:
            say(failure(error), error.args, conn.closed, conn.broken)
        conn.close()
    conn = psycopg.connect(side.dsn(options="-c idle_in_transaction_session_timeout=100"))
    conn.execute("select 1")
    poll(conn)
    attempt(say, conn, "select 2")
    say(conn.closed)
    conn.close()


def poll(conn: psycopg.Connection) -> None:
    """Until the server says something."""
    import select

    assert select.select([conn.fileno()], [], [], 10)[0], "the server said nothing"


def asynchronous(say: Say, side: Side) -> None:
    async def one(n: int) -> tuple[int, ...]:
        async with await psycopg.AsyncConnection.connect(side.dsn()) as conn, conn.cursor() as cur:
            found: list[int] = []
            for k in range(10):
                await cur.execute("select %s + %s", [n * 100, k])
                found += [row[0] for row in await cur.fetchall()]
                await conn.commit()
            return tuple(found)

    async def run() -> None:
        for row in await asyncio.gather(*(one(n) for n in range(8))):
            say(row)
        async with await psycopg.AsyncConnection.connect(side.dsn(), autocommit=True) as conn:
            await conn.execute("create table a (n int)")
            async with conn.pipeline():
                await conn.cursor().executemany("insert into a values (%s)", [(n,) for n in range(300)])
            async with conn.cursor().copy("copy a to stdout (format binary)") as out:
                say(sum([len(block) async for block in out]))
            async with conn.cursor().copy("copy a from stdin") as into:
                for n in range(1000):
                    await into.write_row([n])
            async with conn.transaction(), conn.cursor("srv") as cur:
                await cur.execute("select n from a order by n")
                say([row[0] async for row in cur][:7])
            say([row async for row in conn.cursor().stream("select sum(n), count(*) from a")])
            await conn.execute("listen ch")
            await conn.execute("notify ch, 'p'")
            async for note in conn.notifies(timeout=5, stop_after=1):
                say(note.channel, note.payload, note.pid == conn.info.backend_pid)
            task = asyncio.create_task(conn.execute("select pg_sleep(20)"))
            await asyncio.sleep(0.2)
            task.cancel()  # psycopg cancels the query, waits for its end, and the connection stays usable
            try:
                await task
            except (asyncio.CancelledError, psycopg.Error) as error:
                say(type(error).__name__)
            say(await (await conn.execute("select 'alive'")).fetchone())

    asyncio.run(run())


SCRIPTS: list[Script] = [pipeline, pipeline_errors, raw_pipeline, cancels, killed, asynchronous]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_psycopg_prints_the_same(script: Script, sides: Sides) -> None:
    sides.same(script)
