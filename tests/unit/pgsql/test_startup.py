"""What a client may say first, and each refusal by its SQLSTATE and text."""

import struct
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import ProxyError
from proxy.exchange import CancelRequest, Hangup, PeerClosed
from proxy.model import ClientTlsMode
from proxy.pgsql import options
from proxy.pgsql.messages import negotiate_protocol_version
from proxy.pgsql.startup import Startup, startup
from tests.harness import messages as wire
from tests.unit.pgsql.drive import Outcome, Tls, play, play_every_way

CORPUS = Path(__file__).parents[2] / "corpus" / "pgsql" / "startup"
PLAIN = ClientTlsMode.OFF
ALPN = Tls(binding=b"h", alpn="postgresql")


def said(turns: list[bytes] | bytes, mode: ClientTlsMode = PLAIN, tls: Tls = ALPN, **more: Any) -> Outcome:
    turns = [turns] if isinstance(turns, bytes) else turns
    return play_every_way(lambda line: startup(line, mode, **more), turns, tls)


def packet(body: bytes, version: int = wire.PROTOCOL_3_0) -> bytes:
    return struct.pack("!II", len(body) + 8, version) + body


def refused(outcome: Outcome, sqlstate: str, text: str) -> None:
    assert isinstance(outcome.error, ProxyError), outcome
    assert (outcome.error.sqlstate, outcome.error.pg_text) == (sqlstate, text)


def welcome(outcome: Outcome) -> Startup:
    assert isinstance(outcome.result, Startup), outcome
    return outcome.result


# ---------------------------------------------------------------- the packet


def test_plain_startup() -> None:
    asked = welcome(said(wire.startup("app", "test", {"application_name": "psql", "TimeZone": "UTC"})))
    assert asked == Startup("app", "test", (("application_name", "psql"), ("timezone", "UTC")), 0, b"")
    assert asked.application == "psql"


def test_bytes_behind_the_packet_stay_unread() -> None:
    outcome = play(lambda line: startup(line, PLAIN), [wire.startup() + wire.query("select 1")])
    assert welcome(outcome).user == "app"
    assert outcome.unread == wire.query("select 1")


def test_ec66_missing_database_is_the_user() -> None:
    assert welcome(said(wire.startup("app", None))).database == "app"
    assert welcome(said(wire.startup("app", ""))).database == "app"


@pytest.mark.parametrize("body", [b"\0", b"user\0\0\0", b"database\0test\0\0"])
def test_ec66_empty_user(body: bytes) -> None:
    text = "A user name is missing from the connection startup packet. Provide a user name for this connection."
    refused(said(packet(body)), "28000", text)


@pytest.mark.parametrize("value", ["1", "on", "true", "t", "yes", "y", "database"])
def test_ec66_replication_is_refused(value: str) -> None:
    text = "Feature not supported: RDS Proxy currently doesn't support streaming replication mode."
    refused(said(wire.startup(more={"replication": value})), "0A000", text)


@pytest.mark.parametrize("value", ["0", "off", "of", "false", "f", "no", "N"])
def test_ec66_replication_that_is_off(value: str) -> None:
    assert welcome(said(wire.startup(more={"replication": value}))).settings == ()


@pytest.mark.parametrize("value", ["", "o", "2", "databases", "DATABASE", "maybe"])
def test_replication_that_means_nothing(value: str) -> None:
    refused(
        said(wire.startup(more={"replication": value})),
        "22023",
        f'invalid value for parameter "replication": "{value}"',
    )


def test_ec66_probe_that_says_nothing() -> None:
    assert isinstance(play(lambda line: startup(line, PLAIN), []).error, PeerClosed)


def test_names_that_are_not_utf8_survive() -> None:
    asked = welcome(said(packet(b"user\0caf\xe9\0database\0d\xff\0\0")))
    assert asked.user.encode("utf-8", "surrogateescape") == b"caf\xe9"
    assert asked.database.encode("utf-8", "surrogateescape") == b"d\xff"


def test_ec63_the_largest_packet() -> None:
    fixed = len(wire.startup(more={"application_name": ""}))
    exact = wire.startup(more={"application_name": "x" * (10_000 - fixed)})
    assert len(exact) == 10_000
    step = 997
    whole = welcome(play(lambda line: startup(line, PLAIN), [exact]))
    cut = welcome(play(lambda line: startup(line, PLAIN), [exact[i : i + step] for i in range(0, len(exact), step)]))
    bytewise = welcome(play(lambda line: startup(line, PLAIN), [exact[i : i + 1] for i in range(len(exact))]))
    assert whole == cut == bytewise


def test_ec63_one_byte_too_large() -> None:
    refused(said([struct.pack("!I", 10_001)]), "08P01", "invalid length of startup packet")


@pytest.mark.parametrize("length", [0, 1, 4, 7, 10_001, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
def test_ec65_lengths(length: int) -> None:
    if length >> 24 == 0x16:
        return
    refused(said(struct.pack("!I", length) + b"\0\3\0\0"), "08P01", "invalid length of startup packet")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"user\0app\0",  # no terminator
        b"user\0app",  # a value that does not end
        b"user\0",  # a name without a value
        b"user\0\0",
        b"user\0app\0\0x\0",  # junk behind the terminator
        b"user\0app\0\0x\0y\0\0",
        b"user\0app\0\0\0",
    ],
)
def test_layouts(body: bytes) -> None:
    refused(said(packet(body)), "08P01", "invalid startup packet layout: expected terminator as last byte")


@pytest.mark.parametrize("version", [0x20000, 0x10000, 0x40000, 0, 1234 << 16, (1234 << 16) | 5681])
def test_other_protocols(version: int) -> None:
    text = "Feature not supported: RDS Proxy supports only version 3.0 of the PostgreSQL messaging protocol."
    refused(said(packet(b"user\0app\0\0", version)), "0A000", text)


# ---------------------------------------------------------------- protocol versions


def test_ec59_3_0_is_not_negotiated() -> None:
    assert welcome(said(wire.startup())).prelude == b""


def test_ec58_3_2_is_taken_as_it_is() -> None:
    asked = welcome(said(wire.startup(version=wire.PROTOCOL_3_2)))
    assert (asked.minor, asked.prelude) == (2, b"")


def test_ec59_3_1_never_existed() -> None:
    assert welcome(said(wire.startup(version=0x30001))).minor == 0


@pytest.mark.parametrize("version", [0x30003, 0x3270F, 0x3FFFF])
def test_ec59_a_higher_minor_version(version: int) -> None:
    asked = welcome(said(wire.startup(version=version)))
    assert asked.minor == 2
    assert asked.prelude == b"v\0\0\0\x0c\0\3\0\2\0\0\0\0"


def test_ec59_unknown_protocol_options_are_listed() -> None:
    asked = welcome(said(wire.startup(more={"_pq_.one": "1", "TimeZone": "UTC", "_pq_.two": ""})))
    assert asked.prelude == negotiate_protocol_version(wire.PROTOCOL_3_0, [b"_pq_.one", b"_pq_.two"])
    assert asked.settings == (("timezone", "UTC"),)


# ---------------------------------------------------------------- settings


def test_ec46_every_setting_is_accepted() -> None:
    more = {"statement_timeout": "5s", "my.app": "x", "Search_Path": '"$user", public'}
    assert welcome(said(wire.startup(more=more))).settings == (
        ("my.app", "x"),
        ("search_path", '"$user", public'),
        ("statement_timeout", "5s"),
    )


def test_a_parameter_overrules_the_command_line() -> None:
    asked = welcome(said(wire.startup(more={"work_mem": "1MB", "options": "-c work_mem=2MB -c geqo=off"})))
    assert asked.settings == (("geqo", "off"), ("work_mem", "1MB"))


@pytest.mark.parametrize("name", ["User", "DATABASE", "Options", "Replication", "_PQ_.x"])
def test_no_setting_passes_for_a_key_of_the_packet(name: str) -> None:
    """Folded to lower case it would name another user in the server's startup packet."""
    refused(said(wire.startup(more={name: "postgres"})), "42704", f'unrecognized configuration parameter "{name}"')
    refused(
        said(wire.startup(more={"options": f"-c {name}=postgres"})),
        "42704",
        f'unrecognized configuration parameter "{name}"',
    )


def test_a_setting_without_a_name() -> None:
    refused(said(wire.startup(more={"options": "-c =x"})), "42704", 'unrecognized configuration parameter ""')


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", []),
        ("   ", []),
        ("-c a=b", [("a", "b")]),
        ("-ca=b", [("a", "b")]),
        ("--a=b", [("a", "b")]),
        ("-c a=b=c", [("a", "b=c")]),
        ("-c a=", [("a", "")]),
        ("  -c  a=b\t-c\nc=d ", [("a", "b"), ("c", "d")]),
        (r"-c a=b\ c", [("a", "b c")]),
        (r"-c a=b\\c", [("a", r"b\c")]),
        (r"-c search_path=\"$user\",\ public", [("search_path", '"$user", public')]),
        ("-c a=b\\", [("a", "b")]),
        ("--statement-timeout=5s", [("statement_timeout", "5s")]),
        ("-c statement-timeout=5s", [("statement_timeout", "5s")]),
        ("-c My.Name=x", [("My.Name", "x")]),
        ("-c a=b+c%20d", [("a", "b+c%20d")]),
        ("-c a=1 -c a=2", [("a", "1"), ("a", "2")]),
        ("-fs -fh", [("enable_seqscan", "false"), ("enable_hashjoin", "false")]),
        ("-f m", [("enable_mergejoin", "false")]),
        ("-S 4096", [("work_mem", "4096")]),
        ("-s -e", [("log_statement_stats", "true"), ("datestyle", "euro")]),
        ("-seF", [("log_statement_stats", "true"), ("datestyle", "euro"), ("fsync", "false")]),
        (
            "-tpa -tpl -te",
            [("log_parser_stats", "true"), ("log_planner_stats", "true"), ("log_executor_stats", "true")],
        ),
        ("-d 2 -d 0", [("log_min_messages", "debug2"), ("log_min_messages", "notice")]),
        ("-v 3 -r file -E", []),
    ],
)
def test_ec45_options_as_postgresql_reads_them(text: str, settings: list[tuple[str, str]]) -> None:
    assert options.parse(text) == settings


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("-c a", "-c a requires a value"),
        ("--a", "--a requires a value"),
        ("--statement-timeout", "--statement-timeout requires a value"),
        ("a=b", "invalid command-line argument for server process: a=b"),
        ("-c a=b junk", "invalid command-line argument for server process: junk"),
        ("-", "invalid command-line argument for server process: -"),
        ("-c", "invalid command-line argument for server process: -c"),
        ("-x 1", "invalid command-line argument for server process: -x"),
        ("-fz", "invalid command-line argument for server process: -fz"),
        ("-- a", "invalid command-line argument for server process: a"),
    ],
)
def test_ec45_options_that_postgresql_refuses(text: str, error: str) -> None:
    refused(said(wire.startup(more={"options": text})), "42601", error)


# ---------------------------------------------------------------- cancel


@pytest.mark.parametrize("size", [1, 4, 32, 256])
def test_ec58_cancel_keys_of_any_length(size: int) -> None:
    assert said(wire.cancel_request(77, b"k" * size)).result == CancelRequest(77, b"k" * size)


@pytest.mark.parametrize("size", [0, 257])
def test_ec58_cancel_keys_that_are_none(size: int) -> None:
    refused(said(wire.cancel_request(77, b"k" * size)), "08P01", "invalid length of query cancel packet")


def test_ec57_cancel_over_tls_and_without_it_where_tls_is_required() -> None:
    key = wire.cancel_request(77, b"abcd")
    assert said([wire.SSL_REQUEST, key], ClientTlsMode.REQUIRE).result == CancelRequest(77, b"abcd")
    # libpq before 17 sends it in the clear even for an encrypted connection
    assert said(key, ClientTlsMode.REQUIRE).result == CancelRequest(77, b"abcd")


def test_a_cancel_key_is_not_shown() -> None:
    assert "abcd" not in repr(CancelRequest(1, b"abcd"))


# ---------------------------------------------------------------- encryption


def test_tls_is_refused_where_it_is_off() -> None:
    outcome = said([wire.SSL_REQUEST, wire.startup()])
    assert outcome.sent == b"N"
    assert welcome(outcome).user == "app"


@pytest.mark.parametrize("mode", [ClientTlsMode.ALLOW, ClientTlsMode.REQUIRE])
def test_tls(mode: ClientTlsMode) -> None:
    outcome = said([wire.SSL_REQUEST, wire.startup()], mode)
    assert (outcome.sent, outcome.tls_at) == (b"S", 1)
    assert welcome(outcome).user == "app"


def test_tls_is_required() -> None:
    refused(said(wire.startup(), ClientTlsMode.REQUIRE), "28000", "This RDS Proxy requires TLS connections.")
    refused(
        said([wire.GSSENC_REQUEST, wire.startup()], ClientTlsMode.REQUIRE),
        "28000",
        "This RDS Proxy requires TLS connections.",
    )


def test_a_unix_socket_needs_no_tls() -> None:
    outcome = said([wire.SSL_REQUEST, wire.startup()], ClientTlsMode.REQUIRE, local=True)
    assert outcome.sent == b"N"
    assert welcome(outcome).user == "app"


def test_ec60_both_requests_in_either_order() -> None:
    assert said([wire.GSSENC_REQUEST, wire.SSL_REQUEST, wire.startup()], ClientTlsMode.ALLOW).sent == b"NS"
    assert said([wire.SSL_REQUEST, wire.GSSENC_REQUEST, wire.startup()]).sent == b"NN"
    assert said([wire.GSSENC_REQUEST, wire.SSL_REQUEST, wire.startup()]).sent == b"NN"


@pytest.mark.parametrize("request_", [wire.SSL_REQUEST, wire.GSSENC_REQUEST], ids=["ssl", "gss"])
def test_ec60_each_once(request_: bytes) -> None:
    text = "Feature not supported: RDS Proxy supports only version 3.0 of the PostgreSQL messaging protocol."
    refused(said([request_, request_, wire.startup()]), "0A000", text)


@pytest.mark.parametrize("request_", [wire.SSL_REQUEST, wire.GSSENC_REQUEST], ids=["ssl", "gss"])
def test_ec60_no_request_inside_tls(request_: bytes) -> None:
    text = "Feature not supported: RDS Proxy supports only version 3.0 of the PostgreSQL messaging protocol."
    refused(said([wire.SSL_REQUEST, request_], ClientTlsMode.ALLOW), "0A000", text)


@pytest.mark.parametrize("mode", [ClientTlsMode.OFF, ClientTlsMode.ALLOW])
@pytest.mark.parametrize(
    ("request_", "what"), [(wire.SSL_REQUEST, "SSL request"), (wire.GSSENC_REQUEST, "GSSAPI encryption request")]
)
def test_ec60_bytes_before_our_answer_are_an_attack(request_: bytes, what: str, mode: ClientTlsMode) -> None:
    outcome = play(partial(_startup, mode), [request_ + wire.startup()])
    refused(outcome, "08P01", f"received unencrypted data after {what}")
    assert outcome.sent == b"", "not even an answer"
    refused(play(partial(_startup, mode), [request_ + b"\0"]), "08P01", f"received unencrypted data after {what}")


def _startup(mode: ClientTlsMode, line: Any) -> Any:
    return startup(line, mode)


HELLO = b"\x16"  # of a ClientHello; what follows is the handshake's own


def test_ec60_direct_tls() -> None:
    outcome = said([HELLO, wire.startup()], ClientTlsMode.REQUIRE)
    assert (outcome.sent, outcome.tls_at) == (b"", 0)
    assert welcome(outcome).user == "app"


@pytest.mark.parametrize("alpn", [None, "http/1.1"])
def test_ec60_direct_tls_without_alpn(alpn: str | None) -> None:
    text = "received direct SSL connection request without ALPN protocol negotiation extension"
    refused(play(partial(_startup, ClientTlsMode.ALLOW), [HELLO, wire.startup()], Tls(alpn=alpn)), "08P01", text)


def test_ec60_direct_tls_where_there_is_no_tls() -> None:
    assert isinstance(said([HELLO]).error, Hangup)


def test_ec60_direct_tls_only_as_the_first_byte() -> None:
    outcome = said([wire.SSL_REQUEST, HELLO + b"\3\1\2\0\1"])
    refused(outcome, "08P01", "invalid length of startup packet")
    assert outcome.sent == b"N"


# ---------------------------------------------------------------- corpus


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.bin")), ids=lambda path: path.stem)
def test_corpus(path: Path) -> None:
    """One malformed input per file; beside it the error. A case is never deleted."""
    sqlstate, text = path.with_suffix(".txt").read_text().rstrip("\n").split(" ", 1)
    refused(said(path.read_bytes()), sqlstate, text)


def test_the_corpus_is_there() -> None:
    assert len(list(CORPUS.glob("*.bin"))) >= 20
