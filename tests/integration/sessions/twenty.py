"""Twenty clients at once, each with a transcript: what they are told directly and through a proxy must be the same.

A work is a function of the address: it lets twenty clients work there and returns what each of them said. Client n is
the person n % 4: search_path, time zone and role of its own. Both schemas have a table `item`, where everybody has rows
of its own, and `here`, which says which schema it is.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from typing import Self

from tests.harness.messages import bind, close, describe, execute, parse, query, sync, terminate
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient
from tests.integration.sessions import pins
from tests.integration.sessions.player import spoken

To = Postgres | ProxyUnderTest
Say = Callable[..., None]
Work = Callable[[To], list[list[str]]]

CLIENTS = 20
ROUNDS = 2
_LIMIT_S = 25.0

_OBJECTS = """
create schema {schema};
create table {schema}.here as select '{schema}' as name;
create table {schema}.item (id int primary key, owner int not null, title text not null);
grant usage on schema {schema} to app, clerk, guest;
grant all on all tables in schema {schema} to app, clerk, guest
"""


@dataclass(frozen=True)
class Person:
    schema: str
    zone: str
    role: str


_PERSONS = (
    Person("orm1", "Asia/Tokyo", "clerk"),
    Person("orm2", "America/Lima", "guest"),
    Person("orm2", "Europe/Berlin", "app"),
    Person("orm1", "UTC", "guest"),
)
KINDS = len(_PERSONS)

LOOK = (
    "select current_setting('search_path') as a, current_setting('timezone') as b, current_setting('role') as c,"
    " current_user::text as d, current_setting('statement_timeout') as e, current_setting('application_name') as f,"
    " (timestamptz '2026-11-02 12:00Z')::text as g, (select name from here) as h"
)


def person(n: int) -> Person:
    return _PERSONS[n % KINDS]


def build(server: Postgres) -> None:
    server.sql("create type mood as enum ('glad', 'sad')", *(_OBJECTS.format(schema=name) for name in ("orm1", "orm2")))


def threads(one: Callable[[Say, int], None]) -> list[list[str]]:
    """Each client in a thread of its own; all begin together. What one raises is raised."""
    begin = threading.Barrier(CLIENTS)

    def client(n: int) -> list[str]:
        said: list[str] = []
        begin.wait(_LIMIT_S)
        one(lambda *words: said.append(" ".join(map(str, words))), n)
        return said

    with ThreadPoolExecutor(CLIENTS, "client") as pool:
        return list(pool.map(client, range(CLIENTS), timeout=_LIMIT_S))


async def tasks(one: Callable[[Say, int], Awaitable[None]]) -> list[list[str]]:
    async def client(n: int) -> list[str]:
        said: list[str] = []
        await one(lambda *words: said.append(" ".join(map(str, words))), n)
        return said

    async with asyncio.timeout(_LIMIT_S):
        return await asyncio.gather(*(client(n) for n in range(CLIENTS)))


class Compared:
    """One database. What the works said directly is kept for the next proxy."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._said: dict[str, list[list[str]]] = {}

    def same(self, name: str, work: Work, through: ProxyUnderTest) -> None:
        """The same transcripts, and nothing pinned."""
        if name not in self._said:
            self._said[name] = self._run(work, self._server)
        with pins.none(through):
            found = self._run(work, through)
        differences: list[str] = []
        for n, (theirs, ours) in enumerate(zip(self._said[name], found, strict=True)):
            assert len(theirs) > ROUNDS, f"{name}: client {n} said too little: {theirs}"
            if theirs != ours:
                told = unified_diff(theirs, ours, "directly", "through the proxy", n=3, lineterm="")
                differences += [f"--- client {n}", *told]
        assert not differences, "\n".join([name, *differences[:80]])

    def _run(self, work: Work, to: To) -> list[list[str]]:
        self._server.sql("truncate orm1.item, orm2.item")
        return work(to)


# raw flows


@dataclass(frozen=True)
class Sent:
    """Bytes, and how many ReadyForQuery end what they cause."""

    label: str
    raw: bytes
    answers: int = 1


def simple(*texts: str) -> Sent:
    """Each a Query message, all sent at once."""
    return Sent(" | ".join(texts), b"".join(map(query, texts)), len(texts))


def prepare(name: str, sql: str) -> Sent:
    return Sent(f"prepare {name!r} {sql}", parse(sql, name) + describe("S", name) + sync())


def run(name: str, *values: str, limit: int = 0) -> Sent:
    return Sent(f"run {name!r} {values}", bind(*values, statement=name) + describe("P") + execute("", limit) + sync())


def unnamed(sql: str, *values: str) -> Sent:
    return Sent(f"unnamed {sql}", parse(sql) + bind(*values) + describe("P") + execute() + sync())


def pipeline(*parts: Sent) -> Sent:
    """All of it sent before anything is read, each with its own Sync."""
    return Sent(
        " || ".join(part.label for part in parts),
        b"".join(part.raw for part in parts),
        sum(part.answers for part in parts),
    )


def batch(*parts: Sent) -> Sent:
    """One Sync at the end: an error skips what follows."""
    bodies = (part.raw.removesuffix(sync()) for part in parts)
    return Sent(f"batch {' || '.join(part.label for part in parts)}", b"".join(bodies) + sync())


def forget(name: str) -> Sent:
    return Sent(f"close {name!r}", close("S", name) + sync())


class Talker:
    """Sends and writes down all it is told; parameters as what it believes after each step."""

    def __init__(self, to: To, say: Say, **startup: str) -> None:
        self._say = say
        self._wire = FakeClient(to.host, to.port, timeout=10).login(**startup)
        self._known: dict[str, str] = {}
        self._say_parameters()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._wire.send(terminate())
        self._wire.close()

    def send(self, *steps: Sent) -> None:
        for step in steps:
            self._say(f"> {step.label}")
            self._wire.send(step.raw)
            for _ in range(step.answers):
                for m in iter(self._wire.read, None):
                    if m.name == "ParameterStatus":
                        name, value = ([*m.strings, ""])[:2]
                        self._wire.parameters[name] = value
                        continue
                    self._say(spoken(m))
                    if m.name == "ReadyForQuery":
                        break
            self._say_parameters()

    def _say_parameters(self) -> None:
        changed = sorted(self._wire.parameters.items() - self._known.items())
        if changed:
            self._say(f"parameters {changed}")
        self._known = dict(self._wire.parameters)


def raw(startup: Callable[[int], dict[str, str]], steps: Callable[[int], Iterator[Sent]]) -> Work:
    """Each of the twenty sends `steps(n)`."""

    def work(to: To) -> list[list[str]]:
        def one(say: Say, n: int) -> None:
            with Talker(to, say, **startup(n)) as talker:
                talker.send(*steps(n))

        return threads(one)

    return work


@contextmanager
def closing(things: Sequence[object], verb: str) -> Iterator[None]:
    """Calls `verb` of each at the end."""
    try:
        yield
    finally:
        for thing in things:
            getattr(thing, verb)()
