"""`sluiceway serve`: the supervisor process. It forks, reaps and restarts; it has no event loop, no threads, and
opens no socket to anyone but its own children and the service manager, so that it can always fork safely.

Decisions are the table's (`table.py`), forks are `children.py`'s; this file waits for something to happen and
carries the two together. Signal handlers only enqueue (the interpreter's wake-up socket). What children run is
named by entry points and given as plain callables: the controller's libraries are imported in the controller
alone, after the fork.
"""

import importlib
import logging
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.control.accepted import Accepted, AcceptedFile
from proxy.net import packets
from proxy.observe import logline
from proxy.shm._segment import Segment
from proxy.supervisor import table as t
from proxy.supervisor.children import SIGNALS, Children, freeze
from proxy.supervisor.notify import Notifier

log = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 30.0


def _later(entry: str) -> Callable[..., Any]:
    """The function `module:name`, imported when it is called: in the process that needs it."""

    def run(*args: Any, **kwargs: Any) -> Any:
        module, _, name = entry.partition(":")
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    return run


_READ_SETTINGS = _later("proxy.controller.main:read_settings")
_RUN_CONTROLLER = _later("proxy.controller.main:run_controller")
_RUN_WORKER = _later("proxy.worker.main:run_worker")


@dataclass(frozen=True, slots=True)
class Programs:
    """What the processes run. Tests put their own in place.

    settings(config_path) -> {"workers", "run_dir", "drain_timeout", "text"}, or exits with its errors printed
    controller(segment, links, line, accepted, config_path, run_dir) -> exit code
    worker(segment, index, link, line, accepted) -> exit code
    """

    settings: Callable[..., packets.Message] = _READ_SETTINGS
    controller: Callable[..., int] = _RUN_CONTROLLER
    worker: Callable[..., int] = _RUN_WORKER
    preload: tuple[str, ...] = ("proxy.worker.main",)  # imported before the fork, so that all workers share its memory


class Supervisor:
    def __init__(self, config_path: Path, settings: packets.Message, programs: Programs, children: Children) -> None:
        workers = settings["workers"]
        self.config_path = config_path
        self.run_dir = Path(settings["run_dir"])
        self.programs = programs
        self.children = children
        self.table = t.Table(workers, float(settings.get("drain_timeout", DRAIN_TIMEOUT_S)))
        self.segment = Segment(workers)
        # Both ends stay open here: whoever is born again inherits its end, with what is still in it.
        self.links = [packets.pair() for _ in range(workers)]  # (controller's end, worker's end)
        self.accepted = AcceptedFile()
        self.accepted.write(Accepted(settings["text"]))
        self.notifier = Notifier()
        self.greeting = ""
        self.code: int | None = None
        self._wake_in, self._wake_out = socket.socketpair()
        self._next_watchdog = 0.0

    # ------------------------------------------------------------ the loop

    def run(self) -> int:
        self._catch_signals()
        try:
            self.perform(self.table.start(time.monotonic()))
            while self.code is None:
                self._wait(self.table.next_due(time.monotonic()))
                self._turn()
            return self.code
        finally:
            self._release()

    def _turn(self) -> None:
        now = time.monotonic()
        for signum in self._signals():
            self.perform(self.table.on_signal(signum, now))
        # lines before deaths: a child may have said something before it died
        for name in list(self.children.lines):
            self._hear(name, now)
        for pid, status in self.children.reap():
            self.perform(self.table.on_exit(pid, status, now))
        beats = {worker: self.segment.heartbeat_of(worker) for worker in range(self.table.workers)}
        self.perform(self.table.on_tick(now, beats))
        if self.notifier.watchdog_s is not None and now >= self._next_watchdog:
            self._next_watchdog = now + self.notifier.watchdog_s / 2
            self.notifier.watchdog()

    def _wait(self, timeout: float) -> None:
        poll = select.poll()
        poll.register(self._wake_in, select.POLLIN)
        for line in self.children.lines.values():
            poll.register(line, select.POLLIN)
        if self.notifier.watchdog_s is not None:
            timeout = min(timeout, self.notifier.watchdog_s / 2)
        poll.poll(timeout * 1000)

    def _signals(self) -> list[int]:
        try:
            return [signum for signum in self._wake_in.recv(4096) if signum != signal.SIGCHLD]
        except BlockingIOError:
            return []

    def _hear(self, name: str, now: float) -> None:
        for message in self.children.hear(name):
            if "drain_timeout" in message:
                self.table.drain_timeout = float(message["drain_timeout"])
            if message.get("ready"):
                self.greeting = message.get("greeting", self.greeting)
                self.perform(self.table.on_ready(name, now))
            if "reloaded" in message:
                self.perform(self.table.on_reloaded(str(message["reloaded"]), now))
            if "stop" in message:  # an operator asked the controller for it
                self.perform(self.table.on_signal(signal.SIGINT if message["stop"] == "fast" else signal.SIGTERM, now))

    # ------------------------------------------------------------ actions

    def perform(self, actions: list[t.Action]) -> None:
        for action in actions:
            match action:
                case t.Spawn(name):
                    self._spawn(name)
                case t.Kill(name, pid, signum):
                    log.debug("%s to %s (pid %d)", signal.Signals(signum).name, name, pid)
                    os.kill(pid, signum)  # not reaped yet, so it is nobody else's pid
                case t.Bury(worker):
                    self.segment.bury(worker)
                case t.Tell():
                    self.children.tell(t.CONTROLLER, {"workers": self.table.view()})
                case t.Announce():
                    self._announce()
                case t.Notify(state, status):
                    self.notifier.state(state, status)
                case t.Log(level, text):
                    log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)
                case t.Exit(code):
                    self.code = code

    def _spawn(self, name: str) -> None:
        worker = self.table.children[name].worker
        if worker is None:
            body: Callable[[socket.socket], int] = self._run_controller
            not_theirs = [self._wake_in, self._wake_out, *(end for _, end in self.links)]
        else:
            index = worker
            body = lambda line: self._run_worker(index, line)  # noqa: E731
            others = [sock for i, link in enumerate(self.links) for sock in link if (i, sock) != (index, link[1])]
            not_theirs = [self._wake_in, self._wake_out, *others]
        now = time.monotonic()
        try:
            pid = self.children.spawn(name, body, not_theirs)
        except OSError as e:
            self.perform(self.table.on_spawn_failed(name, str(e), now))
        else:
            self.perform(self.table.on_spawned(name, pid, now))

    def _run_controller(self, line: socket.socket) -> int:
        return self.programs.controller(
            segment=self.segment,
            links=[end for end, _ in self.links],
            line=line,
            accepted=self.accepted,
            config_path=self.config_path,
            run_dir=self.run_dir,
        )

    def _run_worker(self, index: int, line: socket.socket) -> int:
        link = self.links[index][1]
        return self.programs.worker(segment=self.segment, index=index, link=link, line=line, accepted=self.accepted)

    def _announce(self) -> None:
        workers = "1 worker" if self.table.workers == 1 else f"{self.table.workers} workers"
        try:
            print(f"sluiceway ready: {workers}" + (f", {self.greeting}" if self.greeting else ""), flush=True)
        except OSError:  # nobody reads our stdout: no reason to stop
            pass

    # ------------------------------------------------------------ set-up and end

    def _catch_signals(self) -> None:
        for end in (self._wake_in, self._wake_out):
            end.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        for signum in SIGNALS:
            signal.signal(signum, _enqueue)
            signal.siginterrupt(signum, True)

    def _release(self) -> None:
        signal.set_wakeup_fd(-1)
        for line in self.children.lines.values():
            line.close()
        for link in self.links:
            for end in link:
                end.close()
        self._wake_in.close()
        self._wake_out.close()
        self.accepted.close()
        self.notifier.close()


def _enqueue(signum: int, frame: object) -> None:
    """The interpreter has written `signum` to the wake-up socket already."""


def serve(
    config_path: str | Path,
    workers_override: int | None = None,
    run_dir_override: str | Path | None = None,
    *,
    debug: bool = False,
    programs: Programs | None = None,
) -> int:
    """Runs until it is told to stop; the exit code."""
    programs = programs or Programs()
    logline.install("supervisor", debug=debug)
    children = Children()
    children.debug = debug
    path = Path(config_path)
    settings = children.ask(lambda: programs.settings(path))
    if isinstance(settings, int):
        return settings  # the errors have been printed
    if workers_override is not None:
        settings["workers"] = workers_override
    if run_dir_override is not None:
        settings["run_dir"] = str(run_dir_override)
    for module in programs.preload:
        importlib.import_module(module)
    freeze()
    return Supervisor(path, settings, programs, children).run()


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1]))
