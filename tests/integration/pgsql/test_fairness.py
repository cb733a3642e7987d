"""Fewer connections than workers that want one: nobody waits for ever behind another worker's busy clients."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
import pytest

from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.integration.pgsql.test_sessions import on_worker

PATIENCE_S = 3.0  # far more than a turn lasts, far less than the borrow timeout


@contextmanager
def busy(*conns: psycopg.Connection) -> Iterator[list[int]]:
    """Each asks again as soon as it is answered; how often each was."""
    over = threading.Event()
    counts = [0] * len(conns)

    def run(n: int) -> None:
        while not over.is_set():
            conns[n].execute("select pg_sleep(0.001)")
            counts[n] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(conns))]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        over.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    "held", ["", "listen something", "begin"], ids=["one connection", "two, one pinned", "two, one in use"]
)
def test_a_worker_without_a_connection_gets_its_turn(held: str, pg: Postgres) -> None:
    group = {"max_connections": 2 if held else 1, "connection_borrow_timeout": 8}
    with ProxyUnderTest(pg, alone=False, target_group=group) as proxy, ExitStack() as stack:
        here = [stack.enter_context(on_worker(proxy, lambda w: w == 0)) for _ in range(2)]
        there = [stack.enter_context(on_worker(proxy, lambda w: w == 1)) for _ in range(3)]
        if held:
            here[0].execute(held)
        with busy(*there) as counts:
            for _ in range(4):
                before = sum(counts)
                began = time.monotonic()
                assert here[1].execute("select 1").fetchone() == (1,)
                assert time.monotonic() - began < PATIENCE_S
                while sum(counts) == before:  # and it is not the others who starve now
                    assert time.monotonic() - began < 2 * PATIENCE_S
                    time.sleep(0.01)
        with busy(*here[bool(held) :]) as mine, busy(*there) as theirs:
            time.sleep(2)
        assert min(sum(mine), sum(theirs)) > 50, (mine, theirs)
