"""A TLS session fed anything never crashes, fails only as TlsError, and delivers only what its peer has written.

Input: a byte (which side, garbage or damage on the way), then garbage for the session, or per damage three bytes:
where and what.
"""

import contextlib
import gc
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from proxy.net._tls import ClientContext, ServerContext, TlsError, TlsSession, live_sessions
from tests.fuzz import mutate as mutators
from tests.harness.certs import self_signed

TEXT = [b"hello", b"x" * 20_000, b"y", b"z" * 300] * 2
DAMAGE = 2


@cache
def contexts() -> tuple[ServerContext, ClientContext]:
    with tempfile.TemporaryDirectory() as folder:
        made = self_signed(Path(folder))
        server = ServerContext(str(made.cert), str(made.key))
        return server, ClientContext("require", alpn=("postgresql",))


def pair() -> tuple[TlsSession, TlsSession]:
    server, client = contexts()
    return server.session(), client.session("localhost")


@cache
def flights() -> tuple[bytes, bytes]:
    """What either side says in a good handshake: (client, server)."""
    server, client = pair()
    said = [b"", b""]
    done = [False, False]
    while not all(done):
        for i, (who, other) in enumerate(((client, server), (server, client))):
            done[i] = done[i] or who.handshake()
            piece = who.take()
            said[i] += piece
            other.feed(piece)
    return said[0], said[1]


def seeds() -> list[bytes]:
    client, server = flights()
    alerts = bytes.fromhex("15030300020100") + bytes.fromhex("15030300020228")
    garbage = [
        client,
        server,
        b"\x16\x03\x01\xff\xff" * 9,
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x80\x2e\x01\x03\x01" + bytes(40),
        alerts,
        bytes(600),
    ]
    damage = [b"", bytes([0, 0, 1]), bytes([255, 255, 9]) * 3, bytes([1, 7, 0x80, 9, 200, 3])]
    return (
        [bytes([0]) + one for one in garbage]
        + [bytes([1]) + one for one in garbage]
        + [bytes([DAMAGE]) + one for one in damage]
    )


def check(data: bytes) -> None:
    gc.disable()
    before = live_sessions()
    how, rest = (data[0] if data else 0), data[1:]
    try:
        (_damaged if how & DAMAGE else _garbage)(how, rest, data)
        assert live_sessions() == before, "a session was not freed"
    finally:
        gc.enable()


def _garbage(how: int, rest: bytes, data: bytes) -> None:
    server, client = pair()
    victim = client if how & 1 else server
    del server, client
    with contextlib.suppress(TlsError):
        for piece in mutators.cuts(mutators.of(data), rest):
            victim.feed(piece)
            if victim.handshake():
                assert victim.version
                victim.write(b"x")
                assert isinstance(victim.read(), bytes)
            assert len(victim.take()) < 100_000
    with contextlib.suppress(TlsError):
        victim.read()
    with contextlib.suppress(TlsError):
        victim.write(b"after the end")
    with contextlib.suppress(TlsError):
        victim.shutdown()
    assert len(victim.take()) < 100_000


def _damaged(how: int, rest: bytes, data: bytes) -> None:
    """Two sessions talk; some bytes change on their way."""
    hits = {int.from_bytes(rest[at : at + 2]): rest[at + 2] for at in range(0, min(len(rest) - 2, 60), 3)}
    server, client = pair()
    told = {id(client): b"", id(server): b""}
    heard = {id(client): b"", id(server): b""}
    at, done, texts = 0, {id(client): False, id(server): False}, list(TEXT)
    pieces = mutators.of(data)

    def damaged(flight: bytes) -> Iterator[bytes]:
        nonlocal at
        for piece in mutators.cuts(pieces, flight):
            yield bytes(byte ^ hits.get(at + i, 0) for i, byte in enumerate(piece))
            at += len(piece)

    with contextlib.suppress(TlsError):
        idle = 0
        while idle < 3:
            idle += 1
            for who, other in ((client, server), (server, client)):
                if not done[id(who)]:
                    done[id(who)] = who.handshake()
                elif texts and all(done.values()):
                    text = texts.pop()
                    who.write(text)
                    told[id(who)] += text
                flight = who.take()
                for piece in damaged(flight):
                    idle = 0
                    other.feed(piece)
                    if done[id(other)]:
                        while got := other.read():
                            heard[id(other)] += got
                    else:
                        done[id(other)] = other.handshake()
    for who, other in ((client, server), (server, client)):
        assert told[id(other)].startswith(heard[id(who)]), "bytes that the peer never wrote"
    if not hits:
        assert heard[id(client)] + heard[id(server)], "nothing arrived although nothing was damaged"
        assert heard[id(client)] == told[id(server)]
