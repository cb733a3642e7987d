"""The supervisor's decisions, sans-IO: exits, signals, heartbeats and `now` go in, actions come out.

It knows children by name ("controller", "worker 0", …) and time as a number of seconds; it forks nothing, kills
nothing and reads no clock. `main.py` carries the actions out and reports what came of them.

    phase     BOOTING ──all ready──▶ RUNNING ──TERM──▶ DRAINING ──INT, deadline──▶ FAST ──deadline──▶ SIGKILL
                 └──a child says "cannot boot"──▶ FAST, then exit 78
    child     DOWN(due) ──Spawn──▶ STARTING ──its ready line──▶ READY ──exit──▶ DOWN

The controller outlives the workers in a stop, so that an operator can watch a drain.
"""

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum

CANNOT_BOOT = 78  # EX_CONFIG of sysexits.h: starting again would fail the same way

BACKOFF_FIRST_S = 0.1
BACKOFF_MOST_S = 5.0
BACKOFF_RESET_S = 30.0  # a life this long proves that the start was sound
STALE_S = 10.0  # a heartbeat that stood still for so long is a hung thread
STALE_START_S = 60.0  # the same before the first beat
ABORT_S = 2.0  # from SIGABRT (a traceback, a core) to SIGKILL
FAST_S = 5.0  # for a fast stop, and on top of a drain's own deadline
TICK_S = 1.0
GAP_S = 3.0  # ticks further apart mean that we slept (suspended machine, SIGSTOP): then nobody else is to blame

CONTROLLER = "controller"
THREADS = ("relay", "front")  # of a worker, in the order of their heartbeats


def worker_name(index: int) -> str:
    return f"worker {index}"


# ---------------------------------------------------------------- what happened


@dataclass(frozen=True, slots=True)
class Exited:
    code: int

    def __str__(self) -> str:
        return f"exited with status {self.code}"


@dataclass(frozen=True, slots=True)
class Killed:
    signum: int

    def __str__(self) -> str:
        return f"was killed by {signal.Signals(self.signum).name}"


Status = Exited | Killed

# ---------------------------------------------------------------- what to do


@dataclass(frozen=True, slots=True)
class Spawn:
    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    name: str
    pid: int
    signum: int


@dataclass(frozen=True, slots=True)
class Bury:
    """Reclaim what the dead worker held in shared memory. Always before it is spawned again."""

    worker: int


@dataclass(frozen=True, slots=True)
class Tell:
    """The controller should hear who lives."""


@dataclass(frozen=True, slots=True)
class Announce:
    """Everything is up for the first time."""


@dataclass(frozen=True, slots=True)
class Notify:
    """A message for the service manager."""

    state: str  # READY, RELOADING, STOPPING or "" for a status line alone
    status: str


@dataclass(frozen=True, slots=True)
class Log:
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Exit:
    code: int


Action = Spawn | Kill | Bury | Tell | Announce | Notify | Log | Exit

# ---------------------------------------------------------------- state


class Phase(Enum):
    BOOTING = "booting"
    RUNNING = "running"
    DRAINING = "draining"
    FAST = "stopping"


class Life(StrEnum):
    DOWN = "down"
    STARTING = "starting"
    READY = "ready"


@dataclass(slots=True)
class Child:
    name: str
    worker: int | None  # None: the controller
    life: Life = Life.DOWN
    pid: int = 0
    since: float = 0.0  # of this life
    due: float = 0.0  # DOWN: when to spawn
    backoff: float = 0.0
    restarts: int = 0
    beats: list[tuple[int, float]] = field(default_factory=list)  # per thread: last beat, and when it was seen to move
    aborted_at: float | None = None
    killed: bool = False  # by us, with SIGKILL


@dataclass(slots=True)
class Table:
    workers: int
    drain_timeout: float = 30.0
    phase: Phase = Phase.BOOTING
    children: dict[str, Child] = field(default_factory=dict)
    code: int = 0
    deadline: float | None = None  # of the present stop phase
    reload_wanted: bool = False
    reloading: bool = False
    ticked: float | None = None

    def __post_init__(self) -> None:
        self.children[CONTROLLER] = Child(CONTROLLER, None)
        for index in range(self.workers):
            self.children[worker_name(index)] = Child(worker_name(index), index)

    # ------------------------------------------------------------ events

    def start(self, now: float) -> list[Action]:
        return [Spawn(child.name) for child in self.children.values() if self._due(child, now)]

    def on_spawned(self, name: str, pid: int, now: float) -> list[Action]:
        child = self.children[name]
        child.life, child.pid, child.since = Life.STARTING, pid, now
        child.beats, child.aborted_at, child.killed = [(0, now), (0, now)], None, False
        return [Tell()]

    def on_spawn_failed(self, name: str, error: str, now: float) -> list[Action]:
        """fork() itself failed: memory or the process limit. The same back-off."""
        child = self.children[name]
        self._back_off(child, now, grow=True)
        return [Log("error", f"{name}: cannot fork: {error}; again in {child.backoff:g} s")]

    def on_ready(self, name: str, now: float) -> list[Action]:
        child = self.children[name]
        if child.life is not Life.STARTING:
            return []
        child.life = Life.READY
        actions: list[Action] = [Log("info", f"{name} is ready (pid {child.pid})"), Tell()]
        if self.phase is Phase.BOOTING and all(c.life is Life.READY for c in self.children.values()):
            self.phase = Phase.RUNNING
            actions += [Announce(), Notify("READY", self._status())]
        elif self.phase is Phase.RUNNING:
            actions.append(Notify("", self._status()))
        if child.worker is None and self.reload_wanted and self.phase is Phase.RUNNING:
            actions += self._reload(child)
        return actions

    def on_exit(self, pid: int, status: Status, now: float) -> list[Action]:
        child = next((c for c in self.children.values() if c.pid == pid and c.life is not Life.DOWN), None)
        if child is None:
            return []  # an orphan that we adopted as process 1, or one of the past
        was = child.life
        actions: list[Action] = []
        if child.worker is not None:
            actions.append(Bury(child.worker))
        if self.phase in (Phase.DRAINING, Phase.FAST):
            child.life = Life.DOWN
            # before it was ready it had no handlers, and to die of our signal was right
            if child.killed or (was is Life.READY and status != Exited(0)):
                self.code = self.code or 1
                actions.append(Log("warning", f"{child.name} {status} during the stop"))
            return [*actions, Tell(), *self._stopping(now)]
        if status == Exited(CANNOT_BOOT) and self.phase is Phase.BOOTING:
            child.life = Life.DOWN
            self.code = CANNOT_BOOT
            actions.append(Log("critical", f"{child.name} cannot boot: stopping"))
            return actions + self._stop_fast(now)
        # Once it was up, a SIGKILL that is not ours (an operator, the kernel out of memory) or an orderly exit says
        # nothing against the next start: growing delays would only leave more of the work undone.
        foreign = (status == Exited(0) or status == Killed(signal.SIGKILL)) and not child.killed
        self._back_off(child, now, grow=not (foreign and was is Life.READY))
        actions.append(Log("error", f"{child.name} (pid {pid}) {status}: starting again in {child.backoff:g} s"))
        actions.append(Tell())
        if child.worker is None and self.reloading:
            actions += self.on_reloaded("the controller died during the reload", now)
        if self.phase is Phase.RUNNING:
            actions.append(Notify("", self._status()))
        return actions

    def on_signal(self, signum: int, now: float) -> list[Action]:
        if signum == signal.SIGTERM:
            if self.phase in (Phase.DRAINING, Phase.FAST):
                return []
            self.phase = Phase.DRAINING
            self.deadline = now + self.drain_timeout + FAST_S
            actions: list[Action] = [
                Log("info", f"stopping: draining for at most {self.drain_timeout:g} s"),
                Notify("STOPPING", "draining"),
            ]
            return actions + self._kill_workers(signal.SIGTERM) + self._stopping(now)
        if signum == signal.SIGINT:
            if self.phase is Phase.FAST:
                return []
            return [Log("info", "stopping at once"), Notify("STOPPING", "stopping"), *self._stop_fast(now)]
        if signum == signal.SIGHUP:
            controller = self.children[CONTROLLER]
            if self.phase in (Phase.DRAINING, Phase.FAST):
                return []
            if self.phase is Phase.RUNNING and controller.life is Life.READY:
                return self._reload(controller)
            self.reload_wanted = True
            return [Log("info", "reload: as soon as the controller is ready")]
        return []

    def on_reloaded(self, text: str, now: float) -> list[Action]:
        """The controller has finished a reload, with or without success; `text` is for the service manager."""
        if not self.reloading:
            return []
        self.reloading = False
        return [Notify("READY", text)]

    def on_tick(self, now: float, beats: Mapping[int, tuple[int, int]]) -> list[Action]:
        """At least every `TICK_S`. `beats`: (relay, front) of each worker, as read from shared memory."""
        slept = self.ticked is not None and now - self.ticked > GAP_S
        self.ticked = now
        actions: list[Action] = []
        for child in self.children.values():
            if child.life is Life.DOWN:
                if self._due(child, now):
                    actions.append(Spawn(child.name))
            elif child.worker is not None:
                actions += self._watch(child, beats.get(child.worker, (0, 0)), slept, now)
        if self.deadline is not None and now >= self.deadline:
            if self.phase is Phase.DRAINING:
                actions.append(Log("warning", "the drain deadline has passed: stopping at once"))
                actions += self._stop_fast(now)
            else:
                actions += self._kill_all(now)
        return actions

    def next_due(self, now: float) -> float:
        """Seconds until `on_tick` has something to do."""
        dues = [child.due for child in self.children.values() if self._respawns(child)]
        if self.deadline is not None:
            dues.append(self.deadline)
        return max(0.0, min([TICK_S, *(due - now for due in dues)]))

    # ------------------------------------------------------------ views

    def view(self) -> list[dict[str, object]]:
        """Who lives, for the controller and so for operators."""
        return [
            {
                "worker": c.worker,
                "pid": c.pid if c.life is not Life.DOWN else 0,
                "died": c.pid if c.life is Life.DOWN else 0,  # 0: never born
                "state": c.life.value,
                "restarts": c.restarts,
            }
            for c in self.children.values()
            if c.worker is not None
        ]

    def _status(self) -> str:
        ready = sum(c.life is Life.READY for c in self.children.values() if c.worker is not None)
        return f"{ready} of {self.workers} workers ready"

    # ------------------------------------------------------------ steps

    def _respawns(self, child: Child) -> bool:
        return child.life is Life.DOWN and self.phase in (Phase.BOOTING, Phase.RUNNING)

    def _due(self, child: Child, now: float) -> bool:
        return self._respawns(child) and child.due <= now

    def _back_off(self, child: Child, now: float, *, grow: bool) -> None:
        if not grow or now - child.since >= BACKOFF_RESET_S:
            child.backoff = 0.0
        child.backoff = min(max(BACKOFF_FIRST_S, child.backoff * 2), BACKOFF_MOST_S)
        child.life, child.due = Life.DOWN, now + child.backoff
        child.restarts += 1

    def _reload(self, controller: Child) -> list[Action]:
        self.reload_wanted = False
        self.reloading = True
        return [Notify("RELOADING", "reloading"), Kill(controller.name, controller.pid, signal.SIGHUP)]

    def _watch(self, child: Child, beat: tuple[int, int], slept: bool, now: float) -> list[Action]:
        if child.aborted_at is not None:
            if now - child.aborted_at < ABORT_S or child.killed:
                return []
            child.killed = True
            return [Log("error", f"{child.name} ignores SIGABRT"), Kill(child.name, child.pid, signal.SIGKILL)]
        for i, (thread, new) in enumerate(zip(THREADS, beat, strict=True)):
            old, moved_at = child.beats[i]
            if new != old or slept:
                child.beats[i] = (new, now)
                continue
            patience = STALE_S if new else STALE_START_S
            if now - moved_at >= patience:
                child.aborted_at = now
                return [
                    Log(
                        "error",
                        f"{child.name} (pid {child.pid}): its {thread} thread has stood still for {patience:g} s",
                    ),
                    Kill(child.name, child.pid, signal.SIGABRT),
                ]
        return []

    def _kill_workers(self, signum: int) -> list[Action]:
        return [
            Kill(c.name, c.pid, signum)
            for c in self.children.values()
            if c.worker is not None and c.life is not Life.DOWN
        ]

    def _stop_fast(self, now: float) -> list[Action]:
        self.phase = Phase.FAST
        self.deadline = now + FAST_S
        return self._kill_workers(signal.SIGINT) + self._stopping(now)

    def _stopping(self, now: float) -> list[Action]:
        """After each death in a stop: the controller goes when the workers have gone, we when all have."""
        living = [c for c in self.children.values() if c.life is not Life.DOWN]
        if not living:
            return [Exit(self.code)]
        if all(c.worker is None for c in living):
            self.phase, self.deadline = Phase.FAST, now + FAST_S
            return [Kill(c.name, c.pid, signal.SIGTERM) for c in living]
        return []

    def _kill_all(self, now: float) -> list[Action]:
        self.deadline = now + FAST_S
        actions: list[Action] = []
        for child in self.children.values():
            if child.life is not Life.DOWN:
                child.killed = True
                actions.append(Log("error", f"{child.name} does not stop"))
                actions.append(Kill(child.name, child.pid, signal.SIGKILL))
        return actions
