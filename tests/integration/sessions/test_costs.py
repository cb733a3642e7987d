"""What following a session costs is counted, and is no more than it must be."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.harness.proxy import ProxyUnderTest
from tests.integration.sessions.pins import none
from tests.integration.sessions.test_pins import connect

ROUNDS = 10


@contextmanager
def counted(proxy: ProxyUnderTest, name: str, expected: int) -> Iterator[None]:
    def number() -> float:
        found = [value for sample, value in proxy.metrics().items() if sample.startswith(f"sluiceway_{name}_total{{")]
        assert found, f"no such metric: {name}"
        return sum(found)

    before = number()
    yield
    assert number() - before == expected


@pytest.mark.edge_case(42)
def test_settings_are_put_right_once_for_each_change_of_hands(one: ProxyUnderTest) -> None:
    with none(one), connect(one) as a, connect(one) as b:
        a.execute("set statement_timeout = 60001")
        b.execute("set statement_timeout = 60002; set work_mem = '9MB'")
        with counted(one, "settings_replays", 2 * ROUNDS):
            for _ in range(ROUNDS):
                assert a.execute("show statement_timeout").fetchone() == ("60001ms",)
                assert b.execute("show statement_timeout").fetchone() == ("60002ms",)
        with counted(one, "settings_replays", 0):
            for _ in range(ROUNDS):
                b.execute("set statement_timeout = 60002")
                assert b.execute("show work_mem").fetchone() == ("9MB",)


@pytest.mark.edge_case(17)
def test_a_statement_is_prepared_once_on_a_connection(one: ProxyUnderTest) -> None:
    with none(one), connect(one) as a, connect(one) as b:
        a.execute("select 'costs', %s::int", [1], prepare=True)
        with counted(one, "statements_prepared", 0):
            for n in range(ROUNDS):
                b.execute("select 'costs', %s::int", [n], prepare=True)
                a.execute("select 'costs', %s::int", [n], prepare=True)
        with counted(one, "statements_prepared", 2):
            for _ in range(ROUNDS):
                a.execute("set search_path = s1, public")
                a.execute("select 'costs', %s::int", [1], prepare=True)
                a.execute("set search_path = s2, public")
                a.execute("select 'costs', %s::int", [1], prepare=True)
