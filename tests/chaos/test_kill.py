"""kill -9 under load: only the killed worker's clients notice, nothing is lost, nothing crosses, nothing leaks.

CHAOS_SECONDS (8) and CHAOS_SEED (chosen, and printed) may be given.
"""

import os
import time

import psycopg
import pytest

from tests.chaos.census import Census
from tests.chaos.killer import Killer, kill
from tests.harness.load import Load
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest

SECONDS = float(os.environ.get("CHAOS_SECONDS", "8"))
SEED = int(os.environ.get("CHAOS_SEED", time.time_ns() // 1_000_000 % 1_000_000))
LIMIT = 10


@pytest.mark.timeout(SECONDS + 60)
def test_a_killed_worker_costs_its_own_clients_only(pg: Postgres) -> None:
    print(f"CHAOS_SEED={SEED} CHAOS_SECONDS={SECONDS:g}")
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": LIMIT}) as proxy:
        with Load(proxy, clients=40, seed=SEED) as load, Census(pg) as census:
            load.wait_for_progress(2)
            with Killer(proxy, SEED) as killer:
                time.sleep(SECONDS)
            load.wait_for_progress(5)  # it recovers by itself
        deaths = killer.deaths
        print(
            f"{len(deaths)} deaths, {load.steps} steps, {sum(r.logins for r in load.records)} logins, "
            f"{len(load.failures)} errors, longest step {max(r.longest for r in load.records):.2f} s, "
            f"most connections {max(len(ports) for _, ports in census.samples)}, "
            f"of the living {max(n for _, n in census.living(deaths))}; "
            f"of the dead the last went {census.ghosts_last(deaths):.2f} s after its worker"
        )
        assert any(death.worker is not None for death in deaths)
        unexcused = killer.unexcused(load.failures)
        assert not unexcused, "\n".join(map(str, unexcused[:10]))
        load.audit(pg)
        too_many = census.above(LIMIT, deaths)
        assert not too_many, f"more than {LIMIT} for longer than a goodbye takes: {too_many[:5]}"
        nothing_leaked(proxy, pg)


def test_a_killed_controller_costs_nobody_anything(pg: Postgres) -> None:
    Load.prepare(pg)
    with ProxyUnderTest(pg, target_group={"max_connections": LIMIT}) as proxy:
        with Load(proxy, clients=30, seed=SEED) as load:
            for _ in range(5):
                load.wait_for_progress()
                replaced(proxy)
                load.wait_for_progress()
            proxy.ctl("reload")
        assert not load.failures, "\n".join(map(str, load.failures[:10]))
        load.audit(pg)
        nothing_leaked(proxy, pg)


def replaced(proxy: ProxyUnderTest) -> None:
    before = proxy.controller_pid()
    assert kill(proxy, "controller") is not None
    wait_until(lambda: controller(proxy) not in (0, before), what="a new controller")


def controller(proxy: ProxyUnderTest) -> int:
    try:
        return proxy.controller_pid()
    except RuntimeError:
        return 0


def nothing_leaked(proxy: ProxyUnderTest, pg: Postgres) -> None:
    """With no client left: the database, the workers and the permits agree, and every place can still be used."""
    wait_until(lambda: controller(proxy) != 0, what="a controller: the last one may just have been killed")
    wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0, what="no client")

    def agree() -> bool:
        target = proxy.ctl("status")["targets"][0]
        servers = proxy.ctl("servers")
        return bool(target["connections"] == target["permits"] == len(servers) == pg.connections() <= LIMIT)

    wait_until(agree, what=f"agreement: {proxy.ctl('status')['targets']}, {pg.connections()} on the server")
    mine = "usename = 'app' AND backend_type = 'client backend'"
    assert pg.sql(f"SELECT count(*) FROM pg_stat_activity WHERE {mine} AND xact_start IS NOT NULL") == "0"
    assert {row["state"] for row in proxy.ctl("servers")} <= {"idle"}
    clients = [psycopg.connect(proxy.dsn()) for _ in range(LIMIT)]
    try:
        for client in clients:
            client.execute("SELECT 1")  # and the transaction stays open
        assert pg.connections() == LIMIT, "a place in the pool is lost"
    finally:
        for client in clients:
            client.close()
