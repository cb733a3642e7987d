"""Every fuzz target for a second (CI: FUZZ_SECONDS), in a process of its own, and every finding of former runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus, run

SECONDS = max(float(os.environ.get("FUZZ_SECONDS") or 0), 1.0)
# what strangers can reach gets the whole time, the rest a sixth of it
EXPOSED = {"startup", "frontend", "backend", "scram_server", "scram_client"}


@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", run.names())
def test_target(name: str) -> None:
    seconds = SECONDS if name in EXPOSED else max(SECONDS / 6, 1.0)
    # -P and this run's own sys.path: the build under test is the one pytest has, not the one that lies beside
    command = [sys.executable, "-P", "-m", "tests.fuzz.run", "--target", name, "--seconds", str(seconds)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
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
