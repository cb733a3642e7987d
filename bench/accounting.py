"""What processes cost, by the kernel's own books: CPU time from /proc/PID, memory from smaps_rollup."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """Seconds of CPU."""

    user: float = 0.0
    sys: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.sys

    def __add__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user + other.user, self.sys + other.sys)

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.sys - other.sys)


def cpu(pids: Iterable[int]) -> Cpu:
    """CPU used so far by `pids`, all threads. A process that is gone counts nothing: do not lose one between two looks."""
    return sum((_cpu(pid) for pid in pids), Cpu())


def _cpu(pid: int) -> Cpu:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        threads = [(task / "schedstat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return Cpu()
    user, system = int(words[11]) * _TICK_S, int(words[12]) * _TICK_S
    # stat counts in ticks of 10 ms, schedstat in nanoseconds but without the split: the total of one, the split of the other
    exact = sum(int(text.split()[0]) for text in threads) / 1e9
    ticks = user + system
    return Cpu(exact * user / ticks, exact * system / ticks) if ticks else Cpu(0.0, exact)


def pss(pids: Iterable[int]) -> int:
    """Bytes of memory, what is shared counted once over all sharers (proportional set size)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
