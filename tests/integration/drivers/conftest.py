"""The world of the comparisons: one PostgreSQL with TLS, a wide and a tight proxy in front of it.

`sides` comes in two kinds (wide, tight) for every test. The server is the machine's own; where the private servers of
`shared/servers` beside the repository exist, PostgreSQL 17 and 18 follow (marker `matrix`).
"""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import proxy as package
from tests.harness.postgres import Postgres
from tests.harness.proxy import ProxyUnderTest
from tests.integration.drivers.sides import Side, Sides

_FETCH = Path(package.__file__).resolve().parents[2] / "shared/servers/debroot.sh"
_SUITES = {"17": ("trixie", "pg17", "postgresql-17"), "18": ("sid", "pg18", "postgresql-18")}


@dataclass
class World:
    pg: Postgres
    wide: ProxyUnderTest
    tight: ProxyUnderTest
    said: dict[str, list[str]] = field(default_factory=dict)


def server_programs(version: str) -> Path:
    """The folder of that version's programs, fetched if need be; skips where nothing can fetch them."""
    if not _FETCH.exists():
        pytest.skip(f"PostgreSQL {version}: no shared/servers beside the repository")
    done = subprocess.run([str(_FETCH), *_SUITES[version]], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"PostgreSQL {version} could not be fetched: {done.stderr.strip()[-200:]}")
    return Path(done.stdout.split()[-1]) / f"usr/lib/postgresql/{version}/bin"


@pytest.fixture(
    scope="session",
    params=["machine", pytest.param("17", marks=pytest.mark.matrix), pytest.param("18", marks=pytest.mark.matrix)],
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    bin_dir = None if request.param == "machine" else server_programs(request.param)
    with Postgres(ssl=True, bin=bin_dir) as pg:
        assert pg.certificate is not None
        group = {"sslmode": "verify-full", "ca_file": str(pg.certificate.cert), "connection_borrow_timeout": 60}
        common = {"tls": pg.certificate, "alone": False}
        with (
            ProxyUnderTest(pg, target_group={**group, "max_connections": 20}, **common) as wide,  # type: ignore[arg-type]
            ProxyUnderTest(
                pg,
                workers=1,
                target_group={"max_connections": 2, "connection_borrow_timeout": 60},
                **common,  # type: ignore[arg-type]
            ) as tight,
        ):
            yield World(pg, wide, tight)


@pytest.fixture(params=["wide", "tight"])
def sides(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> Sides:
    assert world.pg.certificate is not None
    ca = world.pg.certificate.cert
    proxy: ProxyUnderTest = getattr(world, request.param)
    direct = Side("direct", world.pg.host, world.pg.port, ca, programs=world.pg.bin)
    through = Side(request.param, proxy.host, proxy.port, ca, programs=world.pg.bin)
    return Sides(world.pg, direct, through, world.said, tmp_path if request.param == "tight" else None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The matrix triples the time: it is for `-m matrix` and SLUICEWAY_MATRIX=1."""
    if config.option.markexpr or os.environ.get("SLUICEWAY_MATRIX"):
        return
    left_out = [item for item in items if item.get_closest_marker("matrix")]
    items[:] = [item for item in items if not item.get_closest_marker("matrix")]
    config.hook.pytest_deselected(items=left_out)
