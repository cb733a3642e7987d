"""Six other clients meanwhile, who look at their own session at every step. What they must see: never anybody else.

    with neighbours(pg.dsn, proxy.dsn, role="clerk") as watch:
        ...                     # whatever may leave something behind
        watch.go_on()           # until each has done a few transactions more

They are of the same user and database, and run short transactions. Three have a search_path, time zone, role … of their
own by SET; three have what the server gives. What each must see is what a direct connection with its settings shows.
"""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg

from tests.harness.processes import wait_until

Dsn = Callable[..., str]

_PAUSE_S = 0.02
_LIMIT_S = 20.0
_AT_FIRST = ("autocommit", "local")  # what everybody does before anything rude happens
# nothing of these may be there, whoever asks
_FOREIGN = {
    # the schema itself stays, empty, with a connection that ever had one (README)
    "temporary objects": "(select count(*)::text from pg_depend where refobjid = nullif(pg_my_temp_schema(), 0))",
    "temporary tables": "(select count(*)::text from pg_class where relpersistence = 't' and pg_table_is_visible(oid))",
    "channels": "(select count(*)::text from pg_listening_channels())",
    "advisory locks": "(select count(*)::text from pg_locks where locktype = 'advisory' and pid = pg_backend_pid())",
    "prepared by SQL": "(select count(*)::text from pg_prepared_statements where from_sql)",
    "held cursors": "(select count(*)::text from pg_cursors where is_holdable)",
}
_SETTINGS = (
    "search_path", "timezone", "datestyle", "intervalstyle", "client_min_messages", "statement_timeout", "lock_timeout",
    "work_mem", "application_name", "default_transaction_isolation", "transaction_isolation", "transaction_read_only",
    "extra_float_digits", "standard_conforming_strings", "client_encoding", "role",
)  # fmt: skip
_LOOK = "select " + ", ".join(
    [f"current_setting('{name}')" for name in _SETTINGS]
    + ["coalesce(current_setting('my.var', true), '')", "current_user::text", "session_user::text"]
    + list(_FOREIGN.values())
)
_COLUMNS = (*_SETTINGS, "my.var", "current_user", "session_user", *_FOREIGN)


@dataclass
class _Neighbour:
    number: int
    startup: Mapping[str, object]
    statements: Sequence[str]
    expected: dict[str, str] = field(default_factory=dict)
    transactions: int = 0


def _people(role: str) -> list[_Neighbour]:
    own = [
        [
            "set search_path = pg_catalog, one",
            "set timezone = 'Asia/Tokyo'",
            f"set role {role}",
            "set work_mem = '3MB'",
        ],
        [
            "set search_path to two",
            "set time zone 'America/Lima'",
            f"set role {role}",
            "set session characteristics as transaction isolation level repeatable read",
            "set client_min_messages = error",
        ],
        [
            "select set_config('search_path', 'three', false)",
            "set timezone = 'Europe/Berlin'",
            "set datestyle = 'German'",
            "set statement_timeout = '55s'",
            "set my.var = 'the third''s'",
            "set application_name = 'third'",
        ],
    ]
    return [_Neighbour(n, {}, statements) for n, statements in enumerate([*own, [], []])] + [
        _Neighbour(5, {"application_name": "sixth"}, [])
    ]


class Watch:
    """What the neighbours saw. Made by `neighbours`."""

    def __init__(self, direct: Dsn, through: Dsn, role: str) -> None:
        self._through = through
        self._people = _people(role)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="neighbours")
        self.wrong: list[str] = []
        self.meanwhile = ""  # what the caller does just now, for the report
        for one in self._people:
            with psycopg.connect(direct(**one.startup), autocommit=True) as conn:
                for statement in one.statements:
                    conn.execute(statement)
                one.expected = dict(zip(_COLUMNS, conn.execute(_LOOK).fetchone() or (), strict=True))

    def go_on(self, transactions: int = 3) -> None:
        """Returns when each has begun and ended that many more, or something is wrong already."""
        wanted = {one.number: one.transactions + transactions for one in self._people}
        wait_until(
            lambda: bool(self.wrong) or all(one.transactions >= wanted[one.number] for one in self._people),
            _LIMIT_S,
            f"every neighbour works: {[one.transactions for one in self._people]}",
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(_LIMIT_S * 2)

    async def _all(self) -> None:
        await asyncio.gather(*(self._one(one) for one in self._people))

    async def _one(self, me: _Neighbour) -> None:
        try:
            async with await psycopg.AsyncConnection.connect(
                self._through(**me.startup), autocommit=True, connect_timeout=20
            ) as conn:
                for statement in me.statements:
                    await conn.execute(statement)
                dice = random.Random(me.number)
                while not self._stop.is_set():
                    await self._transaction(me, conn, dice)
                    me.transactions += 1
                    await asyncio.sleep(dice.uniform(0, 2 * _PAUSE_S))
        except (OSError, psycopg.Error) as error:
            self.wrong.append(f"neighbour {me.number} after {me.transactions} transactions: {error!r}")

    async def _transaction(self, me: _Neighbour, conn: psycopg.AsyncConnection, dice: random.Random) -> None:
        async def look(when: str, **different: str) -> None:
            found = dict(zip(_COLUMNS, await (await conn.execute(_LOOK)).fetchone() or (), strict=True))
            for name, value in {**me.expected, **different}.items():
                if found[name] != value:
                    told = f"neighbour {me.number}, {when}: {name} is {found[name]!r} and not {value!r}"
                    self.wrong.append(f"{told} (meanwhile: {self.meanwhile})")

        kind = dice.choice(("autocommit", "local", "read only", "rolled back", "failed"))
        if me.transactions < len(_AT_FIRST):
            kind = _AT_FIRST[me.transactions]
        if kind == "autocommit":
            await look("outside")
            return
        await conn.execute("begin isolation level serializable read only" if kind == "read only" else "begin")
        if kind == "read only":
            await look("in its transaction", transaction_isolation="serializable", transaction_read_only="on")
        elif kind == "local":
            await look("in its transaction")
            await conn.execute("set local timezone = 'Asia/Kathmandu'")
            await look("after SET LOCAL", timezone="Asia/Kathmandu")
        elif kind == "rolled back":
            await conn.execute("set work_mem = '777kB'")
            await look("after its SET", work_mem="777kB")
        else:
            await conn.execute("set search_path = nowhere")
            try:
                await conn.execute("select 1/0")
            except psycopg.errors.DivisionByZero:
                pass
        await conn.execute("commit" if kind != "rolled back" else "rollback")
        await look(f"after the end ({kind})")


@contextmanager
def neighbours(direct: Dsn, through: Dsn, *, role: str) -> Iterator[Watch]:
    """Both make libpq's keywords of (**words); the user may SET ROLE `role`. Fails if they saw anything foreign."""
    watch = Watch(direct, through, role)
    watch.start()
    try:
        watch.go_on(len(_AT_FIRST))
        yield watch
        if not watch.wrong:
            watch.go_on()
    finally:
        watch.stop()
    assert not watch.wrong, f"{len(watch.wrong)} times something foreign:\n" + "\n".join(watch.wrong[:20])
