"""Cancel requests: whose they are, what they may hit, and what they may never hit."""

import pytest

from proxy.reasons import CloseReason
from tests.harness import messages as m
from tests.harness.relaybox import ERRORS, FakeClient, FakeServer, RelayBox

DONE = m.complete() + m.ready()
CANCELED = ERRORS[CloseReason.CLOSE_NONE]


def running(box: RelayBox, pool: int) -> tuple[FakeClient, FakeServer]:
    client = box.client(pool)
    client.send(m.query("select pg_sleep(9)"))
    server = box.server(pool)
    server.expect(m.query("select pg_sleep(9)"))
    return client, server


def test_ec54_a_cancel_for_a_running_query_is_dialled_to_its_server() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        client.cancel()
        ((_, server_id, pool_id, pid, key),) = box.happened("cancel")
        row = server.row
        assert row is not None
        assert (server_id, pool_id, pid, key) == (row["server_id"], pool, server.pid, server.key)
        server.send(m.error("57014") + m.ready())
        client.expect(m.error("57014") + m.ready())
        assert server.state == "held"
        box.relay.cancel_done(server_id)
        server.becomes("idle")


@pytest.mark.parametrize("wrong", ["key", "short", "long", "empty", "slot", "negative", "huge"])
def test_ec54_what_does_not_match_exactly_is_dropped(wrong: str) -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, _server = running(box, pool)
        slot, key = {
            "key": (client.slot, bytes(b ^ 1 for b in client.key)),
            "short": (client.slot, client.key[:3]),
            "long": (client.slot, client.key + b"x"),
            "empty": (client.slot, b""),
            "slot": (client.slot + 1, client.key),
            "negative": (-1, client.key),
            "huge": (1 << 30, client.key),
        }[wrong]
        box.relay.cancel(slot, key)
        assert box.happened("cancel") == []


def test_ec58_a_long_key_is_compared_whole() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, cancel_key=bytes(range(32)))
        client.send(m.query("q"))
        box.server(pool).expect(m.query("q"))
        box.relay.cancel(client.slot, bytes(range(31)) + b"x")
        assert box.happened("cancel") == []
        client.cancel()
        assert len(box.happened("cancel")) == 1


def test_ec54_a_late_cancel_hits_nobody() -> None:
    """The query is over and the server serves another client."""
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, server = running(box, pool)
        bob = box.client(pool)
        bob.send(m.query("b"))
        server.send(DONE)
        alice.expect(DONE)
        server.expect(m.query("b"))
        alice.cancel()
        assert box.happened("cancel") == []
        server.send(DONE)
        bob.expect(DONE)


def test_ec54_a_cancel_of_nothing_is_dropped() -> None:
    """Idle, and idle in a transaction."""
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        server.send(m.complete("BEGIN") + m.ready("T"))
        client.expect(m.complete("BEGIN") + m.ready("T"))
        client.cancel()
        box.settle()
        client.send(m.query("commit"))
        server.expect(m.query("commit"))
        server.send(DONE)
        client.expect(DONE)
        client.cancel()
        assert box.happened("cancel") == []
        assert box.segment.read("endpoint", 0, "cancels_dropped") == 2


def test_ec54_a_cancel_under_way_keeps_the_server_from_the_next_client() -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, server = running(box, pool)
        bob = box.client(pool)
        alice.cancel()
        ((_, server_id, *_),) = box.happened("cancel")
        bob.send(m.query("b"))
        server.send(DONE)  # the query was faster
        alice.expect(DONE)
        server.silent()
        assert server.state == "held"
        alice.send(m.query("again"))  # the one who asked must wait as well
        server.silent()
        box.relay.cancel_done(server_id)
        server.expect(m.query("b"))
        server.send(DONE)
        bob.expect(DONE)
        server.expect(m.query("again"))
        server.send(DONE)
        alice.expect(DONE)


def test_ec54_a_cancel_under_way_holds_back_the_next_query_of_the_same_transaction() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        client.cancel()
        ((_, server_id, *_),) = box.happened("cancel")
        server.send(m.complete() + m.ready("T"))
        client.expect(m.complete() + m.ready("T"))
        client.send(m.query("update"))
        server.silent()
        box.relay.cancel_done(server_id)
        server.expect(m.query("update"))
        server.send(DONE)
        client.expect(DONE)
        server.becomes("idle")


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_ec55_a_waiting_client_leaves_the_line(protocol: str) -> None:
    with RelayBox(limit=1) as box:
        pool = box.pool()
        alice, server = running(box, pool)
        bob = box.client(pool)
        batch = m.parse("b") + m.bind() + m.execute()
        bob.send(m.query("b") if protocol == "simple" else batch)
        box.until(lambda: box.rows("pools")[0]["waiting"] == 1, "bob to wait")
        bob.cancel()
        bob.expect(CANCELED)
        if protocol == "extended":
            bob.silent()
            bob.send(m.sync())
        bob.expect(m.ready())
        assert box.happened("cancel") == []
        server.send(DONE)
        alice.expect(DONE)
        server.becomes("idle")
        bob.send(m.query("b2"))  # the session goes on
        server.expect(m.query("b2"))
        server.send(DONE)
        bob.expect(DONE)


def test_ec55_our_own_rollback_is_never_canceled() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        server.send(m.complete("BEGIN") + m.ready("T"))
        client.expect(m.complete("BEGIN") + m.ready("T"))
        client.send(m.query("update"))
        server.expect(m.query("update"))
        client.close()
        box.until(lambda: bool(box.happened("cancel")), "the cancel")
        server.send(m.error("57014") + m.ready("E"))
        server.silent()  # no ROLLBACK yet
        box.relay.cancel_done(box.happened("cancel")[0][1])
        server.expect(m.query("ROLLBACK"))
        box.relay.cancel(client.slot, client.key)
        server.send(m.complete("ROLLBACK") + m.ready())
        server.becomes("idle")
        assert len(box.happened("cancel")) == 1


def test_ec56_a_storm_of_cancels_asks_the_database_a_few_times_only() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        for _ in range(1000):
            client.cancel()
        box.settle()
        asked = box.happened("cancel")
        assert 1 <= len(asked) <= 4
        server.send(m.error("57014") + m.ready())
        client.expect(m.error("57014") + m.ready())
        for event in asked[:-1]:
            box.relay.cancel_done(event[1])
        assert server.state == "held", "the last one can still hit"
        box.relay.cancel_done(asked[-1][1])
        server.becomes("idle")


def test_a_held_server_that_dies_is_forgotten() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        client.cancel()
        ((_, server_id, *_),) = box.happened("cancel")
        server.send(DONE)
        client.expect(DONE)
        server.becomes("held")
        server.close()
        server.becomes("closed")
        box.relay.cancel_done(server_id)
        client.silent()


def test_a_client_that_leaves_while_its_cancel_is_under_way() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client, server = running(box, pool)
        client.cancel()
        ((_, server_id, *_),) = box.happened("cancel")
        server.send(m.complete() + m.ready("T"))
        client.expect(m.complete() + m.ready("T"))
        client.close()
        server.silent()
        box.relay.cancel_done(server_id)
        server.expect(m.query("ROLLBACK"))
        server.send(m.complete("ROLLBACK") + m.ready())
        server.becomes("idle")


# ---------------------------------------------------------------- while the proxy asks for itself

REPLAYED = m.complete("BEGIN") + m.complete("SET") + m.complete("COMMIT") + m.ready()
SLEEP = m.query("select pg_sleep(9)")


def settings(**values: str) -> bytes:
    return b"".join(m.parameter_status(name, values[name]) for name in sorted(values))


@pytest.mark.edge_case(55)
def test_ec55_a_cancel_during_a_replay_waits_for_it() -> None:
    """It would hit the replay: the settings would be refused, and the client closed for asking to be canceled."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool, settings=settings(work_mem="1MB"))
        client.send(SLEEP)
        server = box.server(pool)
        server.expect(m.query("BEGIN;SET \"work_mem\" TO '1MB';COMMIT"), SLEEP)
        client.cancel()
        assert box.happened("cancel") == []
        server.send(REPLAYED)
        box.until(lambda: len(box.happened("cancel")) == 1, "the cancel to be dialled")
        server.send(m.error("57014") + m.ready())
        client.expect(m.error("57014") + m.ready())
        box.relay.cancel_done(box.happened("cancel")[0][1])
        server.becomes("idle")


@pytest.mark.edge_case(47, 55)
def test_ec55_a_cancel_waits_for_both_halves_of_a_replay() -> None:
    with RelayBox() as box:
        pool = box.pool()
        about = m.parameter_status("client_encoding", "LATIN1") + m.message("S", b"my.x\0\xe9\0")
        client = box.client(pool, settings=about)
        client.send(SLEEP)
        server = box.server(pool)
        server.expect(m.query("BEGIN;SET \"client_encoding\" TO 'LATIN1';"))
        server.expect(m.query(b'SET "my"."x" TO \'\xe9\';COMMIT'), SLEEP)
        client.cancel()
        server.send(m.complete("BEGIN") + m.complete("SET") + m.ready("T"))
        assert box.happened("cancel") == []
        server.send(m.complete("SET") + m.complete("COMMIT") + m.ready())
        box.until(lambda: len(box.happened("cancel")) == 1, "the cancel to be dialled")
        server.send(m.error("57014") + m.ready())
        client.expect(m.error("57014") + m.ready())
        box.relay.cancel_done(box.happened("cancel")[0][1])
        server.becomes("idle")


@pytest.mark.edge_case(54, 55)
def test_ec55_a_cancel_while_a_question_of_ours_is_open_hits_nothing() -> None:
    """The client has all its answers, and may have sent its next request when ours is answered."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        text = m.query("select set_config('my.x', 'a' || 'b', false)")
        client.send(text)
        server = box.server(pool)
        server.expect(text)
        server.send(DONE)
        client.expect(DONE)
        server.expect(m.query("SELECT pg_catalog.current_setting('my.x',true)"))
        client.cancel()
        box.settle()
        client.send(m.query("next"))
        server.expect(m.query("next"))
        server.send(m.row_description("x") + m.row("ab") + DONE)
        server.send(DONE)
        client.expect(DONE)
        assert box.happened("cancel") == []
        server.becomes("idle")
        assert box.segment.read("endpoint", 0, "cancels_dropped") == 1
