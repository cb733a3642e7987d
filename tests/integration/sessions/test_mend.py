"""Plan repair on a real server: what a change of the schema, or a DEALLOCATE in a function, breaks unseen."""

from collections.abc import Iterator

import psycopg
import pytest

from tests.harness.messages import bind, describe, execute, parse, sync
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
