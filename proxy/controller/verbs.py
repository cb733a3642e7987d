"""The controller as operators see it: the views and verbs of `admin.port.ControlPort`.

Numbers come from shared memory, lists from the workers (asked over their links), names from the snapshot. It
changes nothing by itself: orders go to `Publication`, which keeps them, and to the workers, which follow them.
"""

import os
import time
from typing import Any

from proxy import __version__
from proxy.admin import explained
from proxy.admin.port import EndpointRow, RefusedError, Row, Status, TargetRow, WorkerRow
from proxy.control.addresses import Address
from proxy.controller.links import Links, WorkerFailed
from proxy.controller.publication import Publication
from proxy.model import Endpoint, EngineFamily, Proxy, Snapshot, Target
from proxy.net import packets
from proxy.observe.health import unready
from proxy.reasons import PinReason
from proxy.shm._segment import Segment
from proxy.sql.explain import explain
from proxy.sql.rds import rds

ALL_TARGETS = -1
_WORKER_BITS = 7  # of a client's id, which is also the process id in its BackendKeyData


def address_of(endpoint: Endpoint) -> str:
    return endpoint.host if endpoint.port == 0 else str(Address(endpoint.host, endpoint.port))


def target_name(target: Target) -> str:
    return str(Address(target.host, target.port))


def greeting(snapshot: Snapshot) -> str:
    """What the ready line says: endpoints orders/default 0.0.0.0:5432, …"""
    named = [f"{proxy.name}/{e.name} {address_of(e)}" for proxy in snapshot.proxies for e in proxy.endpoints]
    return ("endpoints " if len(named) != 1 else "endpoint ") + ", ".join(named)


class Verbs:
    def __init__(self, segment: Segment, links: Links, publication: Publication, line: packets.Channel) -> None:
        self._segment = segment
        self._links = links
        self._publication = publication
        self._line = line
        self._started = time.monotonic()
        self.children: list[dict[str, Any]] = []  # the supervisor's word on who lives
        self.stopping = False

    # ------------------------------------------------------------ views

    async def status(self) -> Status:
        snapshot = self._publication.snapshot
        workers = [self._worker_row(index) for index in range(self._segment.workers)]
        state = "ready"
        if self.stopping:
            state = "stopping"
        elif self._publication.draining:
            state = "draining"
        elif not all(worker["state"] == "ready" for worker in workers):
            state = "starting"
        status: Status = {
            "version": __version__,
            "pid": os.getppid(),
            "uptime": time.monotonic() - self._started,
            "snapshot": snapshot.version,
            "state": state,
            "config": str(self._publication.config_path),
            "workers": workers,
            "endpoints": [self._endpoint_row(p, e) for p in snapshot.proxies for e in p.endpoints],
            "targets": [self._target_row(p, t) for p in snapshot.proxies for t in p.target_group.targets],
        }
        problems = self._problems()
        if problems:
            status["problems"] = problems
        status["controller"] = {"pid": os.getpid()}
        return status

    # for /metrics, /healthz and /readyz (`observe.health.ObservePort`)

    @property
    def numbers(self) -> Segment:
        return self._segment

    @property
    def snapshot(self) -> Snapshot:
        return self._publication.snapshot

    def availability(self) -> dict[int, float]:
        return {}

    def unready(self) -> list[str]:
        if self.stopping:
            return ["stopping"]
        ready = [link.index for link in self._links.workers if link.version > 0]
        return unready(self._segment, ready, time.monotonic_ns(), self._publication.draining)

    def _problems(self) -> list[str]:
        newest = self._publication.snapshot.version
        return [
            f"worker {link.index} has snapshot {link.version}, not {newest}"
            for link in self._links.workers
            if link.known and link.version != newest
        ]

    def _worker_row(self, index: int) -> WorkerRow:
        child = next((c for c in self.children if c.get("worker") == index), {})
        state = {"down": "dead"}.get(child.get("state", "starting"), child.get("state", "starting"))
        if state == "ready" and (self._publication.draining or self.stopping):
            state = "draining"
        snapshot, read = self._publication.snapshot, self._segment.read
        row: WorkerRow = {
            "worker": index,
            "pid": child.get("pid") or None,
            "state": state,
            "snapshot": self._links.workers[index].version,
            "clients": sum(
                read("endpoint", e.slot, "client_connections", index) for p in snapshot.proxies for e in p.endpoints
            ),
            "servers": sum(
                read("target", t.slot, "database_connections", index)
                for p in snapshot.proxies
                for t in p.target_group.targets
            ),
            "restarts": child.get("restarts", 0),
        }
        oldest = min(self._segment.heartbeat_of(index))
        if oldest:
            row["heartbeat_age"] = max(0.0, (time.monotonic_ns() - oldest) / 1e9)
        return row

    def _endpoint_row(self, proxy: Proxy, endpoint: Endpoint) -> EndpointRow:
        read = self._segment.read
        return {
            "proxy": proxy.name,
            "endpoint": endpoint.name,
            "role": endpoint.target_role.value,
            "listen": address_of(endpoint),
            "clients": read("endpoint", endpoint.slot, "client_connections"),
            "waiting": read("endpoint", endpoint.slot, "clients_waiting"),
        }

    def _target_row(self, proxy: Proxy, target: Target) -> TargetRow:
        paused = self._publication.accepted.paused

        def read(field: str) -> int:
            return self._segment.read("target", target.slot, field)

        return {
            "proxy": proxy.name,
            "target": target_name(target),
            "role": target.role.value,
            "connections": read("database_connections"),
            "borrowed": read("database_connections_currently_borrowed"),
            "pinned": read("database_connections_currently_session_pinned"),
            "limit": self._segment.limit(target.slot),
            "permits": self._segment.permits_used(target.slot),
            "state": "paused" if target.slot in paused or ALL_TARGETS in paused else "available",
        }

    async def pools(self) -> list[Row]:
        return await self._dump("pools")

    async def clients(self) -> list[Row]:
        return await self._dump("clients")

    async def servers(self) -> list[Row]:
        return await self._dump("servers")

    async def pins(self) -> list[Row]:
        return await self._dump("pins")

    async def explain(self, text: str, proxy: str | None = None) -> Row:
        chosen = self._proxy(proxy)
        if chosen.engine_family is not EngineFamily.POSTGRESQL:
            raise RefusedError(f"proxy {chosen.name} is a {chosen.engine_family} proxy: only PostgreSQL is explained")
        given = dict(getattr(chosen.target_group, "pin_policy", {}))
        policy = {reason: given[name] for reason in PinReason if (name := reason.name[4:].lower()) in given}
        sql = text.encode()
        return {"proxy": chosen.name, **explained.row(explain(sql, policy=policy), rds(sql))}

    def _proxy(self, name: str | None) -> Proxy:
        proxies = self._publication.snapshot.proxies
        found = [proxy for proxy in proxies if name in (proxy.name, None)]
        if len(found) != 1:
            known = ", ".join(proxy.name for proxy in proxies) or "none"
            raise RefusedError(f"no proxy {name!r}; known: {known}" if name else f"which proxy? There are: {known}")
        return found[0]

    async def _dump(self, what: str) -> list[Row]:
        answers, errors = await self._links.request("dump", what=what)
        if errors and not answers:
            raise RefusedError(*errors)
        return [{"worker": index, **row} for index, answer in sorted(answers.items()) for row in answer.get("rows", [])]

    # ------------------------------------------------------------ verbs

    async def drain(self, deadline: float | None = None) -> Row:
        seconds = self._publication.snapshot.drain_timeout if deadline is None else float(deadline)
        self._publication.order_drain(seconds)
        return await self._tell("drain", {"draining": True, "deadline": seconds}, deadline=seconds)

    async def undrain(self) -> Row:
        self._publication.order_drain(None)
        return await self._tell("undrain", {"draining": False})

    async def pause(self, target: str | None = None) -> Row:
        slots = self._slots(target)
        kept = self._publication.accepted.paused
        self._publication.order_pause((ALL_TARGETS,) if target is None else tuple(dict.fromkeys((*kept, *slots))))
        for slot in slots:
            await self._tell("pause", {}, target=slot)
        return {"paused": target or "all targets"}

    async def resume(self, target: str | None = None) -> Row:
        slots = self._slots(target)
        kept = self._publication.accepted.paused
        if target is not None and ALL_TARGETS in kept:
            raise RefusedError("all targets are paused together; resume them together: resume without a target")
        self._publication.order_pause(() if target is None else tuple(slot for slot in kept if slot not in slots))
        for slot in slots:
            await self._tell("resume", {}, target=slot)
        return {"resumed": target or "all targets"}

    def _slots(self, name: str | None) -> list[int]:
        if name is None:
            return [ALL_TARGETS]
        targets = [(p, t) for p in self._publication.snapshot.proxies for t in p.target_group.targets]
        slots = [t.slot for p, t in targets if name in (target_name(t), f"{p.name}/{target_name(t)}")]
        if not slots:
            known = ", ".join(sorted({target_name(t) for _, t in targets}))
            raise RefusedError(f"no target {name!r}; known: {known or 'none'}")
        return slots

    async def reload(self) -> Row:
        version, changes = await self._publication.reload()
        self._line.send({"drain_timeout": self._publication.snapshot.drain_timeout})
        return {"snapshot": version, "changes": changes}

    async def shutdown(self, fast: bool = False) -> Row:
        self.stopping = True
        self._line.send({"stop": "fast" if fast else "graceful"})
        return {"stopping": "fast" if fast else "graceful"}

    async def kill(self, client: int) -> Row:
        worker, slot = client & ((1 << _WORKER_BITS) - 1), client >> _WORKER_BITS
        if client <= 0 or worker >= self._segment.workers:
            raise RefusedError(f"no client {client}")
        try:
            answer = await self._links.workers[worker].request("kill", slot=slot)
        except WorkerFailed as failed:
            raise RefusedError(str(failed)) from None
        return {"killed": client, **answer}

    async def _tell(self, verb: str, row: Row, **args: Any) -> Row:
        """To every worker. One that is down hears of it when it is back (`Publication.introduce`)."""
        _, errors = await self._links.request(verb, **args)
        if errors:
            raise RefusedError(*errors)
        return row
