"""Clients that begin with settings of their own: what those amount to is for a server to say, once.

The first client that brings such settings has them tried: by a conversation with the relay, over a pair of sockets,
like any client's. What came out is kept with the pool. Belongs to the front thread.
"""

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from proxy.dataplane.family import Settings, Welcome
from proxy.dataplane.pools import Pool, Waiter
from proxy.errors import BorrowTimeout, ProxyError, ServerLost, TooManyClients

if TYPE_CHECKING:
    from proxy.dataplane.front import Front

_REMEMBERED = 1024  # different ones per pool


class Beginnings:
    def __init__(self, front: "Front") -> None:
        self._front = front
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots: dict[int, Pool] = {}  # of the conversations under way

    def known(self, pool: Pool, settings: Settings) -> Welcome | None:
        """What a client with these settings is told; None if they must be tried first. The pool has a welcome."""
        found = pool.beginnings.get(settings)
        if found is None and pool.welcome is not None:
            found = pool.family.known(pool.welcome, settings)
            if found is not None:
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
            outcome = pool.family.error(None, BorrowTimeout())
        except ProxyError as error:
            outcome = pool.family.error(None, error)
        except OSError:  # the relay has closed its end
            outcome = pool.family.error(None, ServerLost())
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
            engine=pool.family.number,
        )  # fmt: skip
        trial = pool.family.trial(base, settings)
        with ours:
            await loop.sock_sendall(ours, trial.request)
            while True:
                received = await loop.sock_recv(ours, 65536)
                outcome = trial.feed(received)
                if outcome is not None:
                    return outcome
                if not received:
                    raise ServerLost
