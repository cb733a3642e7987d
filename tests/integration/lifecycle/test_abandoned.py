"""Clients that vanish: in a transaction, in a large result, in COPY IN, while waiting. Nothing of theirs stays."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest

LIMIT = 3


@contextmanager
def victim(proxy: ProxyUnderTest, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own: runs `script` with `db` connected, says that it is there, and hangs until it is killed."""
    begin = f"import psycopg, sys, time\ndsn = {proxy.dsn()!r}\ndb = psycopg.connect(dsn)"
    body = f"{begin}\n{script}\nprint(flush=True)\ntime.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", body], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        assert process.stdout.read(1) == b"\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def settled(proxy: ProxyUnderTest, pg: Postgres, table: str = "abandoned") -> None:
    """No client, no lock, no transaction, no running statement; what is open is idle and is counted."""
    wait_until(lambda: proxy.ctl("status")["endpoints"][0]["clients"] == 0, what="the client is seen to be gone")
    locks = f"SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass"
    wait_until(lambda: pg.sql(locks) == "0", what="no lock")
    busy = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app' AND state <> 'idle'"
    wait_until(lambda: pg.sql(busy) == "0", what="all idle")

    def agree() -> bool:
        target = proxy.ctl("status")["targets"][0]
        states = {row["state"] for row in proxy.ctl("servers")}
        return bool(target["connections"] == target["permits"] == pg.connections() <= LIMIT and states <= {"idle"})

    wait_until(agree, what="the counts agree")


@pytest.fixture(scope="module")
def proxy(pg: Postgres) -> Iterator[ProxyUnderTest]:
    pg.sql("DROP TABLE IF EXISTS abandoned", "CREATE TABLE abandoned (n int)", "GRANT ALL ON abandoned TO app")
    with ProxyUnderTest(pg, workers=1, target_group={"max_connections": LIMIT}) as proxy:
        yield proxy


SCRIPTS = {
    "idle in a transaction": 'db.execute("INSERT INTO abandoned VALUES (1)"); db.execute("LOCK abandoned")',
    "in a failed transaction": """
db.execute("INSERT INTO abandoned VALUES (1)")
try: db.execute("SELECT 1/0")
except psycopg.Error: pass""",
    "in a statement": """
import threading
db.execute("INSERT INTO abandoned VALUES (1)")
threading.Thread(target=lambda: db.execute("SELECT pg_sleep(60)"), daemon=True).start()
asleep = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND wait_event = 'PgSleep'"
with psycopg.connect(dsn, autocommit=True) as look:
    while look.execute(asleep).fetchone() == (0,):
        pass""",
    "in a large result": """
db.execute("INSERT INTO abandoned VALUES (1)")
db.pgconn.send_query(b"SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")
db.pgconn.flush()
db.pgconn.set_single_row_mode()
db.pgconn.get_result()""",
    "in COPY IN": """
manager = db.cursor().copy("COPY abandoned FROM STDIN"); copy = manager.__enter__()
for n in range(10000): copy.write_row((n,))
db.pgconn.flush()""",
    "in COPY OUT": """
manager = db.cursor().copy("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT")
copy = manager.__enter__()
copy.read()""",
    "in a pipeline": """
p = db.pipeline(); p.__enter__()
for n in range(50): db.execute("INSERT INTO abandoned VALUES (%s)", (n,))
db.pgconn.send_flush_request(); db.pgconn.flush()""",
    "pinned": 'db.execute("CREATE TEMP TABLE t (n int)"); db.execute("INSERT INTO abandoned VALUES (1)")',
    "with a session lock": """
db.autocommit = True
db.execute("SELECT pg_advisory_lock(4711)")""",
}


@pytest.mark.edge_case(8, 9, 37)
@pytest.mark.parametrize("where", SCRIPTS)
def test_a_client_killed(pg: Postgres, proxy: ProxyUnderTest, where: str) -> None:
    with victim(proxy, SCRIPTS[where]) as process:
        assert proxy.ctl("status")["targets"][0]["borrowed"] == 1
        process.kill()
        process.wait()
        settled(proxy, pg)
    assert pg.sql("SELECT count(*) FROM abandoned") == "0"
    assert pg.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    # every place can be used again, and what is reused is clean
    clients = [psycopg.connect(proxy.dsn()) for _ in range(LIMIT)]
    for client in clients:
        assert client.execute("SELECT count(*) FROM abandoned").fetchone() == (0,)
        with pytest.raises(psycopg.errors.UndefinedTable):
            client.execute("SELECT * FROM pg_temp.t")
    for client in clients:
        client.close()


@pytest.mark.edge_case(8)
def test_an_abandoned_transaction_costs_no_connection(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """It is rolled back, and its connection serves the next one."""
    with victim(proxy, SCRIPTS["idle in a transaction"]) as process:
        before = pg.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY 1")
        process.kill()
        settled(proxy, pg)
    assert pg.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'app' ORDER BY 1") == before


def test_many_at_once(pg: Postgres, proxy: ProxyUnderTest) -> None:
    """More than there are places: some inside, the rest waiting in line, all killed together."""
    script = """
import threading
def work():
    with psycopg.connect(db.info.dsn, password="apppw") as c:
        c.execute("INSERT INTO abandoned VALUES (1)"); time.sleep(60)
for n in range(20): threading.Thread(target=work, daemon=True).start()
"""
    with victim(proxy, script) as process:
        wait_until(lambda: proxy.ctl("status")["endpoints"][0]["waiting"] == 20 - LIMIT, 10, "a full house and a queue")
        process.kill()
        settled(proxy, pg)
    assert proxy.ctl("status")["endpoints"][0]["waiting"] == 0
    assert pg.sql("SELECT count(*) FROM abandoned") == "0"
    with psycopg.connect(proxy.dsn()) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)
