"""Which server goes to whom, and in what state: conversations of several clients over one relay."""

import pytest

from proxy.reasons import CloseReason, ConnectFailure
from tests.harness import messages as m
from tests.harness.relaybox import FakeClient, FakeServer, RelayBox, parameters

DONE = m.complete() + m.ready()


def ask(client: FakeClient, server: FakeServer, sql: str = "select 1", told: bytes = b"") -> None:
    """One whole exchange. `told`: what the client gets in front of the answer."""
    client.send(m.query(sql))
    server.expect(m.query(sql))
    server.send(m.answer("1"))
    client.expect(told + m.answer("1"))


def begin(client: FakeClient, server: FakeServer) -> None:
    client.send(m.query("begin"))
    server.expect(m.query("begin"))
    server.send(m.complete("BEGIN") + m.ready("T"))
    client.expect(m.complete("BEGIN") + m.ready("T"))


def test_one_server_serves_many_and_waiters_in_order() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        clients = [box.client(pool) for _ in range(5)]
        for i, client in enumerate(clients):
            client.send(m.query(f"select {i}"))
            box.settle()
        server = box.server(pool)
        for i, client in enumerate(clients):
            server.expect(m.query(f"select {i}"))
            server.send(m.answer(str(i)))
            client.expect(m.answer(str(i)))
        server.becomes("idle")
        assert box.opened(pool) == 1
        for client in clients:
            client.silent()


def test_ec1_a_client_behind_a_pipeline_gets_the_server_after_the_last_reply() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        alice.send(m.query("a1") + m.query("a2"))
        server = box.server(pool)
        server.expect(m.query("a1") + m.query("a2"))
        bob.send(m.query("b"))
        server.send(m.answer("1"))
        alice.expect(m.answer("1"))
        server.silent()
        server.send(m.answer("2"))
        alice.expect(m.answer("2"))
        server.expect(m.query("b"))
        server.send(m.answer("3"))
        bob.expect(m.answer("3"))
        alice.silent()


def test_ec2_an_open_transaction_is_not_lent() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        server = box.warm(pool)
        begin(alice, server)
        bob.send(m.query("b"))
        server.silent()
        ask(alice, server)  # answer() says I: the transaction is over
        server.expect(m.query("b"))
        server.send(DONE)
        bob.expect(DONE)


@pytest.mark.parametrize(
    "last_words", [b"", m.error("57P01", "going", "FATAL"), m.error("57P01", "going", "FATAL")[:20]]
)
def test_ec5_a_dead_idle_server_is_never_lent(last_words: bytes) -> None:
    """Both happen before the relay looks again: the server's end, and a request that would have taken it."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        first = box.warm(pool)
        ask(client, first)
        first.becomes("idle")
        first.send(last_words)
        first.close()
        client.send(m.query("select 2"))
        second = box.server(pool, 1)
        second.expect(m.query("select 2"))
        second.send(DONE)
        client.expect(DONE)
        client.silent()


def test_ec5_the_other_idle_server_is_lent() -> None:
    with RelayBox() as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        first = box.warm(pool)
        begin(alice, first)
        bob.send(m.query("b"))
        second = box.server(pool, 1)
        second.expect(m.query("b"))
        second.send(DONE)
        bob.expect(DONE)
        ask(alice, first)  # used last, so first in line
        first.becomes("idle")
        first.close()
        ask(alice, second)


@pytest.mark.parametrize(
    "message", [m.notice("x" * 50), m.notification(7, "channel", "payload"), m.parameter_status("TimeZone", "CET")]
)
def test_ec6_half_an_asynchronous_message_keeps_an_idle_server_back(message: bytes) -> None:
    """The rest of it would otherwise arrive in the middle of the next client's answer."""
    for at in range(1, len(message), 3):
        with RelayBox(limit=1) as box:
            pool = box.pool()
            client = box.client(pool)
            server = box.warm(pool)
            server.pieces([message[:at]])
            client.send(m.query("select 1"))
            server.silent()
            server.send(message[at:])
            server.expect(m.query("select 1"))
            server.send(DONE)
            client.expect((m.parameter_status("TimeZone", "CET") if message[:1] == b"S" else b"") + DONE)
            client.silent()


def test_ec6_the_second_half_of_a_message_behind_the_last_ready_releases_the_server() -> None:
    notice = m.notice("late")
    for at in (1, 3, 5, 10):
        with RelayBox() as box:
            pool = box.pool()
            client = box.client(pool)
            client.send(m.query("select 1"))
            server = box.server(pool)
            server.expect(m.query("select 1"))
            server.pieces([DONE + notice[:at], notice[at:]])
            client.expect(DONE + notice)
            server.becomes("idle")


def test_ec6_what_came_behind_the_login_belongs_to_nobody() -> None:
    """Edge case 7: notices around the end of the login."""
    with RelayBox() as box:
        box.server_unread = m.notice("behind") + m.notification(7, "c") + m.parameter_status("TimeZone", "CET")
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("select 1"))
        server = box.server(pool)
        server.expect(m.query("select 1"))
        server.send(DONE)
        client.expect(m.parameter_status("TimeZone", "CET") + DONE)
        client.silent()


def test_ec44_each_client_knows_its_own_servers_values() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        box.reports = parameters(TimeZone="CET", application_name="")
        alice = box.client(pool)
        bob = box.client(pool, told=parameters(TimeZone="CET", application_name=""))
        server = box.warm(pool)
        ask(alice, server, told=m.parameter_status("TimeZone", "CET") + m.parameter_status("application_name", ""))
        ask(bob, server)
        server.pieces([m.parameter_status("application_name", "x")])
        ask(bob, server, told=m.parameter_status("application_name", "x"))
        ask(bob, server)
        ask(alice, server, told=m.parameter_status("application_name", "x"))


def test_ec35_the_rest_of_a_failed_copy_does_not_keep_the_server() -> None:
    """The COPY fails while megabytes are still on their way: the server is released when the last of them is gone."""
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        alice.send(m.query("copy t from stdin"))
        server = box.server(pool)
        server.expect(m.query("copy t from stdin"))
        server.send(m.message("G", b"\0\0\0"))
        alice.expect(m.message("G", b"\0\0\0"))
        data = m.copy_data(b"x" * 65000) * 40
        sent = alice.send_some(data)
        assert sent < len(data), "the relay must stand still somewhere"
        server.send(m.error("22P02") + m.ready())
        alice.expect(m.error("22P02") + m.ready())
        bob.send(m.query("select 1"))
        box.settle()
        while True:  # the server reads what was on its way, whole messages, and then bob's query
            found = server.message()
            if found[:1] != b"d":
                break
            if sent < len(data):
                sent += alice.send_some(data[sent:])
        assert found == m.query("select 1")
        server.send(DONE)
        bob.expect(DONE)
        alice.send(data[sent:] + m.copy_done())
        alice.silent()


# ---------------------------------------------------------------- opening


def test_ec12_a_temporary_failure_fails_nobody() -> None:
    with RelayBox() as box:
        box.hold_openings = True
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("select 1"))
        for _ in range(3):
            box.until(lambda: bool(box.openings), "an opening")
            number, permit = box.openings.pop()
            box.relay.server_failed(number, permit, int(ConnectFailure.CONNECT_TEMPORARY), b"")
        client.silent()
        box.hold_openings = False
        server = box.server(pool)
        server.expect(m.query("select 1"))
        server.send(DONE)
        client.expect(DONE)


def test_ec12_a_permanent_failure_is_told_in_the_databases_words() -> None:
    with RelayBox() as box:
        box.hold_openings = True
        pool = box.pool()
        clients = [box.client(pool) for _ in range(3)]
        for client in clients:
            client.send(m.query("select 1"))
        box.until(lambda: len(box.openings) == 3, "the openings")
        refusal = m.error("28P01", "wrong password", "FATAL")
        for number, permit in box.openings:
            box.relay.server_failed(number, permit, int(ConnectFailure.CONNECT_PERMANENT), refusal)
        box.openings.clear()
        for client in clients:
            client.expect_end(refusal)
            assert client.closed_as() == CloseReason.SERVER_LOGIN_FAILED


def test_a_changed_generation_closes_servers_as_they_come_free() -> None:
    with RelayBox() as box:
        pool = box.pool(gen=1)
        alice, bob = box.client(pool), box.client(pool)
        first = box.warm(pool)
        begin(alice, first)
        bob.send(m.query("b"))
        second = box.server(pool, 1)
        second.expect(m.query("b"))
        second.send(DONE)
        second.becomes("idle")
        box.change_pool(pool, gen=2)
        second.expect_end(m.terminate())
        ask(alice, first)
        first.expect_end(m.terminate())


def test_ec4_a_large_message_borrows_early_and_keeps_its_server_until_whole() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        server = box.warm(pool)
        big = m.query("select '" + "x" * 200_000 + "'")
        alice.send(big[:100_000])
        server.expect(big[:100_000])
        bob.send(m.query("b"))
        server.silent()
        alice.send(big[100_000:])
        server.expect(big[100_000:])
        server.send(DONE)
        alice.expect(DONE)
        server.expect(m.query("b"))
        server.send(DONE)
        bob.expect(DONE)


def test_ec4_a_client_dies_in_a_large_message() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        server = box.warm(pool)
        big = m.query("select '" + "x" * 200_000 + "'")
        alice.send(big[:100_000])
        server.expect(big[:100_000])
        bob.send(m.query("b"))
        alice.close()
        server.expect_end()  # no Terminate: the server would take it for the rest of the query
        second = box.server(pool, 1)
        second.expect(m.query("b"))
        second.send(DONE)
        bob.expect(DONE)


@pytest.mark.parametrize("size", [32767, 32768, 32769, 65535, 65536, 65537, 131071, 131072, 131073, 1_000_000])
@pytest.mark.parametrize("kind", ["query", "parse", "bind", "copy"])
def test_ec30_messages_of_about_the_buffers_sizes(kind: str, size: int) -> None:
    make = {
        "query": lambda n: m.query("x" * n),
        "parse": lambda n: m.parse("x" * n),
        "bind": lambda n: m.bind("x" * n),
        "copy": lambda n: m.copy_data(b"x" * n),
    }[kind]
    raw = make(size - len(make(0)))
    assert len(raw) == size
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        server = box.warm(pool)
        if kind == "copy":
            client.send(m.query("copy t from stdin"))
            server.expect(m.query("copy t from stdin"))
            server.send(m.message("G", b"\0\0\0"))
            raw += m.copy_done()
        if kind == "bind":
            client.send(m.parse("select $1"))
            server.expect(m.parse("select $1"))
        client.send_to(raw, server)
        server.expect(raw)


def test_a_stalled_parse_costs_nothing() -> None:
    """Too large to borrow late, too small to pass in pieces: while its rest is missing, nobody turns round."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        box.warm(pool)
        raw = m.parse("select '" + "x" * 40_000 + "'") + m.sync()
        client.pieces([raw[:39_000]])
        before = box.segment.read("worker", 0, "loop_turns")
        box.pump(0.3, [client.sock])
        box.settle()
        assert box.segment.read("worker", 0, "loop_turns") - before < 50
        assert box.segment.read("endpoint", 0, "transactions") == 0


def test_ec31_a_bind_with_65535_parameters() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        body = b"\0\0" + b"\0\0" + b"\xff\xff" + b"\0\0\0\1x" * 65535 + b"\0\0"
        batch = m.parse("select 1") + m.message("B", body) + m.execute() + m.sync()
        server = box.warm(pool)
        client.send_to(batch, server)
        server.expect(batch)
        server.send(m.message("1") + m.message("2") + DONE)
        client.expect(m.message("1") + m.message("2") + DONE)
        server.becomes("idle")
