"""Transactions, statements and roles as a direct connection has them: what needs a real server and no driver."""

import pytest

from tests.harness.messages import bind, execute, parse, sync
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient

BEGINNINGS = [
    "begin isolation level serializable read only; show transaction_isolation; commit",
    "begin; select 1",
    "show transaction_read_only",
    "commit",
    "commit",
    "begin isolation level nonsense",
    "select 2",
    "begin read only",
    "create table never (a int)",
    "select 3",
    "commit and chain",
    "rollback",
]


def transcript(host: str, port: int, texts: list[str]) -> list[list[tuple[str, bytes]]]:
    with FakeClient(host, port).login() as client:
        return [[(m.name, m.body) for m in client.ask(text)] for text in texts]


def test_ec32_begin_is_what_it_is_directly(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """Nothing is deferred: options, several statements in a text, empty transactions and refusals pass as they are."""
    assert transcript(proxy.host, proxy.port, BEGINNINGS) == transcript(pg.host, pg.port, BEGINNINGS)


def test_ec34_an_implicit_transaction_stays_on_one_server(pg: Postgres, small: ProxyUnderTest) -> None:
    pg.sql("drop table if exists implicit", "create table implicit (n int)", "grant all on implicit to app")
    with FakeClient(small.host, small.port).login() as client:
        client.ask("insert into implicit values (1); insert into implicit values (2); select 1/0")
        assert pg.sql("select count(*) from implicit") == "0"
        client.ask("insert into implicit values (1); insert into implicit values (2)")
        assert pg.sql("select count(*) from implicit") == "2"


def test_ec29_a_stale_plan_is_repaired_for_the_next_use(pg: Postgres, small: ProxyUnderTest) -> None:
    """The error arrives as the server gave it; then the statement works again, where a direct session stays broken."""
    pg.sql("drop table if exists shape", "create table shape (a int)", "grant all on shape to app")
    run = bind(statement="s1") + execute() + sync()
    with FakeClient(small.host, small.port).login() as client:
        client.send(parse("select * from shape", "s1"), run)
        assert [m.name for m in client.read_until("ReadyForQuery")][:2] == ["ParseComplete", "BindComplete"]
        pg.sql("alter table shape add column b int")
        client.send(run)
        assert client.expect("ErrorResponse", "ReadyForQuery")[0].fields["C"] == "0A000"
        client.send(run)
        assert "ErrorResponse" not in [m.name for m in client.read_until("ReadyForQuery")]


def test_ec23_more_statements_in_one_batch_than_a_server_keeps(small: ProxyUnderTest) -> None:
    """What is bound later in the same batch is not evicted by what was bound before it."""
    with FakeClient(small.host, small.port).login() as client:
        for n in range(300):
            client.send(parse(f"select {n}", f"s{n}"), sync())
            client.expect("ParseComplete", "ReadyForQuery")
        for _ in range(2):
            client.send(b"".join(bind(statement=f"s{n}") + execute() for n in range(300)) + sync())
            answers = client.read_until("ReadyForQuery")
            assert [m.values[0] for m in answers if m.name == "DataRow"] == [str(n).encode() for n in range(300)]


@pytest.mark.parametrize("setting", ["default_transaction_read_only"])
def test_ec15_a_server_that_has_become_read_only_is_not_lent(pg: Postgres, setting: str) -> None:
    if pg.version < 14:
        pytest.skip("PostgreSQL before 14 does not report it")
    with ProxyUnderTest(pg, alone=False, workers=1) as proxy, FakeClient(proxy.host, proxy.port).login() as client:
        before = client.ask("select pg_backend_pid()")[1].values
        assert client.ask("select pg_backend_pid()")[1].values == before
        try:
            pg.sql(f"alter system set {setting} = on", "select pg_reload_conf()")
            wait_until(lambda: client.ask("select pg_backend_pid()")[1].values != before, what="another connection")
        finally:
            pg.sql(f"alter system reset {setting}", "select pg_reload_conf()")
