"""A ceiling shared by workers and pools: everybody is served, and connections are not opened to be closed."""

import threading
import time

import psycopg
import pytest

from tests.harness.load import Load
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient


def test_workers_and_pools_under_one_ceiling_all_get_their_share(pg: Postgres) -> None:
    """asyncpg and psycopg ask for different settings, so each worker has two pools, and all four want all ten."""
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": 10}) as proxy:
        with Load(proxy, clients=40, seed=1) as load:
            load.wait_for_progress(20)
        assert not load.failures, [str(f) for f in load.failures[:5]]
        load.audit(pg)
        metrics = proxy.metrics()
        target = f'target="{pg.host}:{pg.port}"'
        yielded = metrics.get(f'sluiceway_closes_total{{proxy="test",reason="server_permit_wanted",{target}}}', 0)
        asked = metrics['sluiceway_query_requests_total{endpoint="default",proxy="test"}']
        opened = metrics[f'sluiceway_database_connection_requests_total{{proxy="test",{target}}}']
        assert opened <= 10 + yielded, "a connection was opened that had no place"
        assert yielded < asked / 20, f"{yielded:.0f} connections were given up for {asked:.0f} queries"


def test_a_pool_without_connections_is_not_starved_by_one_that_is_never_idle(pg: Postgres) -> None:
    """Another database, so another pool, while forty clients of the first keep every connection busy."""
    Load.prepare(pg)
    with (
        ProxyUnderTest(pg, workers=1, target_group={"max_connections": 4}) as proxy,
        Load(proxy, clients=20, seed=2) as load,
    ):
        load.wait_for_progress(2)
        longest = 0.0
        for _ in range(5):
            begun = time.monotonic()
            with psycopg.connect(proxy.dsn(database="postgres"), autocommit=True) as connection:
                for n in range(5):
                    assert connection.execute("SELECT %s::int, current_database()", (n,)).fetchone() == (n, "postgres")
            longest = max(longest, time.monotonic() - begun)
        assert longest < 5, f"the newcomer waited {longest:.1f} s"
        load.wait_for_progress(2)
        load.stop()
        assert not load.failures, [str(f) for f in load.failures[:5]]


@pytest.mark.parametrize("workers", [1, 2])
def test_more_pools_than_connections_take_turns(pg: Postgres, workers: int) -> None:
    """Eight pools (by a setting that differs), two connections, and clients that ask again at once."""
    slowest: list[float] = []

    def ask(proxy: ProxyUnderTest, n: int) -> None:
        longest = 0.0
        with FakeClient(proxy.host, proxy.port, 20).login(work_mem=f"{1000 + n % 8}kB") as client:
            for _ in range(15):
                begun = time.monotonic()
                assert client.ask("SHOW work_mem")[1].values == [f"{1000 + n % 8}kB".encode()]
                longest = max(longest, time.monotonic() - begun)
        slowest.append(longest)

    with ProxyUnderTest(pg, workers=workers, target_group={"max_connections": 2}) as proxy:
        threads = [threading.Thread(target=ask, args=(proxy, n)) for n in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(slowest) == 24, "somebody was not served"
    assert max(slowest) < 6, f"somebody waited {max(slowest):.1f} s"
    print(f"slowest answer: {max(slowest):.2f} s")
