"""The front's table of pools: who may share server connections, and what a client of each is told when it arrives.

A pool is known to the relay by a small number. Its key is what makes two sessions interchangeable: proxy, target,
database, user, and those startup settings with which its server connections must log in. Its *welcome* is
what its newest server login said of the session; a client that comes before the first one waits here. Numbers are
given back when nobody uses the pool any more, so that a fleet of clients with ever new settings does not grow the
table for ever. Belongs to the front thread.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from proxy.dataplane.family import Family, Settings, Welcome, family_of
from proxy.model import Credential, Proxy, Target

_SETTLED_S = 1.0  # for this long a refusal by the database is passed on without asking it again


class PoolKey(NamedTuple):
    proxy: str
    target: int  # slot
    database: str
    user: str
    settings: Settings  # those with which its servers must log in; a client's own are not among them


class Waiter(Protocol):
    """A login that is authenticated and waits for the pool's first server."""

    def welcome(self, welcome: Welcome, pool: "Pool") -> None: ...
    def refused(self, error: bytes) -> None:
        """`error`: a database's whole message."""

    def abort(self) -> None: ...


@dataclass(slots=True, eq=False)
class Pool:
    id: int
    key: PoolKey
    proxy: Proxy
    target: Target
    credential: Credential
    generation: int  # a change makes the relay replace the server connections one by one
    welcome: Welcome | None = None
    waiters: dict[Waiter, None] = field(default_factory=dict)  # in order of arrival
    beginnings: dict[Settings, Welcome] = field(default_factory=dict)  # of clients' own settings; oldest first
    askers: dict[Settings, dict[Waiter, None]] = field(default_factory=dict)  # who waits for one of those
    clients: int = 0
    servers: int = 0
    opening: int = 0

    @property
    def family(self) -> Family:
        return family_of(self.proxy)

    @property
    def unused(self) -> bool:
        return not (self.waiters or self.clients or self.servers or self.opening or self.askers)

    def opened(self, welcome: Welcome) -> None:
        if welcome != self.welcome:
            self.beginnings.clear()
        self.welcome = welcome
        waiters, self.waiters = self.waiters, {}
        for waiter in waiters:
            waiter.welcome(welcome, self)

    def forget(self) -> None:
        """What was learnt from its servers no longer holds."""
        self.welcome = None
        self.beginnings.clear()

    def leave(self, waiter: Waiter) -> None:
        self.waiters.pop(waiter, None)
        for waiters in self.askers.values():
            waiters.pop(waiter, None)


class Pools:
    """`announce` tells the relay about a new or changed pool."""

    def __init__(self, announce: Callable[[Pool], None]) -> None:
        self._announce = announce
        self._pools: list[Pool] = []  # by id
        self._by_key: dict[PoolKey, Pool] = {}
        self._free: dict[int, deque[int]] = {}  # ids by target slot: the relay's numbers of a target stay with it
        self._generation = 0
        self._refusals: dict[PoolKey, tuple[bytes, float]] = {}  # and when; oldest first

    def __getitem__(self, pool_id: int) -> Pool:
        return self._pools[pool_id]

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._by_key.values())

    def __len__(self) -> int:
        return len(self._by_key)

    @property
    def size(self) -> int:
        """Ids are below this."""
        return len(self._pools)

    def get(self, key: PoolKey, proxy: Proxy, target: Target, credential: Credential) -> Pool:
        """The pool of that key; made if it is not there. What is there keeps what it was made with until `update`."""
        pool = self._by_key.get(key)
        if pool is not None:
            return pool
        free = self._free.get(target.slot)
        self._generation += 1
        pool = Pool(free.popleft() if free else len(self._pools), key, proxy, target, credential, self._generation)
        if pool.id == len(self._pools):
            self._pools.append(pool)
        else:
            self._pools[pool.id] = pool
        self._by_key[key] = pool
        self._announce(pool)
        return pool

    def update(self, pool: Pool, proxy: Proxy, target: Target, credential: Credential) -> None:
        """A new snapshot: only what changed is touched."""
        same_server = (
            (target.host, target.port) == (pool.target.host, pool.target.port)
            and credential.password == pool.credential.password
            and proxy.target_group.tls == pool.proxy.target_group.tls
            and proxy.target_group.init_query == pool.proxy.target_group.init_query
        )
        same_limits = proxy.target_group == pool.proxy.target_group
        pool.proxy, pool.target, pool.credential = proxy, target, credential
        if same_server and same_limits:
            return
        if not same_server:
            self._generation += 1
            pool.generation = self._generation
        self._announce(pool)

    def refuse(self, pool: Pool, error: bytes, now: float, *, stands: bool = True) -> None:
        """The database's answer is final for those who wait, and, if it `stands`, for who comes in the next moment.

        A wrong password must not become a storm of logins (edge case 12). The pool itself may go meanwhile.
        """
        self._refusals.pop(pool.key, None)
        if stands:
            self._refusals[pool.key] = error, now
        while self._refusals:
            oldest = next(iter(self._refusals))
            if now - self._refusals[oldest][1] < _SETTLED_S:
                break
            del self._refusals[oldest]
        waiters, pool.waiters = pool.waiters, {}
        for waiter in waiters:
            waiter.refused(error)

    def standing_refusal(self, key: PoolKey, now: float) -> bytes:
        """What to tell a newcomer at once, or nothing."""
        error, at = self._refusals.get(key, (b"", now))
        return error if now - at < _SETTLED_S else b""

    def forgive(self) -> None:
        """A new snapshot may have put right what was wrong."""
        self._refusals.clear()

    def retire(self, pool: Pool) -> None:
        """Its server connections are to close as they come free: the user, the target or the proxy is gone."""
        self._generation += 1
        pool.generation = self._generation
        self._announce(pool)

    def give_back(self, pool: Pool) -> None:
        """Called whenever a user of the pool has gone."""
        if pool.unused and self._by_key.get(pool.key) is pool:
            del self._by_key[pool.key]
            self._free.setdefault(pool.target.slot, deque()).append(pool.id)
