"""asyncpg, with and without its statement cache: prepares all, speaks binary, resets what its pool takes back."""

import asyncio
import datetime as dt
import io
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.integration.drivers.sides import APPLICATION, Say, Script, Side, Sides

Work = Callable[[Say, Side, dict[str, Any]], Coroutine[Any, Any, None]]


def words(side: Side, **more: Any) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(side.ca))
    return {
        "host": side.host, "port": side.port, "user": side.user, "password": side.password, "database": side.database,
        "ssl": context, "server_settings": {"application_name": APPLICATION}, "timeout": 20,
    } | more  # fmt: skip


def told(error: BaseException) -> str:
    fields = ("sqlstate", "severity", "message", "detail", "hint", "position", "constraint_name", "table_name")
    return f"{type(error).__name__} {[getattr(error, field, None) for field in fields]}"


async def attempt(say: Say, work: Awaitable[object]) -> None:
    try:
        say(await work)
    except asyncpg.PostgresError as error:
        say(told(error))


async def queries(say: Say, side: Side, how: dict[str, Any]) -> None:
    conn = await asyncpg.connect(**words(side, **how))
    settings = conn.get_settings()
    say(conn.get_server_version(), settings.client_encoding, settings.TimeZone, settings.application_name)
    await conn.execute("create table t (id int primary key, v text); create type mood as enum ('sad', 'ok')")
    await conn.execute("create type pair as (a int, b text)")
    for value, kind in (
        (1, "int2"), (2**62, "int8"), (1.5, "float8"), (Decimal("1e-30"), "numeric"), ("ü☃", "text"),
        (b"\0\xff", "bytea"),
        (True, "bool"), (dt.date(2026, 11, 22), "date"), (dt.timedelta(1, 2, 3), "interval"), (UUID(int=5), "uuid"),
        ([1, None, 3], "int[]"), (None, "text"), ("ok", "mood"), ((1, "x"), "pair"), ([(1, "x"), (2, None)], "pair[]"),
        ('{"a": 1}', "jsonb"), (asyncpg.Range(1, 9), "int4range"), ("10.0.0.0/8", "cidr"),
    ):  # fmt: skip
        say(kind, await conn.fetchval(f"select $1::{kind}", value))
    for n in range(150):
        await conn.execute("insert into t values ($1, $2)", n, f"v{n}")
    say(await conn.fetchrow("select count(*), sum(id), max(v) from t"))
    for n in range(130):
        say(await conn.fetchval(f"select {n} + $1::int", n))
    say(await conn.executemany("insert into t values ($1, $2)", [(n, "many") for n in range(1000, 3000)]))
    await attempt(say, conn.executemany("insert into t values ($1, $2)", [(5000, "a"), (1, "b"), (5001, "c")]))
    say(await conn.fetchval("select count(*) from t"))
    for query in (
        "selec",
        "select 1/0",
        "select * from missing",
        "insert into t values (1, 'x')",
        "select $1::int / $2",
    ):
        await attempt(say, conn.fetch(query, *([1, 0] if "$2" in query else [])))
    await attempt(say, conn.execute("select 1; select 1/0"))
    statement = await conn.prepare("select id, v from t where id < $1 order by id")
    say(statement.get_attributes(), statement.get_parameters(), await statement.fetch(3), statement.get_statusmsg())
    await conn.execute("alter table t add column extra int default 7")
    say(await conn.fetch("select * from t where id < $1 order by id", 2))
    await conn.execute("alter table t add column more int default 8")
    say(await conn.fetch("select * from t where id < $1 order by id", 2))
    say(len(await conn.fetch("select g, repeat('x', 100) from generate_series(1, 20000) g")))
    await conn.close()


async def transactions(say: Say, side: Side, how: dict[str, Any]) -> None:
    conn = await asyncpg.connect(**words(side, **how))
    await conn.execute("create table t (id int primary key)")
    async with conn.transaction(isolation="serializable", readonly=False, deferrable=True):
        await conn.execute("insert into t values (1)")
        for n in (1, 2):
            try:
                async with conn.transaction():
                    await conn.execute("insert into t values ($1)", n)
            except asyncpg.PostgresError as error:
                say(told(error))
        cur = await conn.cursor("select generate_series(1, 50)")
        say(await cur.fetch(5), await cur.forward(20), await cur.fetchrow())
        say([row[0] async for row in conn.cursor("select generate_series(1, 120)", prefetch=13)][-3:])
        say(conn.is_in_transaction())
    say(await conn.fetch("table t"))
    try:
        async with conn.transaction():
            await conn.execute("insert into t values (10)")
            await conn.execute("insert into t values (1)")
    except asyncpg.PostgresError as error:
        say(told(error))
    say(await conn.fetch("table t"), conn.is_in_transaction())
    await attempt(say, conn.execute("begin; insert into t values (20); rollback; select 1"))
    await conn.close()


async def copy(say: Say, side: Side, how: dict[str, Any]) -> None:
    conn = await asyncpg.connect(**words(side, **how))
    await conn.execute("create table c (id int, t text, n numeric)")
    rows = [(n, f"t{n}", Decimal(n) / 3) for n in range(3000)]
    say(await conn.copy_records_to_table("c", records=rows))
    out = io.BytesIO()
    say(await conn.copy_from_query("select * from c where id < $1 order by id", 100, output=out, format="csv"))
    say(out.getvalue().decode()[:300], len(out.getvalue()))
    out.seek(0)
    say(await conn.copy_to_table("c", source=out, format="csv"))
    out = io.BytesIO()
    say(await conn.copy_from_table("c", output=out, format="binary"), len(out.getvalue()))
    out.seek(0)
    say(await conn.copy_to_table("c", source=out, format="binary"))
    await attempt(say, conn.copy_to_table("c", source=io.BytesIO(b"x\ty\tz\n" * 5000)))
    await attempt(say, conn.copy_from_query("select 1/(5 - id) from c", output=io.BytesIO()))

    async def breaks() -> Any:
        yield b"1\ta\t1\n"
        raise ValueError("no more")

    try:
        await conn.copy_to_table("c", source=breaks())
    except ValueError as error:
        say(error)
    say(await conn.fetchrow("select count(*), sum(id) from c"))
    await conn.close()


async def listening(say: Say, side: Side, how: dict[str, Any]) -> None:
    one, two = await asyncpg.connect(**words(side, **how)), await asyncpg.connect(**words(side, **how))
    heard: asyncio.Queue[tuple[object, ...]] = asyncio.Queue()
    notices: list[str] = []

    def hear(connection: Any, pid: int, channel: str, payload: object) -> None:
        heard.put_nowait((channel, payload, pid == one.get_server_pid()))

    one.add_log_listener(lambda _, message: notices.append(str(message)))
    await one.add_listener("ch", hear)
    await two.execute("notify ch, 'theirs'")
    say(await asyncio.wait_for(heard.get(), 10))
    await one.execute("notify ch, 'mine'")
    say(await asyncio.wait_for(heard.get(), 10))
    await one.execute("do $$ begin raise notice 'n'; raise warning 'w'; end $$")
    await one.remove_listener("ch", hear)
    await two.execute("notify ch, 'unheard'")
    say(await one.fetchval("select 1"), heard.empty(), notices)
    await one.close()
    await two.close()


async def cancelled(say: Say, side: Side, how: dict[str, Any]) -> None:
    conn = await asyncpg.connect(**words(side, **how))
    for _ in range(3):
        try:
            await conn.fetch("select pg_sleep(30)", timeout=0.2)
        except TimeoutError:
            say("timeout")
        say(await conn.fetchval("select 'alive'"))
        task = asyncio.create_task(conn.fetchval("select pg_sleep(30)"))
        await asyncio.sleep(0.1)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            say("cancelled")
        say(await conn.fetchval("select 'alive'"))
    await conn.close()


async def killed(say: Say, side: Side, how: dict[str, Any]) -> None:
    conn = await asyncpg.connect(**words(side, **how))
    await attempt(say, conn.fetch("select pg_terminate_backend(pg_backend_pid())"))
    say(conn.is_closed())
    try:
        await conn.fetch("select 1")
    except asyncpg.InterfaceError as error:
        say(error)
    for wrong in ({"database": "missing"}, {"server_settings": {"nonsense": "1"}}, {"password": "wrong"}):
        try:
            await asyncpg.connect(**(words(side, **how) | wrong))
        except asyncpg.InvalidPasswordError as error:
            say(error.sqlstate)  # the words are RDS Proxy's
        except asyncpg.PostgresError as error:
            say(told(error))


async def pooled(say: Say, side: Side, how: dict[str, Any]) -> None:
    """The pool's reset (RESET ALL, UNLISTEN, CLOSE ALL, unlock) takes away what a user of it left behind."""
    async with asyncpg.create_pool(**words(side, **how), min_size=1, max_size=2) as pool:
        async with pool.acquire() as conn:
            await conn.execute("set work_mem = '9MB'; create table p (n int)")
            await conn.execute("select pg_advisory_lock(77)")
            say(await conn.fetchval("show work_mem"))
        async with pool.acquire() as conn:
            say(await conn.fetchval("show work_mem"))
            say(await conn.fetchval("select count(*) from pg_locks where locktype = 'advisory' and objid = 77"))

        async def one(n: int) -> int:
            async with pool.acquire() as conn, conn.transaction():
                await conn.execute("insert into p values ($1)", n)
                return int(await conn.fetchval("select $1::int", n))

        say(await asyncio.gather(*(one(n) for n in range(40))))
        say(await pool.fetchval("select count(distinct n) from p"))
        async with pool.acquire() as conn:
            await conn.execute("begin")
            await conn.reset()
            say(await conn.fetchval("select 1"))


def script_of(work: Work, cache: int) -> Script:
    def script(say: Say, side: Side) -> None:
        asyncio.run(work(say, side, {"statement_cache_size": cache}))

    script.__qualname__ = f"{work.__name__}[{cache}]"
    return script


@pytest.mark.parametrize("cache", [100, 0], ids=["cached", "uncached"])
@pytest.mark.parametrize(
    "work", [queries, transactions, copy, listening, cancelled, killed, pooled], ids=lambda work: work.__name__
)
def test_asyncpg_prints_the_same(work: Work, cache: int, sides: Sides) -> None:
    sides.same(script_of(work, cache))
