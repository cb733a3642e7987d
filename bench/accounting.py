"""What processes cost, by the kernel's own books: CPU time from /proc/PID, memory from smaps_rollup."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cpu:
    """CPU used so far, or between two looks.

    The scheduler counts in nanoseconds but does not split; the clock's ticks of 10 ms split, but are coarse. So: the
    total of the one, in the proportion of the other.
    """

    exact: float = 0.0  # seconds
    user_ticks: int = 0
    sys_ticks: int = 0

    @property
    def user(self) -> float:
        """Seconds."""
        return self.exact * self.user_ticks / max(1, self.user_ticks + self.sys_ticks)

    @property
    def sys(self) -> float:
        return self.exact - self.user

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.exact + other.exact, self.user_ticks + other.user_ticks, self.sys_ticks + other.sys_ticks)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.exact - other.exact, self.user_ticks - other.user_ticks, self.sys_ticks - other.sys_ticks)


def cpu(pids: Iterable[int]) -> Cpu:
    """CPU used so far by `pids`, all their threads. One that is gone counts nothing."""
    return sum((_cpu(pid) for pid in pids), Cpu())


def _cpu(pid: int) -> Cpu:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = [(task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return Cpu()
    return Cpu(sum(int(text.split()[0]) for text in threads) / 1e9, int(words[11]), int(words[12]))


def pss(pids: Iterable[int]) -> int:
    """Bytes of memory, what is shared counted once over all sharers (proportional set size)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
