"""Drivers, their pools and ORMs, twenty clients at once on one server connection and on two: told the same as directly.

And nothing is pinned: all these settings, prepared statements and resets can be followed. What is raw here follows what
the named driver or framework sends on the wire. The connections differ in search_path, time zone and role (twenty.py).
"""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import asyncpg
import psycopg
import pytest
from django.apps import apps
from django.conf import settings as django_settings
from django.db import DatabaseError, connections, models, transaction
from psycopg_pool import ConnectionPool
from sqlalchemy import URL, NullPool, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tests.harness import node
from tests.harness.messages import bind, describe, execute, parse, sync
from tests.harness.postgres import Postgres
from tests.integration.sessions import twenty
from tests.integration.sessions.twenty import (
    CLIENTS,
    KINDS,
    LOOK,
    ROUNDS,
    Compared,
    Person,
    Say,
    Sent,
    To,
    Work,
    batch,
    closing,
    forget,
    person,
    pipeline,
    prepare,
    run,
    simple,
    unnamed,
)

INSERT = "insert into item (id, owner, title) values ($1, $2, $3)"
TITLES = "select id, title from item where owner = $1 order by id"
DELETE = "delete from item where owner = $1"


# Django: its own pool or a connection per thread; TIME_ZONE, assume_role, search_path and isolation from its settings

if not django_settings.configured:
    django_settings.configure(USE_TZ=True, INSTALLED_APPS=[], DATABASES={})
    apps.populate([])


class Item(models.Model):  # type: ignore[misc]  # Django has no types
    id = models.IntegerField(primary_key=True)
    owner = models.IntegerField()
    title = models.TextField()

    class Meta:
        app_label = "orms"
        db_table = "item"


def django_database(to: To, who: Person, *, pool: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"assume_role": who.role, "options": f"-c search_path={who.schema}"}
    if (
        pool
    ):  # Django's assume_role asks the pool for a connection while the pool makes its first one, and waits for ever
        options = {"options": f"-c search_path={who.schema} -c role={who.role}"}
    options |= {"isolation_level": psycopg.IsolationLevel.REPEATABLE_READ} if who.role == "guest" else {}
    options |= {"pool": {"min_size": 1, "max_size": 3, "timeout": 20}} if pool else {}
    return {
        "ENGINE": "django.db.backends.postgresql", "HOST": to.host, "PORT": str(to.port), "NAME": "test", "USER": "app",
        "PASSWORD": "apppw", "TIME_ZONE": who.zone, "CONN_MAX_AGE": 0 if pool else None,
        "CONN_HEALTH_CHECKS": True, "OPTIONS": options,
    }  # fmt: skip


def django_client(say: Say, alias: str, n: int) -> None:
    mine = Item.objects.using(alias).filter(owner=n)

    def look() -> None:
        with connections[alias].cursor() as cursor:
            cursor.execute(LOOK)
            say(cursor.fetchone())

    for k in range(ROUNDS):
        look()
        with transaction.atomic(using=alias):
            first = n * 1000 + k * 10
            Item.objects.using(alias).create(id=first, owner=n, title=f"item {k}")
            Item.objects.using(alias).bulk_create([Item(id=first + m, owner=n, title=f"{m}") for m in range(1, 5)])
            try:
                with transaction.atomic(using=alias):
                    Item.objects.using(alias).create(id=first, owner=n, title="twice")
            except DatabaseError as error:
                say(type(error).__name__)
            mine.filter(title="3").update(title="three")
            with connections[alias].cursor() as cursor:
                cursor.execute("set local statement_timeout = '%s s'", [20 + k])
            look()
        say(list(mine.order_by("id").values_list("id", "title")))
        try:
            with transaction.atomic(using=alias):
                mine.delete()
                with connections[alias].cursor() as cursor:
                    cursor.execute("select 1/0")
        except DatabaseError as error:
            say(type(error).__name__)
        say(mine.count(), mine.aggregate(models.Max("id")), mine.select_for_update().none().exists())
        connections[alias].close_if_unusable_or_obsolete()
        if k == ROUNDS - 2:
            connections[alias].close()


def django(pool: bool) -> Work:
    def work(to: To) -> list[list[str]]:
        aliases = [f"{to.port}-{pool}-{kind}" for kind in range(KINDS)]
        wanted = {alias: django_database(to, person(kind), pool=pool) for kind, alias in enumerate(aliases)}
        connections.databases.update(connections.configure_settings({"default": {}, **wanted}))

        def one(say: Say, n: int) -> None:
            alias = aliases[n % KINDS]
            try:
                django_client(say, alias, n)
            finally:
                connections[alias].close()
                del connections[alias]

        try:
            return twenty.threads(one)
        finally:
            for alias in aliases:
                connections[alias].close_pool()
                del connections[alias]

    return work


# SQLAlchemy: one engine for each kind of person, settings by its `connect` event


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "item"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[int]
    title: Mapped[str]


def on_connect(who: Person) -> Any:
    def configure(connection: Any, _: object) -> None:
        cursor = connection.cursor()
        for statement in (
            f"set session search_path = '{who.schema}'",
            f"set time zone '{who.zone}'",
            f"set role {who.role}",
        ):
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    return configure


def orm_client(say: Say, session: Session, n: int) -> None:
    mine = select(Row.id, Row.title).where(Row.owner == n).order_by(Row.id)
    for k in range(ROUNDS):
        say(session.execute(text(LOOK)).one())
        session.add_all(Row(id=n * 1000 + k * 10 + m, owner=n, title=f"{k}.{m}") for m in range(4))
        session.commit()
        say(session.execute(mine).all())
        try:
            with session.begin_nested():
                session.execute(text("set local time zone 'Asia/Kolkata'"))
                session.execute(text("select 1/0"))
        except DBAPIError as error:
            say(type(error.orig).__name__)
        say(session.execute(text(LOOK)).one())
        session.execute(text("set local statement_timeout = '33s'"))
        session.execute(text("set time zone 'Asia/Kolkata'"))
        say(session.execute(text(LOOK)).one())
        session.rollback()


def sqlalchemy_url(to: To, driver: str) -> URL:
    return URL.create(f"postgresql+{driver}", "app", "apppw", to.host, to.port, "test")


def sqlalchemy(driver: str) -> Work:
    def work(to: To) -> list[list[str]]:
        pools: list[dict[str, Any]] = [
            {"pool_size": 3, "max_overflow": 0, "pool_pre_ping": True, "isolation_level": "REPEATABLE READ"},
            {"poolclass": NullPool} if driver == "psycopg" else {"pool_size": 2, "max_overflow": 0},
        ]
        engines = [create_engine(sqlalchemy_url(to, driver), **pools[kind % 2]) for kind in range(KINDS)]
        for kind, engine in enumerate(engines):
            event.listen(engine, "connect", on_connect(person(kind)))

        def one(say: Say, n: int) -> None:
            with Session(engines[n % KINDS]) as session:
                orm_client(say, session, n)

        with closing(engines, "dispose"):
            return twenty.threads(one)

    return work


def sqlalchemy_async(to: To) -> list[list[str]]:
    async def whole() -> list[list[str]]:
        engines = [
            create_async_engine(sqlalchemy_url(to, "asyncpg"), pool_size=3, max_overflow=0) for _ in range(KINDS)
        ]
        for kind, engine in enumerate(engines):
            event.listen(engine.sync_engine, "connect", on_connect(person(kind)))

        async def one(say: Say, n: int) -> None:
            async with engines[n % KINDS].connect() as conn:
                await conn.run_sync(lambda inner: orm_client(say, Session(inner), n))

        try:
            return await twenty.tasks(one)
        finally:
            for engine in engines:
                await engine.dispose()

    return asyncio.run(whole())


# psycopg_pool: one pool for all, so what one leaves must be gone for the next


def psycopg_pool(reset: str) -> Work:
    def clean(conn: psycopg.Connection) -> None:
        conn.execute(reset)
        conn.commit()  # one left in a transaction is thrown away, and then nothing was reset

    def work(to: To) -> list[list[str]]:
        def one(say: Say, n: int) -> None:
            who = person(n)
            for k in range(ROUNDS * 2):
                with pool.connection() as conn:
                    say(conn.execute("show search_path").fetchone(), conn.execute("show timezone").fetchone())
                    say(conn.execute("select current_user, current_setting('work_mem')").fetchone())
                    conn.execute(f"set search_path = {who.schema}")
                    conn.execute("select set_config('timezone', %s, false)", [who.zone])
                    conn.execute(f"set session authorization default; set role {who.role}; set work_mem = '9MB'")
                    conn.commit()
                    for m in range(6):  # prepared from the sixth on; in each connection the same texts of all clients
                        conn.execute("insert into item values (%s, %s, %s)", [n * 1000 + k * 10 + m, n, str(m)])
                    say(conn.execute("select id, title from item where owner = %s order by id", [n]).fetchall())
                    say(conn.execute(LOOK, prepare=True).fetchone())
                    with conn.pipeline():
                        cursors = [conn.execute("select %s::int + count(*) from here", [m]) for m in range(3)]
                        say([cursor.fetchone() for cursor in cursors])

        address = f"host={to.host} port={to.port} user=app password=apppw dbname=test sslmode=disable"
        with ConnectionPool(
            address, min_size=2, max_size=5, timeout=20, reset=clean, check=ConnectionPool.check_connection,
            kwargs={"autocommit": True} if reset == "discard all" else None,
        ) as pool:  # fmt: skip
            pool.wait(20)
            said = twenty.threads(one)
            assert not pool.get_stats().get("returns_bad"), "no connection was thrown away"
            return said

    return work


# asyncpg: with its statement cache and without; alone, and in its pool with the pool's reset


async def asyncpg_client(say: Say, conn: Any, n: int, k: int) -> None:
    who = person(n)
    say(await conn.fetchrow("select current_setting('search_path'), current_user::text, current_setting('work_mem')"))
    await conn.execute(f"set search_path to {who.schema}, public; set timezone = '{who.zone}'; set work_mem = '9MB'")
    await conn.execute(f"set role {who.role}")
    say(await conn.fetchrow(LOOK))
    async with conn.transaction(isolation="repeatable_read"):
        await conn.executemany(INSERT, [(n * 1000 + k * 10 + m, n, str(m)) for m in range(4)])
        try:
            async with conn.transaction():
                await conn.execute("set local timezone = 'Asia/Kolkata'")
                await conn.fetch("select 1/$1::int", 0)
        except asyncpg.DivisionByZeroError as error:
            say(error)
        say(await conn.fetch(TITLES, n))
    statement = await conn.prepare(LOOK)
    say(await statement.fetchrow(), [column.name for column in statement.get_attributes()])
    say(await conn.fetchval("select array['glad', 'sad']::public.mood[]"))  # looks up types, with jit set to off


def asyncpg_alone(cache: int) -> Work:
    def work(to: To) -> list[list[str]]:
        async def one(say: Say, n: int) -> None:
            conn = await asyncpg.connect(
                host=to.host, port=to.port, user="app", password="apppw", database="test", ssl=False, timeout=20,
                statement_cache_size=cache, server_settings={"application_name": f"asyncpg {n % 3}", "work_mem": "3MB"},
            )  # fmt: skip
            for k in range(ROUNDS):
                await asyncpg_client(say, conn, n, k)
                await conn.execute("reset all; reset role")
                await conn.reset()
            say(await conn.fetchval("show work_mem"))
            await conn.close()

        return asyncio.run(twenty.tasks(one))

    return work


def asyncpg_pool(cache: int) -> Work:
    def work(to: To) -> list[list[str]]:
        async def whole() -> list[list[str]]:
            async with asyncpg.create_pool(
                host=to.host, port=to.port, user="app", password="apppw", database="test", ssl=False, timeout=20,
                statement_cache_size=cache, min_size=2, max_size=5,
            ) as pool:  # fmt: skip

                async def one(say: Say, n: int) -> None:
                    for k in range(ROUNDS):
                        async with pool.acquire() as conn:
                            await asyncpg_client(say, conn, n, k)
                            await conn.execute("reset role")  # RESET ALL leaves the role alone

                return await twenty.tasks(one)

        return asyncio.run(whole())

    return work


# raw flows


# node-postgres: named and unnamed statements, alone and from its pool (which has no reset of its own)


def node_postgres(kind: str) -> Work:
    def work(to: To) -> list[list[str]]:
        persons = json.dumps([asdict(person(n)) for n in range(CLIENTS)])
        address = {"PGHOST": to.host, "PGPORT": str(to.port), "PGDATABASE": "test"}
        app = {"PGUSER": "app", "PGPASSWORD": "apppw"}
        command = ["node", str(node.folder() / "twenty.js"), persons, str(ROUNDS), kind, LOOK]
        environment = {**os.environ, **address, **app}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=25)
        assert done.returncode == 0, done.stderr
        said: list[list[str]] = json.loads(done.stdout)
        return said

    return work



def _rows(n: int, k: int) -> list[tuple[str, str, str]]:
    return [(str(n * 1000 + k * 10 + m), str(n), f"{k}.{m}") for m in range(3)]


def rails(n: int) -> Iterator[Sent]:
    """ActiveRecord: a SET each after connecting, statements a1, a2 …, `reset!` when it goes back to the pool."""
    who = person(n)

    def configure() -> Iterator[Sent]:
        yield simple("SET client_min_messages TO 'warning'")
        yield simple(f"SET search_path TO {who.schema}")
        yield simple("SET standard_conforming_strings = on")
        yield simple("SET intervalstyle = iso_8601")
        yield simple(f"SET SESSION timezone TO '{who.zone}'")
        yield simple(f"SET SESSION statement_timeout TO {4000 + n}")
        yield simple("SET SESSION lock_timeout TO DEFAULT")
        yield simple(f"SET ROLE {who.role}")
        yield simple("SHOW TIME ZONE")
        yield simple("SHOW max_identifier_length")
        yield unnamed("SELECT t.oid, t.typname FROM pg_type as t WHERE t.typname IN ('int4', 'text', 'bool')")

    for k in range(ROUNDS):
        yield from configure()
        yield simple("SELECT interval '1 day 2 hours', current_schema")
        yield simple("BEGIN")
        yield prepare("a1", INSERT)
        for values in _rows(n, k):
            yield run("a1", *values)
        yield simple("SAVEPOINT active_record_1")
        yield run("a1", *_rows(n, k)[0])
        yield simple("ROLLBACK TO SAVEPOINT active_record_1")
        yield simple("RELEASE SAVEPOINT active_record_1")
        yield simple("COMMIT")
        yield prepare("a2", TITLES)
        yield run("a2", str(n))
        yield simple("DEALLOCATE a1")
        yield prepare("a3", LOOK)
        yield run("a3")
        yield simple("BEGIN ISOLATION LEVEL REPEATABLE READ")
        yield run("a3")
        yield simple("ROLLBACK")
        yield simple("DISCARD ALL")
        yield simple("SELECT current_setting('search_path'), current_user, current_setting('statement_timeout')")


def prisma(n: int) -> Iterator[Sent]:
    """Prisma's quaint: both settings in one text, tokio-postgres's statement names, with `pgbouncer=true` at times."""
    who = person(n)
    yield simple(f"SET search_path = \"{who.schema}\"; SET NAMES 'UTF8'")
    yield simple(f"SET TIME ZONE '{who.zone}'; SET ROLE \"{who.role}\"")
    for k in range(ROUNDS):
        yield simple("SELECT 1")
        yield prepare(f"s{3 * k}", LOOK)
        yield run(f"s{3 * k}")
        yield simple("BEGIN")
        yield simple("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield prepare(f"s{3 * k + 1}", INSERT)
        for values in _rows(n, k):
            yield run(f"s{3 * k + 1}", *values)
        yield simple("COMMIT")
        yield prepare(f"s{3 * k + 2}", TITLES)
        yield run(f"s{3 * k + 2}", str(n))
        yield run("s0") if k else simple("")
        if n % 2:
            yield simple("BEGIN")
            yield simple("DEALLOCATE ALL")
            yield prepare("s0", LOOK)
            yield run("s0")
            yield simple("COMMIT")
        else:
            yield forget(f"s{3 * k + 1}")
        yield run(f"s{3 * k + 1}", "1", "1", "1")  # forgotten


def pgx(n: int) -> Iterator[Sent]:
    """pgx: its statement cache, batches with one Sync, pings, an AfterConnect hook, `deallocate all` on a bad cache."""
    who = person(n)
    look, insert, titles = "stmtcache_5d1f", "stmtcache_0a77", "stmtcache_c0de"
    yield simple(f"set search_path to {who.schema}")
    yield simple(f"set timezone to '{who.zone}'; set role to '{who.role}'")
    for k in range(ROUNDS):
        yield simple("-- ping")
        yield simple(";")
        yield batch(prepare(look, LOOK), prepare(insert, INSERT), prepare(titles, TITLES))
        yield simple("begin isolation level repeatable read")
        yield batch(*(run(insert, *values) for values in _rows(n, k)), run(titles, str(n)))
        yield simple("commit")
        yield batch(run(look), run(titles, str(n)), unnamed("select $1::int + 1", str(n)))
        yield batch(run(look), unnamed("select 1/$1::int", "0"), run(insert, "-1", "-1", "never"))
        yield batch(unnamed("set timezone = 'Asia/Kolkata'"), run(look), unnamed("select 1/0"))  # taken back
        yield pipeline(run(look), run(titles, str(n)), run("no_such"), run(look))
        yield simple("begin read only")
        yield run(insert, "-2", "-2", "refused")
        yield simple("rollback")
        yield simple("deallocate all") if n % 2 else batch(forget(look), forget(insert), forget(titles))
        yield run(look)


def jdbc(n: int) -> Iterator[Sent]:
    """pgjdbc: all extended, BEGIN in the batch of the first statement, named S_n, portals with a fetch size."""
    who = person(n)

    def portal(label: str, statement: str, *values: str, limit: int) -> Sent:
        body = bind(*values, statement=statement, portal=label) + describe("P", label) + execute(label, limit)
        return Sent(f"portal {label} {statement} {limit}", body + sync())

    def more(label: str, limit: int) -> Sent:
        return Sent(f"more of {label}", execute(label, limit) + sync())

    yield unnamed("SET extra_float_digits = 3")
    yield unnamed("SET application_name = 'PostgreSQL JDBC Driver'")
    yield unnamed(f"SET SESSION search_path TO '{who.schema}'")
    yield unnamed(f"set session time zone '{who.zone}'")
    yield unnamed(f"SET ROLE {who.role}")
    for k in range(ROUNDS):
        begin, insert, titles = (f"S_{3 * k + m}" for m in (1, 2, 3))
        yield unnamed("")  # isValid
        yield unnamed(LOOK)
        yield unnamed("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield unnamed("SHOW TRANSACTION ISOLATION LEVEL")
        yield batch(
            Sent("named begin", parse("BEGIN", begin) + bind(statement=begin) + execute("", 0) + sync()),
            Sent(f"parse {insert}", parse(INSERT, insert, (23, 23, 1043)) + sync()),
            *(run(insert, *values) for values in _rows(n, k)),
        )
        yield unnamed("COMMIT")
        yield batch(run(begin), prepare(titles, TITLES))
        yield portal("C_1", titles, str(n), limit=2)
        yield more("C_1", 2)
        yield unnamed(LOOK)
        yield unnamed("SAVEPOINT PGJDBC_AUTOSAVE")
        yield run(insert, *_rows(n, k)[0])
        yield unnamed("ROLLBACK TO SAVEPOINT PGJDBC_AUTOSAVE")
        yield unnamed("ROLLBACK")
        yield unnamed("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        yield run(insert, "-1", "-1", "refused")
        yield unnamed("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        yield unnamed("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED")
        yield run(titles, str(n))
        yield forget(insert)
        yield unnamed(LOOK)


def npgsql(n: int) -> Iterator[Sent]:
    """Npgsql: the reset is put in front of the next user's first command, in one write; so is BEGIN."""
    who = person(n)
    whole = [simple("DISCARD ALL")]
    keeping = [  # with prepared statements: everything but DEALLOCATE ALL
        simple("SET SESSION AUTHORIZATION DEFAULT"), simple("RESET ALL"), simple("CLOSE ALL"), simple("UNLISTEN *"),
        simple("SELECT pg_advisory_unlock_all()"), simple("DISCARD SEQUENCES"), simple("DISCARD TEMP"),
    ]  # fmt: skip
    reset = keeping if n % 2 else whole
    yield simple("select version()")
    for k in range(ROUNDS):
        yield pipeline(*(reset if k else []), unnamed("select current_setting('search_path'), current_user::text"))
        yield simple(f"set search_path to {who.schema}; set timezone to '{who.zone}'")
        yield unnamed(f"set role {who.role}")
        if not k or reset is whole:
            yield prepare("_p1", INSERT)
            yield prepare("_p2", LOOK)
        begin = simple("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield pipeline(begin, batch(*(run("_p1", *values) for values in _rows(n, k)), run("_p2")))
        yield run("_p1", *_rows(n, k)[0])
        yield simple("ROLLBACK" if k == 1 else "COMMIT")
        yield run("_p2")
        yield unnamed(TITLES, str(n))
    yield pipeline(*whole, unnamed("select current_setting('search_path'), current_user::text"), run("_p2"))


def with_startup(n: int) -> dict[str, str]:
    """As pgjdbc does, and Npgsql where asked."""
    zone = person(n).zone
    return {"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": zone, "extra_float_digits": "2"}


def without(n: int) -> dict[str, str]:
    return {"client_encoding": "UTF8"} if n % 3 else {}


WORKS: dict[str, Work] = {
    "Django": django(pool=False),
    "Django with its pool": django(pool=True),
    "SQLAlchemy, psycopg": sqlalchemy("psycopg"),
    "SQLAlchemy, pg8000": sqlalchemy("pg8000"),
    "SQLAlchemy, asyncpg": sqlalchemy_async,
    "psycopg_pool, RESET ALL": psycopg_pool("reset all; reset role; reset session authorization"),
    "psycopg_pool, DISCARD ALL": psycopg_pool("discard all"),
    "asyncpg": asyncpg_alone(100),
    "asyncpg without its cache": asyncpg_alone(0),
    "asyncpg's pool": asyncpg_pool(100),
    "asyncpg's pool without its cache": asyncpg_pool(0),
    "node-postgres": node_postgres("alone"),
    "node-postgres, its pool": node_postgres("pool"),
    "Rails": twenty.raw(without, rails),
    "Prisma": twenty.raw(without, prisma),
    "pgx": twenty.raw(without, pgx),
    "JDBC": twenty.raw(with_startup, jdbc),
    "Npgsql": twenty.raw(without, npgsql),
}


@pytest.fixture(scope="module")
def compared(server: Postgres) -> Compared:
    twenty.build(server)
    return Compared(server)


@pytest.mark.edge_case(22, 24, 26, 39, 40, 41, 43, 47, 49)
@pytest.mark.timeout(60)
@pytest.mark.parametrize("connections", ["one", "two"])
@pytest.mark.parametrize("name", WORKS)
def test_twenty_are_told_the_same(
    name: str, connections: str, compared: Compared, request: pytest.FixtureRequest
) -> None:
    compared.same(name, WORKS[name], request.getfixturevalue(connections))
