"""asyncpg and psycopg behind one small face, so that the same script runs through both.

asyncpg speaks the extended protocol with named prepared statements, psycopg simple and extended with statements
prepared after a few uses: between them they use most of what a proxy must get right.
"""

import re
from typing import Any, Protocol, Self

import asyncpg
import psycopg

Row = tuple[Any, ...]

# what a driver may raise when its connection is lost or refused, or the database says no
FAILURES = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError,
            psycopg.Error)  # fmt: skip


class Connection(Protocol):
    @property
    def pid(self) -> int:
        """The process id of BackendKeyData. From the proxy: the worker's number is its low seven bits."""

    async def rows(self, sql: str, *values: object) -> list[Row]:
        """Parameters are written $1, $2 … and each appears once, in order."""

    async def close(self) -> None: ...

    def abandon(self) -> None:
        """Without a word to the other side."""


class Asyncpg:
    name = "asyncpg"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.pid = int(connection.get_server_pid())

    @classmethod
    async def open(cls, host: str, port: int, user: str, password: str, database: str) -> Self:
        where = {"host": host, "port": port, "user": user, "password": password, "database": database}
        return cls(await asyncpg.connect(**where, ssl=False, timeout=20))

    async def rows(self, sql: str, *values: object) -> list[Row]:
        if not values and not sql.startswith(("select", "SELECT")):
            await self._connection.execute(sql)
            return []
        return [tuple(row) for row in await self._connection.fetch(sql, *values)]

    async def close(self) -> None:
        await self._connection.close(timeout=5)

    def abandon(self) -> None:
        self._connection.terminate()


class Psycopg:
    name = "psycopg"

    def __init__(self, connection: psycopg.AsyncConnection[Row]) -> None:
        self._connection = connection
        self.pid = connection.info.backend_pid

    @classmethod
    async def open(cls, host: str, port: int, user: str, password: str, database: str) -> Self:
        connection = await psycopg.AsyncConnection.connect(
            host=host, port=port, user=user, password=password, dbname=database, sslmode="disable",
            autocommit=True, connect_timeout=20,
        )  # fmt: skip
        return cls(connection)

    async def rows(self, sql: str, *values: object) -> list[Row]:
        cursor = await self._connection.execute(re.sub(r"\$\d+", "%s", sql), values or None)
        return await cursor.fetchall() if cursor.description is not None else []

    async def close(self) -> None:
        await self._connection.close()

    def abandon(self) -> None:
        self._connection.pgconn.finish()


DRIVERS: tuple[type[Asyncpg] | type[Psycopg], ...] = (Asyncpg, Psycopg)
