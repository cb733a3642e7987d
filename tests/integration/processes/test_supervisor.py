"""The supervisor with real forks and real signals, around bodies of a few lines."""

import os
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.harness.processes import children, wait_until
from tests.integration.processes.house import House, Manager


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with House(tmp_path, "plain", "") as house:
        yield house


def test_it_says_ready_once_and_ends_with_zero(house: House) -> None:
    assert house.ready() == "sluiceway ready: 2 workers, endpoint plain\n"
    house.send(signal.SIGTERM)
    house.ends(0)
    assert house.out.read_text().count("\n") == 1
    assert [text for _, _, text in house.notes("worker0", "signal")] == ["signal SIGTERM"]


def test_the_controller_goes_last(house: House) -> None:
    house.ready()
    house.send(signal.SIGTERM)
    house.ends(0)
    (stopped,) = house.notes("controller", "signal SIGTERM")
    workers = [when for name in ("worker0", "worker1") for when, _, _ in house.notes(name, "signal")]
    assert stopped[0] >= max(workers)


def test_sigint_is_fast(house: House) -> None:
    house.ready()
    house.send(signal.SIGINT)
    house.ends(0)
    assert [text for _, _, text in house.notes("worker1", "signal")] == ["signal SIGINT"]


def test_a_killed_worker_is_born_again_and_the_rest_lives_on(house: House) -> None:
    house.ready()
    others = house.pid_of("worker1"), house.pid_of("controller")
    os.kill(house.pid_of("worker0"), signal.SIGKILL)
    house.born("worker0", 2)
    house.logged("worker 0 is ready", 2)
    assert (house.pid_of("worker1"), house.pid_of("controller")) == others
    told = [text for _, _, text in house.notes("controller", "told")]
    assert any("'worker': 0, 'pid': 0," in text and "'state': 'down'" in text for text in told)
    house.send(signal.SIGTERM)
    house.ends(0)


def test_a_worker_that_keeps_failing_is_tried_ever_more_rarely(tmp_path: Path) -> None:
    with House(tmp_path, "plain", "") as house:
        house.ready()
        house.tell("worker0.fails")
        os.kill(house.pid_of("worker0"), signal.SIGTERM)
        house.born("worker0", 6)
        births = [when for when, _, _ in house.notes("worker0", "born")]
        gaps = [later - sooner for sooner, later in pairwise(births[1:])]
        for gap, wanted in zip(gaps, (0.2, 0.4, 0.8, 1.6), strict=False):
            assert wanted <= gap < wanted * 1.5 + 0.3, gaps
        house.untell("worker0.fails")
        house.send(signal.SIGTERM)
        house.ends(0)


@pytest.mark.parametrize("who", ["controller", "worker1"])
def test_cannot_boot_halts_with_78(tmp_path: Path, who: str) -> None:
    house = House(tmp_path, "plain", "")
    house.tell(f"{who}.cannot-boot")
    with house:
        house.ends(78)
    assert house.out.read_text() == ""
    assert "cannot boot" in house.log()
    assert len(house.notes(who, "born")) == 1


def test_a_broken_configuration_halts_before_anything_is_forked(tmp_path: Path) -> None:
    with House(tmp_path, "plain", "broken") as house:
        house.ends(78)
    assert "1 error" in house.log()
    assert house.notes("controller") == []


def test_cannot_boot_later_is_only_a_death(house: House) -> None:
    house.ready()
    house.tell("worker0.cannot-boot")
    os.kill(house.pid_of("worker0"), signal.SIGKILL)
    house.born("worker0", 3)
    assert house.process.poll() is None
    house.send(signal.SIGTERM)
    house.ends(0)


def test_a_drain_that_does_not_end_is_ended(tmp_path: Path) -> None:
    house = House(tmp_path, "plain", "", env={"TEST_FAST_S": "1"})
    house.tell("worker0.deaf")
    with house:
        house.ready()
        started = time.monotonic()
        house.send(signal.SIGTERM)
        house.ends(0, limit_s=15)
        assert time.monotonic() - started >= 2.0, "the deadline was not waited for"
    assert [text for _, _, text in house.notes("worker0", "signal")] == ["signal SIGTERM", "signal SIGINT"]


def test_a_hung_worker_is_aborted(tmp_path: Path) -> None:
    house = House(tmp_path, "plain", "", env={"TEST_STALE_S": "1.5"})
    with house:
        house.ready()
        house.tell("worker1.hangs")
        pid = house.pid_of("worker1")
        wait_until(lambda: f"worker 1 (pid {pid}) was killed by SIGABRT" in house.log(), 10, "SIGABRT")
        assert "has stood still for 1.5 s" in house.log()
        house.untell("worker1.hangs")
        house.born("worker1", 2)
        house.send(signal.SIGTERM)
        house.ends(0)


def test_children_die_with_a_killed_supervisor(house: House) -> None:
    house.ready()
    pids = children(house.pid)
    assert len(pids) == 3
    house.send(signal.SIGKILL)
    house.process.wait()
    for pid in pids:
        wait_until(partial(_is_gone, pid), 5, f"process {pid} gone")
    assert house.notes("worker0", "signal SIGTERM"), "asked, not killed: it may drain"


def _is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_child_holds_no_descriptor_of_its_siblings(house: House) -> None:
    house.ready()
    supervisor, worker = _sockets(house.pid), _sockets(house.pid_of("worker0"))
    assert len(worker & supervisor) == 1, "of the supervisor's sockets a worker keeps its end of the link alone"


def _sockets(pid: int) -> set[str]:
    links = (str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir())
    return {link for link in links if link.startswith("socket:")}


# ---------------------------------------------------------------- the service manager


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    name = f"sluiceway-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    manager = Manager("\0" + name if abstract else name)
    env = {"NOTIFY_SOCKET": "@" + name if abstract else name}
    try:
        with House(tmp_path, "plain", "", env) as house:
            assert manager.next_with("READY") == {"READY": "1", "STATUS": "2 of 2 workers ready"}
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            house.send(signal.SIGHUP)
            reloading = manager.next_with("RELOADING")
            assert before <= int(reloading["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            assert manager.next() == {"READY": "1", "STATUS": "as told"}
            os.kill(house.pid_of("worker0"), signal.SIGKILL)
            assert manager.next() == {"STATUS": "1 of 2 workers ready"}
            assert manager.next() == {"STATUS": "2 of 2 workers ready"}
            house.send(signal.SIGTERM)
            assert manager.next() == {"STOPPING": "1", "STATUS": "draining"}
            house.ends(0)
    finally:
        manager.close()


def test_the_watchdog_is_fed(tmp_path: Path) -> None:
    manager = Manager(str(tmp_path / "notify"))
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
    try:
        with House(tmp_path, "plain", "", env):
            manager.next_with("READY")
            times: list[float] = []
            while len(times) < 5:
                if "WATCHDOG" in manager.next(watchdogs=True):
                    times.append(time.monotonic())
            assert max(later - sooner for sooner, later in pairwise(times)) < 0.4
    finally:
        manager.close()
