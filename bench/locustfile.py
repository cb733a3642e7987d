"""A mixed workload with a real driver: people who think, transactions of several statements, scripts that come and go.

    locust -f bench/locustfile.py --headless -u 200 -r 50 -t 60s \\
           --host "host=127.0.0.1 port=6432 user=app password=apppw dbname=test"

`--host` is a libpq connection string: the proxy, PgBouncer or the server itself. Every reader checks that what it reads
is what it wrote: a row of somebody else's is a failure, not a number.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from locust import User, between, constant, events, task

_ACCOUNTS = 10_000
_TABLE = "locust_accounts"


def make_table(environment: Any, **_: Any) -> None:
    """Once, by the master or the only process."""
    if environment.host is None:
        raise SystemExit('--host "host=… port=… user=… password=… dbname=…" is missing')
    with psycopg.connect(environment.host, autocommit=True) as connection:
        connection.execute(f"create table if not exists {_TABLE} (id int primary key, owner text, balance bigint)")
        connection.execute(
            f"insert into {_TABLE} select i, 'nobody', 0 from generate_series(1, {_ACCOUNTS}) i on conflict do nothing"
        )


events.test_start.add_listener(make_table)


class Database(User):
    """What all kinds of users share: a connection of their own, and telling locust how long things took."""

    abstract = True
    connection: psycopg.Connection[tuple[Any, ...]] | None = None

    @property
    def dsn(self) -> str:
        return str(self.host)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        begin, error = time.perf_counter(), None
        try:
            yield
        except (psycopg.Error, AssertionError) as e:
            error = e
            self.disconnect()
        self.environment.events.request.fire(
            request_type=type(self).__name__,
            name=name,
            response_time=(time.perf_counter() - begin) * 1000,
            response_length=0,
            exception=error,
        )

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self.connection is None or self.connection.closed:
            with self.timed("connect"):
                self.connection = psycopg.connect(self.dsn, autocommit=True)
        if self.connection is None:
            raise psycopg.OperationalError("not connected")
        return self.connection

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def on_stop(self) -> None:
        self.disconnect()


class Browser(Database):
    """Reads now and then, thinks in between: most connections of most applications."""

    weight = 6
    wait_time = between(0.1, 1.0)

    @task
    def read(self) -> None:
        with self.timed("select"):
            wanted = random.randint(1, _ACCOUNTS)
            row = self.connect().execute(f"select id from {_TABLE} where id = %s", (wanted,)).fetchone()
            assert row == (wanted,), f"asked for {wanted}, got {row}"


class Clerk(Database):
    """Transactions of several statements, with a pause inside; one in ten is rolled back."""

    weight = 3
    wait_time = between(0.05, 0.3)

    @task
    def transfer(self) -> None:
        with self.timed("transaction"):
            connection, mark = self.connect(), f"clerk {id(self)} {random.random()}"
            with connection.transaction(force_rollback=random.random() < 0.1):
                account = random.randint(1, _ACCOUNTS)
                update = f"update {_TABLE} set owner = %s, balance = balance + 1 where id = %s"
                connection.execute(update, (mark, account))
                time.sleep(random.uniform(0, 0.02))
                row = connection.execute(f"select owner from {_TABLE} where id = %s", (account,)).fetchone()
                assert row == (mark,), f"wrote {mark!r}, read {row}"


class Script(Database):
    """Connects, asks one question, leaves: cron jobs, PHP, functions."""

    weight = 1
    wait_time = constant(0.5)

    @task
    def once(self) -> None:
        with self.timed("connect, ask, leave"), psycopg.connect(self.dsn, autocommit=True) as connection:
            number = random.randint(0, 1_000_000)
            assert connection.execute("select %s::int", (number,)).fetchone() == (number,)
