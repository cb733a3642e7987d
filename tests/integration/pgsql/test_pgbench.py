"""pgbench, 100 clients over 2 workers and 20 server connections, every protocol: no error, never one connection more.

PGBENCH_SECONDS is the length of each run (3 in the suite; 60 for the record).
"""

import os
import re
import subprocess
import threading
from collections.abc import Iterator
from typing import Self

import psycopg
import pytest

from tests.harness.postgres import Postgres, client_tool
from tests.harness.proxy import ProxyUnderTest

SECONDS = float(os.environ.get("PGBENCH_SECONDS", "3"))
CLIENTS, LIMIT = 100, 20


class Sampler:
    """Looks at pg_stat_activity every 15 ms through a connection of its own: the most it ever saw."""

    def __init__(self, pg: Postgres) -> None:
        self._dsn = pg.dsn(user=pg.superuser)
        self._over = threading.Event()
        self.most = self.samples = 0
        self._thread = threading.Thread(target=self._run, name="sampler")

    def _run(self) -> None:
        mine = "usename = 'app' and backend_type = 'client backend'"
        with psycopg.connect(self._dsn, autocommit=True) as conn:
            while not self._over.wait(0.015):
                found = conn.execute(f"select count(*) from pg_stat_activity where {mine}").fetchone()
                assert found is not None
                self.most = max(self.most, found[0])
                self.samples += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture(scope="module")
def loaded() -> Iterator[ProxyUnderTest]:
    """A server of its own, so that nobody else's connections count; scale 10, or TPC-B were all waiting for one row."""
    with Postgres() as pg, ProxyUnderTest(pg, target_group={"max_connections": LIMIT}) as proxy:
        pgbench(proxy, "-i", "-q", "-s", "10")
        yield proxy


def pgbench(proxy: ProxyUnderTest, *arguments: str, limit_s: float = 60) -> str:
    mine = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    mine |= {
        "PGHOST": proxy.host,
        "PGPORT": str(proxy.port),
        "PGUSER": "app",
        "PGPASSWORD": "apppw",
        "PGDATABASE": "test",
    }
    command = [client_tool("pgbench"), *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=mine, timeout=limit_s)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}"
    return done.stdout + done.stderr


def balances(pg: Postgres) -> str:
    """TPC-B's invariant: every sum of balances is the sum of what the history says."""
    sums = ", ".join(
        f"(select sum({k}balance) from pgbench_{t}) = d"
        for k, t in (("a", "accounts"), ("b", "branches"), ("t", "tellers"))
    )
    return pg.sql(f"select {sums} from (select coalesce(sum(delta), 0) d from pgbench_history) h")


@pytest.mark.timeout(SECONDS + 60)
@pytest.mark.parametrize(
    "arguments",
    [
        ("-S", "-M", "simple"),
        ("-S", "-M", "extended"),
        ("-S", "-M", "prepared"),
        ("-b", "tpcb-like", "-M", "simple"),
        ("-b", "tpcb-like", "-M", "extended"),
        ("-b", "tpcb-like", "-M", "prepared", "-j", str(CLIENTS)),
        ("-S", "-M", "simple", "-C"),
    ],
    ids=["simple", "extended", "prepared", "tpcb", "tpcb-extended", "tpcb-prepared", "reconnect"],
)
def test_a_hundred_clients_without_an_error(
    arguments: tuple[str, ...], loaded: ProxyUnderTest, capsys: pytest.CaptureFixture[str]
) -> None:
    """TPC-B with -M prepared: a thread for each client, since pgbench prepares with calls that block their thread; with
    other clients in it, which hold transactions open, that would wait for itself, through any pooler."""
    pg = loaded.pg
    assert pg is not None
    before = loaded.metrics()
    with Sampler(pg) as sampler:
        told = pgbench(
            loaded, "-n", "-c", str(CLIENTS), "-j", "2", "-T", f"{SECONDS:g}", *arguments, limit_s=SECONDS + 45
        )
    assert "number of failed transactions: 0 (" in told
    done = re.search(r"number of transactions actually processed: (\d+)", told)
    assert done is not None, told
    assert int(done[1]) > 0
    assert sampler.samples > SECONDS * 5
    assert 0 < sampler.most <= LIMIT, f"{sampler.most} connections seen"
    assert balances(pg) == "t|t|t"
    assert loaded.metrics() != before
    tps = re.search(r"tps = ([\d.]+)", told)
    latency = re.search(r"latency average = ([\d.]+)", told)
    if SECONDS >= 10 and tps and latency:
        with capsys.disabled():
            print(
                f"\n{' '.join(arguments)}: {done[1]} transactions, {tps[1]} tps, {latency[1]} ms, "
                f"at most {sampler.most} connections"
            )


@pytest.mark.timeout(60)
def test_clients_come_and_go_while_others_work(loaded: ProxyUnderTest) -> None:
    """Connect-per-transaction and long-lived clients at once; every server connection is used by many."""
    assert loaded.pg is not None
    results: list[str] = []

    def run(*arguments: str) -> None:
        results.append(pgbench(loaded, "-n", "-S", "-T", "2", *arguments))

    threads = [
        threading.Thread(target=run, args=("-C", "-c", "10", "-j", "2")),
        threading.Thread(target=run, args=("-c", "40", "-j", "2", "-M", "prepared")),
    ]
    with Sampler(loaded.pg) as sampler:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 2
    assert all("number of failed transactions: 0 (" in told for told in results)
    assert sampler.most <= LIMIT
