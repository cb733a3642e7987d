"""A Bind whose fate depends on the message behind it, from a client that does not send that message (edge case 29)."""

import pytest

from tests.harness import messages as m
from tests.harness.relaybox import FakeClient, FakeServer, RelayBox

TOLD = m.message("t", b"\0\0") + m.row_description("a")
PREPARED = m.message("1") + TOLD + m.ready()


def one_that_relies(box: RelayBox) -> tuple[FakeClient, FakeServer]:
    """A client that was told of its rows, and the only server, which has lost the statement."""
    pool = box.pool()
    client, other = box.client(pool), box.client(pool)
    client.send(m.parse("select * from t", "s") + m.describe("S", "s") + m.sync())
    server = box.server(pool)
    while server.message() != m.sync():
        pass
    server.send(PREPARED)
    client.expect(PREPARED)
    other.send(m.query("deallocate all"))
    server.expect(m.query("deallocate all"))
    server.send(m.complete("DEALLOCATE ALL") + m.ready())
    other.expect(m.complete("DEALLOCATE ALL") + m.ready())
    server.becomes("idle")
    return client, server


@pytest.mark.edge_case(29)
@pytest.mark.parametrize("behind", [b"", m.describe("P")[:1], m.describe("P")[:-1]], ids=["nothing", "a byte", "cut"])
def test_a_bind_that_stalls_costs_its_client_only(behind: bytes) -> None:
    """Nobody turns round meanwhile; and when the client has left, its server is not lent to another."""
    with RelayBox(limit=1) as box:
        client, server = one_that_relies(box)
        client.pieces([m.bind(statement="s"), behind] if behind else [m.bind(statement="s")])
        before = box.segment.read("worker", 0, "loop_turns")
        box.pump(0.3, [client.sock])
        assert box.segment.read("worker", 0, "loop_turns") - before < 50
        server.silent()
        assert server.state == "busy"
        client.close()
        server.until_end()
        assert server.state == "closed"


@pytest.mark.edge_case(29)
def test_one_who_leaves_while_its_server_is_asked() -> None:
    with RelayBox(limit=1) as box:
        client, server = one_that_relies(box)
        client.send(m.bind(statement="s") + m.execute() + m.sync())
        while server.message() != m.flush():
            pass
        client.close()
        server.until_end()
        assert server.state == "closed"


@pytest.mark.edge_case(29)
def test_a_server_that_dies_while_it_is_asked() -> None:
    with RelayBox(limit=1) as box:
        client, server = one_that_relies(box)
        client.send(m.bind(statement="s") + m.execute() + m.sync())
        while server.message() != m.flush():
            pass
        server.close()
        assert b"SERVER_LOST" in client.until_end()
