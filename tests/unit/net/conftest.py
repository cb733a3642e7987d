"""Certificates for the TLS tests, and the count of sessions, which must be what it was before each test."""

import gc
from collections.abc import Iterator

import pytest

from proxy.net._tls import live_sessions
from tests.unit.net.peers import DELIVERIES, Cut
from tests.unit.net.pki import Issued, Pki, rsa_key


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def server_cert(pki: Pki) -> Issued:
    return pki.issue("server", name="db.example", san=("db.example", "*.wild.example", "127.0.0.1", "::1"))


@pytest.fixture(scope="module")
def client_cert(pki: Pki) -> Issued:
    return pki.issue("client", name="alice", key=rsa_key())


@pytest.fixture(params=DELIVERIES)
def cut(request: pytest.FixtureRequest) -> Cut:
    return DELIVERIES[request.param]


@pytest.fixture(autouse=True)
def no_session_left() -> Iterator[None]:
    before = live_sessions()
    yield
    if live_sessions() != before:
        gc.collect()  # only what pytest.raises holds in a cycle
    assert live_sessions() == before
