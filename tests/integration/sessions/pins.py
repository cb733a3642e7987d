"""How often a proxy has pinned a session, by its own numbers."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness.proxy import ProxyUnderTest

_TOTAL = "sluiceway_pins_total{"


def counted(proxy: ProxyUnderTest) -> dict[str, float]:
    """By the sample's name: proxy, reason and target."""
    return {name: number for name, number in proxy.metrics().items() if name.startswith(_TOTAL)}


@contextmanager
def none(proxy: ProxyUnderTest) -> Iterator[None]:
    """Fails if anything was pinned meanwhile."""
    before = counted(proxy)
    yield
    more = {name: number - before.get(name, 0) for name, number in counted(proxy).items()}
    pinned = {name: number for name, number in more.items() if number}
    assert not pinned, f"pinned: {pinned}"
