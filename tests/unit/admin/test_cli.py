"""The command line: names, exit codes and JSON that scripts rely on, help that reads well and comes fast."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import proxy.supervisor.main
from proxy import __version__
from proxy.admin.cli import main
from proxy.admin.server import start
from proxy.sql.rds import RdsReason
from tests.unit.admin.fake_port import STATUS, FakePort

GOOD = """
[[proxy]]
name = "orders"
engine_family = "POSTGRESQL"
[[proxy.auth]]
secret = "file:app.json"
[proxy.target_group]
targets = ["10.0.0.1:5432"]
[[proxy.endpoint]]
name = "default"
listen = "127.0.0.1:21307"
"""


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture
def port(tmp_path: Path) -> Iterator[FakePort]:
    """A FakePort on tmp_path/control.sock, in a thread of its own."""
    fake, loop, ready = FakePort(), asyncio.new_event_loop(), threading.Event()
    done = asyncio.Event()

    async def serve() -> None:
        server = await start(fake, tmp_path)
        ready.set()
        await done.wait()
        await server.stop()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    yield fake
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


def config_file(folder: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    path, secret = folder / "orders.toml", folder / "app.json"
    path.write_text(text)
    secret.write_text('{"username": "app", "password": "hunter2"}')
    secret.chmod(mode)
    return path


# check


def test_check_good(tmp_path: Path) -> None:
    path = config_file(tmp_path)
    result = run("check", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"{path}: OK",
        "  orders  POSTGRESQL  1 endpoint, 1 target, 1 user  client TLS: off",
    ]
    assert result.stderr == ""


def test_check_warns(tmp_path: Path) -> None:
    result = run("check", config_file(tmp_path, mode=0o644))
    assert result.exit_code == 0
    assert result.stderr.startswith('warning: proxy[0].auth[0].secret = "file:app.json": everybody on this machine')


def test_check_bad_prints_every_error(tmp_path: Path) -> None:
    path = config_file(tmp_path, GOOD.replace("engine_family", "EngineFamly").replace("10.0.0.1:5432", "10.0.0.1"))
    result = run("check", path)
    assert result.exit_code == 1
    assert result.stdout == ""
    head, *errors = result.stderr.splitlines()
    assert head == f"{path}: 3 errors"
    assert [line.split(":")[0].split(" = ")[0].strip() for line in errors] == [
        "proxy[0].EngineFamly",
        "proxy[0].engine_family",
        "proxy[0].target_group.targets[0]",
    ]


def test_check_reads_the_secrets(tmp_path: Path) -> None:
    path = config_file(tmp_path)
    (tmp_path / "app.json").write_text('{"username": "app", "pasword": "hunter2"}')
    result = run("check", path)
    assert result.exit_code == 1
    assert '"password" is missing' in result.stderr
    assert "hunter2" not in result.output


def test_check_of_no_file(tmp_path: Path) -> None:
    result = run("check", tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


# serve


def test_serve_hands_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    def serve(*args: Any) -> int:
        calls.append(args)
        return 78

    monkeypatch.setattr(proxy.supervisor.main, "serve", serve)
    assert run("serve", "-c", "a.toml").exit_code == 78
    assert run("serve", "--config", "a.toml", "--workers", "3", "--run-dir", tmp_path).exit_code == 78
    assert calls == [(Path("a.toml"), None, None), (Path("a.toml"), 3, tmp_path)]


@pytest.mark.parametrize("args", [(), ("-c", "a.toml", "--workers", "0"), ("-c", "a.toml", "--workers", "128")])
def test_serve_usage(args: tuple[str, ...]) -> None:
    assert run("serve", *args).exit_code == 2


# ctl


def test_status(port: FakePort, tmp_path: Path) -> None:
    result = run("ctl", "--run-dir", tmp_path, "status")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "sluiceway 9.9  ready  up 2 h 1 min  pid 4711  snapshot 3  /etc/orders.toml"
    table = [line.split() for line in lines]
    assert ["WORKER", "PID", "STATE", "SNAPSHOT", "CLIENTS", "SERVERS", "RESTARTS"] in table
    assert ["1", "-", "dead", "0", "0", "0", "4"] in table
    assert ["orders", "default", "READ_WRITE", "0.0.0.0:6432", "2", "1"] in table
    assert ["orders", "10.0.0.1:5432", "READ_WRITE", "available", "1", "1", "0", "20"] in table
    assert lines[-1] == "! worker 1 was restarted 4 times"


def test_json(port: FakePort, tmp_path: Path) -> None:
    assert json.loads(run("ctl", "--run-dir", tmp_path, "status", "--json").stdout) == STATUS
    assert json.loads(run("ctl", "--run-dir", tmp_path, "pools", "--json").stdout) == []
    assert json.loads(run("ctl", "--run-dir", tmp_path, "drain", "--json").stdout) == {"draining": True, "clients": 2}


def test_tables(port: FakePort, tmp_path: Path) -> None:
    assert run("ctl", "--run-dir", tmp_path, "pools").stdout == "no pools\n"
    header, row = run("ctl", "--run-dir", tmp_path, "clients").stdout.splitlines()
    assert header.split() == ["ID", "USER", "TLS", "STATE", "AGE", "PIN"]
    assert row.split() == ["129", "ann", "yes", "idle", "1", "min", "5", "s", "-"]


def test_a_piped_table_is_not_cut(port: FakePort, tmp_path: Path) -> None:
    port.rows = [{"id": 1, "user": "u" * 60, "database": "d" * 60, "peer": "p" * 60}]
    assert "p" * 60 in run("ctl", "--run-dir", tmp_path, "clients").stdout


def test_verbs(port: FakePort, tmp_path: Path) -> None:
    for command in (
        "drain", "drain --deadline 2.5", "drain --undo", "pause", "pause 10.0.0.1:5432", "resume", "shutdown --fast",
        "shutdown", "kill 129",
    ):  # fmt: skip
        result = run("ctl", "--run-dir", tmp_path, *command.split())
        assert result.exit_code == 0, (command, result.output)
    assert port.asked == [
        ("drain", None), ("drain", 2.5), ("undrain", None), ("pause", None), ("pause", "10.0.0.1:5432"),
        ("resume", None), ("shutdown", True), ("shutdown", False), ("kill", 129),
    ]  # fmt: skip
    assert result.stdout == "client 129 is being disconnected\n"


PINNED = {
    "worker": 0, "id": 129, "proxy": "orders", "endpoint": "default", "user": "ann", "database": "d",
    "application": "report\x1b[2J", "peer": "10.0.0.9:4711", "target": "10.0.0.1:5432", "pid": 99,
    "reasons": ["listen", "cursor"], "pinned_ms": 65_000, "held_ms": 900, "queries": 7, "audits": 3,
    "digest": "listen c",
}  # fmt: skip


def test_pins(port: FakePort, tmp_path: Path) -> None:
    assert run("ctl", "--run-dir", tmp_path, "pins").stdout == "no pins\n"
    assert json.loads(run("ctl", "--run-dir", tmp_path, "pins", "--json").stdout) == []
    port.pinned = [PINNED]
    header, row = run("ctl", "--run-dir", tmp_path, "pins").stdout.splitlines()
    assert header.split() == [
        "ID", "PROXY", "ENDPOINT", "USER", "DATABASE", "APPLICATION", "PEER", "TARGET", "PID", "REASONS", "PINNED",
        "HELD", "QUERIES", "AUDITS", "DIGEST",
    ]  # fmt: skip
    assert "listen, cursor" in row and "1 min 5 s" in row and "900 ms" in row and row.endswith("listen c")
    assert "report\\x1b[2J" in row and "\x1b" not in row
    assert json.loads(run("ctl", "--run-dir", tmp_path, "pins", "--json").stdout) == [PINNED]


def test_explain(port: FakePort, tmp_path: Path) -> None:
    result = run("ctl", "--run-dir", tmp_path, "explain", "SET search_path = 'x'; LISTEN \"a\x1bb\"")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "1  set search_path = $1",
        "     sets search_path: followed by value, and put in front of the next request whichever connection serves it",
        '2  listen "a\\x1bb"',
        "     pins: listen: notifications reach the database connection that listens",
        "Sluiceway: pins by proxy orders",
        f"RDS Proxy: pins: {RdsReason.SETTING.value}; pins: LISTEN",
    ]
    found = json.loads(run("ctl", "--run-dir", tmp_path, "explain", "select 1", "--proxy", "orders", "--json").stdout)
    assert (found["proxy"], found["outcome"], found["rds_proxy"]["pins"]) == ("orders", "free", [])
    assert port.asked[-1] == ("explain", ("select 1", "orders"))


def test_explain_from_stdin(port: FakePort, tmp_path: Path) -> None:
    def piped(data: bytes) -> Result:
        return CliRunner().invoke(main, ["ctl", "--run-dir", str(tmp_path), "explain", "-"], input=data)

    assert piped(b"select '\xff\xc3\xa9'\n;do ''").stdout.splitlines()[-2] == "Sluiceway: pins by proxy orders"
    assert port.asked == [("explain", ("select '\ufffd\u00e9'\n;do ''", None))]
    assert piped(b"").stdout.splitlines()[0] == "as a whole: nothing but blanks and comments"
    long = piped(b"x" * 70_000)
    assert long.exit_code == 2 and "sluiceway lint" in long.stderr
    assert piped(b"select '" + b"x" * 60_000 + b"'").exit_code == 0


def test_explain_of_an_unknown_proxy(port: FakePort, tmp_path: Path) -> None:
    result = run("ctl", "--run-dir", tmp_path, "explain", "select 1", "--proxy", "nowhere")
    assert (result.exit_code, result.stderr) == (1, "no proxy 'nowhere'; known: orders\n")


def test_refused(port: FakePort, tmp_path: Path) -> None:
    result = run("ctl", "--run-dir", tmp_path, "pause", "nowhere:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "there is no target nowhere:1\nknown: 10.0.0.1:5432\n"
    result = run("ctl", "--run-dir", tmp_path, "reload", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reasons"] == [
        'proxy[0].name = "1": must begin with a letter',
        "server.x: unknown",
    ]


def test_nobody_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("ctl", "--run-dir", tmp_path, "status")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "does not exist; see --run-dir" in result.stderr
    monkeypatch.setenv("SLUICEWAY_RUN_DIR", str(tmp_path / "elsewhere"))
    assert "elsewhere/control.sock" in run("ctl", "status").stderr


@pytest.mark.parametrize(
    "args", [("kill",), ("explain",), ("kill", "x"), ("zzz",), ("drain", "--undo", "--deadline", "1")]
)
def test_ctl_usage(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert run("ctl", "--run-dir", tmp_path, *args).exit_code == 2


# help


def test_version() -> None:
    assert run("--version").stdout == f"sluiceway {__version__}\n"


@pytest.mark.parametrize("args", [(), ("serve",), ("check",), ("lint",), ("ctl",), ("ctl", "explain")])
def test_help_has_examples(args: tuple[str, ...]) -> None:
    result = run(*args, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert "sluiceway " in result.stdout


def test_every_command_says_in_one_line_what_it_does() -> None:
    for group in ((), ("ctl",)):
        listed = run(*group, "--help").stdout.partition("Commands:\n")[2]
        assert listed.count("\n") >= 3
        assert "..." not in listed


def test_help_waits_for_nothing_heavy() -> None:
    script = "import sys; from proxy.admin.cli import main; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "click" in loaded
    assert not loaded & {"pydantic", "aiohttp", "rich", "orjson", "uvloop", "prometheus_client", "asyncio"}
