"""The doors of the real proxy, byte by byte: what a login may look like, and what may not get in (edge cases 58-66).

The engines' own tests cover every turn of these; here the same holds with sockets, workers, TLS and a database behind.
"""

import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from tests.harness.certs import Authority, Certificate
from tests.harness.messages import (
    GSSENC_REQUEST,
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    SSL_REQUEST,
    Message,
    cancel_request,
    cstr,
    message,
    query,
    startup,
)
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest
from tests.harness.scram import ScramClient
from tests.harness.wire import FakeClient

TRIES = 6  # connections, so that either worker has its share


def connect(proxy: ProxyUnderTest, timeout: float = 5.0) -> FakeClient:
    return FakeClient(proxy.host, proxy.port, timeout)


def unhurt(proxy: ProxyUnderTest) -> None:
    """Both workers still serve."""
    seen: set[int] = set()
    while len(seen) < 2:
        with connect(proxy).login() as client:
            assert [m.name for m in client.ask("select 1")][1] == "DataRow"
            seen.add(client.pid % 128)


def refusal(client: FakeClient) -> dict[str, str]:
    """The ErrorResponse that comes next, and the end of the stream behind it."""
    m = client.read()
    assert m.name == "ErrorResponse", m
    assert client.at_end()
    return m.fields


def sasl(client: FakeClient) -> Message:
    """Startup up to the server's offer of mechanisms."""
    client.send(startup())
    m = client.read()
    assert m.name == "Authentication", m
    assert m.body[:4] == struct.pack("!i", 10), m
    return m


def initial(mechanism: str, data: bytes) -> bytes:
    return message("p", cstr(mechanism) + struct.pack("!i", len(data)) + data)


# 58, 59: protocol versions and keys


def startup_3_2(more: dict[str, str] | None = None, version: int = PROTOCOL_3_2) -> bytes:
    return startup(more=more, version=version)


def login_with(client: FakeClient, packet: bytes) -> list[Message]:
    """Sends `packet` as the startup packet; everything but the authentication, up to ReadyForQuery."""
    client.send(packet)
    got: list[Message] = []
    while not got or got[-1].name != "ReadyForQuery":
        m = client._read_login()
        if m.name == "Authentication":
            client._authenticate(m, "app", "apppw")
        else:
            got.append(m)
    return got


def test_ec58_keys_are_our_own_and_of_the_versions_length(proxy: ProxyUnderTest) -> None:
    keys: set[bytes] = set()
    for version, size in ((PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)):
        for _ in range(TRIES):
            with connect(proxy) as client:
                key = next(m for m in login_with(client, startup(version=version)) if m.name == "BackendKeyData")
                assert len(key.body) == 4 + size
                assert struct.unpack_from("!i", key.body)[0] > 0
                keys.add(key.body[4:])
    assert len(keys) == 2 * TRIES


_SLEEPS = "select count(*) from pg_stat_activity where query = 'select pg_sleep(20)' and state = 'active'"


def test_ec58_a_long_key_cancels(pg: Postgres, proxy: ProxyUnderTest) -> None:
    for _ in range(TRIES):
        with connect(proxy) as client:
            key = next(m for m in login_with(client, startup_3_2()) if m.name == "BackendKeyData").body
            client.send(query("select pg_sleep(20)"))
            wait_until(lambda: pg.sql(_SLEEPS) != "0")
            with connect(proxy) as other:
                other.send(cancel_request(struct.unpack_from("!i", key)[0], key[4:]))
                assert other.at_end()
            assert client.read_until("ReadyForQuery")[-2].fields["C"] == "57014"


@pytest.mark.skipif(psycopg.pq.version() < 180000, reason="libpq 18 speaks 3.2")
@pytest.mark.parametrize("asked", ["3.0", "3.2", "latest"])
def test_ec58_libpq_gets_the_version_it_asks_for(asked: str, proxy: ProxyUnderTest) -> None:
    with psycopg.connect(proxy.dsn(max_protocol_version=asked), autocommit=True) as conn:
        wanted = 30000 if asked == "3.0" else 30002
        assert conn.pgconn.full_protocol_version == wanted
        assert conn.execute("select 1").fetchone() == (1,)
    if asked != "3.0":
        with psycopg.connect(proxy.dsn(min_protocol_version="3.2", max_protocol_version=asked)) as conn:
            assert conn.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize(
    ("version", "more", "newest", "unknown"),
    [
        (PROTOCOL_3_2 + 1, {}, PROTOCOL_3_2, []),
        (PROTOCOL_3_0 + 9999, {}, PROTOCOL_3_2, []),
        (PROTOCOL_3_0, {"_pq_.one": "1", "_pq_.two": ""}, PROTOCOL_3_0, ["_pq_.one", "_pq_.two"]),
        (PROTOCOL_3_2, {"_pq_.one": "1"}, PROTOCOL_3_2, ["_pq_.one"]),
        (PROTOCOL_3_0 + 9999, {"_pq_.test": "x"}, PROTOCOL_3_2, ["_pq_.test"]),
    ],
)
def test_ec59_a_higher_minor_version_is_negotiated_once(
    version: int, more: dict[str, str], newest: int, unknown: list[str], proxy: ProxyUnderTest
) -> None:
    with connect(proxy) as client:
        client.send(startup(more=more, version=version))
        m = client.read()
        assert m.name == "NegotiateProtocolVersion"
        told, count = struct.unpack_from("!ii", m.body)
        names = m.body[8:].split(b"\0")[:-1]
        # the whole version number, or its minor part: libpq takes both
        assert (told, count, [name.decode() for name in names]) == (newest, len(unknown), unknown)
        authentication = client.read()
        assert authentication.name == "Authentication"
        client._authenticate(authentication, "app", "apppw")
        assert client._read_login().name == "Authentication"
        assert "NegotiateProtocolVersion" not in [each.name for each in client.read_until("ReadyForQuery")]


@pytest.mark.parametrize("version", [0, 1 << 16, 2 << 16, 4 << 16, 80877105, 0xFFFFFFFF])
def test_ec59_other_major_versions_are_refused(version: int, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        client.send(struct.pack("!iI", 8 + 9, version) + b"user\0app\0")
        assert refusal(client)["S"] == "FATAL"
    unhurt(proxy)


# 60: encryption


@pytest.mark.parametrize("order", ["ssl gss", "gss ssl", "ssl", "gss", ""])
def test_ec60_either_order_each_once(order: str, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        for request in order.split():
            if request == "ssl":
                client.start_tls()
            else:
                client.send(GSSENC_REQUEST)
                if isinstance(client.sock, ssl.SSLSocket):
                    assert refusal(client)["C"] in {"08P01", "0A000"}  # encryption inside encryption
                    return
                assert client.read_exactly(1) == b"N"
        client.login()
        assert client.ask("select 1")[-1].status == "I"


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["ssl", "gss"])
def test_ec60_each_once(request_: bytes, small: ProxyUnderTest) -> None:
    """Asked for again, it is read as a startup packet of a version that does not exist."""
    with connect(small) as client:
        client.send(request_)
        assert client.read_exactly(1) == b"N"
        client.send(request_)
        assert refusal(client)["S"] == "FATAL"


@pytest.mark.parametrize("request_", [SSL_REQUEST, GSSENC_REQUEST], ids=["ssl", "gss"])
@pytest.mark.parametrize("behind", [startup(), b"\0", b"\x16\x03\x01"], ids=["startup", "byte", "hello"])
def test_ec60_bytes_pipelined_before_the_answer_are_refused(
    request_: bytes, behind: bytes, proxy: ProxyUnderTest
) -> None:
    for _ in range(TRIES // 2):
        with connect(proxy) as client:
            client.send(request_ + behind)
            assert refusal(client)["C"] == "08P01"
    unhurt(proxy)


def test_ec60_bytes_injected_between_answer_and_handshake_are_not_heard(proxy: ProxyUnderTest) -> None:
    """Plain text where the ClientHello belongs: no session of any kind comes of it."""
    with connect(proxy) as client:
        client.send(SSL_REQUEST)
        assert client.read_exactly(1) == b"S"
        client.send(startup())
        try:
            answer = client.sock.recv(65536)
        except ConnectionError:
            answer = b""
        assert answer[:1] in {b"", b"\x15"}, answer  # nothing, or a TLS alert
        assert client.at_end()
    unhurt(proxy)


def test_ec60_direct_tls_on_the_same_port(proxy: ProxyUnderTest) -> None:
    for _ in range(TRIES):
        with connect(proxy).start_tls(direct=True) as client:
            assert isinstance(client.sock, ssl.SSLSocket)
            assert client.sock.selected_alpn_protocol() == "postgresql"
            client.login()
            assert client.ask("select 1")[-1].status == "I"


def test_ec60_direct_tls_needs_alpn(proxy: ProxyUnderTest) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connect(proxy) as client:
        try:
            client.sock = context.wrap_socket(client.sock, server_hostname="localhost")
            client.send(startup())
            assert client.at_end() or client.pending[:1] == b"E"
        except (ssl.SSLError, ConnectionError):
            pass
    unhurt(proxy)


def test_ec60_a_handshake_split_at_every_byte(proxy: ProxyUnderTest) -> None:
    """A ClientHello one byte per segment, through Python's own memory BIO."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with connect(proxy) as client:
        client.send(SSL_REQUEST)
        assert client.read_exactly(1) == b"S"
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    client.sock.send(bytes([byte]))
                incoming.write(client.sock.recv(65536))
        tls.write(startup())
        for byte in outgoing.read():
            client.sock.send(bytes([byte]))
        while True:
            try:
                assert tls.read(1) == b"R"
                break
            except ssl.SSLWantReadError:
                incoming.write(client.sock.recv(65536))


# 61: SCRAM


def test_ec61_mechanisms_with_and_without_tls(proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        assert sasl(client).body[4:] == b"SCRAM-SHA-256\0\0"
    with connect(proxy).start_tls() as client:
        assert sasl(client).body[4:] == b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"


@pytest.mark.parametrize(
    ("tls", "mechanism", "gs2"),
    [
        (False, "SCRAM-SHA-256", b"p=tls-server-end-point,,"),
        (False, "SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"),
        (True, "SCRAM-SHA-256", b"y,,"),
        (True, "SCRAM-SHA-256-PLUS", b"n,,"),
        (True, "SCRAM-SHA-256-PLUS", b"p=tls-unique,,"),
        (False, "SCRAM-SHA-256", b"x,,"),
        (False, "SCRAM-SHA-256", b""),
        (False, "PLAIN", b"n,,"),
        (False, "", b"n,,"),
    ],
)
def test_ec61_the_binding_flag_must_fit_what_was_offered(
    tls: bool, mechanism: str, gs2: bytes, proxy: ProxyUnderTest
) -> None:
    with connect(proxy) as client:
        if tls:
            client.start_tls()
        sasl(client)
        scram = ScramClient("apppw", gs2=gs2)
        client.send(initial(mechanism, scram.first()))
        assert refusal(client)["C"] in {"08P01", "28000", "28P01"}
    unhurt(proxy)


@pytest.mark.parametrize(
    "final",
    [b"", b"\0", b"c=biws", b"c=biws,r=x,p=", b"p=AAAA", b"c=biws,r=,p=AAAA", b"," * 1000, b"\xff" * 300, b"c=" * 9000],
)
def test_ec61_an_empty_or_malformed_final_is_refused(final: bytes, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        sasl(client)
        client.send(initial("SCRAM-SHA-256", ScramClient("apppw").first()))
        assert client.read().name == "Authentication"
        client.send(message("p", final))
        assert refusal(client)["C"] in {"08P01", "28P01"}
    unhurt(proxy)


@pytest.mark.parametrize(
    "first", [b"n,,", b"n,,n=,r=", b"n,,m=x,n=,r=abc", b"n,a=postgres,n=,r=abc", b"n,,r=abc,n=", b"\xff\xfe"]
)
def test_ec61_a_malformed_first_is_refused(first: bytes, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        sasl(client)
        client.send(initial("SCRAM-SHA-256", first))
        fields = refusal(client)
        assert fields["C"] in {"08P01", "0A000", "28000", "28P01"}
    with connect(proxy) as client:
        sasl(client)
        client.send(message("p", cstr("SCRAM-SHA-256") + struct.pack("!i", 2**31 - 1) + first))
        assert refusal(client)["C"] == "08P01"


def test_ec61_the_login_survives_a_restart_of_the_server() -> None:
    """What the proxy remembers of the server's salt and rounds is checked again by each new connection."""
    with Postgres() as own, ProxyUnderTest(own) as proxy:
        with connect(proxy).login() as client:
            assert client.ask("select 1")[-1].status == "I"
        own.sql("alter role app password 'apppw'")  # the same password under another salt
        own.restart()
        with connect(proxy).login() as client:
            assert client.ask("select 1")[-1].status == "I"


def test_ec62_a_role_without_password_or_past_its_time_is_the_databases_to_refuse() -> None:
    """The proxy's secret lets the client in; VALID UNTIL and a missing password are told in the database's words."""
    with Postgres() as own:
        for change in ("valid until '2001-01-01'", "password null"):
            own.sql("alter role app valid until 'infinity' password 'apppw'", f"alter role app {change}")
            with pytest.raises(psycopg.OperationalError) as direct:
                psycopg.connect(own.dsn())
            with ProxyUnderTest(own) as proxy, pytest.raises(psycopg.OperationalError) as through:
                psycopg.connect(proxy.dsn())
            assert "FATAL" in str(through.value)
            assert str(through.value).rpartition("FATAL")[2] == str(direct.value).rpartition("FATAL")[2]


# 63, 65, 66: startup packets


def test_ec63_a_startup_packet_split_at_every_byte(proxy: ProxyUnderTest) -> None:
    packet = startup(more={"application_name": "split"})
    for at in range(1, len(packet)):
        with connect(proxy) as client:
            client.send(packet[:at])
            client.send(packet[at:])
            assert client.read().name == "Authentication"
    with connect(proxy) as client:
        for byte in packet:
            client.send(bytes([byte]))
        assert client.read().name == "Authentication"


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8192, 9999, 10_000])
def test_ec63_startup_packets_up_to_ten_thousand_bytes(size: int, pg: Postgres, proxy: ProxyUnderTest) -> None:
    bare = len(startup(more={"my.long": ""}))
    settings = {"my.long": "x" * (size - bare)}
    assert len(startup(more=settings)) == size
    with connect(proxy).login(**settings) as client, FakeClient(pg.host, pg.port).login(**settings) as direct:
        asked = "select length(current_setting('my.long'))"
        assert client.ask(asked) == direct.ask(asked)


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 10_001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_ec65_startup_lengths_that_cannot_be(length: int, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        client.send(struct.pack("!II", length, PROTOCOL_3_0) + b"user\0app\0\0")
        try:
            fields = refusal(client)
            assert fields["S"] == "FATAL"
        except (EOFError, ConnectionError):
            pass  # closed without a word, as PostgreSQL does when it does not even look like the protocol
    unhurt(proxy)


@pytest.mark.parametrize("length", [0, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFB])
@pytest.mark.parametrize("kind", ["Q", "P", "B", "S", "d", "p", "?"])
def test_ec65_message_lengths_that_cannot_be(kind: str, length: int, proxy: ProxyUnderTest) -> None:
    """Only that connection closes; a query before it has been answered."""
    with connect(proxy).login() as client:
        client.send(query("select 'before'"), kind.encode() + struct.pack("!I", length) + b"x" * 20)
        names = [m.name for m in _rest(client)]
        assert "ErrorResponse" in names
        assert names.index("ErrorResponse") in {0, 4}
    with connect(proxy) as client:
        sasl(client)
        client.send(kind.encode() + struct.pack("!I", length) + b"x" * 20)
        assert "ErrorResponse" in [m.name for m in _rest(client)]


def _rest(client: FakeClient) -> list[Message]:
    got: list[Message] = []
    try:
        while True:
            got.append(client.read())
    except (EOFError, ConnectionError):
        return got


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0",
        b"user",
        b"user\0",
        b"user\0app",
        b"user\0app\0",
        b"user\0app\0\0junk",
        b"\0\0",
        b"user\0app\0database\0\0",
        b"\xff" * 40,
    ],
    ids=repr,
)
def test_ec65_startup_layouts_that_cannot_be(body: bytes, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        client.send(struct.pack("!ii", 8 + len(body), PROTOCOL_3_0) + body)
        assert refusal(client)["S"] == "FATAL"


def test_ec64_a_notice_at_login_is_not_an_error(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """client_min_messages at its lowest makes the database talk during the login and during everything else."""
    for level in ("debug5", "log"):
        with connect(proxy).login(client_min_messages=level) as client:
            for _ in range(5):
                names = [m.name for m in client.ask("do $$ begin raise notice 'n'; raise warning 'w'; end $$")]
                assert names[-1] == "ReadyForQuery"
                assert "ErrorResponse" not in names
                assert names.count("NoticeResponse") >= (2 if level == "debug5" else 1)


def test_ec66_an_empty_user_is_refused(proxy: ProxyUnderTest) -> None:
    nobody = b"database\0test\0\0"
    for packet in (startup(""), struct.pack("!ii", 8 + len(nobody), PROTOCOL_3_0) + nobody):
        with connect(proxy) as client:
            client.send(packet)
            assert refusal(client)["C"] == "28000"


@pytest.mark.parametrize("asked", ["true", "yes", "on", "1", "database"])
def test_ec66_replication_is_refused_in_words(asked: str, proxy: ProxyUnderTest) -> None:
    with connect(proxy) as client:
        client.send(startup(more={"replication": asked}))
        fields = refusal(client)
        assert (fields["S"], fields["C"]) == ("FATAL", "0A000")


@pytest.mark.parametrize("asked", ["false", "no", "off", "0"])
def test_ec66_no_replication_is_an_ordinary_session(asked: str, proxy: ProxyUnderTest) -> None:
    with connect(proxy).login(replication=asked) as client:
        assert client.ask("select 1")[-1].status == "I"


def test_ec66_probes_that_say_nothing_cause_no_log(pg: Postgres) -> None:
    with ProxyUnderTest(pg, alone=False) as proxy:
        for n in range(20):
            sock = socket.create_connection((proxy.host, proxy.port))
            if n % 2:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        unhurt(proxy)
        log = proxy.log(0)
    assert "[ERROR]" not in log
    assert "[WARN]" not in log
    assert "refused" not in log


def test_half_open_logins_have_a_limit_in_number_and_time(pg: Postgres) -> None:
    with ProxyUnderTest(pg, alone=False, workers=1, proxy={"login_timeout": 1, "max_half_open_logins": 5}) as proxy:
        silent = [connect(proxy) for _ in range(5)]
        with connect(proxy) as late:
            late.send(startup())
            assert refusal(late)["C"] == "53300"
        began = time.monotonic()
        for client in silent:
            assert client.at_end()
            client.close()
        assert time.monotonic() - began < 4
        with connect(proxy).login() as client:
            assert client.ask("select 1")[-1].status == "I"


# the way in with TLS, by libpq


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("mode", ["off", "allow", "require"])
def test_every_sslmode_against_every_mode_of_the_proxy(
    sslmode: str, mode: str, authority: Authority, modes: dict[str, ProxyUnderTest]
) -> None:
    proxy = modes[mode]
    dsn = proxy.dsn(sslmode=sslmode, host="localhost", hostaddr=proxy.host, sslrootcert=authority.ca)
    possible = {
        "off": sslmode in {"disable", "allow", "prefer"},
        "allow": True,
        "require": sslmode != "disable",
    }[mode]
    if not possible:
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(dsn)
        return
    with psycopg.connect(dsn) as conn:
        encrypted = mode != "off" and sslmode != "disable" and not (sslmode == "allow" and mode == "allow")
        assert bool(conn.pgconn.ssl_in_use) is encrypted
        assert conn.execute("select 1").fetchone() == (1,)


@pytest.fixture(scope="module")
def modes(pg: Postgres, certificate: Certificate) -> Iterator[dict[str, ProxyUnderTest]]:
    with ExitStack() as stack:
        yield {
            mode: stack.enter_context(
                ProxyUnderTest(
                    pg,
                    alone=False,
                    workers=1,
                    tls=certificate,
                    proxy={"require_tls": mode == "require"},
                    proxy_tls={"mode": mode},
                )
            )
            for mode in ("off", "allow", "require")
        }


def test_another_authority_or_name_is_not_trusted(proxy: ProxyUnderTest, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "other authority")
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        psycopg.connect(proxy.dsn(sslmode="verify-ca", sslrootcert=other.ca))


@pytest.mark.skipif(psycopg.pq.version() < 170000, reason="libpq 17 knows sslnegotiation")
@pytest.mark.parametrize("sslmode", ["require", "verify-full"])
def test_ec60_libpq_with_direct_negotiation(sslmode: str, proxy: ProxyUnderTest, authority: Authority) -> None:
    dsn = proxy.dsn(sslmode=sslmode, sslrootcert=authority.ca, sslnegotiation="direct")
    with psycopg.connect(dsn, autocommit=True) as conn:
        assert conn.pgconn.ssl_in_use
        assert conn.execute("select 1").fetchone() == (1,)
        conn.cancel_safe(timeout=5)


@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
def test_ec61_libpq_with_channel_binding(binding: str, proxy: ProxyUnderTest) -> None:
    with psycopg.connect(proxy.dsn(sslmode="require", channel_binding=binding)) as conn:
        assert conn.execute("select 1").fetchone() == (1,)
    if binding == "require":
        with pytest.raises(psycopg.OperationalError, match="channel binding"):
            psycopg.connect(proxy.dsn(sslmode="disable", channel_binding=binding))


def test_client_certificates(pg: Postgres, certificate: Certificate, authority: Authority) -> None:
    """Wanted: without one, or with one of another authority, no session."""
    mine = authority.issue("app", san="")
    tls = {"client_ca_file": str(authority.ca), "client_certificates": "required"}
    common = {"alone": False, "workers": 1, "tls": certificate, "proxy": {"require_tls": True}}
    with ProxyUnderTest(pg, proxy_tls={"mode": "require", **tls}, **common) as proxy:  # type: ignore[arg-type]
        mine.key.chmod(0o600)
        with psycopg.connect(proxy.dsn(sslmode="require", sslcert=mine.cert, sslkey=mine.key)) as conn:
            assert conn.execute("select 1").fetchone() == (1,)
        stranger = Authority(authority.folder / "stranger", "stranger").issue("app", san="")
        stranger.key.chmod(0o600)
        nobody = {"sslcert": "/nonexistent"}
        for words in (nobody, {"sslcert": stranger.cert, "sslkey": stranger.key}):
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(proxy.dsn(sslmode="require", **words))
