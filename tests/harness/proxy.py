"""The proxy itself under test: a process of its own, started from a configuration file, stopped and held to account.

    with ProxyUnderTest(pg, target_group={"max_connections": 5}) as proxy:
        psycopg.connect(proxy.dsn())

On the way out it must stop with exit code 0, leave no process behind and no connection on the server.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import proxy as package
from tests.harness import toml
from tests.harness.certs import Certificate
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres
from tests.harness.processes import children, die_with_parent, state, wait_until

_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 20.0


class ProxyUnderTest:
    """One proxy, one endpoint "default" (more through `endpoints`), in front of `pg`."""

    def __init__(
        self,
        pg: Postgres | None = None,
        *,
        workers: int = 2,
        users: Sequence[tuple[str, str]] = (("app", "apppw"),),
        tls: Certificate | None = None,
        proxy: Mapping[str, object] | None = None,
        proxy_tls: Mapping[str, object] | None = None,
        auth: Mapping[str, object] | None = None,
        target_group: Mapping[str, object] | None = None,
        endpoints: Sequence[Mapping[str, object]] | None = None,
        server: Mapping[str, object] | None = None,
        config: str | None = None,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        alone: bool = True,
    ) -> None:
        """Mappings are laid over the defaults, table by table. `config` replaces the whole file; {port},
        {metrics_port}, {run_dir}, {target} and {secret} in it are filled in.
        `alone`: nobody else connects to `pg` as this user, so at the end none of its connections may be left."""
        self.pg = pg
        self.host, self.port = "127.0.0.1", free_port()
        self.metrics_port = free_port()
        self.user, self.password, self.database = users[0][0], users[0][1], "test"
        self.folder = Path(tempfile.mkdtemp(prefix="sluiceway-proxy-"))
        self.run_dir = self.folder / "run"
        self.config_path = self.folder / "sluiceway.toml"
        self.log_path, self.out_path = self.folder / "log", self.folder / "out"
        self.tls = tls
        self._alone = alone
        self._arguments, self._env = list(arguments), dict(env or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._secrets = [self._write_secret(name, password) for name, password in users]
        if config is not None:
            target = f"{pg.host}:{pg.port}" if pg else ""
            names = {
                "port": self.port, "metrics_port": self.metrics_port, "run_dir": self.run_dir,
                "target": target, "secret": self._secrets[0],
            }  # fmt: skip
            for name, text in names.items():
                config = config.replace("{" + name + "}", str(text))
            self.config_path.write_text(config)
            return
        tables = [
            toml.table(
                "[server]",
                {
                    "workers": workers,
                    "run_dir": self.run_dir,
                    "metrics_listen": f"127.0.0.1:{self.metrics_port}",
                    "drain_timeout": 5,
                    **(server or {}),
                },
            ),
            toml.table(
                "[[proxy]]", {"name": "test", "engine_family": "POSTGRESQL", "require_tls": False, **(proxy or {})}
            ),
        ]
        for secret in self._secrets:
            words = {"secret": f"file:{secret}", "client_password_auth_type": "POSTGRES_SCRAM_SHA_256", **(auth or {})}
            tables.append(toml.table("[[proxy.auth]]", words))
        if tls or proxy_tls:
            files = {"mode": "allow", "cert_file": tls.cert, "key_file": tls.key} if tls else {}
            tables.append(toml.table("[proxy.tls]", {**files, **(proxy_tls or {})}))
        group: dict[str, object] = {
            "targets": [f"{pg.host}:{pg.port}"] if pg else [],
            "sslmode": "disable",
            "max_connections": 20,
            "connection_borrow_timeout": 10,
            **(target_group or {}),
        }
        tables.append(toml.table("[proxy.target_group]", group))
        standard = {"name": "default", "target_role": "READ_WRITE", "listen": f"{self.host}:{self.port}"}
        for endpoint in endpoints if endpoints is not None else [{}]:
            tables.append(toml.table("[[proxy.endpoint]]", {**standard, **endpoint}))
        self.config_path.write_text("\n".join(tables))

    def _write_secret(self, user: str, password: str) -> Path:
        path = self.folder / f"{user}.json"
        path.write_text(json.dumps({"username": user, "password": password}))
        path.chmod(0o600)
        return path

    # life

    @property
    def command(self) -> list[str]:
        """The command line of the very build these tests imported (-P: the current folder holds another)."""
        return [sys.executable, "-P", "-c", "from proxy.admin.cli import main; main()"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1]), **self._env}

    def start(self) -> Self:
        """Returns when every listener is open: the proxy says so in one line on its standard output."""
        command = [*self.command, "serve", "-c", str(self.config_path), *self._arguments]
        with self.log_path.open("ab") as log, self.out_path.open("wb") as out:
            # a session of its own: Ctrl-C is for whoever runs this, who then stops the proxy in order
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=log, env=self.environment, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - one prctl, no lock taken
            )  # fmt: skip
        deadline = time.monotonic() + _START_LIMIT_S
        while b"\n" not in self.out_path.read_bytes():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.kill()
                told = "took too long" if code is None else f"ended with {code}"
                raise RuntimeError(f"the proxy {told} at its start:\n{self.out_path.read_text()}{self.log()}")
            time.sleep(0.01)
        return self

    def stop(self, sig: int = signal.SIGTERM, *, limit_s: float = _STOP_LIMIT_S) -> None:
        """A clean stop: exit code 0 within `limit_s`, no process left, no connection left on the server."""
        assert self._process is not None, "not running"
        process, mine = self._process, self.descendants()
        try:
            process.send_signal(sig)
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the proxy did not stop within {limit_s} s:\n{self.log()}") from None
        self._process = None
        left = [pid for pid in mine if state(pid) not in {"Z", ""}]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        assert code == 0, f"the proxy ended with {code}:\n{self.log()}"
        assert not left, f"processes {left} outlived the proxy:\n{self.log()}"
        if self.pg is not None and self._alone:
            wait_until(lambda: self.server_connections() == 0, what=f"no server connection left; log:\n{self.log()}")

    def kill(self) -> None:
        """SIGKILL to all of it; for a test that has already failed, and to clean up."""
        if self._process is not None:
            for pid in [*self.descendants(), self._process.pid]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._process.wait()
            self._process = None

    def signal(self, sig: int) -> None:
        os.kill(self.pid, sig)

    def wait(self, limit_s: float = _STOP_LIMIT_S) -> int:
        """The exit code, for a proxy that ends by itself."""
        assert self._process is not None, "not running"
        code = self._process.wait(limit_s)
        self._process = None
        return code

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self._remove()
            raise

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._process is not None:
                if kind is None:
                    self.stop()
                else:
                    sys.stderr.write(f"--- the proxy's log\n{self.log()}\n")
                    self.stop(signal.SIGINT) if self._process.poll() is None else self.kill()
        finally:
            self.kill()
            self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    # looking in

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None, "not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def descendants(self) -> list[int]:
        found, todo = list[int](), [self.pid]
        while todo:
            below = children(todo.pop())
            found += below
            todo += below
        return found

    def worker_pids(self) -> list[int]:
        """By worker number, as the control socket tells."""
        return [int(worker["pid"]) for worker in self.ctl("status")["workers"]]

    def controller_pid(self) -> int:
        return int(self.ctl("status")["controller"]["pid"])

    def ctl(self, *words: str) -> Any:
        """`sluiceway ctl WORDS --json`, parsed; RuntimeError with its message when it fails."""
        command = [*self.command, "ctl", "--run-dir", str(self.run_dir), *words, "--json"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=self.environment
        )
        if done.returncode:
            raise RuntimeError(f"ctl {' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return json.loads(done.stdout)

    def metrics(self) -> dict[str, float]:
        """`/metrics`, every sample by its name with labels."""
        import urllib.request

        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as response:
            text = response.read().decode()
        pairs = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
        return {name: float(number) for name, _, number in pairs}

    def server_connections(self) -> int:
        """What the proxy holds on the server (its first user's; nobody else may use that role meanwhile)."""
        assert self.pg is not None
        return self.pg.connections(self.user)

    def log(self, most: int = 8000) -> str:
        """The last `most` characters of its log; 0 for all of it."""
        return self.log_path.read_text(errors="replace")[-most:] if self.log_path.exists() else ""

    def wait_for_log(self, text: str, limit_s: float = 5.0) -> None:
        wait_until(lambda: text in self.log(0), limit_s, f"{text!r} in the log:\n{self.log()}")

    def dsn(self, *, user: str = "", password: str = "", database: str = "", **more: object) -> str:
        """libpq keywords for a connection through the proxy."""
        words: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "user": user or self.user,
            "password": password or self.password,
            "dbname": database or self.database,
            "sslmode": "disable",
            **more,
        }
        return " ".join(f"{key}={value}" for key, value in words.items())
