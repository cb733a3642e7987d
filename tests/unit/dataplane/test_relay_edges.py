"""What the fuzzers found in the relay, each as the smallest conversation that shows it."""

import socket

from proxy.reasons import CloseReason
from tests.harness import messages as m
from tests.harness.relaybox import RelayBox, parameters


def test_a_client_that_asks_and_leaves_does_not_stay_in_line() -> None:
    """Its question and its end are seen in one visit: no further event would tell."""
    with RelayBox() as box:
        box.hold_openings = True
        pool = box.pool()
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        ours.send(m.query("select 1"))
        ours.close()
        box.relay.client(
            theirs.detach(), None, slot=1000, pool_id=pool, endpoint=0, cancel_key=b"keyk", parameters=parameters(),
            unread=b"", idle_timeout=0, life=0,
        )  # fmt: skip
        box.until(lambda: any(e[:2] == ("client_closed", 1000) for e in box.log), "the client to be closed")
        closed = next(e for e in box.log if e[0] == "client_closed")
        assert closed[2] == CloseReason.CLIENT_GONE
        assert box.rows("pools")[0]["waiting"] == 0
        box.log.remove(closed)  # the box knows only its own clients


def test_an_idle_server_in_the_middle_of_a_message_is_not_lent() -> None:
    """Its next borrower would get the rest of a message whose beginning nobody saw."""
    notice = m.notice("to nobody in particular")
    with RelayBox() as box:
        pool = box.pool()
        server = box.warm(pool)
        server.send(notice[:20])
        box.settle()
        client = box.client(pool)
        client.send(m.query("select 1"))
        other = box.server(pool, 1)
        other.expect(m.query("select 1"))
        other.send(m.answer("1"))
        client.expect(m.answer("1"))
        server.becomes("cleanup")
        server.send(notice[20:])
        server.becomes("idle")
        client.silent()


def test_a_client_cannot_reach_anothers_statement_by_the_name_the_servers_know() -> None:
    """Whoever guesses "slw_1" must find what a server of its own would have under that name: nothing."""
    with RelayBox() as box:
        pool = box.pool()
        one, other = box.client(pool), box.client(pool)
        one.send(m.parse("select 1", "s1") + m.sync())
        server = box.server(pool)
        parse = server.message()
        server.expect(m.sync())
        server.send(m.message("1") + m.ready())
        one.expect(m.message("1") + m.ready())
        name = parse[5:].split(b"\0")[0].decode()
        other.send(m.bind(statement=name) + m.sync() + m.describe("S", name) + m.sync() + m.close("S", name) + m.sync())
        asked = b"".join(server.message() for _ in range(6))
        assert name.encode() + b"\0" not in asked, asked
        server.send((m.error("26000") + m.ready()) * 2 + m.message("3") + m.ready())
        other.expect((m.error("26000") + m.ready()) * 2 + m.message("3") + m.ready())
