"""What is in force: configuration, secrets, slots and the snapshot made of them; how a new one comes into force.

A reload is all or nothing: errors in the file, in a secret or in a worker (an address in use) leave everything as it was. A
controller that was restarted goes on with what its predecessor had accepted; if it cannot build that again (a secret's file is
gone), living workers keep their snapshot, a newborn one gets what can be built, and it tries again.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from proxy.admin.port import RefusedError
from proxy.control.accepted import Accepted, AcceptedFile
from proxy.control.config import Config, ConfigError, ConfigErrors, load, needs_restart, parse
from proxy.control.secrets import SecretValue, fetch_all
from proxy.control.snapshot import SlotMap, build, diff
from proxy.controller.links import Links, WorkerLink
from proxy.model import Snapshot

log = logging.getLogger(__name__)

RETRY_S = 5.0


class Publication:
    def __init__(self, file: AcceptedFile, config_path: Path) -> None:
        accepted = file.read()
        if accepted is None:
            raise ValueError("no accepted configuration was handed down")
        self.accepted: Accepted = accepted
        self.config_path = config_path
        self.config: Config | None = None
        self.snapshot: Snapshot | None = None
        self.links: Links | None = None
        self._file = file
        self._stopgap: Snapshot | None = None  # without the users whose secrets cannot be read at the moment
        self._reloading = asyncio.Lock()

    # ------------------------------------------------------------ boot

    async def boot(self) -> None:
        """Builds the snapshot of the accepted configuration. At the very first start a failure is raised (ConfigErrors)."""
        first = self.accepted.version == 0
        errors = await self._build_accepted()
        for error in errors:
            log.error("%s", error)
        if first and self.snapshot is None:
            if self._stopgap is None or not any(proxy.credentials for proxy in self._stopgap.proxies):
                raise ConfigErrors(errors, str(self.config_path))
            # as in RDS Proxy, a bad secret breaks its own user only
            self.snapshot, self._stopgap = self._stopgap, None

    async def _build_accepted(self) -> list[ConfigError]:
        version = self.accepted.version + 1
        try:
            config = parse(self.accepted.text, self.config_path)
            fetched = await asyncio.to_thread(fetch_all, config)
            slots = SlotMap.from_dict(self.accepted.slots) if self.accepted.slots else SlotMap()
            snapshot = build(config, fetched.values, slots, version)
        except ConfigErrors as invalid:
            return list(invalid.errors)
        self.config = config
        for warning in (*config.warnings, *fetched.warnings):
            log.warning("%s", warning)
        self._accept(replace(self.accepted, slots=slots.to_dict(), version=version))
        if fetched.errors:
            self._stopgap = snapshot
        else:
            self.snapshot, self._stopgap = snapshot, None
        return list(fetched.errors)

    async def complete(self) -> None:
        """After a restart: tries until there is a snapshot, and publishes it."""
        while self.snapshot is None:
            await asyncio.sleep(RETRY_S)
            async with self._reloading:
                if self.snapshot is None:
                    await self._build_accepted()
                    if self.snapshot is not None and self.links is not None:
                        log.info("the accepted configuration is complete again")
                        self.links.publish(self.snapshot)

    def introduce(self, link: WorkerLink) -> None:
        """A worker is there: what is in force, and what an operator has ordered since."""
        snapshot = self.snapshot or (self._stopgap if link.version == 0 else None)
        for target in self.accepted.paused:
            link.post("pause", target=target)
        if snapshot is not None:
            link.publish(snapshot)
        if self.accepted.draining:
            link.post("drain", deadline=self.drain_timeout)

    @property
    def drain_timeout(self) -> float:
        snapshot = self.snapshot or self._stopgap
        return snapshot.drain_timeout if snapshot is not None else 30.0

    @property
    def view(self) -> Snapshot:
        """The snapshot to show to people."""
        return self.snapshot or self._stopgap or Snapshot(self.accepted.version, ())

    def order(self, *, draining: bool | None = None, paused: tuple[int, ...] | None = None) -> None:
        """Standing orders, kept for workers and controllers to come."""
        accepted = self.accepted
        self._accept(
            replace(
                accepted,
                draining=accepted.draining if draining is None else draining,
                paused=accepted.paused if paused is None else paused,
            )
        )

    def _accept(self, accepted: Accepted) -> None:
        self._file.write(accepted)
        self.accepted = accepted

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
        before, version = self.snapshot, self.accepted.version + 1
        slots = SlotMap.from_dict(self.accepted.slots) if self.accepted.slots else SlotMap()
        snapshot = build(config, secrets, slots, version)
        changes = diff(before, snapshot) if before is not None else ["everything"]
        later = needs_restart(self.config, config) if self.config is not None else []
        if changes:
            # the number first: if we die in the middle, our successor must not give it out again
            self._accept(replace(self.accepted, version=version))
            await self._publish(snapshot, before)
            self.snapshot = snapshot
        self.config = config
        self._accept(replace(self.accepted, text=config.text, slots=slots.to_dict()))
        return self.accepted.version, changes + later

    async def _publish(self, snapshot: Snapshot, before: Snapshot | None) -> None:
        if self.links is None:
            return
        self.links.publish(snapshot)
        errors = await self.links.settled(snapshot.version)
        if errors:
            if before is not None:
                back = replace(before, version=snapshot.version + 1)
                self._accept(replace(self.accepted, version=back.version))
                self.snapshot = back
                self.links.publish(back)
            raise RefusedError(*errors)
