"""The relay survives any clients and servers, answers within a second, leaks nothing, and mixes nobody's bytes.

Honest clients of honest servers get, byte by byte, what a server of their own would have answered, or the end of the
connection. Input: a byte that says who the clients are, then two bytes per step: what happens, and to whom.
"""

import time

from proxy.reasons import ConnectFailure
from tests.fuzz import mutate as mutators
from tests.fuzz.arena import ASYNC, HONEST, HOSTILE, Arena
from tests.harness import messages as m

CLIENTS = 6


def seeds() -> list[bytes]:
    ask = [bytes([0, who + 16 * what]) for what in range(16) for who in range(CLIENTS)]
    serve = bytes([2, 255, 5, 255, 6, 255])
    flow = b"".join(one + serve for one in ask)
    deaths = b"".join(ask[i] + serve + bytes([8 + i % 5, i]) for i in range(40))
    hostile = b"".join(bytes([1, i % 6]) + serve + ask[i] for i in range(60))
    # half a result and half a notice, then the death of their server
    halves = b"".join(
        bytes([0, 224 + i % 6, 2, 0, 5, 0, 7, 99 + 11 * i, 15, 0, 4, i, 9, 0, 17, i, 7, 31, 15, 0]) for i in range(12)
    )
    small = b"".join(ask[i] + bytes([3, i % 6, 7, i, 4, 3, 9, i]) for i in range(60))
    return [
        bytes([kinds]) + script
        for kinds in (0, 0b111000, 0b101010, 63)
        for script in (flow, deaths, hostile, small, halves)
    ]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    if rng.random() < 0.4:
        steps = rng.randrange(20, 300)
        return bytes([rng.choice((0, 8, 0b101010, 63))]) + bytes(
            byte for _ in range(steps) for byte in (rng.choices(range(18), WEIGHTS)[0], rng.randrange(256))
        )
    return mutators.raw(rng, data, pool)[:700]


WEIGHTS = (20, 10, 12, 8, 8, 16, 16, 8, 1, 2, 1, 1, 1, 1, 1, 2, 2, 3)


def _step(arena: Arena, what: int, who: int) -> None:
    clients, servers = arena.open_clients, arena.open_servers
    client = clients[who % 16 % len(clients)] if clients else None
    server = servers[who % len(servers)] if servers else None
    match what % 18:
        case 0 if client:
            client.ask(who // 16 + 16 * (who & 1))
        case 1 if client:
            (client.ask(who) if client.honest else client.lie(arena.lies))
        case 2:
            for one in clients:
                one.write(1 << 20)
        case 3 if client:
            client.write(1 + who // 16)
        case 4 if client:
            client.read()
            client.judge(complete=False)
        case 5:
            for each in servers:
                each.read(1 + who)
        case 6:
            for each in servers:
                each.write(1 << 20)
        case 7 if server:
            server.read(1)
            server.write(1 + who // 4)
        case 8 if client and len(clients) > 2:
            client.read()
            client.peer.close()
        case 9 if server:
            server.peer.close()
        case 10 if client:
            client.loose = True
            arena.relay.cancel(client.peer.slot, client.peer.key)  # type: ignore[attr-defined]
        case 11 if client:
            client.loose = True
            arena.relay.kill(client.peer.slot)  # type: ignore[attr-defined]
        case 12:
            (arena.relay.pause if who & 1 else arena.relay.resume)()
        case 13:
            arena.failures.append(
                ConnectFailure.CONNECT_PERMANENT if who & 7 == 0 else ConnectFailure.CONNECT_TEMPORARY
            )
        case 14 if server and server.lies is not None:
            server.out += mutators.typed(arena.lies, m.answer("x"), [m.error(), m.ready()], mutators.BACKEND_KINDS)
        case 17 if server and server.lies is None:
            server.out += ASYNC
        case 15:
            arena.events()
        case 16:
            begin = time.monotonic()
            arena.rows("pools")
            assert time.monotonic() - begin < 1, "the relay is slow to answer"


def check(data: bytes) -> None:
    kinds = data[0] if data else 0
    with Arena(mutators.of(data)) as arena:
        for i in range(CLIENTS):
            arena.join(HONEST if i % 3 else HOSTILE, honest=not kinds >> i & 1)
        for at in range(1, min(len(data) - 1, 700), 2):
            _step(arena, data[at], data[at + 1])
            arena.events()
        arena.finish()
