"""The same bytes in other pieces: an engine must say the same of them however the network cut them.

`deliveries()` makes the pieces: whole, one byte at a time, cut at each message boundary -1/0/+1, and at seeded places.
`check()` plays them all through an engine's door, plus the third check of every protocol test: with junk behind.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

SEEDS = (1, 2, 3, 4, 5)
BULK = frozenset("Dd")  # kinds of which a run of many may pass in one step


class Door(Protocol):
    @property
    def fault(self) -> int: ...
    @property
    def kept(self) -> int: ...
    def feed(self, data: bytes) -> list[Any]: ...


class Run(NamedTuple):
    """Neighbouring steps of one kind. A cut may split a run, never change it."""

    step: int
    kind: str
    n: int
    facts: tuple[Any, ...]  # of the step that ended its last message


def boundaries(data: bytes) -> list[int]:
    """Where messages begin, the end included. Stops at what is no message."""
    found, at = [0], 0
    while at + 5 <= len(data):
        size = int.from_bytes(data[at + 1 : at + 5])
        if size < 4 or at + 1 + size > len(data):
            break
        at += 1 + size
        found.append(at)
    return found


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted({p for p in places if 0 < p < len(data)}), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


def deliveries(data: bytes, *, bytewise_up_to: int = 5000) -> Iterator[tuple[str, list[bytes]]]:
    """(name, pieces). The name says how to make the same pieces again."""
    starts = boundaries(data)
    yield "whole", [data] if data else []
    if len(data) <= bytewise_up_to:
        yield "bytewise", [data[i : i + 1] for i in range(len(data))]
    for by in (-1, 0, 1):
        yield f"every boundary {by:+}", cut(data, (s + by for s in starts))
    yield "behind every head", cut(data, (s + 5 for s in starts))
    for seed in SEEDS:
        chance = random.Random(seed)
        yield f"seed {seed}", cut(data, (chance.randrange(len(data) + 1) for _ in range(1 + len(starts))))


def merge(steps: Sequence[tuple[Any, ...]]) -> list[Run]:
    """Neighbouring steps of one message, and runs of rows, made one. A step: (Step, n, kind, begins, ends, *facts)."""
    runs: list[Run] = []
    for step, n, kind, begins, ends, *facts in steps:
        last = runs[-1] if runs else None
        if last and last.step == step and last.kind == kind and (not begins or kind in BULK):
            runs[-1] = Run(step, kind, last.n + n, tuple(facts) if ends else last.facts)
        else:
            runs.append(Run(step, kind, n, tuple(facts) if ends else ()))
    return runs


def play(door: Door, pieces: Iterable[bytes]) -> list[Run]:
    """What the door says of these pieces. Bytes are answered for once, in order, and none before it came."""
    steps: list[tuple[Any, ...]] = []
    fed = 0
    for piece in pieces:
        fed += len(piece)
        steps += door.feed(piece)
        answered = sum(step[1] for step in steps)
        assert answered <= fed, "answered for bytes that have not come"
        assert door.fault or answered + door.kept == fed, "a byte was lost"
        if door.fault:
            break
    return merge(steps)


def check(make: Callable[[], Door], data: bytes, *, violation: bool = False) -> list[Run]:
    """Plays `data` in every way; all must agree. Returns what they agree on; `violation`: it must end with one."""
    expected: list[Run] | None = None
    for name, pieces in deliveries(data):
        door = make()
        runs = play(door, pieces)
        verdicts = [run for run in runs if run.n]
        if expected is None:
            expected = verdicts
        assert verdicts == expected, f"cut differently ({name}), understood differently"
        assert bool(door.fault) == violation, f"{name}: fault {door.fault!r}"
    assert expected is not None
    if not violation:
        door = make()
        behind = play(door, [data + b"\xff\xff\xff\xff\xff"])
        assert [run for run in behind if run.n] == expected, "junk behind changed what was understood before it"
        assert door.fault, "junk was taken for a message"
    return expected
