"""Several clients at once, all closed at the end whatever happens; and how one of them is told that it is over."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient


@contextmanager
def clients(proxy: ProxyUnderTest, n: int, timeout: float = 10) -> Iterator[list[FakeClient]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeClient(proxy.host, proxy.port, timeout).login()) for _ in range(n)]


def told(client: FakeClient) -> str:
    """The SQLSTATE with which it was closed."""
    error = client.expect("ErrorResponse")[0].fields
    assert error["S"] == "FATAL"
    assert client.at_end()
    return error["C"]
