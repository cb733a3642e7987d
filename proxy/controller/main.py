"""The controller process, from the fork to the exit code: where configuration, links, control socket and metrics meet.

It may be killed at any time: the workers go on, its successor reads what was accepted from the inherited memfd,
introduces itself to every worker, and opens the control socket again. Imported in the controller's own process
only.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from proxy.admin import server as control_socket
from proxy.admin.port import RefusedError
from proxy.control import addresses
from proxy.control.accepted import AcceptedFile
from proxy.control.config import ConfigErrors, load
from proxy.controller.links import Links
from proxy.controller.publication import Publication
from proxy.controller.verbs import Verbs, greeting
from proxy.net import packets
from proxy.observe import health
from proxy.shm._segment import Segment
from proxy.supervisor.table import CANNOT_BOOT

log = logging.getLogger(__name__)


def read_settings(config_path: Path) -> packets.Message:
    """For the supervisor, in a process of its own: what it must know of the file, or every error in it and exit."""
    try:
        config = load(config_path)
    except ConfigErrors as errors:
        print(errors, file=sys.stderr, flush=True)
        sys.exit(CANNOT_BOOT)
    return {
        "workers": config.server.workers or len(os.sched_getaffinity(0)),
        "run_dir": str(config.run_dir),
        "drain_timeout": config.server.drain_timeout,
        "text": config.text,
    }


class Controller:
    def __init__(self, segment: Segment, accepted: AcceptedFile, config_path: Path, run_dir: Path) -> None:
        self._segment = segment
        self._run_dir = run_dir
        self.publication = Publication(accepted, config_path)
        self._stopped: asyncio.Event
        self._tasks: set[asyncio.Task[Any]] = set()
        self.links: Links
        self.verbs: Verbs
        self._line: packets.Channel

    async def run(self, links: list[socket.socket], line: socket.socket) -> int:
        loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self._stopped.set)
        # the terminal's ^C reaches us all, and the supervisor will tell us when the workers have gone
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        loop.add_signal_handler(signal.SIGHUP, self._on_hup)
        first = self.publication.accepted.snapshot is None
        try:
            await self.publication.boot()
        except ConfigErrors as errors:
            log.critical("cannot boot: %s", "; ".join(map(str, errors.errors)))
            return CANNOT_BOOT
        except RefusedError as refused:
            log.critical("cannot boot: %s", "; ".join(refused.reasons))
            return CANNOT_BOOT
        self.links = self.publication.links = Links(links, self.publication.introduce)
        self._line = packets.Channel(line, self._on_line, self._stopped.set)
        self.verbs = Verbs(self._segment, self.links, self.publication, self._line)
        doors: list[Any] = []
        try:
            doors.append(await control_socket.start(self.verbs, self._run_dir))
            doors += await self._open_metrics()
        except OSError as e:
            log.critical("cannot boot: %s", e)
            return CANNOT_BOOT if first else 1
        else:
            snapshot = self.publication.snapshot
            self._line.send({"ready": True, "greeting": greeting(snapshot), "drain_timeout": snapshot.drain_timeout})
            await self._stopped.wait()
            return 0
        finally:
            for task in self._tasks:
                task.cancel()
            for door in doors:
                await door.stop()
            self.links.close()
            self._line.close()

    async def _open_metrics(self) -> list[Any]:
        listen = self.publication.accepted.metrics_listen
        return [await health.start(self.verbs, addresses.parse(listen))] if listen else []

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _on_line(self, message: packets.Message, fd: int | None) -> None:
        packets.close_fd(fd)
        if "workers" in message:
            self.verbs.children = message["workers"]
            for child in message["workers"]:
                link = self.links.workers[child["worker"]]
                # by pid: this news may come after its successor's greeting
                if child["died"] and child["died"] == link.pid:
                    link.forget("the worker died")

    def _on_hup(self) -> None:
        self._start(self._reload())

    async def _reload(self) -> None:
        try:
            done = await self.verbs.reload()
        except (ConfigErrors, RefusedError) as refused:
            reasons = refused.errors if isinstance(refused, ConfigErrors) else refused.reasons
            for reason in reasons:
                log.error("reload: %s", reason)
            text = "reload refused, the old configuration stays in force"
        except Exception:
            log.exception("reload failed")
            text = "reload failed, the old configuration stays in force"
        else:
            for change in done["changes"]:
                log.info("reload: %s", change)
            text = f"reloaded: {len(done['changes'])} changes" if done["changes"] else "reloaded: no change"
        log.info("%s", text)
        self._line.send({"reloaded": text})


def run_controller(
    *,
    segment: Segment,
    links: list[socket.socket],
    line: socket.socket,
    accepted: AcceptedFile,
    config_path: Path,
    run_dir: Path,
) -> int:
    """The body of the controller process; its exit code."""
    return asyncio.run(Controller(segment, accepted, config_path, run_dir).run(links, line))
