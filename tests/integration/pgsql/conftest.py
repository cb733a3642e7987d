"""Two proxies in front of the run's PostgreSQL: `proxy` as people run it, `small` with two server connections."""

from collections.abc import Iterator

import pytest

from tests.harness.certs import Authority, Certificate
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest


@pytest.fixture(scope="session")
def certificate(authority: Authority) -> Certificate:
    return authority.issue("localhost")


@pytest.fixture(scope="package")
def proxy(pg: Postgres, certificate: Certificate) -> Iterator[ProxyUnderTest]:
    with ProxyUnderTest(pg, tls=certificate, alone=False) as proxy:
        yield proxy


@pytest.fixture(scope="package")
def small(pg: Postgres) -> Iterator[ProxyUnderTest]:
    with ProxyUnderTest(pg, alone=False, target_group={"max_connections": 2, "connection_borrow_timeout": 20}) as proxy:
        yield proxy
