"""The front of a worker: everything cold. Owns the doorman, the connector and the table of pools; listens to the relay.

The worker's entry: `start`, `apply(snapshot)` (as a difference; all or nothing), `handle(verb, args)`, `drain`,
`stop`. All of it runs on the worker's one event loop; the relay thread is spoken to through `relay`'s methods and
heard through its events.
"""

import asyncio
import logging
from typing import Any, Protocol

from proxy.dataplane.beginnings import Beginnings
from proxy.dataplane.connector import Connector
from proxy.dataplane.doorman import Doorman, printable
from proxy.dataplane.family import family_of
from proxy.dataplane.journal import Journal
from proxy.dataplane.pools import Pool, Pools
from proxy.dataplane.views import in_words
from proxy.model import Proxy, Snapshot, Target
from proxy.reasons import CloseReason, PinReason, pin_reason, text
from proxy.reasons import name as name_of

log = logging.getLogger(__name__)

_DUMP_S = 4.0  # the controller does not wait longer
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class Context(Protocol):
    """What a worker gives its front."""

    @property
    def segment(self) -> Any: ...
    @property
    def worker(self) -> int: ...
    @property
    def relay(self) -> Any: ...


class Front:
    def __init__(self, context: Context) -> None:
        self.segment = context.segment
        self.worker = context.worker
        self.relay = context.relay
        self.loop: asyncio.AbstractEventLoop
        self.pools = Pools(self._announce)
        self.journal: Journal
        self.doorman: Doorman
        self.connector: Connector
        self.beginnings: Beginnings
        self.snapshot: Snapshot | None = None
        self._limits: dict[
            int, tuple[int, int]
        ] = {}  # target slot: (max_connections, of which reserved), as last heard
        self._dumps: dict[int, asyncio.Future[list[dict[str, Any]]]] = {}
        self._next_dump = 1
        self._drained: asyncio.Event

    async def start(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._drained = asyncio.Event()
        self.journal = Journal(self.loop, log)
        self.doorman = Doorman(self)
        self.connector = Connector(self)
        self.beginnings = Beginnings(self)
        self.loop.add_reader(self.relay.event_fd, self._on_events)

    # ------------------------------------------------------------ snapshots

    async def apply(self, snapshot: Snapshot) -> None:
        """All of it, or, with an exception that names what is wrong, nothing."""
        for proxy in snapshot.proxies:
            family_of(proxy)
        contexts = self.connector.contexts(snapshot.proxies)
        plan = await self.doorman.prepare(snapshot.proxies)
        # nothing below can fail
        self.connector.renew(contexts)
        self.snapshot = snapshot
        for target, proxy in self._targets().values():
            self._set_limit(target, proxy)
        self._update_pools(snapshot)
        self.doorman.commit(snapshot.proxies, plan)

    def _targets(self) -> dict[int, tuple[Target, Proxy]]:
        proxies = self.snapshot.proxies if self.snapshot is not None else ()
        return {target.slot: (target, proxy) for proxy in proxies for target in proxy.target_group.targets}

    def _update_pools(self, snapshot: Snapshot) -> None:
        self.pools.forgive()
        proxies = {proxy.name: proxy for proxy in snapshot.proxies}
        for pool in list(self.pools):
            proxy = proxies.get(pool.key.proxy)
            if proxy is not None:
                target = next((each for each in proxy.target_group.targets if each.slot == pool.key.target), None)
                credential = next((each for each in proxy.credentials if each.username == pool.key.user), None)
                if target is not None and credential is not None:
                    self.pools.update(pool, proxy, target, credential)
                    continue
            self.pools.retire(pool)

    def _announce(self, pool: Pool) -> None:
        group = pool.proxy.target_group
        ceiling = self.segment.limit(pool.target.slot)
        self.relay.pool(
            pool.id,
            pool.target.slot,
            borrow_timeout=group.connection_borrow_timeout,
            idle_timeout=group.server_idle_timeout,
            life=group.server_life,
            max_idle=max(ceiling, 1) * group.max_idle_connections_percent // max(group.max_connections_percent, 1),
            database=printable(pool.key.database),
            gen=pool.generation,
            init_opaque=pool.family.opaque(group.init_query),
            audit_after=group.pin_audit_after,
            ignored=[pin_reason(reason) for reason, policy in group.pin_policy if policy == "ignore"],
            refused=[pin_reason(reason) for reason, policy in group.pin_policy if policy == "refuse"],
            max_prepared=group.max_prepared_statements,
        )

    # ------------------------------------------------------------ limits of targets

    def limits_known(self, slot: int, max_connections: int, reserved: int) -> None:
        """The database itself said so, a moment ago."""
        if self._limits.get(slot) == (max_connections, reserved):
            return
        self._limits[slot] = max_connections, reserved
        found = self._targets().get(slot)
        if found is None:
            return
        self._set_limit(*found)
        for pool in self.pools:
            if pool.key.target == slot:
                self._announce(pool)  # its part of idle connections has changed
                if pool.waiters:
                    self.relay.want(pool.id)

    def _set_limit(self, target: Target, proxy: Proxy) -> None:
        group = proxy.target_group
        known = self._limits.get(target.slot)
        if known is None:
            # one connection, to ask with; another worker may know more already
            if self.segment.limit(target.slot) == 0:
                self.relay.limit(target.slot, 1)
            return
        max_connections, reserved = known
        # the percentage is of max_connections, but reserved places would only be refused
        limit = min(max_connections * group.max_connections_percent // 100, max_connections - reserved)
        if group.max_connections is not None:
            limit = min(limit, group.max_connections)
        self.relay.limit(target.slot, max(limit, 1))

    # ------------------------------------------------------------ the relay's events

    def _on_events(self) -> None:
        for event in self.relay.events():
            try:
                self._on_event(event)
            except Exception:
                log.exception("event %s of the relay failed", event[0])

    def _on_event(self, event: tuple[Any, ...]) -> None:
        match event:
            case ("open", pool_id, permit):
                self.connector.open(self.pools[pool_id], permit)
            case ("cancel", server_id, pool_id, pid, key):
                self.connector.cancel(server_id, self.pools[pool_id], pid, key)
            case ("client_closed", slot, reason, *_):
                self._on_client_closed(slot, CloseReason(reason))
            case ("server_closed", pool_id, server_id, reason, detail):
                self._on_server_closed(pool_id, server_id, CloseReason(reason), detail)
            case ("server_fatal", pool_id, server_id, error):
                words = self.pools[pool_id].family.said(error)
                log.warning("The database ended a connection: %s", words, extra={"server": server_id})
            case ("pinned", slot, server_id, reason, digest):
                self._on_pinned(slot, server_id, PinReason(reason), digest.decode("utf-8", "replace"))
            case ("unpinned", slot, server_id, seconds):
                self._on_unpinned(slot, server_id, seconds)
            case ("refused", pool_id, server_id, slot, error):
                words = "The settings of the client's session were refused on another database connection: %s"
                guest = self.doorman.guests.get(slot)
                self.journal.note(
                    logging.WARNING,
                    words,
                    self.pools[pool_id].family.said(error),
                    endpoint=guest.gate.name if guest else "",
                    client=self.doorman.pid(slot),
                    server=server_id,
                )
            case ("dump", request, rows):
                waiting = self._dumps.pop(request, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(rows)
            case ("drained",):
                self._drained.set()
            case ("forget", pool_id):
                # its database was dropped: the next client finds out what is there now
                self.pools[pool_id].forget()
            case ("pool_empty", pool_id):
                pool = self.pools[pool_id]
                if pool.unused:
                    self.pools.give_back(pool)
                    self.relay.pool_remove(pool_id)
            case ("log", level, words):
                log.log(_LEVELS.get(level, logging.INFO), "%s", words)
            case _:
                log.error("the relay said %r, which nobody understands", event[0])

    def _on_client_closed(self, slot: int, reason: CloseReason) -> None:
        guest = self.doorman.client_closed(slot)
        if guest is not None:
            words = "The client connection closed. Reason: %s"
            self.journal.note(
                logging.INFO, words, text(reason), endpoint=guest.gate.name, client=self.doorman.pid(slot)
            )

    def _on_server_closed(self, pool_id: int, server_id: int, reason: CloseReason, detail: str) -> None:
        pool = self.pools[pool_id]
        pool.servers -= 1
        self.pools.give_back(pool)
        words = f"{text(reason)} ({detail})" if detail else text(reason)
        self.journal.note(logging.INFO, "The database connection closed. Reason: %s", words, server=server_id)

    def _on_pinned(self, slot: int, server_id: int, reason: PinReason, digest: str) -> None:
        guest = self.doorman.guests.get(slot)
        self.journal.note(
            logging.WARNING,
            "The client session was pinned to the database connection [dbConnection=%d] for the remainder of the "
            "session. The proxy can't reuse this connection until the session ends. Reason: %s%s [pinReason=%s]",
            server_id,
            text(reason),
            f' Digest: "{digest}".' if digest else "",
            name_of(reason),
            endpoint=guest.gate.name if guest else "",
            client=self.doorman.pid(slot),
            server=server_id,
        )

    def _on_unpinned(self, slot: int, server_id: int, seconds: float) -> None:
        guest = self.doorman.guests.get(slot)
        self.journal.note(
            logging.INFO,
            "The database connection was released to the connection pool: "
            "what had pinned the session for %.1f s is gone.",
            seconds,
            endpoint=guest.gate.name if guest else "",
            client=self.doorman.pid(slot),
            server=server_id,
        )

    def count(self, target: int, field: str, n: int = 1) -> None:
        self.segment.add(self.worker, "target", target, field, n)

    # ------------------------------------------------------------ verbs

    async def handle(self, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        match verb:
            case "pause":
                self.relay.pause(self._slot(args))
            case "resume":
                self.relay.resume(self._slot(args))
            case "drain":
                deadline = args.get("deadline")
                self._begin_drain(self._default_deadline() if deadline is None else float(deadline))
            case "undrain":
                await self.doorman.reopen()
                self.relay.undrain()
            case "kill":
                slot = int(args["slot"])
                if slot not in self.doorman.guests:
                    raise ValueError(f"no client {self.doorman.pid(slot)}")
                self.relay.kill(slot)
            case "dump":
                return {"rows": await self._dump(str(args["what"]))}
            case _:
                raise ValueError(f"unknown verb {verb}")
        return {}

    def _slot(self, args: dict[str, Any]) -> int:
        """-1 is every target."""
        slot = args.get("target")
        return -1 if slot is None else int(slot)

    def _default_deadline(self) -> float:
        return self.snapshot.drain_timeout if self.snapshot is not None else 0.0

    async def _dump(self, what: str) -> list[dict[str, Any]]:
        if what not in ("clients", "servers", "pools", "pins"):
            raise ValueError(f"there are clients, servers, pools and pins, but no {what}")
        request = self._next_dump
        self._next_dump += 1
        self._dumps[request] = answer = self.loop.create_future()
        self.relay.dump(request, what)
        try:
            rows: list[dict[str, Any]] = await asyncio.wait_for(answer, _DUMP_S)
        finally:
            self._dumps.pop(request, None)
        for row in rows:
            self._complete(what, row)
            in_words(what, row)
        return rows

    def _complete(self, what: str, row: dict[str, Any]) -> None:
        """What only the front knows."""
        guest = self.doorman.guests.get(row["slot"]) if what in ("clients", "pins") else None
        pool = guest.pool if guest is not None else None
        if what in ("clients", "pins"):
            row["id"] = self.doorman.pid(row["slot"])
            row["endpoint"] = guest.gate.name if guest is not None else ""
        elif 0 <= row["pool_id"] < self.pools.size:
            pool = self.pools[row["pool_id"]]
        if what == "servers":
            row["id"], row["pid"] = row["server_id"], row["backend_pid"]
        if what == "pins":
            row["pid"] = row["backend_pid"]
        if what == "pools":
            row["borrowed"] = row["servers"] - row["idle"]
        if pool is not None:
            row["proxy"] = pool.key.proxy
            row["user"], row["database"] = printable(pool.key.user), printable(pool.key.database)
            row["target"] = f"{pool.target.host}:{pool.target.port}"

    # ------------------------------------------------------------ drain and stop

    def _begin_drain(self, deadline: float) -> None:
        self._drained.clear()
        self.doorman.shut()
        self.relay.drain(deadline)

    async def drain(self, deadline: float) -> None:
        """Returns when the last client has gone."""
        self._begin_drain(deadline)
        await self._drained.wait()

    async def stop(self, fast: bool) -> None:
        """Everybody is told and closed; returns when the relay has nobody left."""
        self._drained.clear()
        self.doorman.draining = True
        self.doorman.close()
        await self.connector.stop()
        await self.beginnings.stop()
        self.relay.shutdown(fast)
        await self._drained.wait()
        self.loop.remove_reader(self.relay.event_fd)
        self.journal.write()
