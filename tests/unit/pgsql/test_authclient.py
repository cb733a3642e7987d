"""Login at a database: each method, what is collected on the way, and what a server may do wrong."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from proxy.errors import ProtocolViolation
from proxy.exchange import Encryption, Exchange, PeerClosed, StartTls, TlsRefused, UnsupportedMethod
from proxy.pgsql import messages as m
from proxy.pgsql.authclient import (
    LIMITS_QUERY,
    MAX_LOGIN_MESSAGE,
    MAX_LOGIN_MESSAGES,
    ServerReady,
    ServerRefused,
    log_in,
    permanent,
)
from proxy.pgsql.exchange import Line
from proxy.pgsql.md5 import md5_response
from proxy.pgsql.scram import PLAIN, PLUS, ScramError, ScramServer, verifier
from tests.harness import messages as wire
from tests.unit.pgsql.drive import Outcome, Tls, play, play_every_way

OK = wire.authentication_ok()
STATUS = wire.parameter_status("server_version", "15.4") + wire.parameter_status("DateStyle", "ISO, MDY")
KEY = wire.backend_key_data(4711, b"abcd")
READY = OK + STATUS + KEY + wire.ready()
STARTUP = m.startup_message([("user", "app"), ("database", "test")])
BINDING = b"h" * 32


def login(line: Line, **more: Any) -> Exchange[ServerReady]:
    return log_in(line, user="app", database="test", password="apppw", **more)


def ready(outcome: Outcome) -> ServerReady:
    assert isinstance(outcome.result, ServerReady), outcome
    return outcome.result


def wrong(turns: list[bytes], kind: type[Exception], text: str = "", **more: Any) -> Exception:
    outcome = play_every_way(partial(login, **more), turns)
    assert type(outcome.error) is kind, outcome
    assert text in str(outcome.error)
    return outcome.error


# ---------------------------------------------------------------- what a login yields


def test_trust() -> None:
    outcome = play_every_way(login, [READY])
    assert outcome.sent == STARTUP
    found = ready(outcome)
    assert (found.backend_pid, found.cancel_key, found.notices, found.limits) == (4711, b"abcd", (), None)


def test_parameters_are_the_servers_own_bytes_sorted_by_name() -> None:
    status = [wire.parameter_status(name, "x") for name in ("b", "a", "C", "in_hot_standby")]
    later = wire.parameter_status("a", "newest")
    found = ready(play_every_way(login, [OK + b"".join(status) + KEY + later + wire.ready()]))
    assert found.parameters == status[2] + later + status[0] + status[3]


def test_settings_go_into_the_startup_packet() -> None:
    settings = (("application_name", "x"), ("search_path", '"a b", c'))
    outcome = play(partial(login, settings=settings), [READY])
    assert outcome.sent == m.startup_message([("user", "app"), ("database", "test"), *settings])


@pytest.mark.parametrize("size", [4, 32, 256])
def test_ec58_cancel_keys(size: int) -> None:
    assert len(ready(play(login, [OK + wire.backend_key_data(1, b"k" * size) + wire.ready()])).cancel_key) == size


def test_no_backend_key_at_all() -> None:
    assert ready(play(login, [OK + wire.ready()])).cancel_key == b""


def test_a_key_is_not_shown() -> None:
    assert "abcd" not in repr(ready(play(login, [READY])))


def test_ec7_notices_at_any_time() -> None:
    first, second = wire.notice("before authentication"), wire.notice("after it")
    found = ready(play_every_way(login, [first + OK + second + KEY + wire.ready()]))
    assert [notice.rpartition(": ")[2] for notice in found.notices] == ["before authentication", "after it"]


def test_ec64_a_notice_is_not_an_error() -> None:
    """Whatever it says of itself."""
    fatal = wire.message("N", b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0")
    ready(play(login, [fatal + READY]))


# ---------------------------------------------------------------- methods


def test_clear_text() -> None:
    outcome = play_every_way(login, [m.authentication(m.Auth.CLEARTEXT_PASSWORD), READY])
    assert outcome.sent == STARTUP + b"p\0\0\0\x0aapppw\0"
    ready(outcome)


def test_md5() -> None:
    outcome = play_every_way(login, [m.authentication(m.Auth.MD5_PASSWORD, b"salt"), READY])
    assert outcome.sent == STARTUP + m.password_message(md5_response("app", "apppw", b"salt"))
    ready(outcome)


class Server:
    """A server's side of SCRAM, played against `login`."""

    def __init__(self, password: str = "apppw", binding: bytes | None = None) -> None:
        self.scram = ScramServer(verifier("app", password), binding)
        self.offered = self.scram.mechanisms()
        self.mechanism = b""

    def talk(self, line: Line, *, last: Callable[[bytes], bytes] = lambda signature: READY) -> ServerReady:
        conversation = login(line)
        try:
            next(conversation)
            said = conversation.send(m.authentication_sasl(self.offered))
            assert isinstance(said, bytes)
            self.mechanism, data = m.parse_sasl_initial_response(said[5:])
            said = conversation.send(
                m.authentication(m.Auth.SASL_CONTINUE, self.scram.first(self.mechanism, data or b""))
            )
            assert isinstance(said, bytes)
            signature = self.scram.final(said[5:]) or b"v=" + b"A" * 44
            conversation.send(m.authentication(m.Auth.SASL_FINAL, signature) + last(signature))
            conversation.send(b"")
        except StopIteration as end:
            result: ServerReady = end.value
            return result
        raise AssertionError("the login does not end")


def test_scram() -> None:
    server = Server()
    server.talk(Line())
    assert server.mechanism == PLAIN


def test_scram_plus_where_tls_and_server_have_it() -> None:
    line = Line()
    line.encrypted, line.binding = True, BINDING
    server = Server(binding=BINDING)
    server.talk(line)
    assert server.mechanism == PLUS


def test_ec61_a_man_in_the_middle_who_removes_plus() -> None:
    line = Line()
    line.encrypted, line.binding = True, BINDING
    server = Server(binding=BINDING)
    server.offered = (PLAIN,)
    with pytest.raises(Exception, match="SCRAM channel binding negotiation error"):
        server.talk(line)


def test_a_server_that_does_not_know_the_password() -> None:
    with pytest.raises(ScramError, match="it does not know the password"):
        Server("another").talk(Line())


def test_a_server_that_skips_its_signature() -> None:
    conversation = login(Line())
    next(conversation)
    conversation.send(m.authentication_sasl([PLAIN]))
    with pytest.raises(ProtocolViolation, match="skipped its own SCRAM signature"):
        conversation.send(READY)


@pytest.mark.parametrize("code", [m.Auth.SASL_CONTINUE, m.Auth.SASL_FINAL])
def test_scram_out_of_order(code: m.Auth) -> None:
    wrong([m.authentication(code, b"r=a,s=YQ==,i=1")], ProtocolViolation, f"unexpected authentication request {code}")


def test_scram_asked_for_twice() -> None:
    sasl = m.authentication_sasl([PLAIN])
    outcome = play(login, [sasl, sasl])
    assert "unexpected authentication request 10" in str(outcome.error)


@pytest.mark.parametrize("code", [m.Auth.KERBEROS_V5, m.Auth.GSS, m.Auth.SSPI])
def test_methods_we_do_not_speak(code: m.Auth) -> None:
    wrong([m.authentication(code)], UnsupportedMethod, f"authentication method {code.name} requested by the server")


def test_methods_nobody_speaks() -> None:
    wrong([wire.message("R", b"\0\0\0\x63")], ProtocolViolation, "unexpected authentication request 99")


# ---------------------------------------------------------------- refusals (edge case 12)


@pytest.mark.parametrize(
    ("sqlstate", "lasting"),
    [
        ("28P01", True), ("28000", True), ("3D000", True), ("42501", True), ("22023", True), ("42704", True),
        ("0A000", True), ("42601", True), ("22P02", True), ("55000", True), ("55P02", True),
        ("53300", False), ("57P03", False), ("57P01", False), ("57P02", False), ("53200", False), ("53100", False),
        ("08006", False), ("08P01", False), ("58030", False), ("XX000", False), ("40001", False), ("55P03", False),
        ("57014", False), ("", False),
    ],
)  # fmt: skip
def test_ec12_what_lasts_and_what_passes(sqlstate: str, lasting: bool) -> None:
    error = wire.error(sqlstate, "no", "FATAL") if sqlstate else wire.message("E", b"SFATAL\0Mno\0\0")
    refused = wrong([error], ServerRefused, "no")
    assert isinstance(refused, ServerRefused)
    assert refused.permanent is lasting is permanent(sqlstate)
    assert refused.error == error, "clients get the server's own bytes"


def test_refusal_after_the_password() -> None:
    error = wire.error("28P01", 'password authentication failed for user "app"', "FATAL")
    refused = wrong(
        [m.authentication(m.Auth.CLEARTEXT_PASSWORD), error], ServerRefused, "password authentication failed"
    )
    assert isinstance(refused, ServerRefused)
    assert refused.permanent


def test_refusal_after_authentication() -> None:
    error = wire.error("3D000", 'database "test" does not exist', "FATAL")
    wrong([OK + error], ServerRefused, "does not exist")


# ---------------------------------------------------------------- protocol versions


def test_the_server_negotiates_down() -> None:
    negotiate = m.negotiate_protocol_version(m.PROTOCOL_3_0, [])
    outcome = play(partial(login, protocol=m.PROTOCOL_3_2), [negotiate + READY])
    assert outcome.sent == m.startup_message([("user", "app"), ("database", "test")], m.PROTOCOL_3_2)
    ready(outcome)


@pytest.mark.parametrize("version", [0x20000, 0x30003, 0x40000])
def test_the_server_negotiates_up(version: int) -> None:
    wrong([m.negotiate_protocol_version(version, [])], ProtocolViolation, "not offered", protocol=m.PROTOCOL_3_2)


def test_the_server_refuses_options_nobody_sent() -> None:
    wrong([m.negotiate_protocol_version(m.PROTOCOL_3_0, [b"_pq_.x"])], ProtocolViolation, "not offered")


# ---------------------------------------------------------------- encryption


def test_no_encryption() -> None:
    assert play(login, [READY]).tls_at is None


@pytest.mark.parametrize("encryption", [Encryption.OFFER, Encryption.DEMAND])
def test_tls(encryption: Encryption) -> None:
    outcome = play_every_way(partial(login, encryption=encryption), [b"S", READY])
    assert (outcome.sent, outcome.tls_at) == (wire.SSL_REQUEST + STARTUP, len(wire.SSL_REQUEST))
    ready(outcome)


def test_tls_offered_and_declined() -> None:
    outcome = play_every_way(partial(login, encryption=Encryption.OFFER), [b"N", READY])
    assert (outcome.sent, outcome.tls_at) == (wire.SSL_REQUEST + STARTUP, None)
    ready(outcome)


def test_tls_demanded_and_declined() -> None:
    wrong([b"N"], TlsRefused, "server does not support SSL, but SSL was required", encryption=Encryption.DEMAND)


@pytest.mark.parametrize("encryption", [Encryption.OFFER, Encryption.DEMAND])
@pytest.mark.parametrize("answer", [b"S" + OK, b"SS", b"N" + READY, b"X", wire.error("28P01", "believe me")])
def test_ec60_bytes_behind_the_answer_are_an_attack(encryption: Encryption, answer: bytes) -> None:
    outcome = play(partial(login, encryption=encryption), [answer])
    assert isinstance(outcome.error, ProtocolViolation)
    assert "believe me" not in str(outcome.error), "nothing has authenticated that text (CVE-2024-10977)"
    assert outcome.sent == wire.SSL_REQUEST


def test_direct_tls() -> None:
    talk = partial(login, encryption=Encryption.DIRECT)
    outcome = play_every_way(talk, [READY], Tls(alpn="postgresql"))
    assert (outcome.sent, outcome.tls_at) == (STARTUP, 0)
    assert isinstance(play(talk, [READY], Tls(alpn=None)).error, ProtocolViolation)


# ---------------------------------------------------------------- init_query and limits


INIT = wire.complete("SET") + wire.parameter_status("TimeZone", "Mars") + wire.row_description("x") + wire.row("1")
INIT += wire.complete("SELECT 1") + wire.ready()


def test_init_query() -> None:
    outcome = play_every_way(partial(login, init_query="set timezone to 'Mars'; select 1"), [READY, INIT])
    assert outcome.sent == STARTUP + wire.query("set timezone to 'Mars'; select 1")
    assert wire.parameter_status("TimeZone", "Mars") in ready(outcome).parameters


def test_ec12_a_failing_init_query_is_temporary() -> None:
    error = wire.error("42601", "syntax error")
    refused = wrong([READY, error + wire.ready()], ServerRefused, "syntax error", init_query="selec")
    assert isinstance(refused, ServerRefused)
    assert not refused.permanent, "it is not the waiting clients' mistake"


def test_init_query_that_leaves_a_transaction_open() -> None:
    wrong(
        [READY, wire.complete("BEGIN") + wire.ready("T")],
        ProtocolViolation,
        "leaves a transaction open",
        init_query="begin",
    )


def test_init_query_that_copies() -> None:
    wrong(
        [READY, wire.message("G", b"\0\0\0")],
        ProtocolViolation,
        "unexpected message type 71",
        init_query="copy t from stdin",
    )


def test_limits_are_asked_for() -> None:
    answer = wire.row_description("a", "b", "c") + wire.row("200", "3", "2") + wire.complete() + wire.ready()
    outcome = play_every_way(partial(login, ask_limits=True), [READY, answer])
    assert outcome.sent == STARTUP + wire.query(LIMITS_QUERY)
    assert ready(outcome).limits == (200, 5)


def test_limits_of_servers_before_16() -> None:
    answer = wire.row_description("a", "b", "c") + wire.row("100", "3", None) + wire.complete() + wire.ready()
    assert ready(play(partial(login, ask_limits=True), [READY, answer])).limits == (100, 3)


@pytest.mark.parametrize("row", [b"", wire.row("100"), wire.row("x", "y", "z"), wire.row(None, None, None)])
def test_limits_that_are_none(row: bytes) -> None:
    answer = row + wire.complete() + wire.ready()
    outcome = play(partial(login, ask_limits=True), [READY, answer])
    assert isinstance(outcome.error, ProtocolViolation)


def test_init_query_comes_before_the_limits() -> None:
    answer = wire.row("100", "3", None) + wire.complete() + wire.ready()
    outcome = play(partial(login, init_query="x", ask_limits=True), [READY, INIT, answer])
    assert outcome.sent == STARTUP + wire.query("x") + wire.query(LIMITS_QUERY)
    assert ready(outcome).limits == (100, 3)


# ---------------------------------------------------------------- servers that break the protocol


@pytest.mark.parametrize("message", [wire.row("x"), wire.complete(), wire.ready(), KEY, wire.message("?")])
def test_before_authentication(message: bytes) -> None:
    wrong([message], ProtocolViolation, "during authentication")


@pytest.mark.parametrize(
    "message", [wire.row("x"), OK, wire.message("?"), wire.ready("T"), wire.ready("E"), wire.ready("x")]
)
def test_before_ready(message: bytes) -> None:
    wrong([OK + message], ProtocolViolation, "before ReadyForQuery")


def test_after_ready() -> None:
    outcome = play(login, [READY + wire.row("x")])
    assert "goes on talking after ReadyForQuery" in str(outcome.error)


@pytest.mark.parametrize("length", [0, 3, MAX_LOGIN_MESSAGE + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_ec65_lengths(length: int) -> None:
    wrong([b"R" + length.to_bytes(4)], ProtocolViolation, "invalid message length")


def test_a_server_that_never_gets_ready() -> None:
    outcome = play(login, [wire.notice("x") * (MAX_LOGIN_MESSAGES + 1)])
    assert "does not get ready" in str(outcome.error)


@pytest.mark.parametrize("turns", [[], [OK], [OK + STATUS], [READY[:-1]]])
def test_a_server_that_leaves(turns: list[bytes]) -> None:
    assert isinstance(play(login, turns).error, PeerClosed)


def test_a_handshake_that_fails_leaves_nothing_to_send() -> None:
    """What the driver throws in ends the conversation; nothing is sent behind it."""
    conversation = login(Line(), encryption=Encryption.DEMAND)
    next(conversation)
    assert isinstance(conversation.send(b"S"), StartTls)
    with pytest.raises(OSError, match="no route"):
        conversation.throw(OSError("no route"))
