"""The settings a client begins with: what of its startup packet is its own, so that it shares servers all the same.

Clients that differ in application_name, search_path or time zone use one pool; the relay establishes their settings on
whichever server they borrow. What such settings amount to (the server's own spelling of "utc", or its refusal) is for a
server to say, so the first client that brings them has them tried: by a conversation with the relay, over a pair of
sockets, like any client's. What came out is kept with the pool. Belongs to the front thread.
"""

import asyncio
import os
import socket
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.dataplane.pools import Pool, Settings, Waiter, Welcome
from proxy.errors import BorrowTimeout, ProxyError, ServerLost, TooManyClients
from proxy.pgsql._settings import SettingsDoor
from proxy.pgsql.gucs import settable
from proxy.pgsql.messages import error_response, fatal, parameter_status, parse_parameter_status
from proxy.sql._effects import EffectKind, effects, statements

if TYPE_CHECKING:
    from proxy.dataplane.front import Front

_REMEMBERED = 1024  # different ones per pool
_REPORTED = {
    b"application_name": b"application_name",
    b"client_encoding": b"client_encoding",
    b"datestyle": b"DateStyle",
    b"intervalstyle": b"IntervalStyle",
    b"timezone": b"TimeZone",
    b"standard_conforming_strings": b"standard_conforming_strings",
    b"default_transaction_read_only": b"default_transaction_read_only",
    b"search_path": b"search_path",
}  # fmt: skip
_NAME_LIMIT = 63  # NAMEDATALEN - 1: a longer application_name is cut by the server


def split(asked: Settings) -> tuple[Settings, Settings]:
    """(settings with which a server must log in, settings of the client's own)"""
    # in a set, the byte 1 marks a list (see sql/_effects): a value with it is nobody's honest one
    own = tuple(each for each in asked if settable(each[0]) and "\1" not in each[1])
    return tuple(each for each in asked if each not in own), own


def given(text: str) -> bytes:
    """Text of a startup packet as it came."""
    return text.encode("utf-8", "surrogateescape")


def _messages(settings: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(parameter_status(name, value) for name, value in sorted(settings))


def _reports(parameters: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(parameters):
        length = int.from_bytes(parameters[at + 1 : at + 5])
        name, value = parse_parameter_status(parameters[at + 5 : at + 1 + length])
        found[name] = value
        at += 1 + length
    return found


def of_init_query(text: str, parameters: bytes) -> tuple[dict[bytes, bytes], bool]:
    """(what it sets, it is understood as a whole). The server's own word for what it reports."""
    if not text.strip():
        return {}, True
    raw = text.encode()
    made: dict[bytes, bytes] = {}
    seen: set[int] = set()
    reports = _reports(parameters)
    for kind, number, name, value in effects(raw):
        if kind is not EffectKind.EFFECT_SET:
            return {}, False
        seen.add(number)
        key = name.encode("latin-1")
        made[key] = reports.get(_REPORTED.get(key, b""), value)
    whole = statements(raw) == len(seen)
    return (made, True) if whole else ({}, False)


def welcome(base: Welcome, settings: Settings, reported: dict[bytes, bytes]) -> Welcome:
    """`reported`: what a server said when it was given the settings."""
    reports = _reports(base.parameters)
    own = dict(_reports(base.settings))
    for name, text in settings:
        key = given(name)
        known = _REPORTED.get(key)
        if known in reports:
            value = reported.get(known, reports[known])
            if value == reports[known] and key not in own:
                continue  # as every server of the pool has it
            own[key] = value
        else:
            own[key] = given(text)
    reports |= {name: value for name, value in reported.items() if name in reports}
    parameters = _messages(reports.items())
    head = base.head[: len(base.head) - len(base.parameters)] + parameters
    return replace(base, head=head, parameters=parameters, settings=_messages(own.items()))


class Beginnings:
    def __init__(self, front: "Front") -> None:
        self._front = front
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[int, Pool] = {}  # of the conversations under way

    def known(self, pool: Pool, settings: Settings) -> Welcome | None:
        """What a client with these settings is told; None if they must be tried first. The pool has a welcome."""
        found = pool.beginnings.get(settings)
        if found is None and pool.welcome is not None and all(_plain_name(*each) for each in settings):
            found = welcome(pool.welcome, settings, {given(name): given(value) for name, value in settings})
            self._keep(pool, settings, found)
        return found

    def ask(self, pool: Pool, settings: Settings, waiter: Waiter, endpoint: int) -> None:
        waiters = pool.askers.get(settings)
        if waiters is not None:
            waiters[waiter] = None
            return
        pool.askers[settings] = {waiter: None}
        task = self._front.loop.create_task(self._try(pool, settings, endpoint))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def client_closed(self, slot: int) -> bool:
        """Was that a conversation of ours? Then it is over."""
        pool = self._slots.pop(slot, None)
        if pool is None:
            return False
        self._front.doorman.slots.give(slot)
        pool.clients -= 1
        self._front.pools.give_back(pool)
        return True

    @staticmethod
    def _keep(pool: Pool, settings: Settings, found: Welcome) -> None:
        pool.beginnings[settings] = found
        if len(pool.beginnings) > _REMEMBERED:
            del pool.beginnings[next(iter(pool.beginnings))]

    async def _try(self, pool: Pool, settings: Settings, endpoint: int) -> None:
        outcome: Welcome | bytes
        try:
            async with asyncio.timeout(pool.proxy.target_group.connection_borrow_timeout + 1):
                outcome = await self._converse(pool, settings, endpoint)
        except TimeoutError:
            outcome = error_response(BorrowTimeout())
        except ProxyError as error:
            outcome = error_response(error)
        except OSError:  # the relay has closed its end
            outcome = error_response(ServerLost())
        except BaseException:
            pool.askers.pop(settings, None)
            raise
        if isinstance(outcome, Welcome):
            self._keep(pool, settings, outcome)
        for waiter in pool.askers.pop(settings, {}):
            if isinstance(outcome, Welcome):
                waiter.welcome(outcome, pool)
            else:
                waiter.refused(outcome)

    async def _converse(self, pool: Pool, settings: Settings, endpoint: int) -> Welcome | bytes:
        """What the settings amount to, or the refusal."""
        front = self._front
        loop = front.loop
        base = pool.welcome
        if base is None:
            raise ServerLost
        slot = front.doorman.slots.take()
        if not slot:
            raise TooManyClients(pool.proxy.max_client_connections)
        kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
        self._slots[slot] = pool
        pool.clients += 1
        front.relay.client(
            theirs.detach(), None, slot=slot, pool_id=pool.id, endpoint=endpoint, cancel_key=os.urandom(32),
            parameters=base.parameters, settings=base.settings, unread=b"", idle_timeout=0, life=0, user=pool.key.user,
        )  # fmt: skip
        with ours:
            wanted = {given(name): given(value) for name, value in settings}
            await loop.sock_sendall(ours, SettingsDoor.replay({}, wanted, True)[1])
            reported: dict[bytes, bytes] = {}
            refusal = b""
            buffer = b""
            while True:
                while len(buffer) >= 5 and len(buffer) > (length := int.from_bytes(buffer[1:5])):
                    message, buffer = buffer[: length + 1], buffer[length + 1 :]
                    match message[:1]:
                        case b"S":
                            name, value = parse_parameter_status(message[5:])
                            reported[name] = value
                        case b"E":
                            refusal = refusal or fatal(message)
                        case b"Z":
                            return refusal or welcome(base, settings, reported)
                received = await loop.sock_recv(ours, 65536)
                if not received:
                    if refusal:
                        return refusal
                    raise ServerLost
                buffer += received


def _plain_name(name: str, value: str) -> bool:
    """An application_name whose outcome is certain: printable ASCII (servers replace other bytes), and not too long."""
    return name == "application_name" and value.isascii() and value.isprintable() and len(value) <= _NAME_LIMIT
