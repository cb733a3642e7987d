"""Plan repair on a real server: what a change of the schema, or a DEALLOCATE in a function, breaks unseen."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.messages import bind, close, describe, execute, parse, sync
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient


@pytest.fixture
def table(server: Postgres) -> Iterator[str]:
    server.sql(
        "create table s1.changing as select 1 as a",
        "grant select, insert on s1.changing to app",
        "create or replace function s1.lose() returns void language plpgsql as"
        " $$ begin execute 'deallocate all'; end $$",
    )
    yield "s1.changing"
    server.sql("drop table s1.changing")


def prepared(conn: psycopg.Connection, text: str) -> list[tuple[object, ...]]:
    return conn.execute(text.encode(), prepare=True).fetchall()


@pytest.mark.edge_case(29)
def test_a_changed_schema(server: Postgres, two: ProxyUnderTest, table: str) -> None:
    text = f"select * from {table}"
    with (
        psycopg.connect(server.dsn(), autocommit=True) as direct,
        psycopg.connect(two.dsn(), autocommit=True) as proxied,
        psycopg.connect(two.dsn(), autocommit=True) as other,
    ):
        for conn in (direct, proxied, other, proxied):
            assert prepared(conn, text) == [(1,)]
        server.sql(f"alter table {table} add column b int default 2")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan"):
            prepared(direct, text)
        for _ in range(3):
            assert prepared(proxied, text) == [(1, 2)]
            assert prepared(other, text) == [(1, 2)]
        server.sql(f"alter table {table} drop column a")
        # in a transaction it is the client's to know, as it is directly
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan"), proxied.transaction():
            prepared(proxied, text)
        assert prepared(proxied, text) == [(2,)]


@pytest.mark.edge_case(29)
def test_statements_that_a_function_has_deallocated(two: ProxyUnderTest, table: str) -> None:
    with psycopg.connect(two.dsn(), autocommit=True) as conn:
        for n in range(5):
            assert prepared(conn, f"select a + {n} from {table}") == [(1 + n,)]
        conn.execute("select s1.lose()")
        for n in range(5):
            assert prepared(conn, f"select a + {n} from {table}") == [(1 + n,)]


@pytest.mark.edge_case(29)
def test_nothing_is_done_twice(server: Postgres, one: ProxyUnderTest, table: str) -> None:
    """A batch whose second statement is taken away by its first: an error, and none of it."""
    with FakeClient(one.host, one.port).login() as client:
        client.send(parse(f"insert into {table} select 1 from s1.lose()", "a"), parse("select 1", "b"), sync())
        client.read_until("ReadyForQuery")
        client.send(
            bind(statement="a"), describe("P"), execute(), bind(statement="b"), describe("P"), execute(), sync()
        )
        replies = client.read_until("ReadyForQuery")
        assert any(reply.name == "ErrorResponse" for reply in replies), replies
    assert server.sql(f"select count(*) from {table}") == "1", "the batch is one transaction, and it failed"


@pytest.mark.edge_case(29)
def test_rows_are_never_read_as_they_were_before(server: Postgres, two: ProxyUnderTest, table: str) -> None:
    """Of a client that executes without asking for the columns: on a connection that knows the statement and on one
    that does not, before and after a change, what it reads is what it was told, or it is told that this has changed.
    """
    text = f"select * from {table}"
    with FakeClient(two.host, two.port).login() as a, FakeClient(two.host, two.port).login() as b:

        def once(client: FakeClient, *messages: bytes) -> list[str]:
            client.send(b"".join(messages) + sync())
            got = client.read_until("ReadyForQuery")
            return [f"{m.name} {m.fields['C']}" if m.name == "ErrorResponse" else m.name for m in got]

        blind = bind(statement="s"), execute()
        for client in (a, b):
            assert "RowDescription" in once(client, parse(text, "s"), describe("S", "s"))
        for client in (a, b):
            assert "DataRow" in once(client, *blind)
        # `a` holds one connection, so `b` moves to the other, whichever that is; then the other way round
        for holder, moved in ((a, b), (b, a)):
            once(holder, parse("begin"), bind(), execute())
            assert "DataRow" in once(moved, *blind)
            once(holder, parse("commit"), bind(), execute())
        server.sql(f"alter table {table} add column b int default 2")
        for holder, moved in ((a, b), (b, a), (a, b)):
            once(holder, parse("begin"), bind(), execute())
            told = once(moved, *blind)
            assert "ErrorResponse 0A000" in told and "DataRow" not in told
            once(holder, parse("rollback"), bind(), execute())
        for client in (a, b):
            again = once(client, close("S", "s"), parse(text, "s"), describe("S", "s"))
            assert "RowDescription" in again
            assert "DataRow" in once(client, *blind)
