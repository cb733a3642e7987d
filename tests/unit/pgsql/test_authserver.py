"""Authentication of clients: the conversation, its last words, and each refusal."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy.errors import IamWithoutTls, ProtocolViolation, ProxyError, UnsupportedAuthentication, WrongPassword
from proxy.exchange import PeerClosed
from proxy.model import ClientPasswordAuthType, Credential, IamAuth
from proxy.pgsql import messages as m
from proxy.pgsql.authserver import authenticate
from proxy.pgsql.exchange import MAX_AUTH_MESSAGE, Line
from proxy.pgsql.md5 import md5_response
from proxy.pgsql.scram import PLAIN, PLUS
from tests.harness.scram import ScramClient

SCRAM = Credential("app", "apppw", ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256)
MD5 = Credential("app", "apppw", ClientPasswordAuthType.POSTGRES_MD5)
BINDING = b"h" * 32


class Client:
    """Answers what it is asked, message by message; `cut` says how its answers are split."""

    def __init__(
        self, answer: Callable[[bytes], bytes], cut: Callable[[bytes], list[bytes]] = lambda data: [data]
    ) -> None:
        self._answer, self._cut = answer, cut
        self.heard: list[bytes] = []

    def talk(self, credential: Credential, line: Line | None = None) -> bytes:
        conversation = authenticate(line or Line(), credential, "app")
        try:
            said = next(conversation)
            while True:
                assert isinstance(said, bytes)
                self.heard.append(said)
                *head, last = self._cut(self._answer(said))
                for chunk in head:
                    assert conversation.send(chunk) == b"", "an answer before the question was complete"
                said = conversation.send(last)
        except StopIteration as end:
            return bytes(end.value)


class Scripted:
    """A SCRAM client as a function of what it hears."""

    def __init__(self, password: str = "apppw", mechanism: bytes = PLAIN, **more: Any) -> None:
        self.scram, self.mechanism = ScramClient(password, **more), mechanism
        self.turn = 0

    def __call__(self, heard: bytes) -> bytes:
        self.turn += 1
        if self.turn == 1:
            return m.sasl_initial_response(self.mechanism, self.scram.first())
        return m.sasl_response(self.scram.final(heard[9:]))


def refused(credential: Credential, answers: Callable[[bytes], bytes], line: Line | None = None) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        Client(answers).talk(credential, line)
    return caught.value


def encrypted(binding: bytes | None = BINDING) -> Line:
    line = Line()
    line.encrypted, line.binding = True, binding
    return line


CUTS: list[Callable[[bytes], list[bytes]]] = [
    lambda data: [data],
    lambda data: [bytes([byte]) for byte in data],
    *[lambda data, at=at: [data[:at], data[at:]] for at in (1, 4, 5, 6, 20)],
]


@pytest.mark.parametrize("cut", CUTS)
def test_scram(cut: Callable[[bytes], list[bytes]]) -> None:
    script = Scripted()
    client = Client(script, cut)
    last = client.talk(SCRAM)
    assert client.heard[0] == b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0"
    assert last[:1] + last[5:9] == b"R\0\0\0\x0c"
    script.scram.check(last[9:])


def test_what_is_behind_the_last_message_is_left_alone() -> None:
    line, script = Line(), Scripted()

    def with_junk(heard: bytes) -> bytes:
        return script(heard) + (m.query(b"select 1") if script.turn == 2 else b"")

    Client(with_junk).talk(SCRAM, line)
    assert line.take() == m.query(b"select 1")


def test_ec61_plus_is_offered_over_tls_and_only_there() -> None:
    client = Client(Scripted(mechanism=PLUS, gs2=b"p=tls-server-end-point,,", binding=BINDING))
    client.talk(SCRAM, encrypted())
    assert client.heard[0][9:] == b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
    without = Client(Scripted())
    without.talk(SCRAM, encrypted(None))  # a certificate that has no hash by RFC 5929
    assert without.heard[0][9:] == b"SCRAM-SHA-256\0\0"


def test_negotiation_goes_in_front_of_the_first_question() -> None:
    line = Line()
    line.pending = m.negotiate_protocol_version(m.PROTOCOL_3_2, [])
    client = Client(Scripted())
    client.talk(SCRAM, line)
    assert client.heard[0].startswith(m.negotiate_protocol_version(m.PROTOCOL_3_2, []) + b"R")


def test_sasl_without_an_initial_response() -> None:
    scram = ScramClient("apppw")
    turns = iter((
        lambda _: m.message(0x70, PLAIN + b"\0\xff\xff\xff\xff"),
        lambda heard: m.sasl_response(scram.first()) if heard == b"R\0\0\0\x08\0\0\0\x0b" else b"",
        lambda heard: m.sasl_response(scram.final(heard[9:])),
    ))  # fmt: skip

    def answer(heard: bytes) -> bytes:
        return next(turns)(heard)

    scram.check(Client(answer).talk(SCRAM)[9:])


def test_answers_sent_ahead_are_read_in_turn() -> None:
    """A client may pipeline what it can know; it is asked nevertheless, in the next write."""
    line, scram = Line(m.sasl_initial_response(PLAIN, b"n,,n=,r=abc")), ScramClient("apppw")
    conversation = authenticate(line, SCRAM, "app")
    said = next(conversation)
    assert isinstance(said, bytes)
    assert said.startswith(b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0R")
    assert b"r=abc" in said
    assert scram is not None


@pytest.mark.parametrize("credential", [SCRAM, MD5])
def test_wrong_password(credential: Credential) -> None:
    answers = Scripted("wrong") if credential is SCRAM else lambda _: m.password_message(b"md5" + b"0" * 32)
    error = refused(credential, answers)
    assert isinstance(error, WrongPassword)
    assert (error.sqlstate, str(error)) == ("28P01", "The password that was provided for the role app is wrong.")


@pytest.mark.parametrize("cut", CUTS)
def test_md5(cut: Callable[[bytes], list[bytes]]) -> None:
    client = Client(lambda heard: m.password_message(md5_response("app", "apppw", heard[9:13])), cut)
    assert client.talk(MD5) == b""
    assert client.heard[0].startswith(b"R\0\0\0\x0c\0\0\0\x05")


def test_md5_salts_are_random() -> None:
    salts = {next(authenticate(Line(), MD5, "app")) for _ in range(20)}
    assert len(salts) == 20


def test_md5_answer_to_another_salt() -> None:
    assert isinstance(refused(MD5, lambda _: m.password_message(md5_response("app", "apppw", b"salt"))), WrongPassword)


def test_ec61_an_empty_final_message() -> None:
    script = Scripted()
    error = refused(SCRAM, lambda heard: script(heard) if script.turn == 0 else m.sasl_response(b""))
    assert (error.sqlstate, str(error), error.detail) == ("08P01", "malformed SCRAM message", "The message is empty.")


@pytest.mark.parametrize(("credential", "what"), [(SCRAM, "SASL"), (MD5, "password")])
@pytest.mark.parametrize("kind", [0x51, 0x58, 0x00])
def test_another_message_than_asked_for(credential: Credential, what: str, kind: int) -> None:
    error = refused(credential, lambda _: m.message(kind, b"x\0"))
    assert (error.sqlstate, str(error)) == ("08P01", f"expected {what} response, got message type {kind}")


def test_a_password_where_scram_was_asked_for() -> None:
    assert str(refused(SCRAM, lambda _: m.password_message(b"apppw"))) == "invalid SASL initial response"


def test_another_mechanism() -> None:
    error = refused(SCRAM, lambda _: m.sasl_initial_response(b"OAUTHBEARER", b"n,,"))
    assert (error.sqlstate, str(error)) == ("28000", "RDS supports only IAM, MD5, or SCRAM authentication.")


@pytest.mark.parametrize("length", [0, 3, MAX_AUTH_MESSAGE + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_ec65_lengths(length: int) -> None:
    error = refused(SCRAM, lambda _: b"p" + length.to_bytes(4))
    assert isinstance(error, ProtocolViolation)
    assert str(error) == "invalid message length"


def test_ec63_a_long_message_is_read_whole() -> None:
    """Long tokens pass the frame; what SCRAM itself takes is shorter."""
    error = refused(MD5, lambda _: m.password_message(b"x" * (MAX_AUTH_MESSAGE - 5)))
    assert isinstance(error, WrongPassword)


@pytest.mark.parametrize("turn", [0, 1])
def test_a_client_that_leaves(turn: int) -> None:
    script = Scripted()
    with pytest.raises(PeerClosed):
        Client(lambda heard: script(heard) if script.turn < turn else b"").talk(SCRAM)


def test_iam_without_tls() -> None:
    credential = Credential("app", "", ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256, IamAuth.REQUIRED)
    error = refused(credential, lambda _: b"")
    assert isinstance(error, IamWithoutTls)
    assert (error.sqlstate, str(error)) == ("28000", "IAM authentication is allowed only with SSL connections.")


def test_types_of_the_other_protocol() -> None:
    credential = Credential("app", "x", ClientPasswordAuthType.MYSQL_NATIVE_PASSWORD)
    assert isinstance(refused(credential, lambda _: b""), UnsupportedAuthentication)
