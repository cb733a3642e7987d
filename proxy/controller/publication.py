"""What is in force: the snapshot, the configuration and the slots it was made of; how a new one comes into force.

A reload is all or nothing: errors in the file, in a secret or in a worker (an address in use) leave everything
as it was. A controller that was restarted reads nothing but what its predecessor had accepted.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from proxy.admin.port import RefusedError
from proxy.control.accepted import Accepted, AcceptedFile
from proxy.control.config import Config, ConfigErrors, load, needs_restart, parse
from proxy.control.secrets import SecretValue, fetch_all
from proxy.control.snapshot import SlotMap, build, diff
from proxy.controller import ports
from proxy.controller.links import Links, WorkerLink
from proxy.model import Snapshot

log = logging.getLogger(__name__)


class Publication:
    def __init__(self, file: AcceptedFile, config_path: Path) -> None:
        accepted = file.read()
        if accepted is None:
            raise ValueError("no accepted configuration was handed down")
        self.accepted: Accepted = accepted
        self.config_path = config_path
        self.links: Links | None = None
        # the one to be in force: differs from the accepted one while the workers are applying it
        self.snapshot: Snapshot = accepted.snapshot or Snapshot(0, ())
        self._file = file
        self._config: Config | None = None
        self._reloading = asyncio.Lock()

    async def boot(self) -> None:
        """At the very first start: builds the snapshot, or raises ConfigErrors or RefusedError."""
        if self.accepted.snapshot is not None:
            return
        self._config = config = parse(self.accepted.text, self.config_path)
        fetched = await asyncio.to_thread(fetch_all, config)
        slots = SlotMap()
        self.snapshot = build(config, fetched.values, slots, 1)
        if fetched.errors and not any(proxy.credentials for proxy in self.snapshot.proxies):
            raise ConfigErrors(fetched.errors, str(self.config_path))
        in_use = await asyncio.to_thread(ports.taken, self.snapshot, Snapshot(0, ()))
        if in_use:
            raise RefusedError(*in_use)
        for error in fetched.errors:  # as in RDS Proxy, a bad secret breaks its own user only
            log.error("%s", error)
        for warning in (*config.warnings, *fetched.warnings):
            log.warning("%s", warning)
        self._accept(snapshot=self.snapshot, version=1, slots=slots.to_dict(), metrics_listen=_metrics_listen(config))

    def _accept(self, **changes: Any) -> None:
        accepted = replace(self.accepted, **changes)
        self._file.write(accepted)
        self.accepted = accepted

    # ------------------------------------------------------------ workers and standing orders

    def introduce(self, link: WorkerLink) -> None:
        """A worker is there: what is in force, and what an operator has ordered since."""
        for target in self.accepted.paused:
            link.post("pause", target=target)
        if link.version != self.snapshot.version:
            link.publish(self.snapshot)
        if self.draining:
            link.post("drain", deadline=self.drain_left)

    @property
    def draining(self) -> bool:
        return self.accepted.drain_until is not None

    @property
    def drain_left(self) -> float:
        return max(0.0, (self.accepted.drain_until or 0.0) - time.monotonic())

    def order_drain(self, seconds: float | None) -> None:
        """None: accept clients again."""
        self._accept(drain_until=None if seconds is None else time.monotonic() + seconds)

    def order_pause(self, targets: tuple[int, ...]) -> None:
        self._accept(paused=targets)

    # ------------------------------------------------------------ reload

    async def reload(self) -> tuple[int, list[str]]:
        """Reads the file again; (version, changes). Raises ConfigErrors or RefusedError: then nothing has changed."""
        async with self._reloading:
            config = await asyncio.to_thread(load, self.config_path)
            fetched = await asyncio.to_thread(fetch_all, config)
            if fetched.errors:
                raise ConfigErrors(fetched.errors, str(self.config_path))
            for warning in (*config.warnings, *fetched.warnings):
                log.warning("%s", warning)
            return await self._change_to(config, fetched.values)

    async def _change_to(self, config: Config, secrets: Mapping[str, SecretValue]) -> tuple[int, list[str]]:
        slots = SlotMap.from_dict(self.accepted.slots)
        snapshot = build(config, secrets, slots, self.accepted.version + 1)
        changes = diff(self.snapshot, snapshot)
        later = needs_restart(self._config, config) if self._config is not None else []
        in_use = await asyncio.to_thread(ports.taken, snapshot, self.snapshot)
        if in_use:
            raise RefusedError(*in_use)
        if changes:
            await self._publish(snapshot)
        self._config = config
        # metrics_listen stays the one that is open: a new one takes effect after a restart of the whole
        self._accept(text=config.text, slots=slots.to_dict(), snapshot=self.snapshot)
        return self.snapshot.version, changes + later

    async def _publish(self, snapshot: Snapshot) -> None:
        before = self.snapshot
        # the number first: if we die in the middle, our successor must not give it out again
        self._accept(version=snapshot.version)
        self.snapshot = snapshot
        if self.links is None:
            return
        self.links.publish(snapshot)
        errors = await self.links.settled(snapshot.version)
        if errors:
            self.snapshot = replace(before, version=snapshot.version + 1)
            self._accept(version=self.snapshot.version, snapshot=self.snapshot)
            self.links.publish(self.snapshot)
            raise RefusedError(*errors)


def _metrics_listen(config: Config) -> str:
    return str(config.metrics_listen) if config.metrics_listen is not None else ""
