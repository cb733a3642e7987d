"""A load of clients that know what is true: each checks that what it reads is its own, and remembers what was
acknowledged, so that at the end the database can be held against it.

    with Load(proxy, clients=40) as load:
        …                                   # kill, reload, drain: whatever the test is about
    assert not load.failures
    load.audit(pg)

Every client moves money between accounts (their sum never changes) and writes, in the same transaction, the next line
of its own ledger; between, it asks for things only it could have asked for. All of them run in one thread of their own.
"""

import asyncio
import random
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from tests.harness.drivers import DRIVERS, FAILURES, Connection
from tests.harness.postgres import Postgres
from tests.harness.processes import wait_until
from tests.harness.proxy import ProxyUnderTest

ACCOUNTS = 50
BALANCE = 1000
_STEP_LIMIT_S = 25.0  # beyond every timeout of the proxy: whoever waits so long waits for ever
_WORKER = 127
INSIDE = "inside a transaction"  # what a client does from the answer to its BEGIN to the answer to its COMMIT


@dataclass
class Failure:
    """An error that a client has met."""

    client: int
    worker: int | None  # None: it never got as far as to know
    begun: float  # when its connection was begun,
    at: float  # and when the error came (monotonic)
    doing: str
    text: str

    def __str__(self) -> str:
        who = f"client {self.client} of worker {self.worker}"
        return f"{who}, after {self.at - self.begun:.2f} s, {self.doing}: {self.text}"


@dataclass
class Record:
    """What one client knows for certain."""

    number: int
    acknowledged: set[int] = field(default_factory=set)  # lines of its ledger
    in_doubt: set[int] = field(default_factory=set)  # COMMIT was sent, no answer came
    steps: int = 0
    logins: int = 0
    longest: float = 0.0  # seconds of a step
    worker: int | None = None
    doing: str = "login"  # or the step, or INSIDE


class Load:
    def __init__(self, proxy: ProxyUnderTest, *, clients: int = 40, seed: int = 1, pause_s: float = 0.0) -> None:
        """`pause_s`: mean time a client thinks between two steps."""
        self._proxy = proxy
        self._seed, self._pause_s = seed, pause_s
        self.records = [Record(number) for number in range(clients)]
        self.failures: list[Failure] = []
        self.wrong: list[str] = []  # answers that were not the asker's: never to be excused
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    @staticmethod
    def prepare(pg: Postgres) -> None:
        pg.sql(
            "DROP TABLE IF EXISTS account, ledger",
            "CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)",
            f"INSERT INTO account SELECT id, {BALANCE} FROM generate_series(1, {ACCOUNTS}) id",
            "CREATE TABLE ledger (client int, line int, tag text NOT NULL, PRIMARY KEY (client, line))",
            "GRANT ALL ON account, ledger TO app",
        )

    # life

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Every client ends its step and says goodbye."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._all())

    async def _all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for record in self.records:
                group.create_task(self._client(record))

    @property
    def steps(self) -> int:
        return sum(record.steps for record in self.records)

    def wait_for_progress(self, steps: int = 1, limit_s: float = 15.0) -> None:
        """Every client has taken so many steps more."""
        before = [record.steps for record in self.records]
        wait_until(
            lambda: all(r.steps >= b + steps for r, b in zip(self.records, before, strict=True)), limit_s,
            f"{steps} more steps by every client; failures: {[str(f) for f in self.failures[-5:]]}",
        )  # fmt: skip

    # one client

    async def _client(self, record: Record) -> None:
        dice = random.Random(f"{self._seed}/{record.number}")
        driver = DRIVERS[record.number % len(DRIVERS)]
        proxy = self._proxy
        while not self._stop.is_set():
            begun = time.monotonic()
            connection: Connection | None = None
            record.worker, record.doing = None, "login"
            try:
                async with asyncio.timeout(_STEP_LIMIT_S):
                    connection = await driver.open(proxy.host, proxy.port, proxy.user, proxy.password, proxy.database)
                record.logins += 1
                record.worker = connection.pid & _WORKER
                await self._serve(record, connection, dice)
                await connection.close()
            except FAILURES as error:
                text = f"{driver.name}: {type(error).__name__}: {error}"
                self.failures.append(
                    Failure(record.number, record.worker, begun, time.monotonic(), record.doing, text)
                )
                if connection is not None:
                    connection.abandon()
                await asyncio.sleep(0.02)  # a client that hammers a closed door tells nothing new

    async def _serve(self, record: Record, connection: Connection, dice: random.Random) -> None:
        while not self._stop.is_set():
            step = dice.choices([self._transfer, self._echo, self._read_back, self._many_rows], [4, 4, 2, 1])[0]
            begun = time.monotonic()
            record.doing = step.__name__.strip("_")
            async with asyncio.timeout(_STEP_LIMIT_S):
                await step(record, connection, dice)
            record.longest = max(record.longest, time.monotonic() - begun)
            record.steps += 1
            if dice.random() < 0.002:
                return  # and log in again
            if self._pause_s:
                await asyncio.sleep(dice.expovariate(1 / self._pause_s))

    async def _transfer(self, record: Record, connection: Connection, dice: random.Random) -> None:
        line = max(record.acknowledged | record.in_doubt, default=0) + 1
        amount = dice.randint(1, 9)
        source, sink = dice.sample(range(1, ACCOUNTS + 1), 2)
        changes = sorted([(source, -amount), (sink, amount)])  # in this order nobody deadlocks
        await connection.rows("BEGIN")
        record.doing = INSIDE
        for account, change in changes:
            await connection.rows("UPDATE account SET balance = balance + $1::int WHERE id = $2::int", change, account)
        tag = f"{record.number}:{line}"
        sql = "INSERT INTO ledger VALUES ($1::int, $2::int, $3::text)"
        await connection.rows(sql, record.number, line, tag)
        record.in_doubt.add(line)
        await connection.rows("COMMIT")
        record.in_doubt.discard(line)
        record.acknowledged.add(line)

    async def _echo(self, record: Record, connection: Connection, dice: random.Random) -> None:
        tag = f"{record.number}/{record.steps}/{dice.getrandbits(48):x}"
        if dice.random() < 0.5:
            got = await connection.rows("SELECT $1::text, $2::int", tag, record.steps)
        else:
            got = await connection.rows(f"SELECT '{tag}', {record.steps}")
        self._same(record, got, [(tag, record.steps)])

    async def _many_rows(self, record: Record, connection: Connection, dice: random.Random) -> None:
        """Some 100 KB, so that an answer comes in many pieces."""
        n, salt = dice.randint(100, 400), dice.getrandbits(32)
        tag = f"{record.number}-{salt}-".ljust(300, "x")
        got = await connection.rows("SELECT $1::text || i FROM generate_series(1, $2::int) i", tag, n)
        self._same(record, got, [(f"{tag}{i}",) for i in range(1, n + 1)])

    async def _read_back(self, record: Record, connection: Connection, dice: random.Random) -> None:
        """Its own writes, all that were acknowledged and nothing that was never tried."""
        sql = "SELECT line, tag FROM ledger WHERE client = $1::int AND line > $2::int ORDER BY line"
        floor = max(record.acknowledged, default=0) - 20
        got = await connection.rows(sql, record.number, floor)
        lines = {line for line, _ in got}
        must = {line for line in record.acknowledged if line > floor}
        if not must <= lines <= must | record.in_doubt:
            self.wrong.append(f"client {record.number} read lines {sorted(lines)}, acknowledged were {sorted(must)}")
        self._same(record, [(tag,) for _, tag in got], [(f"{record.number}:{line}",) for line in sorted(lines)])

    def _same(self, record: Record, got: list[tuple[object, ...]], wanted: list[tuple[object, ...]]) -> None:
        if got != wanted:
            self.wrong.append(f"client {record.number} asked for {wanted[:2]} and got {got[:2]} ({len(got)} rows)")

    # afterwards

    def audit(self, pg: Postgres) -> None:
        """Nothing crossed, nothing acknowledged is lost, nothing half done is there."""
        assert not self.wrong, "\n".join(self.wrong[:10])
        text = pg.sql("SELECT client, line, tag FROM ledger ORDER BY 1, 2")
        found: dict[int, set[int]] = {record.number: set() for record in self.records}
        for row in text.splitlines():
            client, line, tag = row.split("|")
            assert tag == f"{client}:{line}", f"a row of another: {row}"
            found[int(client)].add(int(line))
        for record in self.records:
            lost = record.acknowledged - found[record.number]
            assert not lost, f"client {record.number}: lines {sorted(lost)[:10]} were acknowledged and are lost"
            extra = found[record.number] - record.acknowledged - record.in_doubt
            assert not extra, f"client {record.number}: lines {sorted(extra)[:10]} were never committed"
        assert int(pg.sql("SELECT sum(balance) FROM account")) == ACCOUNTS * BALANCE, "half a transfer is there"
