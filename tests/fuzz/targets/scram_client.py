"""A connection is ready only after AuthenticationOk, and after the right SCRAM signature where SCRAM was begun.

Input: a byte of circumstances (encryption, channel binding, init_query, limits), then what the server says.
"""

import base64
import hashlib
import hmac
from functools import cache, partial
from types import SimpleNamespace
from unittest.mock import patch

from proxy.errors import ProxyError
from proxy.exchange import Encryption, Exchange, PeerClosed, TlsRefused, UnsupportedMethod
from proxy.pgsql._params import ParamsDoor
from proxy.pgsql.authclient import ServerReady, ServerRefused, log_in
from proxy.pgsql.exchange import Line
from proxy.pgsql.scram import ScramError
from tests.fuzz import corpus
from tests.fuzz import mutate as mutators
from tests.fuzz.mutate import BACKEND_KINDS
from tests.harness import messages as m
from tests.unit.pgsql.drive import Tls, play, same

CHANCE = SimpleNamespace(urandom=lambda n: bytes(range(1, n + 1)))
NONCE = base64.b64encode(bytes(range(1, 19)))
BINDING = hashlib.sha256(b"certificate").digest()
MODES = (Encryption.NONE, Encryption.OFFER, Encryption.DEMAND, Encryption.NONE)
REFUSALS = (ProxyError, PeerClosed, ScramError, ServerRefused, TlsRefused, UnsupportedMethod)
MOST_ROUNDS = 5000  # the real bound has a unit test; here it would only cost time


def talk(how: int, line: Line) -> Exchange[ServerReady]:
    if how & 4:
        line.binding = BINDING
    return log_in(
        line, user="app", database="test", password="apppw", encryption=MODES[how & 3],
        init_query="set x = 1" if how & 8 else "", ask_limits=bool(how & 16),
    )  # fmt: skip


def request(code: int, data: bytes = b"") -> bytes:
    return m.message("R", code.to_bytes(4) + data)


def signature(mechanism: bytes, server_first: bytes, how: int) -> bytes:
    """What a server that knows the password answers, computed apart from the proxy's code."""
    words = dict(part.split(b"=", 1) for part in server_first.split(b",")[:3])
    salted = hashlib.pbkdf2_hmac("sha256", b"apppw", base64.b64decode(words[b"s"]), int(words[b"i"]))
    gs2 = b"p=tls-server-end-point,," if mechanism.endswith(b"PLUS") else (b"y,," if how & 4 else b"n,,")
    bound = gs2 + (BINDING if mechanism.endswith(b"PLUS") else b"")
    bare = b"n=,r=" + NONCE
    without_proof = b"c=" + base64.b64encode(bound) + b",r=" + words[b"r"]
    signed = b",".join((bare, server_first, without_proof))
    return b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"))


def scram(mechanisms: bytes, how: int) -> bytes:
    first = b"r=" + NONCE + b"more,s=" + base64.b64encode(b"salt") + b",i=4096"
    name = b"SCRAM-SHA-256-PLUS" if b"PLUS" in mechanisms and how & 4 else b"SCRAM-SHA-256"
    return request(10, mechanisms + b"\0") + request(11, first) + request(12, signature(name, first, how))


@cache
def seeds() -> tuple[bytes, ...]:
    told = m.parameter_status("server_version", "15") + m.parameter_status("client_encoding", "UTF8")
    end = m.authentication_ok() + told + m.notice("hi") + m.backend_key_data(7, b"keyk") + m.ready()
    both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0"
    limits = m.row_description("a", "b", "c") + m.row("100", "3", None) + m.complete() + m.ready()
    return (
        b"\0" + end,
        b"\0" + request(3) + end,
        b"\0" + request(5, b"salt") + end,
        b"\0" + scram(b"SCRAM-SHA-256\0", 0) + end,
        b"\4" + scram(both, 4) + end,
        b"\4" + scram(b"SCRAM-SHA-256\0", 4) + end,
        b"\1N" + scram(b"SCRAM-SHA-256\0", 1) + end,
        b"\1S" + end,
        b"\2N" + end,
        b"\x18" + end + m.complete("SET") + m.ready() + limits,
        b"\0" + m.error("28P01", severity="FATAL"),
        b"\0" + m.message("v", (3 << 16).to_bytes(4) + b"\0\0\0\0") + end,
        *(b"\0" + one for one in corpus.files("pgsql/bad/scram_client")),
    )


mutate = mutators.behind(partial(mutators.typed, kinds=BACKEND_KINDS + b"RRRRKv"))


def check(data: bytes) -> None:
    how, said = (data[0] if data else 0) & 31, data[1:]
    # the answer to SSLRequest comes alone, and the rest message by message: an honest server waits for what it answers
    encrypted = MODES[how & 3] is not Encryption.NONE
    first, rest = (said[:1], said[1:]) if encrypted else (b"", said)
    turns = [turn for turn in (first, *mutators.split(rest, 1)) if turn]
    with patch("proxy.pgsql.scram.os", CHANCE), patch("proxy.pgsql.scram.MAX_ITERATIONS", MOST_ROUNDS):
        tls = Tls(binding=BINDING if how & 4 else None)
        expected = play(partial(talk, how), turns, tls)
        at_once = play(partial(talk, how), [said] if said else [], tls)
        for outcome in (expected, at_once):
            if outcome.error is not None and not isinstance(outcome.error, REFUSALS):
                raise outcome.error
            if isinstance(outcome.result, ServerReady):
                _sound(rest if outcome is expected else said[len(said) - len(rest) :], how, outcome.result)
                assert not how & 8 or b"set x = 1" in outcome.sent, "ready, but the init_query was never sent"
        rng = mutators.of(data)
        for pieces in ([bytes([b]) for b in said], [piece for turn in turns for piece in mutators.cuts(rng, turn)]):
            outcome = play(partial(talk, how), pieces, tls)
            assert same(outcome, expected), f"{outcome} instead of {expected}"


def _sound(said: bytes, how: int, ready: ServerReady) -> None:
    found = [(piece[:1], piece[5:]) for piece in mutators.split(said, 1)]
    asked = [(int.from_bytes(body[:4]), body[4:]) for kind, body in found if kind == b"R"]
    codes = [code for code, _ in asked]
    assert 0 in codes, "ready without AuthenticationOk"
    before = asked[: codes.index(0)]
    if any(code == 10 for code, _ in before):
        mechanisms = next(body for code, body in before if code == 10).split(b"\0")
        name = b"SCRAM-SHA-256-PLUS" if b"SCRAM-SHA-256-PLUS" in mechanisms and how & 4 else b"SCRAM-SHA-256"
        firsts = [body for code, body in before if code == 11]
        right = {signature(name, first, how) for first in firsts}
        assert any(body.split(b",")[0] in right for code, body in before if code == 12), (
            "ready without a right signature"
        )
    names = [piece[5:].split(b"\0")[0] for piece in mutators.split(ready.parameters, 1)]
    assert names == sorted(set(names))
    ParamsDoor().intern(ready.parameters)  # the relay must be able to read what it is handed
    assert len(ready.cancel_key) <= 256
    assert 0 <= ready.backend_pid < 1 << 32
