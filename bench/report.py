"""Rounds in, ratios out. A ratio is taken within each round (the same minute, the same machine), then the median."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.load import Load, Sample

Number = Callable[[Sample], float]


@dataclass
class Result:
    """All rounds of one load, by contender; None where one failed in that round."""

    load: Load
    rounds: list[dict[str, Sample | None]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(dict.fromkeys(name for one in self.rounds for name in one))

    def value(self, name: str, of: Number) -> float | None:
        found = [of(s) for one in self.rounds if (s := one.get(name))]
        return median(found) if found else None

    def ratio(self, name: str, peer: str, of: Number) -> float | None:
        found = [
            of(mine) / of(theirs)
            for one in self.rounds
            if (mine := one.get(name)) and (theirs := one.get(peer)) and of(theirs)
        ]
        return median(found) if found else None

    def as_dict(self, peer: str) -> dict[str, Any]:
        out: dict[str, Any] = {"load": self.load.name, "clients": self.load.clients, "contenders": {}}
        for name in self.names:
            out["contenders"][name] = {
                "failed": self.failures.get(name),
                "rounds": [s.as_dict() if (s := one.get(name)) else None for one in self.rounds],
                "tps_ratio": self.ratio(name, peer, lambda s: s.tps),
                "cpu_ratio": self.ratio(name, peer, lambda s: s.cpu_us),
                "p99_ratio": self.ratio(name, peer, lambda s: s.p99_us),
            }
        return out


def _text(value: float | None, form: str = "{:,.0f}") -> str:
    return "–" if value is None else form.format(value)


def show(results: Sequence[Result], peer: str, console: Console) -> None:
    table = Table(title=f"median of rounds; × is the ratio to {peer}", title_justify="left")
    for column in ("load", "who", "tps", "×", "p50 ms", "p99 ms", "×", "CPU µs", "user", "sys", "×"):
        table.add_column(column, justify="left" if column in {"load", "who"} else "right")
    for result in results:
        for name in result.names:
            first = name == result.names[0]
            if result.value(name, lambda s: s.tps) is None:
                table.add_row(result.load.name if first else "", name, "[red]failed")
                continue
            own_cpu = bool(result.value(name, lambda s: s.cpu_us))
            table.add_row(
                f"{result.load.name}" if first else "",
                name,
                _text(result.value(name, lambda s: s.tps)),
                _text(result.ratio(name, peer, lambda s: s.tps), "{:.2f}"),
                _text(result.value(name, lambda s: s.p50_us / 1000), "{:.2f}"),
                _text(result.value(name, lambda s: s.p99_us / 1000), "{:.2f}"),
                _text(result.ratio(name, peer, lambda s: s.p99_us), "{:.2f}"),
                _text(result.value(name, lambda s: s.cpu_us) if own_cpu else None, "{:,.1f}"),
                _text(result.value(name, lambda s: s.user_us) if own_cpu else None, "{:,.1f}"),
                _text(result.value(name, lambda s: s.sys_us) if own_cpu else None, "{:,.1f}"),
                _text(result.ratio(name, peer, lambda s: s.cpu_us) if own_cpu else None, "{:.2f}"),
                end_section=name == result.names[-1],
            )
    console.print(table)
    for result in results:
        for name, why in result.failures.items():
            console.print(f"[red]failed:[/] {result.load.name}: {name}: {escape(why)}")


def show_memory(memory: dict[str, float], peer: str, clients: int, console: Console) -> None:
    table = Table(title=f"memory per idle client ({clients} of them), PSS of all processes", title_justify="left")
    for column in ("who", "bytes", "×"):
        table.add_column(column, justify="left" if column == "who" else "right")
    for name, size in memory.items():
        theirs = memory.get(peer)
        table.add_row(name, _text(size), _text(size / theirs if theirs else None, "{:.2f}"))
    console.print(table)
