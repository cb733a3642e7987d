"""SCRAM: the RFC's own vector, both sides against each other and against an independent client, and every way to get
it wrong.
"""

import base64
import hashlib

import pytest

from proxy.errors import ChannelBindingFailed, ProtocolViolation, ProxyError, UnsupportedAuthentication
from proxy.pgsql import scram
from proxy.pgsql.saslprep import saslprep
from proxy.pgsql.scram import PLAIN, PLUS, ScramClient, ScramError, ScramServer, Verifier, derive, verifier
from tests.harness.scram import ScramClient as OtherClient

# RFC 7677, section 3: user "user", password "pencil"
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
CLIENT_NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
BINDING = hashlib.sha256(b"certificate").digest()


def server(binding: bytes | None = None) -> ScramServer:
    _, stored, server_key = derive("pencil", SALT, 4096)
    return ScramServer(Verifier(SALT, stored, server_key), binding, SERVER_NONCE)


def first(message: bytes, mechanism: bytes = PLAIN, binding: bytes | None = None) -> bytes:
    return server(binding).first(mechanism, message)


# ---------------------------------------------------------------- the exchange


def test_rfc_7677_server() -> None:
    exchange = server()
    assert exchange.first(PLAIN, CLIENT_FIRST) == SERVER_FIRST
    assert exchange.final(CLIENT_FINAL) == SERVER_FINAL


def test_rfc_7677_client() -> None:
    client = ScramClient("pencil", [PLAIN], None, nonce=CLIENT_NONCE, user=b"user")
    assert client.first() == CLIENT_FIRST
    assert client.final(SERVER_FIRST) == CLIENT_FINAL
    client.verify(SERVER_FINAL)


@pytest.mark.parametrize(
    "password", ["x", "apppw", "pass,word=", "I\u00adX", "\u2168", "ÅÄÖ", "日本語", "\udcff", "a" * 2000]
)
@pytest.mark.parametrize("binding", [None, BINDING])
def test_both_sides(password: str, binding: bytes | None) -> None:
    exchange = ScramServer(verifier("user", password), binding)
    client = ScramClient(password, exchange.mechanisms(), binding)
    assert client.mechanism == (PLUS if binding else PLAIN)
    signature = exchange.final(client.final(exchange.first(client.mechanism, client.first())))
    assert signature is not None
    client.verify(signature)


@pytest.mark.parametrize("binding", [b"", BINDING])
def test_another_client(binding: bytes) -> None:
    exchange = ScramServer(verifier("app", "apppw"), binding or None)
    gs2 = b"p=tls-server-end-point,," if binding else b"n,,"
    client = OtherClient("apppw", gs2=gs2, binding=binding)
    signature = exchange.final(client.final(exchange.first(PLUS if binding else PLAIN, client.first())))
    assert signature is not None
    client.check(signature)


def test_wrong_password() -> None:
    exchange = ScramServer(verifier("app", "apppw"), None)
    client = OtherClient("wrong")
    assert exchange.final(client.final(exchange.first(PLAIN, client.first()))) is None


def test_each_exchange_has_its_own_nonce() -> None:
    replies = {ScramServer(verifier("app", "apppw"), None).first(PLAIN, b"n,,n=,r=abc") for _ in range(20)}
    assert len(replies) == 20
    assert all(reply.startswith(b"r=abc") for reply in replies)


# ---------------------------------------------------------------- what is computed once


def test_keys_are_derived_once_per_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    real = hashlib.pbkdf2_hmac

    def counted(name: str, password: bytes, salt: bytes, iterations: int) -> bytes:
        rounds.append(iterations)
        return real(name, password, salt, iterations)

    monkeypatch.setattr("proxy.pgsql.scram.hashlib.pbkdf2_hmac", counted)
    for _ in range(5):
        verifier("once", "per secret")
    assert rounds == [4096]
    for _ in range(5):
        derive("once", b"per salt", 4096)
    assert rounds == [4096, 4096]
    derive("once", b"per salt", 5000)
    derive("once", b"another", 4096)
    assert rounds == [4096, 4096, 5000, 4096]


def test_salts_are_random_and_equal_passwords_do_not_show() -> None:
    one, two = verifier("one", "same"), verifier("two", "same")
    assert len(one.salt) == 16
    assert one.salt != two.salt
    assert one.stored_key != two.stored_key
    assert one.iterations == 4096


def test_no_key_is_shown() -> None:
    known = verifier("app", "apppw")
    assert repr(known.stored_key) not in repr(known)
    assert repr(known.server_key) not in repr(known)


# ---------------------------------------------------------------- channel binding (edge case 61)


def refusal(message: bytes, mechanism: bytes = PLAIN, binding: bytes | None = None) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        first(message, mechanism, binding)
    return caught.value


def test_ec61_y_is_right_where_nothing_was_offered() -> None:
    assert first(b"y,,n=,r=abc").startswith(b"r=abc")


def test_ec61_y_is_a_downgrade_where_plus_was_offered() -> None:
    error = refusal(b"y,,n=,r=abc", binding=BINDING)
    assert isinstance(error, ChannelBindingFailed)
    assert (error.sqlstate, str(error)) == ("28000", "SCRAM channel binding negotiation error")
    assert error.detail is not None
    assert "this server does support channel binding" in error.detail


def test_ec61_n_is_allowed_over_tls() -> None:
    assert first(b"n,,n=,r=abc", binding=BINDING).startswith(b"r=abc")


@pytest.mark.parametrize("flag", [b"n", b"y"])
def test_ec61_plus_without_binding(flag: bytes) -> None:
    error = refusal(flag + b",,n=,r=abc", PLUS, BINDING)
    assert (error.sqlstate, str(error)) == ("08P01", "malformed SCRAM message")


def test_ec61_binding_without_plus() -> None:
    assert str(refusal(b"p=tls-server-end-point,,n=,r=abc", PLAIN, BINDING)) == "malformed SCRAM message"


def test_ec61_plus_that_was_not_offered() -> None:
    error = refusal(b"p=tls-server-end-point,,n=,r=abc", PLUS)
    assert (error.sqlstate, str(error)) == ("08P01", "client selected an invalid SASL authentication mechanism")


def test_ec61_other_binding_types() -> None:
    error = refusal(b"p=tls-unique,,n=,r=abc", PLUS, BINDING)
    assert str(error) == 'unsupported SCRAM channel-binding type "tls-unique"'


def test_ec61_bound_to_another_channel() -> None:
    """A man in the middle has a certificate of his own."""
    exchange = ScramServer(verifier("app", "apppw"), BINDING)
    client = ScramClient("apppw", exchange.mechanisms(), hashlib.sha256(b"another").digest())
    final = client.final(exchange.first(client.mechanism, client.first()))
    with pytest.raises(ChannelBindingFailed, match="SCRAM channel binding check failed"):
        exchange.final(final)


def test_ec61_the_flag_is_signed() -> None:
    """Said y to us, n to the final message, or the other way round."""
    exchange = server()
    exchange.first(PLAIN, b"y,,n=user,r=rOprNGfwEbeRWgbNEkqO")
    with pytest.raises(ProtocolViolation, match="unexpected SCRAM channel-binding attribute in client-final-message"):
        exchange.final(CLIENT_FINAL)


def test_other_mechanisms() -> None:
    for mechanism in (b"", b"PLAIN", b"OAUTHBEARER", b"SCRAM-SHA-1", b"scram-sha-256"):
        error = refusal(CLIENT_FIRST, mechanism)
        assert isinstance(error, UnsupportedAuthentication)
        assert str(error) == "RDS supports only IAM, MD5, or SCRAM authentication."


# ---------------------------------------------------------------- malformed (edge case 61)


@pytest.mark.parametrize(
    "message",
    [
        b"", b"n", b"n,", b"n,,", b"n,,n=", b"n,,n=,", b"n,,r=abc", b"n,,n=,x=abc", b"n,,n,r=abc", b"x,,n=,r=abc",
        b"nn,,n=,r=abc", b",,n=,r=abc", b"p,,n=,r=abc", b"n,,n=,r=abc\0", b"n,,n=\0,r=abc", b"n,,n=,r=abc,",
        b"n,,n=,r=abc,1=x",
        b"n,,n=,r=abc,x",
    ],
)  # fmt: skip
def test_ec61_malformed_first(message: bytes) -> None:
    error = refusal(message)
    assert isinstance(error, ProtocolViolation)
    assert str(error) == "malformed SCRAM message"


@pytest.mark.parametrize("nonce", [b"", b"a b", b"a\x7f", b"a\xc3\xa9", b"a\n"])
def test_ec61_nonces(nonce: bytes) -> None:
    assert str(refusal(b"n,,n=,r=" + nonce)) == "non-printable characters in SCRAM nonce"


@pytest.mark.parametrize("message", [b"n,a=admin,n=,r=abc", b"n,,m=ext,n=,r=abc"])
def test_a_second_identity_and_mandatory_extensions(message: bytes) -> None:
    assert isinstance(refusal(message), UnsupportedAuthentication)


def test_extensions_that_may_be_ignored() -> None:
    assert first(b"n,,n=,r=abc,x=1,Y=2").startswith(b"r=abc")


PROOF = b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
NONCE = b"r=" + CLIENT_NONCE + SERVER_NONCE


@pytest.mark.parametrize(
    "message",
    [
        b"", b"c", b"c=biws", b"c=biws,", b"c=biws," + NONCE, b"c=biws," + NONCE + b",p", NONCE + b"," + PROOF,
        b"c=biws," + NONCE + b",p=", b"c=biws," + NONCE + b",p=AAAA", b"c=biws," + NONCE + b"," + PROOF[:-1],
        b"c=biws," + NONCE + b"," + PROOF + b"=", b"c=biws," + NONCE + b"," + PROOF + b",x=1",
        b"c=biws," + NONCE + b"," + PROOF + b"," + PROOF, b"c=biws," + NONCE + b",1," + PROOF,
        b"x=biws," + NONCE + b"," + PROOF,
        b"c=biws," + NONCE + b",p=" + b"!" * 44, b"c=biws," + NONCE + b",p=" + b"A" * 2000, b"\0" * 100,
    ],
)  # fmt: skip
def test_ec61_malformed_final(message: bytes) -> None:
    exchange = server()
    exchange.first(PLAIN, CLIENT_FIRST)
    with pytest.raises(ProtocolViolation, match="malformed SCRAM message"):
        exchange.final(message)


@pytest.mark.parametrize("cut", [-1, 1])
def test_ec61_another_nonce(cut: int) -> None:
    exchange = server()
    exchange.first(PLAIN, CLIENT_FIRST)
    nonce = NONCE[:cut] if cut < 0 else NONCE + b"x"
    with pytest.raises(ProtocolViolation, match="invalid SCRAM response") as caught:
        exchange.final(b"c=biws," + nonce + b"," + PROOF)
    assert caught.value.detail == "Nonce does not match."


def test_every_bit_of_the_proof_counts() -> None:
    proof = bytearray(base64.b64decode(PROOF[2:]))
    for bit in range(256):
        proof[bit // 8] ^= 1 << bit % 8
        exchange = server()
        exchange.first(PLAIN, CLIENT_FIRST)
        assert exchange.final(b"c=biws," + NONCE + b",p=" + base64.b64encode(proof)) is None
        proof[bit // 8] ^= 1 << bit % 8


# ---------------------------------------------------------------- client


def client(binding: bytes | None = None, offered: tuple[bytes, ...] = (PLAIN,)) -> ScramClient:
    return ScramClient("pencil", offered, binding, nonce=CLIENT_NONCE, user=b"user")


def test_client_flags() -> None:
    assert client().first().startswith(b"n,,")
    assert client(BINDING).first().startswith(b"y,,")
    bound = client(BINDING, (PLUS, PLAIN))
    assert bound.mechanism == PLUS
    assert bound.first().startswith(b"p=tls-server-end-point,,")
    # a certificate without a hash: no binding, and no claim that there could be one
    assert client(None, (PLUS, PLAIN)).first().startswith(b"n,,")


@pytest.mark.parametrize("offered", [(), (b"SCRAM-SHA-1",), (b"OAUTHBEARER",), (PLUS,)])
def test_nothing_in_common(offered: tuple[bytes, ...]) -> None:
    with pytest.raises(ScramError, match="none of the server's SASL"):
        client(offered=offered)


@pytest.mark.parametrize(
    "count", [b"1000001", b"999999999", b"99999999999999999999", b"0", b"-1", b"", b"4096x", b"1e3", b"\xb2"]
)
def test_ec61_iteration_counts(count: bytes) -> None:
    with pytest.raises(ScramError, match="SCRAM iterations; the most allowed is 1000000"):
        client().final(SERVER_FIRST.replace(b"4096", count))


def test_ec61_the_most_iterations_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def remember(_password: str, _salt: bytes, iterations: int) -> tuple[bytes, bytes, bytes]:
        asked.append(iterations)
        return b"\0" * 32, b"\0" * 32, b"\0" * 32

    monkeypatch.setattr(scram, "derive", remember)
    client().final(SERVER_FIRST.replace(b"4096", b"1000000"))
    assert asked == [1_000_000]


@pytest.mark.parametrize(
    "message",
    [
        b"", b"r=", b"e=other-error", SERVER_FIRST[1:], SERVER_FIRST.replace(b"r=rO", b"r=xO"), b"m=x," + SERVER_FIRST,
        SERVER_FIRST.replace(SERVER_NONCE, b""), SERVER_FIRST.replace(b"s=W22Z", b"s=!!!!"),
        SERVER_FIRST.replace(b"i=", b"j="),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="), SERVER_FIRST.replace(b"%hv", b"% v"),
    ],
)  # fmt: skip
def test_servers_that_break_the_exchange(message: bytes) -> None:
    with pytest.raises(ScramError):
        client().final(message)


@pytest.mark.parametrize(
    "message",
    [b"", b"v=", b"v=AAAA", SERVER_FINAL[:-1], SERVER_FINAL.replace(b"6r", b"7r"), b"x=1", b"e=other-error", b"\0"],
)
def test_servers_that_do_not_know_the_password(message: bytes) -> None:
    exchange = client()
    exchange.final(SERVER_FIRST)
    with pytest.raises(ScramError):
        exchange.verify(message)


def test_no_signature_before_the_challenge() -> None:
    with pytest.raises(ScramError):
        client().verify(b"v=")


# ---------------------------------------------------------------- SASLprep, as PostgreSQL does it (RFC 4013 section 3,
# saslprep.c)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", b"IX"),
        ("user", b"user"),
        ("USER", b"USER"),
        ("\u00aa", b"a"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("a\u3000b", b"a b"),
        # what SASLprep forbids is used as it is
        ("\u0007", b"\x07"),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("\u00ad", "\u00ad".encode()),
        ("x\ue000", "x\ue000".encode()),
        ("x\U0001f600", "x\U0001f600".encode()),  # assigned after Unicode 3.2
        ("\u0627a\u0627", "\u0627a\u0627".encode()),
        ("\udcff", b"\xff"),
        ("", b""),
    ],
)
def test_saslprep(password: str, prepared: bytes) -> None:
    assert saslprep(password) == prepared


def test_right_to_left() -> None:
    assert saslprep("\u0627\u0661\u0627") == "\u0627\u0661\u0627".encode()
