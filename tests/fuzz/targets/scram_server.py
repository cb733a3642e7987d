"""Whoever SCRAM lets in has sent a proof that an independent computation finds right, in any pieces.

Input: a byte of circumstances (TLS or not), then what the client says.
"""

import base64
import hashlib
import hmac
from functools import cache, partial
from types import SimpleNamespace
from unittest.mock import patch

from proxy.errors import ProxyError
from proxy.exchange import Exchange, PeerClosed
from proxy.model import ClientPasswordAuthType, Credential
from proxy.pgsql.authserver import authenticate
from proxy.pgsql.exchange import Line
from tests.fuzz import corpus
from tests.fuzz import mutate as mutators
from tests.harness import messages as m
from tests.harness.scram import ScramClient
from tests.unit.pgsql.drive import play, same

BINDING = hashlib.sha256(b"certificate").digest()
PASSWORD = "app \N{LATIN SMALL LETTER AE}"
CREDENTIAL = Credential("app", PASSWORD, ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256)
# every exchange has the same nonce and salt, so that an input is all it takes to repeat one
CHANCE = SimpleNamespace(urandom=lambda n: bytes(range(1, n + 1)))
NONCE = base64.b64encode(bytes(range(1, 19)))
CHALLENGE = b",s=" + base64.b64encode(bytes(range(1, 17))) + b",i=4096"


def talk(binding: bytes | None, line: Line) -> Exchange[bytes]:
    line.binding, line.encrypted = binding, binding is not None
    return authenticate(line, CREDENTIAL, "app")


def initial(mechanism: str, data: bytes | None) -> bytes:
    size = (0xFFFFFFFF).to_bytes(4) if data is None else len(data).to_bytes(4)
    return m.message("p", m.cstr(mechanism) + size + (data or b""))


def conversation(
    gs2: bytes, mechanism: str, *, binding: bytes = b"", password: str = PASSWORD, empty: bool = False
) -> bytes:
    with patch("tests.harness.scram.os", CHANCE):
        client = ScramClient(password, gs2=gs2, binding=binding)
    first = client.first()
    challenge = first[first.index(b"r=") :] + NONCE + CHALLENGE
    opening = initial(mechanism, None) + m.message("p", first) if empty else initial(mechanism, first)
    return opening + m.message("p", client.final(challenge))


@cache
def seeds() -> tuple[bytes, ...]:
    plain = conversation(b"n,,", "SCRAM-SHA-256")
    gs2 = b"p=tls-server-end-point,,"
    return (
        b"\0" + plain,
        b"\0" + conversation(b"y,,", "SCRAM-SHA-256"),
        b"\0" + conversation(b"n,,", "SCRAM-SHA-256", empty=True),
        b"\0" + conversation(b"n,,", "SCRAM-SHA-256", password="wrong"),
        b"\1" + plain,
        b"\1" + conversation(b"y,,", "SCRAM-SHA-256"),
        b"\1" + conversation(gs2, "SCRAM-SHA-256-PLUS", binding=BINDING),
        b"\1" + conversation(gs2, "SCRAM-SHA-256-PLUS", binding=BINDING[::-1]),
        *(bytes([tls]) + one for one in corpus.files("pgsql/bad/scram_server") for tls in (0, 1)),
    )


mutate = mutators.behind(partial(mutators.typed, kinds=b"pQX"))


def proven(said: bytes, binding: bytes | None) -> bool:
    """The same arithmetic, from the messages as they were sent."""
    bodies = [piece[5:] for piece in mutators.split(said, 1)]
    mechanism, _, rest = bodies[0].partition(b"\0")
    first, final = (bodies[1], bodies[2]) if rest[:4] == b"\xff\xff\xff\xff" else (rest[4:], bodies[1])
    flag, _, bare = first.split(b",", 2)
    client_nonce = bare.split(b",")[1][2:]
    server_first = b"r=" + client_nonce + NONCE + CHALLENGE
    without_proof, _, proof = final.rpartition(b",p=")
    bound = flag + b",," + (binding or b"" if mechanism.endswith(b"PLUS") else b"")
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), bytes(range(1, 17)), 4096)
    key = hmac.digest(salted, b"Client Key", "sha256")
    signed = b",".join((bare, server_first, without_proof))
    mask = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    right = bytes(a ^ b for a, b in zip(key, mask, strict=True))
    words = without_proof.split(b",")
    return (
        base64.b64decode(proof) == right
        and words[0] == b"c=" + base64.b64encode(bound)
        and words[1] == b"r=" + client_nonce + NONCE
        and not (flag == b"y" and binding is not None)
    )


def check(data: bytes) -> None:
    binding, said = BINDING if data[:1] and data[0] & 1 else None, data[1:]
    with patch("proxy.pgsql.scram.os", CHANCE):
        turns = mutators.split(said, 1)
        expected = play(partial(talk, binding), turns)
        at_once = play(partial(talk, binding), [said] if said else [])
        for outcome in (expected, at_once):
            if outcome.error is not None and not isinstance(outcome.error, ProxyError | PeerClosed):
                raise outcome.error
            assert len(outcome.sent) < 60_000
            if outcome.error is None:
                assert proven(said, binding), "let in without a proof"
        rng = mutators.of(data)
        for pieces in ([bytes([b]) for b in said], [piece for turn in turns for piece in mutators.cuts(rng, turn)]):
            outcome = play(partial(talk, binding), pieces)
            assert same(outcome, expected), f"{outcome} instead of {expected}"
