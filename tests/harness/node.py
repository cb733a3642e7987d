"""node-postgres for tests: its packages are installed at the first use, into `tests/integration/drivers/node`."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "integration/drivers/node"


def folder() -> Path:
    """Where the scripts and their packages are; skips where there is no node, or no way to fetch the packages."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("node-postgres needs node and npm, which are not installed")
    if not (FOLDER / "node_modules/.package-lock.json").exists():
        command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        done = subprocess.run(command, check=False, cwd=FOLDER, capture_output=True, text=True, timeout=120)
        if done.returncode:
            assert not os.environ.get("CI"), done.stderr  # there, a registry that is away must not pass for success
            pytest.skip(f"node-postgres could not be installed: {done.stderr.strip()[-300:]}")
    return FOLDER
