"""No AWS code in a worker, and none in the supervisor: what they import, all of it, in a fresh interpreter."""

import subprocess
import sys

import pytest

_FORBIDDEN = {"boto3", "botocore", "s3transfer", "awscrt"}
_SHOW = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"


def modules_after(name: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", _SHOW, name], capture_output=True, text=True, check=True)
    return {module.split(".")[0] for module in done.stdout.split()} | set(done.stdout.split())


@pytest.mark.parametrize("entry", ["proxy.worker.main", "proxy.supervisor.main"])
def test_no_aws(entry: str) -> None:
    loaded = modules_after(entry)
    assert entry in loaded
    assert not _FORBIDDEN & loaded


def test_supervisor_forks_from_a_small_process() -> None:
    """The parent of every fork holds no event loop: asyncio and uvloop are its children's."""
    assert not {"uvloop", "aiohttp"} & modules_after("proxy.supervisor.main")
