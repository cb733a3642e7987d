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
