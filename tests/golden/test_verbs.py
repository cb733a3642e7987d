"""What an operator can do to a relay: pause and resume, drain, shut down, kill, take an endpoint away."""

import time

import pytest

from proxy.reasons import CloseReason
from tests.harness import messages as m
from tests.harness.relaybox import ERRORS, FakeClient, FakeServer, RelayBox

DONE = m.complete() + m.ready()


def ask(client: FakeClient, server: FakeServer, sql: str = "select 1", status: str = "I") -> None:
    client.send(m.query(sql))
    server.expect(m.query(sql))
    server.send(m.complete() + m.ready(status))
    client.expect(m.complete() + m.ready(status))


@pytest.mark.parametrize("target", [-1, 0])
def test_ec13_a_pause_lets_transactions_end_and_nobody_begin(target: int) -> None:
    with RelayBox() as box:
        pool = box.pool()
        alice, bob = box.client(pool), box.client(pool)
        server = box.warm(pool)
        ask(alice, server, "begin", "T")
        box.relay.pause(target)
        ask(alice, server, "select 1", "T")
        bob.send(m.query("b"))
        late = box.client(pool)  # clients are accepted
        late.send(m.query("l"))
        ask(alice, server, "commit")
        alice.send(m.query("a"))
        server.silent()
        assert box.opened(pool) == 1, "nothing is opened meanwhile"
        box.relay.resume(target)
        answered = 0

        def all_answered() -> bool:
            nonlocal answered
            for server in box.servers:
                if server.pending():
                    server.message()
                    server.send(DONE)
                    answered += 1
            return answered == 3

        box.until(all_answered, "everybody to be served")
        for client in (alice, bob, late):
            client.expect(DONE)


def test_ec13_a_pause_of_another_target_is_not_ours() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        server = box.warm(pool)
        box.relay.pause(5)
        ask(client, server)


def test_ec13_a_login_that_ends_during_a_pause() -> None:
    with RelayBox() as box:
        box.hold_openings = True
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("q"))
        box.until(lambda: bool(box.openings), "the opening")
        box.relay.pause()
        box.hold_openings = False
        server = box.server(pool)
        server.silent()
        assert server.state == "idle"
        box.relay.resume()
        server.expect(m.query("q"))
        server.send(DONE)
        client.expect(DONE)


def test_drain_closes_each_client_at_the_end_of_its_transaction() -> None:
    with RelayBox() as box:
        pool = box.pool()
        resting, working, waiting = box.client(pool), box.client(pool), box.client(pool)
        server = box.warm(pool)
        box.relay.limit(0, 1)
        ask(working, server, "begin", "T")
        waiting.send(m.query("w"))
        box.until(lambda: box.rows("pools")[0]["waiting"] == 1, "one to wait")
        box.relay.drain(60)
        resting.expect_end(ERRORS[CloseReason.CLIENT_DRAINED])
        working.silent()
        ask(working, server, "select 1", "T")
        working.send(m.query("commit"))
        server.expect(m.query("commit"))
        server.send(DONE)
        working.expect_end(DONE + ERRORS[CloseReason.CLIENT_DRAINED])
        server.expect(m.query("w"))
        server.send(DONE)
        waiting.expect_end(DONE + ERRORS[CloseReason.CLIENT_DRAINED])
        assert [c.closed_as() for c in box.clients] == [CloseReason.CLIENT_DRAINED] * 3
        box.until(lambda: ("drained",) in box.log, "drained")


def test_undrain() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        server = box.warm(pool)
        ask(client, server, "begin", "T")
        box.relay.drain(60)
        box.settle()
        box.relay.undrain()
        ask(client, server, "commit")
        client.silent()


def test_drain_at_its_deadline_closes_all() -> None:
    with RelayBox() as box:
        pool = box.pool()
        working, pinned = box.client(pool), box.client(pool)
        first = box.warm(pool)
        ask(working, first, "begin", "T")
        pinned.send(m.query("listen c"))
        second = box.server(pool, 1)
        second.expect(m.query("listen c"))
        second.send(DONE)
        pinned.expect(DONE)
        then = time.monotonic()
        box.relay.drain(0.3)
        for client in (working, pinned):
            client.expect_end(ERRORS[CloseReason.CLIENT_SHUTDOWN])
        assert 0.3 <= time.monotonic() - then < 1.0
        second.becomes("closed")
        first.expect(m.query("ROLLBACK"))
        first.send(DONE)
        box.until(lambda: ("drained",) in box.log, "drained")


def test_shutdown_tells_everybody_and_opens_nothing_more() -> None:
    with RelayBox() as box:
        pool = box.pool()
        resting, working = box.client(pool), box.client(pool)
        server = box.warm(pool)
        ask(working, server, "begin", "T")
        box.relay.shutdown()
        for client in (resting, working):
            client.expect_end(ERRORS[CloseReason.CLIENT_SHUTDOWN])
        server.expect(m.query("ROLLBACK"))
        server.send(DONE)
        server.expect_end(m.terminate())
        box.until(lambda: ("drained",) in box.log, "drained")
        late = box.client(pool)
        late.expect_end(ERRORS[CloseReason.CLIENT_SHUTDOWN])


def test_kill_is_for_one_client_in_any_state() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        resting, working, waiting, other = (box.client(pool) for _ in range(4))
        server = box.warm(pool)
        working.send(m.query("slow"))
        server.expect(m.query("slow"))
        waiting.send(m.query("w"))
        box.until(lambda: box.rows("pools")[0]["waiting"] == 1, "one to wait")
        for client in (resting, working, waiting):
            box.relay.kill(client.slot)
            box.relay.kill(client.slot)
            client.expect_end(ERRORS[CloseReason.CLIENT_KILLED])
            assert client.closed_as() == CloseReason.CLIENT_KILLED
        for nobody in (0, -1, 99999, 1 << 30):
            box.relay.kill(nobody)
        other.silent()
        box.relay.cancel_done(box.happened("cancel")[0][1])
        server.send(m.error("57014") + m.ready())
        server.becomes("idle")
        ask(other, server)


@pytest.mark.parametrize("pinned", [False, True])
def test_a_removed_endpoint_closes_its_clients_between_transactions(pinned: bool) -> None:
    with RelayBox() as box:
        pool = box.pool()
        resting, working, holding = box.client(pool), box.client(pool), box.client(pool)
        server = box.warm(pool)
        ask(working, server, "listen c" if pinned else "begin", "T")
        holding.send(m.query("listen d"))
        second = box.server(pool, 1)
        second.expect(m.query("listen d"))
        second.send(DONE)
        holding.expect(DONE)
        box.relay.endpoint_gone(7)
        working.silent()
        box.relay.endpoint_gone(0)
        resting.expect_end(ERRORS[CloseReason.ENDPOINT_REMOVED])
        holding.expect_end(ERRORS[CloseReason.ENDPOINT_REMOVED])
        working.silent()
        working.send(m.query("commit"))
        server.expect(m.query("commit"))
        server.send(DONE)
        working.expect_end(DONE + ERRORS[CloseReason.ENDPOINT_REMOVED])
        assert {c.closed_as() for c in (resting, working, holding)} == {CloseReason.ENDPOINT_REMOVED}


def test_the_last_words_reach_a_client_that_was_still_sending() -> None:
    """Its unread bytes must not turn the close into a reset that takes the text with it."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(b"\xff" * 200_000)
        client.expect_end(ERRORS[CloseReason.CLIENT_PROTOCOL_VIOLATION])
        assert client.closed_as() == CloseReason.CLIENT_PROTOCOL_VIOLATION


def test_what_came_with_the_login_is_the_first_request() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, unread=m.query("early") + m.query("half")[:7])
        server = box.server(pool)
        server.expect(m.query("early"))
        server.send(DONE)
        client.expect(DONE)
        client.send(m.query("half")[7:])
        server.expect(m.query("half"))
        server.send(DONE)
        client.expect(DONE)


def test_a_client_of_no_pool_is_given_back() -> None:
    with RelayBox() as box:
        client = box.client(99)
        client.expect_end()
        assert client.closed_as() == CloseReason.CLIENT_SHUTDOWN


def test_drop_database_makes_way() -> None:
    with RelayBox() as box:
        doomed, other = box.pool(database="doomed"), box.pool(database="other")
        first, second = box.warm(doomed), box.warm(other)
        client = box.client(other)
        client.send(m.query("drop database doomed"))
        second.expect(m.query("drop database doomed"))
        first.expect_end(m.terminate())
        second.send(DONE)
        client.expect(DONE)
        assert ("forget", doomed) in box.happened("forget")
