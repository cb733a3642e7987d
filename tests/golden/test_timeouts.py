"""Each timeout runs in its own phase only, and says which one it was (edge case 14)."""

import time

import pytest

from proxy.reasons import CloseReason
from tests.harness import messages as m
from tests.harness.relaybox import ERRORS, FakeClient, FakeServer, RelayBox

DONE = m.complete() + m.ready()
SHORT = 0.25


def seconds(since: float) -> float:
    return time.monotonic() - since


def ask(client: FakeClient, server: FakeServer, sql: str = "select 1", status: str = "I") -> None:
    client.send(m.query(sql))
    server.expect(m.query(sql))
    server.send(m.complete() + m.ready(status))
    client.expect(m.complete() + m.ready(status))


@pytest.mark.parametrize("protocol", ["simple", "extended", "function"])
def test_ec14_borrow_timeout_and_the_session_goes_on(protocol: str) -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool(borrow_timeout=SHORT)
        alice, bob = box.client(pool), box.client(pool)
        server = box.warm(pool)
        ask(alice, server, "begin", "T")
        then = time.monotonic()
        if protocol == "simple":
            bob.send(m.query("b"))
        elif protocol == "function":
            bob.send(m.message("F", b"\0\0\0\1\0\0\0\0\0\0"))
        else:
            bob.send(m.parse("b") + m.bind() + m.execute() + m.sync())
        bob.expect(ERRORS[CloseReason.BORROW_TIMEOUT] + m.ready())
        assert SHORT <= seconds(then) < SHORT + 0.5
        bob.silent()
        ask(alice, server, "commit")
        ask(bob, server)
        assert box.segment.read("endpoint", 0, "borrow_timeouts") == 1


def test_ec14_borrow_timeout_in_the_middle_of_a_batch() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool(borrow_timeout=SHORT)
        alice, bob = box.client(pool), box.client(pool)
        server = box.warm(pool)
        ask(alice, server, "begin", "T")
        bob.send(m.parse("b") + m.bind())
        bob.expect(ERRORS[CloseReason.BORROW_TIMEOUT])
        ask(alice, server, "commit")
        bob.send(m.execute() + m.query("skipped") + m.flush())
        bob.silent()
        server.silent()
        bob.send(m.sync() + m.query("b"))
        bob.expect(m.ready())
        server.expect(m.query("b"))
        server.send(DONE)
        bob.expect(DONE)


def test_ec14_borrow_timeouts_come_in_the_order_of_waiting() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool(borrow_timeout=SHORT)
        alice = box.client(pool)
        server = box.warm(pool)
        ask(alice, server, "begin", "T")
        waiting = [box.client(pool) for _ in range(20)]
        for client in waiting:
            client.send(m.query("q"))
        for client in waiting:
            client.expect(ERRORS[CloseReason.BORROW_TIMEOUT] + m.ready())
        assert box.rows("pools")[0]["waiting"] == 0


def test_ec14_idle_client() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, idle_timeout=SHORT)
        server = box.warm(pool)
        ask(client, server)
        client.expect_end(ERRORS[CloseReason.CLIENT_IDLE_TIMEOUT])
        assert client.closed_as() == CloseReason.CLIENT_IDLE_TIMEOUT
        assert server.state == "idle"


def test_ec14_an_idle_client_in_a_transaction_is_rolled_back() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, idle_timeout=SHORT)
        server = box.warm(pool)
        ask(client, server, "begin", "T")
        client.expect_end(ERRORS[CloseReason.CLIENT_IDLE_TIMEOUT])
        server.expect(m.query("ROLLBACK"))
        server.send(DONE)
        server.becomes("idle")


def test_ec14_a_long_query_is_not_idleness_and_idleness_begins_at_its_end() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, idle_timeout=0.6)
        server = box.warm(pool)
        client.send(m.query("slow"))
        server.expect(m.query("slow"))
        then = time.monotonic()
        box.until(lambda: seconds(then) > 1.0, "a second")
        server.send(DONE)
        client.expect(DONE)
        then = time.monotonic()
        client.expect_end(ERRORS[CloseReason.CLIENT_IDLE_TIMEOUT])
        assert seconds(then) >= 0.55, "the time of the query was counted as idleness"


def test_ec14_a_waiting_client_is_not_idle() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool, idle_timeout=SHORT)
        server = box.warm(pool)
        ask(alice, server, "begin", "T")
        bob.send(m.query("b"))
        then = time.monotonic()
        box.until(lambda: seconds(then) > 2 * SHORT, "twice the idle timeout")
        bob.silent()
        ask(alice, server, "commit")
        server.expect(m.query("b"))
        server.send(DONE)
        bob.expect(DONE)


@pytest.mark.parametrize("longer", [0, 100.0])
def test_ec14_one_endpoints_idle_timeout_does_not_wait_for_anothers(longer: float) -> None:
    """A client that has been silent longer, but may be so, stands in front."""
    with RelayBox() as box:
        pool = box.pool()
        patient = box.client(pool, idle_timeout=longer)
        box.settle()
        client = box.client(pool, idle_timeout=SHORT)
        then = time.monotonic()
        client.expect_end(ERRORS[CloseReason.CLIENT_IDLE_TIMEOUT])
        assert seconds(then) < SHORT + 0.5
        patient.silent()


def test_ec14_a_life_ends_between_transactions() -> None:
    with RelayBox() as box:
        pool = box.pool()
        box.client(pool, life=100.0)  # older, and lives longer: not in the way of the others
        box.client(pool, life=0)
        resting = box.client(pool, life=SHORT)
        working = box.client(pool, life=SHORT)
        server = box.warm(pool)
        ask(working, server, "begin", "T")
        resting.expect_end(ERRORS[CloseReason.CLIENT_LIFE_REACHED])
        working.silent()
        ask(working, server, "select 1", "T")
        ask(working, server, "commit")
        working.expect_end(ERRORS[CloseReason.CLIENT_LIFE_REACHED])
        server.becomes("idle")


@pytest.mark.parametrize("busy", [False, True])
def test_ec14_a_pinned_clients_life_ends_too(busy: bool) -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, life=SHORT)
        server = box.warm(pool)
        then = time.monotonic()
        ask(client, server, "listen c", "T" if busy else "I")
        if busy:
            box.until(lambda: seconds(then) > 2 * SHORT, "twice its life")
            client.silent()
            ask(client, server, "commit")
        client.expect_end(ERRORS[CloseReason.CLIENT_LIFE_REACHED])
        server.becomes("closed")


def test_an_idle_server_is_closed_after_its_idle_timeout_beyond_max_idle() -> None:
    with RelayBox() as box:
        pool = box.pool(idle_timeout=SHORT, max_idle=1)
        clients = [box.client(pool) for _ in range(3)]
        for client in clients:
            client.send(m.query("q"))
        servers = [box.server(pool, i) for i in range(3)]
        for server in servers:
            server.expect(m.query("q"))
        for server in servers:
            server.send(DONE)
        box.until(lambda: sum(s.state == "closed" for s in servers) == 2, "two of three to be closed")
        box.settle()
        assert sum(s.state == "idle" for s in servers) == 1


def test_a_servers_life_ends_between_transactions() -> None:
    with RelayBox() as box:
        pool = box.pool(life=SHORT)
        client = box.client(pool)
        server = box.warm(pool)
        ask(client, server, "begin", "T")
        then = time.monotonic()
        box.until(lambda: seconds(then) > 2 * SHORT, "twice its life")
        assert server.state == "busy"
        ask(client, server, "commit")
        server.expect_end(m.terminate())


def test_an_abandoned_server_that_never_answers_is_closed() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        client, waiting = box.client(pool), box.client(pool)
        server = box.warm(pool)
        ask(client, server, "begin", "T")
        waiting.send(m.query("b"))
        client.close()
        server.expect(m.query("ROLLBACK"))
        then = time.monotonic()
        box.until(lambda: box.opened(pool) == 2, "another server")
        # five seconds for the answer, two more for the server to close: until then its process may be there
        assert 6.5 < seconds(then) < 8.5
        second = box.server(pool, 1)
        second.expect(m.query("b"))
        second.send(DONE)
        waiting.expect(DONE)


def test_a_client_that_was_told_and_does_not_close_is_closed() -> None:
    with RelayBox() as box:
        client = box.client(box.pool())
        then = time.monotonic()
        client.send(b"\xff\xff\xff\xff\xff")
        assert client.until_end() == ERRORS[CloseReason.CLIENT_PROTOCOL_VIOLATION]  # its half of the connection
        assert client.closed_as() == CloseReason.CLIENT_PROTOCOL_VIOLATION
        assert 0.9 < seconds(then) < 1.6


def test_a_client_that_does_not_read_its_last_words_is_closed() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("big"))
        server = box.server(pool)
        server.expect(m.query("big"))
        server.send_some(m.row("x" * 1000) * 3000)
        then = time.monotonic()
        box.relay.kill(client.slot)
        assert client.closed_as() == CloseReason.CLIENT_KILLED
        assert 0.9 < seconds(then) < 1.6
        server.becomes("cleanup")
        box.relay.cancel_done(box.happened("cancel")[0][1])
