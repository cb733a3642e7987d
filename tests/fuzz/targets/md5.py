"""Whoever is let in by MD5 has sent the one right hash for this salt, NUL and all, for any bytes in any pieces."""

import hashlib
from functools import partial
from types import SimpleNamespace
from unittest.mock import patch

from proxy.errors import ProxyError
from proxy.exchange import Exchange, PeerClosed
from proxy.model import ClientPasswordAuthType, Credential
from proxy.pgsql.authserver import authenticate
from proxy.pgsql.exchange import Line
from tests.fuzz import mutate as mutators
from tests.harness import messages as m
from tests.unit.pgsql.drive import play, same

CREDENTIAL = Credential("app", "apppw", ClientPasswordAuthType.POSTGRES_MD5)
SALT = b"\1\2\3\4"
CHANCE = SimpleNamespace(urandom=lambda n: SALT[:n])
INNER = hashlib.md5(b"apppw" + b"app").hexdigest().encode()
RIGHT = b"md5" + hashlib.md5(INNER + SALT).hexdigest().encode()


def seeds() -> list[bytes]:
    return [
        m.message("p", m.cstr(RIGHT)),
        m.message("p", m.cstr(RIGHT)) + m.query("select 1"),
        m.message("p", RIGHT),
        m.message("p", m.cstr("apppw")),
        m.message("p", b"\0"),
        m.message("p"),
    ]


mutate = partial(mutators.typed, kinds=b"pQX")


def talk(line: Line) -> Exchange[bytes]:
    return authenticate(line, CREDENTIAL, "app")


def check(data: bytes) -> None:
    with patch("proxy.pgsql.authserver.os", CHANCE):
        expected = play(talk, [data] if data else [])
        if expected.error is not None and not isinstance(expected.error, ProxyError | PeerClosed):
            raise expected.error
        right = m.message("p", m.cstr(RIGHT))
        assert (expected.error is None) == (data[: len(right)] == right), expected
        for pieces in ([bytes([b]) for b in data], mutators.cuts(mutators.of(data), data)):
            assert same(play(talk, pieces), expected)
