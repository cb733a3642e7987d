"""A ceiling shared by two workers and several pools: everybody is served, and connections are not opened to be closed."""

import time

from tests.harness.load import Load
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest


def test_workers_and_pools_under_one_ceiling_all_get_their_share(pg: Postgres) -> None:
    """asyncpg and psycopg ask for different settings, so each worker has two pools, and all four want all ten."""
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": 10}) as proxy:
        with Load(proxy, clients=40, seed=1) as load:
            load.wait_for_progress(20)
        assert not load.failures, [str(f) for f in load.failures[:5]]
        load.audit(pg)
        metrics = proxy.metrics()
        target = f'proxy="test",target="{pg.host}:{pg.port}"'
        yielded = metrics.get(f'sluiceway_closes_total{{proxy="test",reason="server_permit_wanted",target="{pg.host}:{pg.port}"}}', 0)
        asked = metrics['sluiceway_query_requests_total{endpoint="default",proxy="test"}']
        opened = metrics[f"sluiceway_database_connection_requests_total{{{target}}}"]
        assert opened <= 10 + yielded, "a connection was opened that had no place"
        assert yielded < asked / 20, f"{yielded:.0f} connections were given up for {asked:.0f} queries"


def test_a_pool_without_connections_is_not_starved_by_one_that_is_never_idle(pg: Postgres) -> None:
    """Another database, so another pool, while forty clients of the first keep every connection busy."""
    Load.prepare(pg)
    with (
        ProxyUnderTest(pg, workers=1, target_group={"max_connections": 4}) as proxy,
        Load(proxy, clients=20, seed=2) as load,
    ):
        import psycopg

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
