"""What holds for every test: a crash cannot look like a pass, nothing is left behind, the right build is under test.

Fixtures: `pg`, `pg_ssl` (one private PostgreSQL each per run), `port` (a free one), `authority` (a throw-away CA).
A fixture for the proxy itself belongs to the tests that need one: they say how it is configured (harness/proxy.py).
"""

import faulthandler
import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxy
from tests.harness.certs import Authority
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres

_SENTINEL = "sluiceway/running"
_LEAK_GRACE_S = 2.0


class _Sentinel:
    """Writes down which test is running, for the run after a crash."""

    def __init__(self, cache: pytest.Cache) -> None:
        self._cache = cache

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._cache.set(_SENTINEL, nodeid)

    def pytest_sessionfinish(self) -> None:
        self._cache.set(_SENTINEL, None)


def pytest_configure(config: pytest.Config) -> None:
    """`PROXY_BUILD=build/asan` says which build must be under test; a stray path would test another one unnoticed."""
    faulthandler.enable()
    wanted, found = os.environ.get("PROXY_BUILD"), Path(proxy.__file__).resolve()
    if wanted and not found.is_relative_to(Path(wanted).resolve()):
        raise pytest.UsageError(f"PROXY_BUILD={wanted}, but `proxy` was imported from {found}")


    # After a crash pytest's list of failures is stale: --lf would run what failed before it and call that a pass.
    cache: pytest.Cache | None = getattr(config, "cache", None)  # -p no:cacheprovider
    if cache is None:
        return
    crashed = cache.get(_SENTINEL, None)
    if crashed and (config.option.lf or config.option.failedfirst):
        raise pytest.UsageError(f"the last run died in {crashed}: run without --lf and --ff first")
    config.pluginmanager.register(_Sentinel(cache))


def pytest_report_header(config: pytest.Config) -> str | None:
    cache: pytest.Cache | None = getattr(config, "cache", None)
    crashed = cache.get(_SENTINEL, None) if cache else None
    return f"the last run died in {crashed}" if crashed else None


# nothing is left behind


def _descriptors() -> Counter[str]:
    """Open sockets, pipes and anonymous descriptors by kind. Files are pytest's own business."""
    found: Counter[str] = Counter()
    for fd in Path("/proc/self/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        kind = target.split(":", maxsplit=1)[0]
        if kind in {"socket", "pipe"}:
            found[kind] += 1
        elif kind == "anon_inode" or target.startswith("/memfd:"):
            found[target] += 1
    return found


def _threads() -> set[str]:
    return {f"{t.name} ({t.ident})" for t in threading.enumerate()}


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Descriptors and threads are what they were before. Made first among the test's own fixtures, so it looks last."""
    if request.node.get_closest_marker("leaks"):
        yield
        return
    descriptors, threads = _descriptors(), _threads()
    yield
    left: list[str] = []
    deadline = time.monotonic() + _LEAK_GRACE_S
    while True:
        left = [f"{n} × {kind}" for kind, n in (_descriptors() - descriptors).items()]
        left += [f"thread {name}" for name in _threads() - threads]
        if not left or time.monotonic() > deadline:
            break
        gc.collect()
        time.sleep(0.01)  # a joined thread's last step, a closed loop's last callback
    assert not left, f"left behind: {', '.join(left)}"


# servers


@pytest.fixture(scope="session")
def pg() -> Iterator[Postgres]:
    """PostgreSQL with SCRAM, shared by the whole run: a test that changes it beyond its own tables makes its own."""
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def pg_ssl() -> Iterator[Postgres]:
    """PostgreSQL with SCRAM and TLS (a certificate of its own: `pg_ssl.certificate.cert` is its authority)."""
    with Postgres(ssl=True) as server:
        yield server


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))
