"""Answers of the control socket as tables for people.

The first columns are chosen, and a few of the proxy's own numbers are left to JSON; whatever else a row holds follows
in its own order, so that a new number shows up without a change here. Knows no socket and no controller: plain data in,
rich renderables out.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from proxy.admin import explained
from proxy.admin.printable import printable

Row = Mapping[str, Any]

COLUMNS: dict[str, tuple[str, ...]] = {
    "workers": ("worker", "pid", "state", "snapshot", "clients", "servers", "restarts"),
    "endpoints": ("proxy", "endpoint", "role", "listen", "clients", "waiting"),
    "targets": ("proxy", "target", "role", "state", "connections", "borrowed", "pinned", "limit"),
    "pools": (
        "proxy", "target", "database", "user", "worker", "clients", "waiting", "longest_wait_ms", "servers", "idle",
        "borrowed", "opening", "failures", "limit", "paused",
    ),
    "clients": (
        "id", "proxy", "endpoint", "user", "database", "application", "peer", "tls", "state", "wait_ms", "pins",
        "target", "queries", "idle_ms", "age_ms",
    ),
    "servers": (
        "worker", "id", "proxy", "target", "user", "database", "pid", "tls", "state", "tx_status", "pins", "borrows",
        "idle_ms", "age_ms",
    ),
    "pins": (
        "id", "proxy", "endpoint", "user", "database", "application", "peer", "target", "pid", "reasons", "pinned_ms",
        "held_ms", "queries", "audits", "digest",
    ),
}  # fmt: skip
# of use to whoever looks for a bug in the proxy itself
HIDDEN: dict[str, frozenset[str]] = {
    "pools": frozenset({"pool_id", "gen", "held"}),
    "clients": frozenset({"worker", "slot", "pool_id", "server_id", "pid", "owed", "pinned_ms"}),
    "servers": frozenset({"server_id", "pool_id", "client_slot", "backend_pid", "permit", "owed", "cancels"}),
    "pins": frozenset({"worker"}),
}
_COLOURS = {
    "ready": "green", "available": "green", "starting": "yellow", "draining": "yellow", "paused": "yellow",
    "stopping": "yellow", "dead": "red", "unavailable": "red",
}  # fmt: skip
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SECOND_MS = 1000
WIDTH_WHEN_PIPED = 250  # for grep and awk: no line is cut at the width of a terminal that is not there


def console() -> Console:
    probe = Console()
    return probe if probe.is_terminal else Console(width=WIDTH_WHEN_PIPED, soft_wrap=True)


def duration(seconds: float) -> str:
    """5 s, 3 min 20 s, 2 h 5 min, 4 d 3 h."""
    whole = int(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE} s"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def render(what: str, data: Any) -> RenderableType:
    """What a person sees of the answer to `what`."""
    if what == "status":
        return status(data)
    if what == "explain":
        return Text("\n".join(map(printable, explained.lines(data))))
    if isinstance(data, list):
        return rows(what, data) if data else Text(f"no {what}")
    return outcome(data)


def status(data: Row) -> RenderableType:
    state = str(data["state"])
    head = Text.assemble(
        f"sluiceway {data['version']}  ",
        (state, _COLOURS.get(state, "")),
        f"  up {duration(data['uptime'])}  pid {data['pid']}  snapshot {data['snapshot']}  {data['config']}",
    )
    parts: list[RenderableType] = [head]
    for name in ("workers", "endpoints", "targets"):
        parts += [Text(), rows(name, data.get(name, []))]
    problems = data.get("problems") or []
    if problems:
        parts += [Text(), *(Text(f"! {problem}", style="yellow") for problem in problems)]
    return Group(*parts)


def rows(what: str, data: Sequence[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = [name for name in _columns(COLUMNS.get(what, ()), data) if name not in HIDDEN.get(what, ())]
    for name in columns:
        numeric = all(isinstance(row.get(name), int | float | None) for row in data)
        table.add_column(
            name.removesuffix("_ms").upper().replace("_", " "),
            justify="right" if numeric and data else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in data:
        table.add_row(*(_cell(name, row.get(name)) for name in columns))
    return table


def outcome(data: Row) -> RenderableType:
    """The answer to a verb: its sentences, or "done"."""
    sentences: list[str] = []
    for name, value in data.items():
        if isinstance(value, list):
            sentences += [str(each) for each in value]
        elif name == "text":
            sentences.append(str(value))
        else:
            sentences.append(f"{name.replace('_', ' ')}: {_cell(name, value)}")
    return Text("\n".join(sentences) or "done")


def _columns(chosen: Iterable[str], data: Sequence[Row]) -> list[str]:
    if not data:
        return list(chosen)
    there = dict.fromkeys(name for row in data for name in row)
    return [name for name in chosen if name in there] + [name for name in there if name not in chosen]


def _cell(name: str, value: Any) -> Text:
    match value:
        case None:
            return Text("-")
        case bool():
            return Text("yes" if value else "no")
        case int() if name.endswith("_ms"):
            return Text(f"{value} ms" if value < _SECOND_MS else duration(value / _SECOND_MS))
        case float():
            return Text(f"{value:.3g} s" if value < _MINUTE else duration(value))
        case list() | tuple():
            return Text(printable(", ".join(map(str, value))) or "-")
        case _:
            text = printable(str(value))
            return Text(text, style=_COLOURS.get(text, "") if name == "state" else "")
