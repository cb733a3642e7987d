"""proxy.net._tls in memory: against itself and against Python's ssl, in all cuts, with everything that can be wrong."""

import ctypes
import gc
import random
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from proxy.net._tls import (
    ClientContext,
    ServerContext,
    TlsClosed,
    TlsDoor,
    TlsError,
    TlsFileError,
    TlsSession,
    live_sessions,
)
from tests.unit.net.peers import Cut, PythonPeer, memory, pair, python_client, random_pieces, send, shake
from tests.unit.net.pki import Issued, Pki

TLS_WANT, TLS_CLOSED, TLS_ERROR = 0, -1, -2


def doors(pki: Pki, cert: Issued) -> tuple[TlsDoor, TlsDoor]:
    client, server = pair(pki, cert)
    return TlsDoor(client), TlsDoor(server)


# ---------------------------------------------------------------- handshake and data


def test_handshake_and_data_in_all_cuts(pki: Pki, server_cert: Issued, cut: Cut) -> None:
    client, server = pair(pki, server_cert, cut)
    assert client.version == server.version == "TLSv1.3"
    assert client.cipher == server.cipher and client.cipher
    assert client.alpn == server.alpn == "postgresql"
    assert client.peer_certificate() == server_cert.der and server.peer_certificate() is None
    assert client.peer_common_name == "db.example" and server.peer_common_name is None
    assert send(client, server, b"select 1", cut) == b"select 1"
    assert send(server, client, b"one row", cut, n=3) == b"one row"
    assert not client.unread and not server.unread


def test_facts_are_unknown_before_the_handshake(pki: Pki, server_cert: Issued) -> None:
    server = ServerContext(server_cert.cert, server_cert.key).session()
    assert (server.version, server.cipher, server.alpn) == (None, None, None)
    assert (server.peer_certificate(), server.peer_certificate_hash(), server.peer_common_name) == (None, None, None)
    assert not server.handshake() and server.take() == b"" and server.memory == 0


@pytest.mark.parametrize("n", [1000, 16384, 100_000])
def test_megabytes_both_ways(pki: Pki, server_cert: Issued, n: int) -> None:
    client, server = pair(pki, server_cert)
    data = random.Random(1).randbytes(3_000_001)
    pieces = random_pieces(7)
    assert send(client, server, data, pieces, n) == data
    assert send(server, client, data[::-1], pieces, n) == data[::-1]
    assert memory(client, server) == [0, 0]


def test_idle_sessions_own_no_buffer(pki: Pki, server_cert: Issued) -> None:
    client, server = pair(pki, server_cert)
    assert memory(client, server) == [0, 0]
    client.write(b"x")
    assert client.memory > 0
    server.feed(client.take())
    assert client.memory == 0 and server.memory > 0 and server.unread
    assert server.read() == b"x"
    assert server.memory == 0


class Mallinfo2(ctypes.Structure):
    """Of glibc's malloc.h; uordblks is what is allocated, hblkhd what is mapped on its own."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


def test_idle_sessions_of_openssl_own_no_buffer_either(pki: Pki, server_cert: Issued) -> None:
    """SSL_MODE_RELEASE_BUFFERS: without it each session that was ever used keeps 16 KiB and more per direction."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc 2.33")
    libc.mallinfo2.restype = Mallinfo2

    def allocated() -> int:
        info = libc.mallinfo2()
        return int(info.uordblks) + int(info.hblkhd)

    context, peers = ServerContext(server_cert.cert, server_cert.key), python_client(pki)

    def idle() -> TlsSession:
        client, server = PythonPeer(peers, name="db.example"), context.session()
        shake(client, server)
        assert send(client, server, b"x" * 5000) == send(server, client, b"x" * 5000)
        return server

    kept = [idle() for _ in range(20)]
    before = allocated()
    if before == 0:
        pytest.skip("another malloc (sanitizer)")
    kept += [idle() for _ in range(100)]
    assert (allocated() - before) / 100 < 20_000


def test_part_of_what_is_there(pki: Pki, server_cert: Issued) -> None:
    """Plaintext that was decrypted but not read counts as unread: the socket will not become readable again for it."""
    client, server = pair(pki, server_cert)
    client.write(b"abcdef")
    server.feed(client.take())
    assert server.read(2) == b"ab"
    assert server.unread and server.memory == 0
    assert server.read(100) == b"cdef"
    assert not server.unread


def test_empty_write_sends_nothing(pki: Pki, server_cert: Issued) -> None:
    client, _server = pair(pki, server_cert)
    client.write(b"")
    assert client.take() == b"" and client.memory == 0


def test_read_of_nothing_is_a_mistake(pki: Pki, server_cert: Issued) -> None:
    client, _server = pair(pki, server_cert)
    with pytest.raises(ValueError, match="at least one byte"):
        client.read(0)


# ---------------------------------------------------------------- the end


def test_close_notify(pki: Pki, server_cert: Issued, cut: Cut) -> None:
    client, server = pair(pki, server_cert)
    client.write(b"last words")
    client.shutdown()
    got, closed = b"", 0
    for piece in cut(client.take()):
        server.feed(piece)
        try:
            while plain := server.read():
                got += plain
        except TlsClosed:
            closed += 1
    assert got == b"last words" and closed == 1
    for _ in range(2):
        with pytest.raises(TlsClosed):
            server.read()
    server.write(b"still heard")  # only the other direction is closed
    client.feed(server.take())
    assert client.read() == b"still heard"
    with pytest.raises(TlsError):
        client.write(b"too late")


def test_shutdown_is_sent_once_and_never_within_a_handshake(pki: Pki, server_cert: Issued) -> None:
    client, _server = pair(pki, server_cert)
    client.shutdown()
    assert client.take()
    client.shutdown()
    assert client.take() == b""
    fresh = ClientContext("require").session()
    fresh.shutdown()
    assert fresh.take() == b""


def test_truncation_is_no_closure(pki: Pki, server_cert: Issued) -> None:
    """The end of the stream is the socket's to report; a record cut short is no data, no error and no busy loop."""
    client, server = pair(pki, server_cert)
    client.write(b"x" * 1000)
    record = client.take()
    for i in range(len(record) - 1):
        server.feed(record[i : i + 1])
        assert server.read() == b""
        assert not server.unread and server.memory == 0
    server.feed(record[-1:])
    assert server.read() == b"x" * 1000


def test_close_during_the_handshake(pki: Pki, server_cert: Issued) -> None:
    server = ServerContext(server_cert.cert, server_cert.key).session()
    client = ClientContext("require").session()
    client.handshake()
    server.feed(client.take())
    assert not server.handshake()
    server.feed(bytes.fromhex("15 0303 0002 0100"))  # plain alert: warning, close_notify
    with pytest.raises(TlsError):
        server.handshake()


# ---------------------------------------------------------------- hostile input

GARBAGE = {
    "startup": bytes.fromhex("00000008 04d2162f") + b"\0" * 40,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
    "long record": bytes.fromhex("16 0301 ffff") + bytes(100),
    "data before hello": bytes.fromhex("17 0303 0010") + bytes(16),
    "empty hello": bytes.fromhex("16 0301 0004 01000000"),
    "lying hello": bytes.fromhex("16 0301 0006 01ffffff 0303"),
    "random": random.Random(3).randbytes(200),
}


@pytest.mark.parametrize("name", GARBAGE)
@pytest.mark.parametrize("side", ["server", "client"])
def test_garbage_instead_of_a_handshake(server_cert: Issued, name: str, side: str, cut: Cut) -> None:
    if side == "server":
        session = ServerContext(server_cert.cert, server_cert.key).session()
    else:
        session = ClientContext("require").session()
        session.handshake()
        session.take()

    def play() -> None:
        for piece in cut(GARBAGE[name]):
            session.feed(piece)
            assert not session.handshake()

    with pytest.raises(TlsError) as first:
        play()
    assert str(first.value) not in ("", "unknown failure", "out of memory")
    with pytest.raises(TlsError):  # the failure is for good
        session.handshake()
    with pytest.raises(TlsError):
        session.write(b"x")


def test_flipped_bits_in_handshakes_fail_and_do_nothing_else(pki: Pki, server_cert: Issued) -> None:
    """Each flip ends in a TlsError on one side; never in a finished pair, a crash or data."""
    server_context = ServerContext(server_cert.cert, server_cert.key)
    client_context = ClientContext("verify-full", pki.ca, alpn=("postgresql",))
    rng = random.Random(5)
    for turn in range(120):
        client, server = client_context.session("db.example"), server_context.session()
        flight = rng.randrange(3)  # ClientHello, the server's answer, the client's Finished
        failed = False
        try:
            source, target = client, server
            client.handshake()
            for n in range(4):
                data = bytearray(source.take())
                if n == flight and data:
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                target.feed(bytes(data))
                target.handshake()
                source, target = target, source
            client.read()
            server.read()
        except TlsError:
            failed = True
        both = client.version is not None and server.version is not None
        assert failed or not both, f"turn {turn}: a damaged handshake succeeded"


def test_flipped_bits_in_records(pki: Pki, server_cert: Issued) -> None:
    rng = random.Random(6)
    for _ in range(40):
        client, server = pair(pki, server_cert)
        client.write(b"select 1" * 4)
        data = bytearray(client.take())
        at = rng.randrange(5, len(data))  # behind the head, whose length field would only make it wait
        data[at] ^= 1 << rng.randrange(8)
        server.feed(bytes(data))
        for _again in range(2):
            with pytest.raises(TlsError, match="bad record mac"):
                server.read()
        assert server.take(), "no alert for the peer"


def test_data_before_damage_is_handed_out_first(pki: Pki, server_cert: Issued) -> None:
    client, server = pair(pki, server_cert)
    client.write(b"good")
    good = client.take()
    client.write(b"evil")
    server.feed(good + client.take()[:-1] + b"!!")
    assert server.read() == b"good"
    with pytest.raises(TlsError):
        server.read()


def test_one_connections_errors_never_reach_another(pki: Pki, server_cert: Issued) -> None:
    """Edge case 95: OpenSSL's error queue is shared by all sessions of a thread."""
    bad_client, bad = pair(pki, server_cert)
    client, server = pair(pki, server_cert)
    peer = PythonPeer(python_client(pki), name="db.example")
    other = ServerContext(server_cert.cert, server_cert.key).session()
    shake(peer, other)
    client.write(b"fine")
    record = client.take()
    bad.feed(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(TlsError):
        bad.read()
    server.feed(record[:10])
    assert server.read() == b""  # "want", though another one has just failed
    with pytest.raises(TlsFileError):
        ServerContext(server_cert.key, server_cert.key)
    server.feed(record[10:])
    assert server.read() == b"fine"
    assert peer.read() == b""  # Python's ssl uses the same queue
    assert bad_client.read() == b""


def test_key_updates_alone_are_no_conversation(pki: Pki, server_cert: Issued) -> None:
    """Each asks us for an answer; a peer that sends only these would fill our outbox for nothing."""
    client, server = doors(pki, server_cert)
    results = []
    for _ in range(20):
        assert client.update_keys() == 1
        assert client.handshake() == 1
        server.feed(client.take())
        results.append(server.read(100))
    assert results[0] == TLS_WANT
    assert results[-1] == TLS_ERROR and "nothing but handshake messages" in server.why


def test_key_updates_with_data_go_on(pki: Pki, server_cert: Issued) -> None:
    client, server = doors(pki, server_cert)
    for _ in range(40):
        for one, two in ((client, server), (server, client)):
            assert one.update_keys() == 1
            assert one.write(b"q") == 1
            two.feed(one.take())
            assert two.read(100) == b"q"
    assert client.why == server.why == ""
    server.write(b"")
    assert server.write(b"end") == 3
    client.feed(server.take())
    assert client.read(10) == b"end"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_renegotiation_is_refused(pki: Pki, server_cert: Issued, tmp_path: Path) -> None:
    server = ServerContext(server_cert.cert, server_cert.key).session()
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        with subprocess.Popen(
            ["openssl", "s_client", "-unix", path, "-tls1_2", "-CAfile", pki.ca],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        ) as client:
            assert client.stdin and client.stdout
            connection, _ = listener.accept()
            with connection:
                done = False
                while not done:
                    server.feed(connection.recv(65536))
                    done = server.handshake()
                    connection.sendall(server.take())
                assert server.version == "TLSv1.2"
                client.stdin.write(b"R\n")
                client.stdin.flush()
                server.feed(connection.recv(65536))
                assert server.read() == b"" and server.version == "TLSv1.2"
                connection.sendall(server.take())
            said, _ = client.communicate()
            assert b"no renegotiation" in said


# ---------------------------------------------------------------- ownership


def test_sessions_outlive_their_context(pki: Pki, server_cert: Issued) -> None:
    """A reload drops the old context, in the middle of a handshake too (the ALPN list is the context's)."""
    context = ServerContext(server_cert.cert, server_cert.key)
    server, idle = context.session(), context.session()
    del context
    gc.collect()
    client = ClientContext("verify-full", pki.ca, alpn=("postgresql",)).session("db.example")
    shake(client, server)
    assert server.alpn == "postgresql" and send(client, server, b"x") == b"x"
    late = ClientContext("require", alpn=("postgresql",)).session()
    shake(late, idle)
    assert idle.alpn == "postgresql"


def test_every_session_is_counted_and_freed(pki: Pki, server_cert: Issued) -> None:
    before = live_sessions()
    context = ServerContext(server_cert.cert, server_cert.key)
    many = [context.session() for _ in range(10)]
    assert live_sessions() == before + 10
    with pytest.raises(TlsError):
        ClientContext("verify-full", pki.ca).session("x" * 300)
    many.clear()
    assert live_sessions() == before
    client, server = pair(pki, server_cert)
    door = TlsDoor(server)
    assert live_sessions() == before + 2
    del server
    assert live_sessions() == before + 2  # it has moved, it is not gone
    del door
    assert live_sessions() == before + 1
    del client
    assert live_sessions() == before


def test_a_moved_session_is_empty(pki: Pki, server_cert: Issued) -> None:
    _client, server = pair(pki, server_cert)
    _door = TlsDoor(server)
    for use in (
        server.read,
        lambda: server.feed(b"x"),
        lambda: server.write(b"x"),
        server.take,
        server.shutdown,
        server.handshake,
        server.peer_certificate,
        server.own_certificate_hash,
        lambda: server.version,
        lambda: server.memory,
        lambda: TlsDoor(server),
    ):
        with pytest.raises(RuntimeError, match="moved to another owner"):
            use()


def test_sessions_come_from_contexts_only() -> None:
    with pytest.raises(TypeError):
        TlsSession()


# ---------------------------------------------------------------- the relay's side


def test_relay_results(pki: Pki, server_cert: Issued) -> None:
    client, server = doors(pki, server_cert)
    assert server.read(100) == TLS_WANT and server.why == ""
    assert client.write(b"") == 0
    assert client.write(b"hello" * 1000) == 5000
    assert client.unsent > 5000
    server.feed(client.take())
    assert client.unsent == 0 and client.memory == 0
    assert (server.pending, server.read(0)) == (True, TLS_WANT)
    assert server.read(4999) == (b"hello" * 1000)[:-1]
    assert (server.pending, server.memory) == (True, 0)
    assert server.read(100) == b"o"
    assert not server.pending
    client.shutdown()
    server.feed(client.take())
    assert server.read(100) == TLS_CLOSED and server.read(100) == TLS_CLOSED
    assert server.write(b"x") == 1
    assert client.write(b"x") == TLS_ERROR and client.why


def test_closure_behind_data_is_pending_until_told(pki: Pki, server_cert: Issued) -> None:
    """The socket may never become readable again: the relay must know that there is more to hear."""
    client, server = doors(pki, server_cert)
    client.write(b"bye")
    client.shutdown()
    server.feed(client.take())
    assert server.read(100) == b"bye"
    assert (server.pending, server.read(100)) == (True, TLS_CLOSED)
    assert server.feed(b"behind the end") == 0
    assert (server.pending, server.memory, server.read(100)) == (False, 0, TLS_CLOSED)


def test_damage_behind_data_is_pending_until_told(pki: Pki, server_cert: Issued) -> None:
    client, server = doors(pki, server_cert)
    client.write(b"good")
    good = client.take()
    client.write(b"evil")
    server.feed(good + client.take()[:-1] + b"!!" + bytes(100))
    assert server.read(100) == b"good"
    assert (server.pending, server.read(100)) == (True, TLS_ERROR)
    assert (server.pending, server.read(100)) == (False, TLS_ERROR)
    assert server.take() and server.memory == 0


def test_relay_reads_several_records_at_once(pki: Pki, server_cert: Issued) -> None:
    client, server = doors(pki, server_cert)
    for i in range(5):
        client.write(b"%d" % i * 10)
    server.feed(client.take())
    assert server.read(1000) == b"".join(b"%d" % i * 10 for i in range(5))


def test_relay_damage(pki: Pki, server_cert: Issued) -> None:
    client, server = doors(pki, server_cert)
    client.write(b"x")
    server.feed(client.take()[:-1] + b"\0\0")
    assert server.read(100) == TLS_ERROR and "bad record mac" in server.why
    assert server.unsent  # alert
    assert server.read(100) == server.write(b"x") == TLS_ERROR
    server.shutdown()


def unfinished_ticket(pki: Pki, server_cert: Issued, client_cert: Issued) -> tuple[TlsDoor, TlsDoor, list[bytes]]:
    """A client in the middle of a ticket that came in several records, and the records to come.

    A ticket with a client certificate inside is longer than a record of 512 bytes.
    """
    server = TlsDoor(ServerContext(server_cert.cert, server_cert.key, pki.ca, "required").session())
    client = TlsDoor(ClientContext("verify-full", pki.ca, client_cert.cert, client_cert.key).session("db.example"))
    assert server.cut_records(512) == 1
    assert client.handshake() == TLS_WANT
    server.feed(client.take())
    assert server.handshake() == TLS_WANT
    client.feed(server.take())
    assert client.handshake() == 1
    server.feed(client.take())
    assert server.handshake() == 1
    flight, records = server.take(), []
    while flight:
        n = 5 + int.from_bytes(flight[3:5])
        records.append(flight[:n])
        flight = flight[n:]
    assert len(records) > 1
    client.feed(records[0])
    assert client.read(100) == TLS_WANT and not client.pending
    return client, server, records[1:]


def test_writing_in_the_middle_of_a_handshake_message(pki: Pki, server_cert: Issued, client_cert: Issued) -> None:
    client, server, rest = unfinished_ticket(pki, server_cert, client_cert)
    assert client.write(b"first ") == 6
    assert client.write(b"second") == 6
    assert client.held == 12 and client.unsent == 12 and client.take() == b""
    for record in rest:
        client.feed(record)
    assert client.read(100) == TLS_WANT
    assert client.held == 0
    server.feed(client.take())
    assert server.read(100) == b"first second"
    assert client.memory == server.memory == 0


def test_a_peer_that_never_finishes_its_message(pki: Pki, server_cert: Issued, client_cert: Issued) -> None:
    client, _server, _rest = unfinished_ticket(pki, server_cert, client_cert)
    results = [client.write(bytes(400_000)) for _ in range(6)]
    assert results[0] == 400_000 and results[-1] == TLS_ERROR
    assert "unfinished" in client.why and client.held <= 2_000_000


def test_closing_with_held_data_frees_it(pki: Pki, server_cert: Issued, client_cert: Issued) -> None:
    client, _server, _rest = unfinished_ticket(pki, server_cert, client_cert)
    assert client.write(b"never sent") == 10
    client.shutdown()
    assert client.memory > 0  # freed with the session: the leak check and ASan look
