"""node-postgres with its cursors, streams, COPY and pool. Its packages are installed at the first run, into `node/`."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.drivers.sides import Say, Side, Sides, run

FOLDER = Path(__file__).with_name("node")


@pytest.fixture(scope="module")
def script() -> Path:
    """script.js with its packages; skips where there is no node, or no way to fetch the packages."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node-postgres needs node and npm, which are not installed")
    if not (FOLDER / "node_modules/.package-lock.json").exists():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, check=False, cwd=FOLDER, capture_output=True, text=True, timeout=120)
        if done.returncode:
            pytest.skip(f"node-postgres could not be installed: {done.stderr.strip()[-300:]}")
    return FOLDER / "script.js"


@pytest.mark.timeout(150)  # the first run fetches packages
@pytest.mark.parametrize("part", ["queries", "streams", "listening", "pooled", "ended"])
def test_node_postgres_prints_the_same(part: str, script: Path, sides: Sides) -> None:
    def node(say: Say, side: Side) -> None:
        done = run(side, "node", str(script), part)
        say(done.stdout)
        say("stderr:", done.stderr)
        assert done.returncode == 0, done.stderr

    node.__qualname__ = f"node[{part}]"
    sides.same(node)
