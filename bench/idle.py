"""What an idle client costs in memory: many of them log in, ask one question each, and then say nothing."""

import asyncio
import struct

from bench.accounting import pss
from bench.contenders import Contender
from tests.harness.messages import cstr, message, query, startup
from tests.harness.scram import ScramClient

_AT_A_TIME = 50  # logins in flight
_WARM_UP = 50  # clients that come first, so that what the process allocates once is not counted


class _Client:
    """One client on asyncio streams, with no more than this needs of the protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def login(cls, host: str, port: int, user: str, password: str, database: str) -> "_Client":
        # a small limit: the default would make this side's own memory the largest number here
        client = cls(*await asyncio.open_connection(host, port, limit=4096))
        client._writer.write(startup(user, database))
        scram = ScramClient(password)
        while True:
            kind, body = await client._read()
            code = struct.unpack_from("!i", body)[0] if kind == b"R" else None
            if kind == b"E":
                raise ConnectionRefusedError(body.replace(b"\0", b" ").decode())
            if kind == b"Z":
                return client
            if code == 10:
                first = scram.first()
                words = cstr("SCRAM-SHA-256") + struct.pack("!i", len(first)) + first
                client._writer.write(message("p", words))
            elif code == 11:
                client._writer.write(message("p", scram.final(body[4:])))

    async def _read(self) -> tuple[bytes, bytes]:
        head = await self._reader.readexactly(5)
        return head[:1], await self._reader.readexactly(int.from_bytes(head[1:], "big") - 4)

    async def ask(self) -> None:
        self._writer.write(query("select 1"))
        while (await self._read())[0] != b"Z":
            pass

    def close(self) -> None:
        self._writer.transport.abort()


async def _open(
    contender: Contender, count: int, user: str, password: str, database: str
) -> list[_Client]:
    gate = asyncio.Semaphore(_AT_A_TIME)

    async def one() -> _Client:
        async with gate:
            client = await _Client.login(contender.host, contender.port, user, password, database)
            await client.ask()
            return client

    return list(await asyncio.gather(*(one() for _ in range(count))))


async def _measure(contender: Contender, count: int, user: str, password: str, database: str) -> float:
    clients = await _open(contender, _WARM_UP, user, password, database)
    try:
        before = pss(contender.pids())
        clients += await _open(contender, count, user, password, database)
        return (pss(contender.pids()) - before) / count
    finally:
        for client in clients:
            client.close()


def bytes_per_client(contender: Contender, count: int, user: str, password: str, database: str) -> float:
    """PSS of all the contender's processes, per client beyond the first fifty."""
    return asyncio.run(_measure(contender, count, user, password, database))


