"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides (RFC 5802, RFC 7677; tls-server-end-point of RFC 5929).

    client                                     server
    n,,n=,r=NONCE                              r=NONCE+MORE,s=SALT,i=4096
    c=biws,r=NONCE+MORE,p=PROOF                v=SIGNATURE

The expensive part, 4096 rounds of HMAC, is done once per secret (`verifier`) and once per server's salt (`derive`); a
login costs five HMACs. An unknown role is refused before SCRAM starts, with a text of its own, so there is no mock
exchange. Refusals are PostgreSQL's own (auth-scram.c). Knows no message frames: those are `authserver`'s and
`authclient`'s.
"""

import binascii
import hashlib
import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from proxy.errors import ChannelBindingFailed, ProtocolViolation, UnsupportedAuthentication
from proxy.pgsql.saslprep import saslprep

PLAIN = b"SCRAM-SHA-256"
PLUS = b"SCRAM-SHA-256-PLUS"
ITERATIONS = 4096  # towards clients; fixed, as in RDS Proxy
# A server's wish is our CPU: a million rounds are about half a second of one core. PostgreSQL's default is 4096.
MAX_ITERATIONS = 1_000_000
MAX_SASL_MESSAGE = 2048  # bytes; PostgreSQL's own is 1024

_CB_HEADER = b"p=tls-server-end-point,,"
_ALPHABET = frozenset(range(0x21, 0x7F)) - {0x2C}  # what a nonce may consist of


class ScramError(Exception):
    """A server that breaks the exchange, or does not know the password it asks for."""


def _b64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _unb64(data: bytes) -> bytes | None:
    try:
        return binascii.a2b_base64(data, strict_mode=True)
    except binascii.Error:
        return None


def _xor(a: bytes, b: bytes) -> bytes:
    return (int.from_bytes(a) ^ int.from_bytes(b)).to_bytes(32)


@lru_cache(maxsize=4096)
def derive(password: str, salt: bytes, iterations: int) -> tuple[bytes, bytes, bytes]:
    """(ClientKey, StoredKey, ServerKey)."""
    salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return client_key, hashlib.sha256(client_key).digest(), hmac.digest(salted, b"Server Key", "sha256")


@dataclass(frozen=True, slots=True)
class Verifier:
    """What a server keeps instead of a password."""

    salt: bytes
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    iterations: int = ITERATIONS


@lru_cache(maxsize=4096)
def verifier(user: str, password: str) -> Verifier:
    """With a random salt, made once per process, user and password. The user is an argument so that equal passwords do
    not show.
    """
    salt = os.urandom(16)
    _, stored_key, server_key = derive.__wrapped__(password, salt, ITERATIONS)
    return Verifier(salt, stored_key, server_key)


# ---------------------------------------------------------------- server


def _malformed(detail: str) -> ProtocolViolation:
    error = ProtocolViolation("malformed SCRAM message")
    error.detail = detail
    return error


def _attribute(part: bytes, letter: bytes) -> bytes:
    if part[:1] != letter:
        raise _malformed(f'Expected attribute "{letter.decode()}" but found "{_sanitize(part[:1])}".')
    if part[1:2] != b"=":
        raise _malformed(f'Expected character "=" for attribute "{letter.decode()}".')
    return part[2:]


def _extension(part: bytes) -> None:
    if not (part[:1].isalpha() and part[1:2] == b"="):
        raise _malformed(f'Attribute expected, but found invalid character "{_sanitize(part[:1])}".')


def _sanitize(raw: bytes) -> str:
    """For texts: never echo what may not be printable."""
    return "".join(chr(byte) if 0x21 <= byte <= 0x7E else f"0x{byte:02x}" for byte in raw[:30])


class ScramServer:
    """One exchange: `first`, then `final`. `binding`: our certificate's hash; there = -PLUS is offered."""

    __slots__ = ("_auth", "_binding", "_cb_input", "_client_nonce", "_nonce", "_verifier")

    def __init__(self, known: Verifier, binding: bytes | None, nonce: bytes | None = None) -> None:
        self._verifier = known
        self._binding = binding
        self._nonce = nonce or _b64(os.urandom(18))
        self._auth = b""
        self._cb_input = b""

    def mechanisms(self) -> tuple[bytes, ...]:
        return (PLUS, PLAIN) if self._binding else (PLAIN,)

    def first(self, mechanism: bytes, message: bytes) -> bytes:
        if mechanism not in (PLUS, PLAIN):
            raise UnsupportedAuthentication
        plus = mechanism == PLUS
        if plus and self._binding is None:
            raise ProtocolViolation("client selected an invalid SASL authentication mechanism")
        if not message:
            raise _malformed("The message is empty.")
        if 0 in message:
            raise _malformed("Message length does not match input length.")
        parts = message.split(b",", 2)
        if len(parts) != 3:
            raise _malformed("Comma expected, but found end of message.")
        flag, authzid, bare = parts
        self._check_flag(flag, plus)
        if authzid:
            raise UnsupportedAuthentication  # a=: a second identity, to be acted as
        attributes = bare.split(b",")
        if attributes[0][:2] == b"m=":
            raise UnsupportedAuthentication  # an extension the client insists on
        _attribute(attributes[0], b"n")  # the user name; the startup packet's counts
        client_nonce = _attribute(attributes[1] if len(attributes) > 1 else b"", b"r")
        for part in attributes[2:]:
            _extension(part)
        if not client_nonce or not _ALPHABET.issuperset(client_nonce):
            raise ProtocolViolation("non-printable characters in SCRAM nonce")
        self._nonce = client_nonce + self._nonce
        known = self._verifier
        reply = b"r=%b,s=%b,i=%d" % (self._nonce, _b64(known.salt), known.iterations)
        self._auth = bare + b"," + reply + b","
        return reply

    def _check_flag(self, flag: bytes, plus: bool) -> None:
        kind = flag[:1]
        if kind == b"p":
            if not plus:
                raise _malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, "
                    "but the SCRAM message includes channel binding data."
                )
            if flag != b"p=tls-server-end-point":
                raise ProtocolViolation(f'unsupported SCRAM channel-binding type "{_sanitize(flag[2:])}"')
            assert self._binding is not None
            self._cb_input = _CB_HEADER + self._binding
            return
        if flag not in (b"n", b"y"):
            raise _malformed(f'Unexpected channel-binding flag "{_sanitize(flag)}".')
        if plus:
            raise _malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data."
            )
        if kind == b"y" and self._binding is not None:
            # we did offer it: somebody between us removed it from the list
            error = ChannelBindingFailed("SCRAM channel binding negotiation error")
            error.detail = (
                "The client supports SCRAM channel binding but thinks the server does not.  "
                "However, this server does support channel binding."
            )
            raise error
        self._cb_input = flag + b",,"

    def final(self, message: bytes) -> bytes | None:
        """The server's signature, or None: the proof is wrong."""
        if not message:
            raise _malformed("The message is empty.")
        without_proof, found, encoded = message.rpartition(b",p=")
        attributes = without_proof.split(b",")
        binding = _attribute(attributes[0], b"c")
        nonce = _attribute(attributes[1] if len(attributes) > 1 else b"", b"r")
        for part in attributes[2:]:
            _extension(part)
            if part[:1] == b"p":
                raise _malformed("Garbage found at the end of client-final-message.")
        if not found:
            raise _malformed("Malformed proof in client-final-message.")
        proof = _unb64(encoded)
        if proof is None or len(proof) != 32:
            raise _malformed("Malformed proof in client-final-message.")
        if not hmac.compare_digest(binding, _b64(self._cb_input)):
            if self._cb_input[:1] == b"p":
                raise ChannelBindingFailed("SCRAM channel binding check failed")
            raise ProtocolViolation("unexpected SCRAM channel-binding attribute in client-final-message")
        if not hmac.compare_digest(nonce, self._nonce):
            error = ProtocolViolation("invalid SCRAM response")
            error.detail = "Nonce does not match."
            raise error
        auth = self._auth + without_proof
        client_key = _xor(proof, hmac.digest(self._verifier.stored_key, auth, "sha256"))
        if not hmac.compare_digest(hashlib.sha256(client_key).digest(), self._verifier.stored_key):
            return None
        return b"v=" + _b64(hmac.digest(self._verifier.server_key, auth, "sha256"))


# ---------------------------------------------------------------- client


class ScramClient:
    """One exchange: `first`, `final`, `verify`. `binding`: hash of the server's certificate."""

    __slots__ = ("_bare", "_gs2", "_nonce", "_password", "_signature", "binding", "mechanism")

    def __init__(
        self,
        password: str,
        offered: Sequence[bytes],
        binding: bytes | None,
        *,
        nonce: bytes | None = None,
        user: bytes = b"",  # PostgreSQL takes the one of the startup packet
    ) -> None:
        self._password = password
        self._nonce = nonce or _b64(os.urandom(18))
        self._signature = b""
        self.binding = binding
        if PLUS in offered and binding is not None:
            self.mechanism, self._gs2 = PLUS, _CB_HEADER
        elif PLAIN in offered:
            # "y": we could have bound to the channel but were not offered it; a server that did offer it will object
            self.mechanism, self._gs2 = PLAIN, b"n,," if binding is None else b"y,,"
        else:
            raise ScramError("none of the server's SASL authentication mechanisms are supported")
        self._bare = b"n=" + user + b",r=" + self._nonce

    def first(self) -> bytes:
        return self._gs2 + self._bare

    def final(self, server_first: bytes) -> bytes:
        nonce, salt, iterations = self._parse_first(server_first)
        client_key, stored_key, server_key = derive(self._password, salt, iterations)
        binding = self._gs2
        if self.mechanism == PLUS:
            assert self.binding is not None
            binding += self.binding
        without_proof = b"c=" + _b64(binding) + b",r=" + nonce
        auth = self._bare + b"," + server_first + b"," + without_proof
        self._signature = hmac.digest(server_key, auth, "sha256")
        return without_proof + b",p=" + _b64(_xor(client_key, hmac.digest(stored_key, auth, "sha256")))

    def _parse_first(self, message: bytes) -> tuple[bytes, bytes, int]:
        parts = message.split(b",")
        if len(parts) < 3 or [part[:2] for part in parts[:3]] != [b"r=", b"s=", b"i="]:
            raise ScramError("malformed SCRAM message from the server")
        nonce, salt, count = parts[0][2:], _unb64(parts[1][2:]), parts[2][2:]
        if not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce) or not _ALPHABET.issuperset(nonce):
            raise ScramError("invalid SCRAM nonce from the server")
        if not salt:
            raise ScramError("invalid SCRAM salt from the server")
        if not count.isdigit() or len(count) > 10 or not 1 <= int(count) <= MAX_ITERATIONS:
            raise ScramError(
                f"the server asks for {_sanitize(count)} SCRAM iterations; the most allowed is {MAX_ITERATIONS}"
            )
        return nonce, salt, int(count)

    def verify(self, server_final: bytes) -> None:
        """Only who knows the secret can sign: without this, any server could claim to be ours."""
        if server_final[:2] == b"e=":
            raise ScramError(f"the server refused: {_sanitize(server_final[2:])}")
        signature = _unb64(server_final[2:].partition(b",")[0]) if server_final[:2] == b"v=" else None
        if signature is None or not self._signature or not hmac.compare_digest(signature, self._signature):
            raise ScramError("the server's SCRAM signature is wrong: it does not know the password")
