"""Slow and standing readers: memory stays bounded, nobody else suffers, nothing deadlocks."""

import time

from tests.harness import messages as m
from tests.harness.relaybox import FakeServer, RelayBox

DONE = m.complete() + m.ready()
ROW = m.row("x" * 1000)
MANY = 8_000_000  # bytes; far more than both socket buffers and all of ours
BOUND = 1_500_000  # bytes between two peers: their socket buffers, and one read of ours


def test_ec10_a_client_that_does_not_read_stalls_only_its_own_server() -> None:
    with RelayBox() as box:
        pool = box.pool()
        slow = box.client(pool)
        slow.send(m.query("select big"))
        server = box.server(pool)
        server.expect(m.query("select big"))
        data = ROW * (MANY // len(ROW))
        sent = server.send_some(data)
        assert sent < BOUND, "somebody buffers without bound"
        quick = box.client(pool)
        other: FakeServer | None = None
        for i in range(50):
            quick.send(m.query(f"q{i}"))
            other = other or box.server(pool, 1)
            other.expect(m.query(f"q{i}"))
            other.send(DONE)
            quick.expect(DONE)
        assert server.send_some(data[sent:]) == 0
        server.send_to(data[sent:] + DONE, slow)
        slow.expect(data + DONE)
        server.becomes("idle")


def test_ec10_a_server_that_does_not_read_stalls_only_its_own_client() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("copy t from stdin"))
        server = box.server(pool)
        server.expect(m.query("copy t from stdin"))
        server.send(m.message("G", b"\0\0\0"))
        client.expect(m.message("G", b"\0\0\0"))
        data = m.copy_data(b"x" * 1000) * (MANY // 1005) + m.copy_done()
        sent = client.send_some(data)
        assert sent < BOUND
        client.send_to(data[sent:], server)
        server.expect(data)
        server.send(DONE)
        client.expect(DONE)


def test_ec11_both_sides_write_and_neither_reads() -> None:
    """Pipelined queries one way, results the other, until both stand still; then only one of them reads."""
    for first in ("client", "server"):
        with RelayBox() as box:
            pool = box.pool()
            client = box.client(pool)
            asked = m.query("x" * 1000) * (MANY // 1006)
            client.send(m.query("select 1"))
            server = box.server(pool)
            server.expect(m.query("select 1"))
            rows = ROW * (MANY // len(ROW))
            to_server = client.send_some(asked)
            to_client = server.send_some(rows)
            to_server += client.send_some(asked[to_server:])
            assert to_server < BOUND
            assert to_client < BOUND
            if first == "client":
                server.send_to(rows[to_client:] + DONE, client)
                client.expect(rows + DONE)
                client.send_to(asked[to_server:], server)
                server.expect(asked)
            else:
                client.send_to(asked[to_server:], server)
                server.expect(asked)
                server.send_to(rows[to_client:] + DONE, client)
                client.expect(rows + DONE)
            answers = DONE * asked.count(b"Q\0\0")
            server.send_to(answers, client)
            client.expect(answers)
            server.becomes("idle")


def test_ec11_copy_both_ways_at_once() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("START_REPLICATION 0/0"))
        server = box.server(pool)
        server.expect(m.query("START_REPLICATION 0/0"))
        server.send(m.message("W", b"\0\0\0"))
        client.expect(m.message("W", b"\0\0\0"))
        data = m.copy_data(b"y" * 5000) * 600
        up = client.send_some(data)
        down = server.send_some(data)
        assert max(up, down) < BOUND
        client.send_to(data[up:], server)
        server.send_to(data[down:], client)
        server.expect(data)
        client.expect(data)


def test_ec9_a_client_dies_while_it_does_not_read() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("select big"))
        server = box.server(pool)
        server.expect(m.query("select big"))
        data = ROW * (MANY // len(ROW))
        sent = server.send_some(data)
        client.close()
        server.becomes("cleanup")
        ((_, server_id, *_),) = box.happened("cancel")
        server.send_to(data[sent:] + m.error("57014") + m.ready())
        box.relay.cancel_done(server_id)
        server.becomes("idle")


def test_ec9_an_endless_result_is_not_read_to_its_end() -> None:
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("select endless"))
        server = box.server(pool)
        server.expect(m.query("select endless"))
        client.close()
        server.becomes("cleanup")
        chunk = ROW * 1000
        sent = 0
        while sent < 70_000_000 and not server.ended:
            server.send(chunk)
            server.receive()
            sent += len(chunk)
        assert 60_000_000 < sent < 70_000_000, "64 MiB are the bound"
        server.becomes("closed")


def test_ec37_a_client_dies_in_copy_in_with_bytes_unsent() -> None:
    """What the server has not taken yet cannot be taken back: closed, and it never sees CopyDone."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("copy t from stdin"))
        server = box.server(pool)
        server.expect(m.query("copy t from stdin"))
        server.send(m.message("G", b"\0\0\0"))
        client.expect(m.message("G", b"\0\0\0"))
        data = m.copy_data(b"x" * 5000) * 1000
        sent = client.send_some(data)
        assert sent < len(data)
        client.close()
        seen = server.until_end()
        assert data.startswith(seen)
        assert len(seen) < len(data)


def test_a_standing_relay_does_not_spin() -> None:
    """Everybody stands still: the loop's turns are its ten ticks a second."""
    with RelayBox() as box:
        pool = box.pool()
        client = box.client(pool)
        client.send(m.query("select big"))
        server = box.server(pool)
        server.expect(m.query("select big"))
        server.send_some(ROW * (MANY // len(ROW)))
        client.send_some(m.query("x" * 1000) * 4000)
        waiting = [box.client(box.pool(), idle_timeout=0) for _ in range(3)]
        box.settle()
        before, then = box.segment.read("worker", 0, "loop_turns"), time.monotonic()
        box.pump(0.3, [server.sock])
        turns = box.segment.read("worker", 0, "loop_turns") - before
        assert turns <= 20 + (time.monotonic() - then) * 20
        assert len(waiting) == 3
