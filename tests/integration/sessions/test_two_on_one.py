"""Two clients who take turns on one server connection; each transaction is checked.

They differ in search_path, role and time zone, and now and then change them. Which of the two comes first is left to
the race: both send, then both are read.

    SLUICEWAY_TRANSACTIONS=100000 pytest tests/integration/sessions/test_two_on_one.py      (default: 3,000)
"""

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.harness.messages import Message, bind, describe, execute, parse, query, sync
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.harness.wire import FakeClient
from tests.integration.sessions import pins

TRANSACTIONS = int(os.environ.get("SLUICEWAY_TRANSACTIONS", "3000"))
_LOOK = (
    "select current_setting('search_path'), current_setting('timezone'), current_setting('role'), current_user,"
    " (select v from t), timestamptz '2026-11-02 12:00Z'::text"
)
_CHANGE_EVERY = 25
_NOON = {
    "Asia/Tokyo": "2026-11-02 21:00:00+09",
    "Asia/Kathmandu": "2026-11-02 17:45:00+05:45",
    "America/Lima": "2026-11-02 07:00:00-05",
    "UTC": "2026-11-02 12:00:00+00",
}


@dataclass
class State:
    search_path: str
    zone: str
    role: str

    @property
    def seen(self) -> list[bytes]:
        of = "of s1" if self.search_path.startswith("s1") else "of s2"
        values = (self.search_path, self.zone, self.role, self.role, of, _NOON[self.zone])
        return [value.encode() for value in values]

    @property
    def statements(self) -> str:
        return f"set search_path = {self.search_path}; set timezone = '{self.zone}'; set role {self.role}"


# no value in common at any time; guest may see s1 alone
_MAY_BE = (
    [State("s2", "Asia/Tokyo", "clerk"), State("s2, pg_catalog", "Asia/Kathmandu", "clerk")],
    [State("s1", "America/Lima", "guest"), State("s1, s2", "UTC", "guest")],
)


class Client:
    """Sends one transaction, knows what it must be told."""

    def __init__(self, wire: FakeClient, may_be: Sequence[State], dice: random.Random) -> None:
        self._wire, self._may_be, self._dice = wire, may_be, dice
        self._state = may_be[0]
        self._named = False
        self.sent: list[str] = []
        self._wire.ask(self._state.statements)

    def send(self) -> None:
        form = self._dice.choice(("plain", "in one text", "extended", "named", "named", "rolled back", "local"))
        if self._dice.randrange(_CHANGE_EVERY) == 0:
            form, self._state = "change", self._dice.choice(self._may_be)
        self.sent = [*self.sent[-9:], form]
        self._wire.send(self._bytes(form))

    def _bytes(self, form: str) -> bytes:
        run = bind(statement="look") + describe("P") + execute() + sync()
        match form:
            case "plain":
                return query(_LOOK)
            case "in one text":
                return query(f"begin; {_LOOK}; commit")
            case "extended":
                return parse(_LOOK) + bind() + execute() + sync()
            case "named" if self._named:
                return run
            case "named":
                self._named = True
                return parse(_LOOK, "look") + run
            case "rolled back":
                return query(f"begin; set role none; set timezone = 'Asia/Kolkata'; rollback; {_LOOK}")
            case "local":
                return query(f"begin; set local search_path = pg_catalog; commit; {_LOOK}")
            case _:
                return query(f"{self._state.statements}; {_LOOK}")

    def receive(self) -> list[str]:
        """What is wrong."""
        got: list[Message] = self._wire.read_until("ReadyForQuery")
        rows = [m.values for m in got if m.name == "DataRow"]
        if rows == [self._state.seen] and got[-1].status == "I":
            return []
        errors = [m.fields for m in got if m.name == "ErrorResponse"]
        return [f"{rows} and not {self._state.seen}, {errors}, status {got[-1].status}, after {self.sent}"]


@pytest.fixture(params=["directly", "through the proxy"])
def pair(request: pytest.FixtureRequest, server: Postgres, one: ProxyUnderTest) -> Iterator[list[Client]]:
    to = server if request.param == "directly" else one
    seed = int(os.environ.get("SLUICEWAY_SEED", str(random.SystemRandom().getrandbits(32))))
    print(f"SLUICEWAY_SEED={seed}")
    dice = random.Random(seed)
    with ExitStack() as stack:
        wires = [stack.enter_context(FakeClient(to.host, to.port, timeout=10).login()) for _ in _MAY_BE]
        yield [Client(wire, may_be, dice) for wire, may_be in zip(wires, _MAY_BE, strict=True)]


@pytest.mark.edge_case(39, 40, 41, 43, 49)
@pytest.mark.timeout(60 + TRANSACTIONS // 100)
def test_two_clients_on_one_connection(pair: list[Client], one: ProxyUnderTest) -> None:
    with pins.none(one):
        for turn in range(TRANSACTIONS // 2):
            for client in pair:
                client.send()
            for n, client in enumerate(pair):
                wrong = client.receive()
                assert not wrong, f"client {n} in turn {turn}: {wrong}"
