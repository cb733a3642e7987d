"""The front's table of pools: keys, numbers, welcomes, refusals."""

from dataclasses import replace
from typing import Any

import pytest

from proxy.dataplane.doorman import MAX_SLOT, Slots
from proxy.dataplane.family import Welcome
from proxy.dataplane.pools import Pool, PoolKey, Pools
from proxy.model import (
    ClientPasswordAuthType,
    Credential,
    EngineFamily,
    Proxy,
    ServerTls,
    SslMode,
    Target,
    TargetGroup,
    TargetRole,
)

CREDENTIAL = Credential("app", "apppw", ClientPasswordAuthType.POSTGRES_SCRAM_SHA_256)
TARGET = Target(0, "db", 5432, TargetRole.READ_WRITE)
PROXY = Proxy("orders", EngineFamily.POSTGRESQL, (), TargetGroup((TARGET,)), (CREDENTIAL,))
WELCOME = Welcome(b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0", b"S\0\0\0\x08a\0b\0")


class Table(Pools):
    def __init__(self) -> None:
        self.announced: list[tuple[int, int]] = []
        super().__init__(lambda pool: self.announced.append((pool.id, pool.generation)))

    def make(self, database: str = "test", target: Target = TARGET, **settings: str) -> Pool:
        key = PoolKey("orders", target.slot, database, "app", tuple(sorted(settings.items())))
        return self.get(key, PROXY, target, CREDENTIAL)


class Login:
    """A waiter that notes what it was told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def welcome(self, welcome: Welcome, pool: Pool) -> None:
        self.heard.append(welcome)

    def refused(self, error: bytes) -> None:
        self.heard.append(error)

    def abort(self) -> None:
        self.heard.append(None)


def test_one_pool_per_key() -> None:
    table = Table()
    pool = table.make()
    assert table.make() is pool
    others = [table.make("other"), table.make(timezone="UTC"), table.make(target=replace(TARGET, slot=1))]
    assert [each.id for each in others] == [1, 2, 3]
    assert len(table) == 4
    assert [pool_id for pool_id, _ in table.announced] == [0, 1, 2, 3]


def test_welcome_is_what_the_server_said() -> None:
    assert WELCOME.head == b"R\0\0\0\x08\0\0\0\0S\0\0\0\x08a\0b\0"
    assert WELCOME.parameters == b"S\0\0\0\x08a\0b\0"


def test_waiters_are_welcomed_in_order_and_once() -> None:
    pool = Table().make()
    logins = [Login(), Login()]
    for login in logins:
        pool.waiters[login] = None
    pool.opened(WELCOME)
    pool.opened(WELCOME)
    assert [login.heard for login in logins] == [[WELCOME], [WELCOME]]
    assert pool.welcome is WELCOME


def test_ec12_a_refusal_is_passed_on_for_a_second_and_not_for_ever() -> None:
    table, login = Table(), Login()
    pool = table.make()
    pool.waiters[login] = None
    table.refuse(pool, b"no", now=100.0)
    assert login.heard == [b"no"]
    table.give_back(pool)
    assert len(table) == 0
    assert table.standing_refusal(pool.key, 100.5) == b"no", "the pool has gone, the answer stands"
    assert table.standing_refusal(pool.key, 101.5) == b""
    assert table.standing_refusal(pool.key._replace(user="other"), 100.5) == b""


def test_refusals_do_not_pile_up() -> None:
    table = Table()
    for second in range(5):
        for number in range(10):
            table.refuse(table.make(f"{second}-{number}"), b"no", now=float(second * 2))
    assert len(table._refusals) == 10


def test_ec12_a_new_snapshot_forgives() -> None:
    table = Table()
    pool = table.make()
    table.refuse(pool, b"no", now=100.0)
    table.forgive()
    assert table.standing_refusal(pool.key, 100.1) == b""


def test_numbers_are_given_again_for_the_same_target() -> None:
    table = Table()
    first, second = table.make("one"), table.make("two")
    first.clients = 1
    table.give_back(first)
    assert table.make("one") is first, "somebody is in it"
    first.clients = 0
    table.give_back(first)
    table.give_back(first)
    elsewhere = table.make("three", target=replace(TARGET, slot=1))
    again = table.make("four")
    assert (elsewhere.id, again.id) == (2, first.id)
    assert again.generation > second.generation > first.generation, "what is left of its predecessor goes"
    assert table[first.id] is again
    assert table.make("five").id == 3, "a number is given back once"


@pytest.mark.parametrize("field", ["clients", "servers", "opening"])
def test_a_pool_in_use_stays(field: str) -> None:
    table = Table()
    pool = table.make()
    setattr(pool, field, 1)
    table.give_back(pool)
    assert list(table) == [pool]


def test_a_pool_somebody_waits_for_stays() -> None:
    table = Table()
    pool = table.make()
    pool.waiters[Login()] = None
    table.give_back(pool)
    assert list(table) == [pool]


def test_ec13_an_update_that_changes_nothing_is_not_announced() -> None:
    table = Table()
    pool = table.make()
    table.announced.clear()
    table.update(pool, replace(PROXY, idle_client_timeout=5), replace(TARGET), replace(CREDENTIAL))
    assert table.announced == []


@pytest.mark.parametrize(
    ("proxy", "target", "credential", "replaced"),
    [
        (PROXY, TARGET, replace(CREDENTIAL, password="new"), True),
        (PROXY, replace(TARGET, host="db2"), CREDENTIAL, True),
        (PROXY, replace(TARGET, port=5433), CREDENTIAL, True),
        (replace(PROXY, target_group=replace(PROXY.target_group, init_query="select 1")), TARGET, CREDENTIAL, True),
        (
            replace(PROXY, target_group=replace(PROXY.target_group, tls=ServerTls(SslMode.REQUIRE))),
            TARGET,
            CREDENTIAL,
            True,
        ),
        (replace(PROXY, target_group=replace(PROXY.target_group, server_life=1)), TARGET, CREDENTIAL, False),
        (
            replace(PROXY, target_group=replace(PROXY.target_group, connection_borrow_timeout=1)),
            TARGET,
            CREDENTIAL,
            False,
        ),
    ],
)
def test_updates(proxy: Proxy, target: Target, credential: Credential, replaced: bool) -> None:
    """Connections are replaced where they would now be made otherwise."""
    table = Table()
    pool = table.make()
    ((_, before),) = table.announced
    table.update(pool, proxy, target, credential)
    assert len(table.announced) == 2
    assert (pool.generation != before) is replaced


def test_retired_pools_replace_their_connections() -> None:
    table = Table()
    pool = table.make()
    table.retire(pool)
    assert [number for number, _ in table.announced] == [0, 0]
    assert table.announced[0] != table.announced[1]


def test_slots() -> None:
    slots = Slots()
    assert [slots.take() for _ in range(3)] == [1, 2, 3]
    slots.give(2)
    assert [slots.take(), slots.take()] == [2, 4]
    slots._next = MAX_SLOT
    assert slots.take() == MAX_SLOT
    assert slots.take() == 0
    slots.give(7)
    assert slots.take() == 7


def test_a_pid_stays_positive() -> None:
    assert (MAX_SLOT << 7 | 127) == 0x3FFFFFFF
