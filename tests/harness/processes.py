"""Processes that tests start: who lives, who dies with us, and waiting for what they do."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(sig: int) -> Callable[[], None]:
    """For Popen's preexec_fn: the child gets `sig` when the thread that starts it is gone, however it went."""

    def in_child() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, sig)

    return in_child


def wait_until(condition: Callable[[], bool], limit_s: float = 5.0, what: str = "") -> None:
    """Returns as soon as `condition()` holds; fails after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what or condition}"
        time.sleep(0.01)


def children(pid: int) -> list[int]:
    """Living child processes (zombies do not count)."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(word) for word in task.read_text().split()]
        except OSError:
            continue
    return [child for child in found if state(child) not in {"Z", ""}]


def state(pid: int) -> str:
    """R, S, D, Z …; "" when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
