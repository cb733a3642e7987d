"""A PostgreSQL with roles and schemas, and two proxies with one worker: one server connection, and two of them."""

from collections.abc import Iterator

import pytest

from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.integration.sessions import scenery

BORROW_TIMEOUT_S = 3  # nobody here has a reason to wait longer: a client that does must not stop the test


@pytest.fixture(scope="package")
def server() -> Iterator[Postgres]:
    with Postgres() as pg:
        scenery.build(pg)
        yield pg


def _proxy(server: Postgres, connections: int) -> ProxyUnderTest:
    group = {"max_connections": connections, "connection_borrow_timeout": BORROW_TIMEOUT_S}
    return ProxyUnderTest(server, workers=1, users=scenery.USERS, target_group=group, alone=False)


@pytest.fixture(scope="package")
def one(server: Postgres) -> Iterator[ProxyUnderTest]:
    """One server connection for everybody."""
    with _proxy(server, 1) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def two(server: Postgres) -> Iterator[ProxyUnderTest]:
    with _proxy(server, 2) as proxy:
        yield proxy
