"""Two TLS peers joined in memory, and the ways bytes travel between them: whole, one by one, in random pieces."""

import random
import ssl
from collections.abc import Callable, Iterator
from typing import Protocol

from proxy.net._tls import ClientContext, ServerContext, TlsSession
from tests.unit.net.pki import Issued, Pki

Cut = Callable[[bytes], Iterator[bytes]]


class Peer(Protocol):
    def feed(self, data: bytes) -> None: ...
    def take(self) -> bytes: ...
    def handshake(self) -> bool: ...
    def read(self, n: int = ...) -> bytes: ...
    def write(self, data: bytes) -> None: ...


def whole(data: bytes) -> Iterator[bytes]:
    if data:
        yield data


def bytewise(data: bytes) -> Iterator[bytes]:
    for i in range(len(data)):
        yield data[i : i + 1]


def random_pieces(seed: int) -> Cut:
    rng = random.Random(seed)

    def cut(data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            n = rng.choice((1, 2, 4, 5, 6, 100, 1000, 17000))
            yield data[at : at + n]
            at += n

    return cut


DELIVERIES = {"whole": whole, "bytewise": bytewise, "random": random_pieces(20261122)}


class PythonPeer:
    """Python's own ssl module with the methods of a TlsSession."""

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        server: bool = False,
        name: str | None = None,
        session: ssl.SSLSession | None = None,
    ) -> None:
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self._in, self._out, server_side=server, server_hostname=name, session=session)

    def feed(self, data: bytes) -> None:
        self._in.write(data)

    def take(self) -> bytes:
        return self._out.read()

    def handshake(self) -> bool:
        try:
            self.ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self, n: int = 16384) -> bytes:
        try:
            return self.ssl.read(n)
        except ssl.SSLWantReadError:
            return b""

    def write(self, data: bytes) -> None:
        self.ssl.write(data)


class Half:
    """One end during the handshake: fed piece by piece, asked after each piece."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.done = peer.handshake()

    def feed(self, data: bytes) -> None:
        self.peer.feed(data)
        if not self.done:
            self.done = self.peer.handshake()


def shake(client: Peer, server: Peer, cut: Cut = whole) -> None:
    """The handshake up to its end on both sides, with everything that follows at once (tickets) delivered."""
    left, right = Half(client), Half(server)
    moved = True
    while moved:
        moved = False
        for source, target in ((left, right), (right, left)):
            for piece in cut(source.peer.take()):
                moved = True
                target.feed(piece)
    assert left.done and right.done, f"handshake stuck: client {left.done}, server {right.done}"
    for peer in (client, server):
        assert peer.read() == b""  # tickets are no data


def send(source: Peer, target: Peer, data: bytes, cut: Cut = whole, n: int = 16384) -> bytes:
    """Writes `data` on one side; what the other reads, at most `n` bytes at a time."""
    source.write(data)
    got = bytearray()
    for piece in cut(source.take()):
        target.feed(piece)
        while plain := target.read(n):
            assert len(plain) <= n
            got += plain
    return bytes(got)


def memory(*sessions: TlsSession) -> list[int]:
    return [s.memory for s in sessions]


def pair(pki: Pki, cert: Issued, cut: Cut = whole) -> tuple[TlsSession, TlsSession]:
    """A client and a server that have shaken hands."""
    server = ServerContext(cert.cert, cert.key).session()
    client = ClientContext("verify-full", pki.ca, alpn=("postgresql",)).session("db.example")
    shake(client, server, cut)
    return client, server


def python_client(pki: Pki, maximum: str = "1.3") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=pki.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if maximum == "1.2" else ssl.TLSVersion.TLSv1_3
    return context


def python_server(cert: Issued, maximum: str = "1.3") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert.cert, cert.key)
    context.maximum_version = ssl.TLSVersion.TLSv1_2 if maximum == "1.2" else ssl.TLSVersion.TLSv1_3
    return context
