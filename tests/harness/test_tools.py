"""The tools that tests trust: each does what it says, shown against a real PostgreSQL or against each other."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import toml, wire
from tests.harness.chop import ChopProxy
from tests.harness.deaf import DeafListener
from tests.harness.postgres import Postgres
from tests.harness.processes import children, state, wait_until


def test_client_logs_in_with_scram_and_asks(pg: Postgres) -> None:
    with wire.FakeClient(pg.host, pg.port).login(application_name="tools") as client:
        assert client.parameters["application_name"] == "tools"
        assert client.pid > 0
        description, row, complete, ready = client.ask("select 'a' || null, 'b'")
        assert (description.name, row.values, complete.strings) == ("RowDescription", [None, b"b"], ["SELECT 1"])
        assert ready.status == "I"
        client.send(wire.parse("select $1::int"), wire.bind("x"), wire.execute(), wire.sync())
        error = client.expect("ParseComplete", "ErrorResponse", "ReadyForQuery")[1]
        assert error.fields["C"] == "22P02"


def test_client_over_tls(pg_ssl: Postgres) -> None:
    with wire.FakeClient(pg_ssl.host, pg_ssl.port).start_tls().login() as client:
        assert client.ask("select ssl from pg_stat_ssl where pid = pg_backend_pid()")[1].values == [b"t"]


def test_wrong_password_is_a_refusal_with_its_code(pg: Postgres) -> None:
    client = wire.FakeClient(pg.host, pg.port)
    with pytest.raises(ConnectionRefusedError, match="28P01"):
        client.login(password="wrong")


@pytest.mark.parametrize("auth", ["md5", "password", "trust"])
def test_other_ways_in(auth: str) -> None:
    with Postgres(auth=auth) as server, wire.FakeClient(server.host, server.port).login() as client:
        assert client.ask("select 1")[1].values == [b"1"]


def test_server_crashes_and_comes_back_on_the_same_port() -> None:
    with Postgres(settings={"work_mem": "5MB"}) as server:
        server.sql("create table kept as select 1 as n")
        with wire.FakeClient(server.host, server.port).login() as client:
            server.crash()
            with pytest.raises((EOFError, ConnectionError)):
                client.read_until("ReadyForQuery")  # no goodbye but a notice at most
        server.restart({"work_mem": "6MB"})
        assert server.sql("select n from kept", "show work_mem") == "1\n6MB"
        folder = server.folder
    assert not folder.exists()


def test_server_counts_and_cuts_connections(pg: Postgres) -> None:
    with wire.FakeClient(pg.host, pg.port).login() as client:
        assert pg.connections() == 1
        assert pg.kill_connections() == 1
        assert client.read_until("ErrorResponse")[-1].fields["C"] == "57P01"
        assert client.at_end()


def test_fake_server_plays_its_script_and_reports_what_goes_wrong_in_it() -> None:
    def script(connection: wire.ServerConnection) -> None:
        connection.accept_login(server_version="16.0")
        assert connection.read().strings == ["select 1"], "as scripted"
        connection.send(wire.answer("1"))
        connection.expect("Terminate")

    with wire.FakeServer(script) as server, wire.FakeClient(server.host, server.port).login() as client:
        assert client.parameters["server_version"] == "16.0"
        assert [m.name for m in client.ask("select 1")][-1] == "ReadyForQuery"
        client.send(wire.terminate())
        assert client.at_end()
    broken = wire.FakeServer(script)
    broken.__enter__()
    with wire.FakeClient(broken.host, broken.port).login() as client:
        client.send(wire.query("select 2"))
        assert client.at_end()
    with pytest.raises(AssertionError, match="as scripted"):
        broken.__exit__(None)


def test_chop_cuts_into_single_bytes_stalls_and_resets(pg: Postgres) -> None:
    with ChopProxy(pg.host, pg.port) as chop, wire.FakeClient(chop.host, chop.port).login() as client:
        chop.to_client.chunk = 1
        assert client.ask("select 7")[1].values == [b"7"]
        chop.to_client.chunk = 65536
        chop.to_client.stall()
        client.send(wire.query("select 8"))
        assert client.silent_for(0.1)
        chop.to_client.go()
        assert client.read_until("ReadyForQuery")[1].values == [b"8"]
        passed = chop.to_client.passed
        chop.to_client.cut_after = 10
        client.send(wire.query("select 9"))
        with pytest.raises((EOFError, ConnectionError)):
            client.read_until("ReadyForQuery")
        assert chop.to_client.passed == passed + 10
        wait_until(lambda: chop.connections == 0)


def test_deaf_listener_connects_and_says_nothing() -> None:
    with DeafListener() as deaf, wire.FakeClient(deaf.host, deaf.port) as client:
        client.send(wire.startup())
        assert client.silent_for(0.1)


def test_deaf_listener_that_does_not_even_connect() -> None:
    with DeafListener(backlog_full=True) as deaf, pytest.raises(TimeoutError):
        wire.FakeClient(deaf.host, deaf.port, timeout=0.2)


def test_toml_is_what_a_toml_reader_reads() -> None:
    import tomllib

    values = {"text": 'a"b\\c\n', "yes": True, "n": 3, "x": 0.5, "list": ["a", "b"], "absent": None}
    assert tomllib.loads(toml.table("[t]", values)) == {"t": {k: v for k, v in values.items() if v is not None}}


def test_processes_are_told_apart() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in children(os.getpid())
        process.kill()
        wait_until(lambda: state(process.pid) == "Z")
        assert process.pid not in children(os.getpid())
    assert process.returncode == -signal.SIGKILL
    assert state(process.pid) == ""


# conftest.py's own promises, each in a pytest of its own

_CONFTEST = "from tests.conftest import *  # noqa: F403\n"


def _pytest(folder: Path, source: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parents[2]
    (folder / "conftest.py").write_text(_CONFTEST)
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-c", str(root / "pyproject.toml"), "--rootdir", str(folder)]
    command += ["-o", f"cache_dir={folder}/cache", "-o", f"pythonpath={root}", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False, timeout=25)


def test_what_is_left_behind_fails_the_test(tmp_path: Path) -> None:
    source = (
        "import socket, threading\nkept = []\n"
        "def test_socket(): kept.append(socket.socket())\n"
        "def test_clean(): socket.socket().close()\n"
    )
    done = _pytest(tmp_path, source)
    assert "left behind: 1 × socket" in done.stdout, done.stdout + done.stderr
    assert "2 passed, 1 error" in done.stdout


def test_a_crash_cannot_look_like_a_pass(tmp_path: Path) -> None:
    source = "import os, signal\ndef test_good(): pass\ndef test_crash(): os.kill(os.getpid(), signal.SIGKILL)\n"
    assert _pytest(tmp_path, source).returncode == -signal.SIGKILL
    again = _pytest(tmp_path, source, "--lf")
    assert again.returncode == pytest.ExitCode.USAGE_ERROR
    assert "test_crash" in again.stderr
    assert "the last run died in" in _pytest(tmp_path, source, "-k", "good").stdout
    assert _pytest(tmp_path, source, "--lf", "-k", "good").returncode == 0
