"""The supervisor's decisions, with a clock of our own."""

import signal
from typing import TypeVar

import pytest

from proxy.supervisor import table as t
from proxy.supervisor.table import Announce, Bury, Exit, Exited, Kill, Killed, Log, Notify, Phase, Spawn, Table, Tell

A = TypeVar("A")
NAMES = ["controller", "worker 0", "worker 1"]


class House:
    """A table with its children: pids are given out in order, beats move by themselves unless told otherwise."""

    def __init__(self, workers: int = 2, drain_timeout: float = 30.0) -> None:
        self.table = Table(workers, drain_timeout)
        self.now = 1000.0
        self.pids: dict[str, int] = {}
        self.last_pid = 100
        self.still: set[tuple[int, int]] = set()  # (worker, thread) that hang
        self.beat = 0
        self.log: list[t.Action] = []
        self.perform(self.table.start(self.now))

    def perform(self, actions: list[t.Action]) -> list[t.Action]:
        self.log += actions
        for action in actions:
            if isinstance(action, Spawn):
                self.last_pid += 1
                self.pids[action.name] = self.last_pid
                self.perform(self.table.on_spawned(action.name, self.last_pid, self.now))
        return actions

    def ready(self, *names: str) -> list[t.Action]:
        return [a for name in names or NAMES for a in self.perform(self.table.on_ready(name, self.now))]

    def exits(self, name: str, status: t.Status) -> list[t.Action]:
        return self.perform(self.table.on_exit(self.pids[name], status, self.now))

    def signals(self, signum: int) -> list[t.Action]:
        return self.perform(self.table.on_signal(signum, self.now))

    def passes(self, seconds: float, step: float = 1.0) -> list[t.Action]:
        """Time passes, in ticks as the real loop makes them."""
        done: list[t.Action] = []
        end = self.now + seconds
        while self.now < end - 1e-9:
            self.now += min(step, self.table.next_due(self.now) or step, end - self.now)
            self.beat += 1
            beats = {w: (self._beat(w, 0), self._beat(w, 1)) for w in range(self.table.workers)}
            done += self.perform(self.table.on_tick(self.now, beats))
        return done

    def _beat(self, worker: int, thread: int) -> int:
        return 1 if (worker, thread) in self.still else self.beat

    def running(self) -> "House":
        self.ready()
        self.log.clear()
        return self


def kinds(actions: list[t.Action], *wanted: type[A]) -> list[A]:
    return [a for a in actions if isinstance(a, wanted)]


# ---------------------------------------------------------------- start


def test_everything_is_spawned_and_announced_once_all_are_ready() -> None:
    house = House()
    assert [a.name for a in kinds(house.log, Spawn)] == NAMES
    assert not kinds(house.ready("controller", "worker 0"), Announce, Notify)
    assert kinds(house.ready("worker 1"), Announce, Notify) == [Announce(), Notify("READY", "2 of 2 workers ready")]
    assert house.table.phase is Phase.RUNNING
    house.exits("worker 0", Killed(9))
    house.passes(0.1)
    assert not kinds(house.ready("worker 0"), Announce)


def test_ready_twice_is_ready_once() -> None:
    house = House().running()
    assert house.ready("worker 0") == []


def test_cannot_boot_halts() -> None:
    house = House()
    actions = house.exits("controller", Exited(t.CANNOT_BOOT))
    assert {(a.name, a.signum) for a in kinds(actions, Kill)} == {
        ("worker 0", signal.SIGINT),
        ("worker 1", signal.SIGINT),
    }
    assert house.passes(2.0) == [], "nobody is started again"
    house.exits("worker 0", Killed(signal.SIGINT))
    assert kinds(house.exits("worker 1", Exited(0)), Exit) == [Exit(t.CANNOT_BOOT)]


def test_a_worker_that_cannot_boot_halts_too() -> None:
    house = House()
    house.ready("controller", "worker 0")
    house.exits("worker 1", Exited(t.CANNOT_BOOT))
    assert kinds(house.exits("worker 0", Exited(0)), Kill) == [
        Kill("controller", house.pids["controller"], signal.SIGTERM)
    ]
    assert kinds(house.exits("controller", Exited(0)), Exit) == [Exit(t.CANNOT_BOOT)]


def test_cannot_boot_after_the_first_start_is_a_death_like_others() -> None:
    house = House().running()
    actions = house.exits("worker 1", Exited(t.CANNOT_BOOT))
    assert not kinds(actions, Kill, Exit)
    assert kinds(house.passes(0.1), Spawn) == [Spawn("worker 1")]


# ---------------------------------------------------------------- restart


def test_a_dead_worker_is_buried_before_it_is_born_again_and_the_controller_hears_of_it() -> None:
    house = House().running()
    actions = house.exits("worker 0", Killed(signal.SIGKILL))
    assert actions[0] == Bury(0)
    assert Tell() in actions
    assert not kinds(actions, Spawn)
    down = house.table.view()[0]
    assert (down["state"], down["pid"], down["died"]) == ("down", 0, 101 + NAMES.index("worker 0"))
    assert kinds(house.passes(0.1), Spawn) == [Spawn("worker 0")]
    pid = house.pids["worker 0"]
    assert house.table.view()[0] == {"worker": 0, "pid": pid, "died": 0, "state": "starting", "restarts": 1}


def test_a_dead_controller_costs_no_worker_anything() -> None:
    house = House().running()
    actions = house.exits("controller", Killed(signal.SIGKILL))
    assert not kinds(actions, Kill, Bury, Exit)
    assert kinds(house.passes(0.1), Spawn) == [Spawn("controller")]


def test_delays_double_up_to_five_seconds_for_what_dies_at_once() -> None:
    house = House().running()
    delays = []
    for _ in range(9):
        house.exits("worker 0", Exited(1))
        died = house.now
        while not kinds(house.passes(0.1, step=0.1), Spawn):
            pass
        delays.append(round(house.now - died, 3))
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def test_a_long_life_resets_the_delay() -> None:
    house = House().running()
    for _ in range(5):
        house.exits("worker 0", Exited(1))
        house.passes(5.0)
    house.passes(t.BACKOFF_RESET_S)
    house.exits("worker 0", Exited(1))
    assert kinds(house.passes(0.1), Spawn) == [Spawn("worker 0")]


def test_being_killed_from_outside_while_ready_does_not_lengthen_the_delay() -> None:
    house = House().running()
    for _ in range(20):
        house.exits("worker 0", Killed(signal.SIGKILL))
        assert kinds(house.passes(0.1), Spawn) == [Spawn("worker 0")]
        house.ready("worker 0")


def test_being_killed_before_it_is_ready_does() -> None:
    house = House().running()
    house.exits("worker 0", Killed(signal.SIGKILL))
    house.passes(0.1)
    house.exits("worker 0", Killed(signal.SIGKILL))
    assert not kinds(house.passes(0.1, step=0.1), Spawn)
    assert kinds(house.passes(0.1), Spawn)


def test_each_child_has_its_own_delay() -> None:
    house = House().running()
    for _ in range(6):
        house.exits("worker 0", Exited(1))
        house.passes(5.0)
    house.exits("worker 1", Exited(1))
    assert kinds(house.passes(0.1), Spawn) == [Spawn("worker 1")]


def test_fork_that_fails_is_tried_again() -> None:
    table = Table(1)
    table.start(0.0)
    assert kinds(table.on_spawn_failed("worker 0", "out of memory", 0.0), Log)
    assert Spawn("worker 0") in table.on_tick(0.1, {})


def test_an_unknown_pid_is_an_orphan_we_adopted() -> None:
    house = House().running()
    assert house.table.on_exit(99999, Exited(1), house.now) == []


def test_the_pid_of_a_former_life_means_nothing() -> None:
    house = House().running()
    old = house.pids["worker 0"]
    house.exits("worker 0", Exited(1))
    assert house.table.on_exit(old, Exited(1), house.now) == []


def test_the_loop_sleeps_until_something_is_due() -> None:
    house = House().running()
    assert house.table.next_due(house.now) == t.TICK_S
    house.exits("worker 0", Exited(1))
    assert house.table.next_due(house.now) == pytest.approx(0.1)
    assert house.table.next_due(house.now + 10) == 0.0


# ---------------------------------------------------------------- hung


@pytest.mark.parametrize("thread", [0, 1])
def test_a_thread_that_stands_still_is_aborted_then_killed(thread: int) -> None:
    house = House().running()
    house.passes(5.0)
    house.still.add((1, thread))
    actions = house.passes(t.STALE_S + 2)
    pid = house.pids["worker 1"]
    assert kinds(actions, Kill) == [Kill("worker 1", pid, signal.SIGABRT)]
    (log,) = [a for a in kinds(actions, Log) if "stood still" in a.text]
    assert t.THREADS[thread] in log.text
    assert kinds(house.passes(t.ABORT_S), Kill) == [Kill("worker 1", pid, signal.SIGKILL)]
    assert kinds(house.passes(20.0), Kill) == []
    house.exits("worker 1", Killed(signal.SIGKILL))
    house.still.clear()
    assert kinds(house.passes(5.0), Spawn) == [Spawn("worker 1")]


def test_after_a_sleep_of_the_whole_machine_nobody_is_to_blame() -> None:
    house = House().running()
    house.passes(5.0)
    beats = {0: (house.beat, house.beat), 1: (house.beat, house.beat)}
    assert kinds(house.table.on_tick(house.now + 3600, beats), Kill) == []


def test_before_its_first_beat_a_worker_has_a_minute() -> None:
    table = Table(1)
    table.start(0.0)
    table.on_spawned("worker 0", 5, 0.0)
    seconds = 0.0
    killed: list[t.Action] = []
    while not killed:
        seconds += 1.0
        killed = kinds(table.on_tick(seconds, {0: (0, 0)}), Kill)
    assert (seconds, killed) == (t.STALE_START_S, [Kill("worker 0", 5, signal.SIGABRT)])


# ---------------------------------------------------------------- stop


def test_term_drains_the_workers_then_ends_the_controller_then_us() -> None:
    house = House().running()
    actions = house.signals(signal.SIGTERM)
    assert kinds(actions, Notify) == [Notify("STOPPING", "draining")]
    assert [(a.name, a.signum) for a in kinds(actions, Kill)] == [
        ("worker 0", signal.SIGTERM),
        ("worker 1", signal.SIGTERM),
    ]
    assert kinds(house.passes(20.0), Kill) == []
    assert not kinds(house.exits("worker 0", Exited(0)), Kill, Exit)
    assert [(a.name, a.signum) for a in kinds(house.exits("worker 1", Exited(0)), Kill)] == [
        ("controller", signal.SIGTERM)
    ]
    assert kinds(house.exits("controller", Exited(0)), Exit) == [Exit(0)]


def test_nothing_is_started_during_a_stop() -> None:
    house = House().running()
    house.exits("controller", Killed(9))
    house.signals(signal.SIGTERM)
    assert not kinds(house.passes(5.0), Spawn)
    house.exits("worker 0", Exited(0))
    assert kinds(house.exits("worker 1", Exited(0)), Exit) == [Exit(0)]


def test_when_the_drain_deadline_passes_it_is_a_fast_stop_then_sigkill() -> None:
    house = House(drain_timeout=10.0).running()
    house.signals(signal.SIGTERM)
    assert not kinds(house.passes(10.0 + t.FAST_S - 1), Kill)
    assert {(a.name, a.signum) for a in kinds(house.passes(1.0), Kill)} == {
        ("worker 0", signal.SIGINT),
        ("worker 1", signal.SIGINT),
    }
    house.exits("worker 0", Exited(0))
    killed = kinds(house.passes(t.FAST_S), Kill)
    assert {(a.name, a.signum) for a in killed} == {("worker 1", signal.SIGKILL), ("controller", signal.SIGKILL)}
    house.exits("controller", Killed(signal.SIGKILL))
    assert kinds(house.exits("worker 1", Killed(signal.SIGKILL)), Exit) == [Exit(1)], "that was no clean stop"


def test_int_is_fast_and_hurries_a_drain() -> None:
    house = House().running()
    house.signals(signal.SIGTERM)
    assert [a.signum for a in kinds(house.signals(signal.SIGINT), Kill)] == [signal.SIGINT, signal.SIGINT]
    assert house.signals(signal.SIGINT) == []
    assert house.signals(signal.SIGTERM) == []
    for name in ("worker 0", "worker 1"):
        house.exits(name, Exited(0))
    assert kinds(house.exits("controller", Exited(0)), Exit) == [Exit(0)]


def test_a_second_term_changes_nothing() -> None:
    house = House().running()
    house.signals(signal.SIGTERM)
    assert house.signals(signal.SIGTERM) == []


def test_a_stop_before_anything_is_ready() -> None:
    house = House()
    house.signals(signal.SIGTERM)
    house.exits("worker 0", Killed(signal.SIGTERM))
    house.exits("worker 1", Killed(signal.SIGTERM))
    assert kinds(house.exits("controller", Killed(signal.SIGTERM)), Exit) == [Exit(0)], "they had no handlers yet"


@pytest.mark.parametrize("status", [Exited(1), Exited(70), Killed(signal.SIGSEGV)])
def test_a_worker_that_fails_in_the_stop_shows_in_the_exit_code(status: t.Status) -> None:
    house = House(workers=1)
    house.ready("controller", "worker 0")
    house.signals(signal.SIGTERM)
    house.exits("worker 0", status)
    assert kinds(house.exits("controller", Exited(0)), Exit) == [Exit(1)]


def test_a_stop_while_all_are_down() -> None:
    house = House(workers=1)
    house.exits("worker 0", Exited(1))
    house.exits("controller", Exited(1))
    assert kinds(house.signals(signal.SIGTERM), Exit) == [Exit(0)]


# ---------------------------------------------------------------- reload


def test_hup_goes_to_the_controller_and_the_manager_hears_begin_and_end() -> None:
    house = House().running()
    actions = house.signals(signal.SIGHUP)
    assert kinds(actions, Notify, Kill) == [
        Notify("RELOADING", "reloading"),
        Kill("controller", house.pids["controller"], signal.SIGHUP),
    ]
    assert house.table.on_reloaded("2 changes", house.now) == [Notify("READY", "2 changes")]
    assert house.table.on_reloaded("again", house.now) == [], "an operator's reload over the control socket"


def test_a_reload_that_the_controller_does_not_survive_ends_too() -> None:
    house = House().running()
    house.signals(signal.SIGHUP)
    assert kinds(house.exits("controller", Killed(9)), Notify)[0].state == "READY"


def test_hup_waits_for_the_controller() -> None:
    house = House().running()
    house.exits("controller", Killed(9))
    assert not kinds(house.signals(signal.SIGHUP), Kill)
    house.passes(0.1)
    assert kinds(house.ready("controller"), Kill) == [Kill("controller", house.pids["controller"], signal.SIGHUP)]


def test_hup_during_a_stop_is_ignored() -> None:
    house = House().running()
    house.signals(signal.SIGTERM)
    assert house.signals(signal.SIGHUP) == []
