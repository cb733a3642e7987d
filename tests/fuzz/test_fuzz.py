"""Every fuzz target for a second (CI: FUZZ_SECONDS), in a process of its own, and every finding of former runs.

As many targets run at once as there are processors.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fuzz import corpus, run

SECONDS = max(float(os.environ.get("FUZZ_SECONDS") or 0), 1.0)
# what strangers can reach gets the whole time, the rest a sixth of it
EXPOSED = {"startup", "frontend", "backend", "scram_server", "scram_client"}


Outcomes = dict[str, "Future[subprocess.CompletedProcess[str]]"]


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Outcomes]:
    """Of the targets that this run has selected."""
    chosen = [item.callspec.params["name"] for item in request.session.items if item.name.startswith("test_target[")]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(fuzz, name) for name in chosen}
        pool.shutdown(cancel_futures=True)


def fuzz(name: str) -> "subprocess.CompletedProcess[str]":
    seconds = SECONDS if name in EXPOSED else max(SECONDS / 6, 1.0)
    # -P and this run's own sys.path: the build under test is the one pytest has, not the one that lies beside
    command = [sys.executable, "-P", "-m", "tests.fuzz.run", "--target", name, "--seconds", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment)


@pytest.mark.timeout(SECONDS * 2 + 120)  # those of the targets that run beside it, too
@pytest.mark.parametrize("name", run.names())
def test_target(name: str, outcomes: Outcomes) -> None:
    done = outcomes[name].result()
    assert done.returncode == 0, done.stdout + done.stderr[-8000:]


@pytest.mark.parametrize("name", run.names())
def test_target_says_its_invariant(name: str) -> None:
    target = run.load(name)
    assert target.invariant.endswith("."), "the first line of the docstring is the invariant"
    assert target.seeds(), "nothing to start from"


FOUND = [(path.parent.name, path) for path in sorted(corpus.FINDINGS.glob("*/*.bin"))]


@pytest.mark.parametrize(("name", "path"), FOUND, ids=[f"{name}-{path.stem}" for name, path in FOUND])
def test_finding(name: str, path: Path) -> None:
    run.load(name).check(path.read_bytes())
