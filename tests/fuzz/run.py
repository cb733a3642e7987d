"""Runs the fuzz targets: `python -m tests.fuzz.run [--seconds N] [--target T ...] [--seed S] [FILE ...]`.

Inputs come from a seeded generator (mutate.py) over the corpus, so a seed and a target repeat a run. Each target runs
in a process of its own, and its input is in shared memory before it is tried: a crash, a sanitizer's abort or a hang is
a finding like any exception. A finding is made as small as a few seconds allow and written to the corpus
(tests/corpus/fuzz/<target>/), from where test_fuzz.py plays it for ever. FILE: only try these inputs (one --target).

On the sanitizer build (make asan): PYTHONPATH=build/asan:. and `python -P -m tests.fuzz.run`.
"""

import argparse
import hashlib
import importlib
import mmap
import os
import pkgutil
import random
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.corpus import FINDINGS, findings
from tests.fuzz.mutate import MAX_INPUT, Mutator, raw

HANG_S = 60  # of a machine that may be busy with other things
MINIMISE_S = 15
POOL = 400  # mutants that are mutated further
_HEAD = struct.Struct(
    "=QQ"
)  # executions, size of the input; the input follows, then 400 bytes that say what went wrong
_WHY = _HEAD.size + MAX_INPUT


@dataclass(frozen=True)
class Target:
    name: str
    invariant: str
    check: Callable[[bytes], None]
    seeds: Callable[[], Sequence[bytes]]
    mutate: Mutator


def names() -> list[str]:
    return sorted(found.name for found in pkgutil.iter_modules(targets.__path__))


def load(name: str) -> Target:
    module = importlib.import_module(f"tests.fuzz.targets.{name}")
    invariant = (module.__doc__ or "").strip().splitlines()[0]
    return Target(name, invariant, module.check, module.seeds, getattr(module, "mutate", raw))


class Board:
    """Memory shared with the process under test."""

    def __init__(self) -> None:
        self._map = mmap.mmap(-1, _WHY + 400)

    def start(self, executions: int, data: bytes) -> None:
        self._map[: _HEAD.size] = _HEAD.pack(executions, len(data))
        self._map[_HEAD.size : _HEAD.size + len(data)] = data

    def fail(self, why: str) -> None:
        self._map[_WHY:] = why.encode("utf-8", "replace")[:400].ljust(400, b"\0")

    @property
    def executions(self) -> int:
        return int(_HEAD.unpack(self._map[: _HEAD.size])[0])

    @property
    def data(self) -> bytes:
        size = _HEAD.unpack(self._map[: _HEAD.size])[1]
        return self._map[_HEAD.size : _HEAD.size + size]

    @property
    def why(self) -> str:
        return self._map[_WHY:].rstrip(b"\0").decode("utf-8", "replace")


def _why(error: BaseException) -> str:
    """What makes two findings the same: the exception and the line it comes from."""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}"


def _inputs(target: Target, seed: int) -> "Sequence[bytes]":
    return [*(path.read_bytes() for path in findings(target.name)), *target.seeds()]


def _body(target: Target, board: Board, seed: int, seconds: float) -> None:
    """In the child: until time is up. Every seed is tried as it is first."""
    chances = random.Random(seed)
    pool = list(_inputs(target, seed))
    queue = list(pool)
    deadline, done = time.monotonic() + seconds, 0
    while queue or time.monotonic() < deadline:
        data = queue.pop() if queue else target.mutate(chances, chances.choice(pool), pool)[:MAX_INPUT]
        _try(target, board, data, done)
        done += 1
        if done % 50 == 0:
            (pool.append if len(pool) < POOL else lambda one: pool.__setitem__(chances.randrange(len(pool)), one))(data)
    board.start(done, b"")


def _try(target: Target, board: Board, data: bytes, done: int, loud: bool = True) -> None:
    board.start(done, data)
    signal.alarm(HANG_S)
    try:
        target.check(data)
    except BaseException as error:  # noqa: BLE001 - whatever escapes is the finding
        board.fail(_why(error))
        if loud:
            traceback.print_exc()
        os._exit(1)
    signal.alarm(0)


def _forked(body: Callable[[], None], quiet: bool = False) -> int:
    """`body` in a child: 0, or how it ended."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        if quiet:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            body()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            traceback.print_exc()
            os._exit(3)
    return os.waitpid(child, 0)[1]


def _kind(status: int, board: Board) -> str:
    if status == 0:
        return ""
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f"hangs for more than {HANG_S} s" if name == "SIGALRM" else name
    return board.why if os.WEXITSTATUS(status) == 1 and board.why else f"exit {os.WEXITSTATUS(status)}"


def minimised(target: Target, data: bytes, kind: str) -> bytes:
    """Cuts pieces out as long as the same thing goes wrong."""

    def still(candidate: bytes) -> bool:
        board = Board()
        status = _forked(lambda: _try(target, board, candidate, 0, loud=False), quiet=True)
        return _kind(status, board) == kind

    deadline, size = time.monotonic() + MINIMISE_S, len(data) // 2
    while size and time.monotonic() < deadline:
        at = 0
        while at < len(data) and time.monotonic() < deadline:
            shorter = data[:at] + data[at + size :]
            if still(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data


def fuzz(target: Target, seconds: float, seed: int) -> bool:
    """True if nothing was found."""
    board = Board()
    begin = time.monotonic()
    status = _forked(lambda: _body(target, board, seed, seconds))
    kind = _kind(status, board)
    rate = board.executions / max(time.monotonic() - begin, 0.001)
    print(f"{target.name:14} seed {seed}  {board.executions:9} executions  {rate:8.0f}/s  {kind or 'ok'}", flush=True)
    if not kind:
        return True
    if kind == "exit 3":  # not the check, the fuzzer itself
        return False
    small = minimised(target, board.data, kind)
    path = FINDINGS / target.name / f"{hashlib.sha256(small).hexdigest()[:12]}.bin"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(small)
    print(f"  invariant: {target.invariant}\n  {len(small)} bytes in {path}: {small[:200]!r}", flush=True)
    return False


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description="Fuzzes the proxy's engines.")
    parser.add_argument("--seconds", type=float, default=10.0, help="per target")
    parser.add_argument("--target", action="append", choices=names(), help="default: all")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)))
    parser.add_argument("files", nargs="*", type=Path, help="only try these inputs")
    given = parser.parse_args(arguments)
    chosen = [load(name) for name in given.target or names()]
    if given.files:
        for path in given.files:
            chosen[0].check(path.read_bytes())
        return 0
    found = [target.name for target in chosen if not fuzz(target, given.seconds, given.seed)]
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
