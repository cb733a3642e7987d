"""The audit's question, asked of a real server: each kind of state is found, and nothing in a session can fool it."""

from collections.abc import Iterator

import psycopg
import pytest

from proxy.pgsql._leftovers import LeftoversDoor
from proxy.reasons import PinReason
from tests.harness import messages as m
from tests.harness.postgres import Postgres

ALL = LeftoversDoor.askable()
STATES: dict[PinReason, tuple[list[str], list[str]]] = {
    PinReason.PIN_ADVISORY_LOCK: (["select pg_advisory_lock(1)"], ["select pg_advisory_unlock(1)"]),
    PinReason.PIN_TEMPORARY_OBJECT: (["create temp table t (n int)"], ["drop table t"]),
    PinReason.PIN_LISTEN: (["listen a"], ["unlisten *"]),
    PinReason.PIN_CURSOR: (["begin", "declare c cursor with hold for select 1", "commit"], ["close c"]),
    PinReason.PIN_PREPARED_SQL: (["prepare p as select 1"], ["deallocate p"]),
}
TEMPORARY = [
    ("create temp view v as select 1", "drop view v"),
    ("create temp sequence s", "drop sequence s"),
    ("create function pg_temp.f() returns int language sql as 'select 1'", "drop function pg_temp.f()"),
    ("create type pg_temp.t as (n int)", "drop type pg_temp.t"),
    (
        "create operator pg_temp.=== (leftarg = int, rightarg = int, function = int4eq)",
        "drop operator pg_temp.=== (int, int)",
    ),
    ('create collation pg_temp.c from "C"', "drop collation pg_temp.c"),
    ("select 1 as n into temp t", "drop table t"),
]


@pytest.fixture
def conn(pg: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(pg.dsn(), autocommit=True, prepare_threshold=None) as conn:
        yield conn


def left(conn: psycopg.Connection, pins: set[PinReason] = ALL) -> set[PinReason]:
    return answer(conn, pins)[0]


def answer(conn: psycopg.Connection, pins: set[PinReason] = ALL, settings: bool = True) -> tuple[set[PinReason], bytes]:
    query = LeftoversDoor.ask(pins, settings)
    assert query[:1] == b"Q" and int.from_bytes(query[1:5], "big") == len(query) - 1 and query.count(b"\0", 5) == 1
    result = conn.pgconn.exec_(query[5:-1])
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    found = LeftoversDoor.answer(m.row(*(result.get_value(0, n) for n in range(result.nfields))))
    assert found is not None
    return found


@pytest.mark.edge_case(28)
@pytest.mark.parametrize("reason", STATES)
def test_each_kind_of_state(conn: psycopg.Connection, reason: PinReason) -> None:
    assert left(conn) == set()
    for statement in STATES[reason][0]:
        conn.execute(statement)
    assert left(conn) == {reason}
    assert left(conn, ALL - {reason}) == set(), "it is not asked for"
    for statement in STATES[reason][1]:
        conn.execute(statement)
    assert left(conn) == set()


@pytest.mark.parametrize(("make", "drop"), TEMPORARY)
def test_every_kind_of_temporary_object(conn: psycopg.Connection, make: str, drop: str) -> None:
    conn.execute(make)
    assert left(conn) == {PinReason.PIN_TEMPORARY_OBJECT}
    conn.execute(drop)
    assert left(conn) == set()


def test_a_statement_prepared_by_protocol_under_a_name_of_its_own(conn: psycopg.Connection) -> None:
    conn.pgconn.prepare(b"slw_2a", b"select 1")
    assert left(conn) == set()
    conn.pgconn.prepare(b"mine", b"select 1")
    assert left(conn) == {PinReason.PIN_PREPARED_PROTOCOL}


def test_what_ends_with_the_transaction_is_not_there(conn: psycopg.Connection) -> None:
    with conn.transaction():
        conn.execute("select pg_advisory_xact_lock(1)")
        conn.execute("create temp table t on commit drop as select 1")
        conn.execute("declare c cursor for select 1")
        conn.execute("set local work_mem = '3MB'")
    assert answer(conn) == (set(), b"")


def test_settings(conn: psycopg.Connection) -> None:
    assert answer(conn)[1] == b""
    conn.execute("set DateStyle = 'German'")
    conn.execute("set work_mem = '3MB'")
    assert set(answer(conn)[1].split(b",")) == {b"datestyle", b"work_mem"}
    assert answer(conn, settings=False)[1] == b""
    conn.execute("begin isolation level serializable read only")
    conn.execute("commit")
    conn.execute("reset all")
    assert answer(conn)[1] == b""


def test_names_of_the_sessions_own_do_not_answer_for_the_servers(conn: psycopg.Connection, pg: Postgres) -> None:
    """search_path before pg_catalog, with views and operators of the same names."""
    conn.execute("select pg_advisory_lock(1)")
    conn.execute("listen a")
    conn.execute("create schema fool")
    try:
        conn.execute("create view fool.pg_locks as select 'x'::text as locktype, 0 as pid limit 0")
        conn.execute("create function fool.never(anyelement, anyelement) returns bool language sql as 'select false'")
        conn.execute("create operator fool.= (leftarg = anyelement, rightarg = anyelement, function = fool.never)")
        none = "create function fool.pg_listening_channels() returns setof text language sql as"
        conn.execute(f"{none} 'select null::text limit 0'")
        conn.execute("set search_path = fool, pg_catalog")
        assert left(conn) == {PinReason.PIN_ADVISORY_LOCK, PinReason.PIN_LISTEN}
    finally:
        conn.execute("drop schema fool cascade")


@pytest.mark.parametrize(
    "row",
    [
        m.row(),
        m.row("t"),
        m.row("t", "f", "f", "f", "f", "f"),
        m.row("t", "f", "f", "f", "f", "x", None),
        m.row("t", "f", "f", "f", "f", None, None),
        m.row("t", "f", "f", "f", "f", "true", None),
        m.row("t", "f", "f", "f", "f", "f", None, None),
        m.row("f", "f", "f", "f", "f", "f", "a") + b"x",
        m.row("f", "f", "f", "f", "f", "f", "a")[:-1],
    ],
)
def test_no_answer(row: bytes) -> None:
    assert LeftoversDoor.answer(row) is None


def test_an_answer_at_every_length() -> None:
    whole = m.row("t", "f", "f", "f", "f", "f", "work_mem")
    assert LeftoversDoor.answer(whole) == ({PinReason.PIN_ADVISORY_LOCK}, b"work_mem")
    for n in range(5, len(whole)):
        assert LeftoversDoor.answer(whole[:n]) is None
