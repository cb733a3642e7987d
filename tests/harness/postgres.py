"""A private PostgreSQL server on loopback, in a temporary folder, from whatever PostgreSQL this machine has.

Used by tests, `make demo` and `make bench`. Knows nothing of the proxy. As root the server runs as an unprivileged
user, because PostgreSQL refuses root. The server dies with the process that started it, however that one ends.

Accounts: superuser postgres/postgres, role app/apppw (may create databases), database `test` owned by app.
"""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any, Self

from tests.harness.certs import Certificate, self_signed
from tests.harness.ports import free_port
from tests.harness.processes import die_with_parent

_START_LIMIT_S = 30.0
DEFAULTS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "off",  # a crash of PostgreSQL loses nothing by that, only one of the machine does
    "full_page_writes": "off",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
    "logging_collector": "off",
    "log_destination": "stderr",
    "cluster_name": "sluiceway-test",
}


def bin_dir() -> Path:
    """The newest PostgreSQL server installed here ($PG_BIN overrides)."""
    if chosen := os.environ.get("PG_BIN"):
        return Path(chosen)
    found = [Path(p).parent for p in glob("/usr/lib/postgresql/*/bin/initdb") + glob("/usr/pgsql-*/bin/initdb")]
    if found:
        return max(found, key=lambda p: int("".join(re.findall(r"\d+", p.parent.name)) or 0))
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    raise RuntimeError("no PostgreSQL server found: run `make setup`, or set PG_BIN to the folder that holds initdb")


def client_tool(name: str) -> str:
    """pgbench, psql …: beside the server, or on PATH (Debian keeps pgbench's wrapper in /usr/bin)."""
    beside = bin_dir() / name
    if beside.exists():
        return str(beside)
    if on_path := shutil.which(name):
        return on_path
    raise RuntimeError(f"{name} not found beside {bin_dir()} nor on PATH: run `make setup`")


def environment() -> dict[str, str]:
    """For PostgreSQL's programs: what is preloaded into us, a sanitizer, is not for them. They hang under it."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("running as root, and neither the user postgres nor nobody exists to run PostgreSQL as")


class Postgres:
    """One server. `with Postgres(ssl=True) as pg: pg.dsn()`; or start() and stop()."""

    def __init__(
        self,
        *,
        port: int | None = None,
        ssl: bool | Certificate = False,
        auth: str = "scram-sha-256",
        settings: Mapping[str, str] | None = None,
        hba: list[str] | None = None,
        bin: Path | None = None,  # noqa: A002 - as the attribute is called
    ) -> None:
        """`auth`: scram-sha-256, md5, password, trust. `hba`: whole lines put in front of the usual ones. `bin`: where
        another server's programs are."""
        self.host, self.port = "127.0.0.1", port or free_port()
        self.auth = auth
        self.superuser, self.superuser_password = "postgres", "postgres"
        self.user, self.password, self.database = "app", "apppw", "test"
        self.bin = bin or bin_dir()
        self.folder = Path(tempfile.mkdtemp(prefix="sluiceway-pg-"))
        self.log = self.folder / "log"
        self.data = self.folder / "data"
        self.certificate: Certificate | None = None
        self._hba = hba or []
        self._settings = {**DEFAULTS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        self._settings |= settings or {}
        self._owner = unprivileged_user()
        self._process: subprocess.Popen[bytes] | None = None
        if ssl:
            self.certificate = ssl if isinstance(ssl, Certificate) else self_signed(self.folder, "server")
            # a copy of our own: PostgreSQL wants to own its key, with mode 0600
            cert, key = self.folder / "used.crt", self.folder / "used.key"
            shutil.copy(self.certificate.cert, cert)
            shutil.copy(self.certificate.key, key)
            key.chmod(0o600)
            self._settings |= {"ssl": "on", "ssl_cert_file": str(cert), "ssl_key_file": str(key)}

    # life

    def start(self) -> Self:
        """Makes the cluster at the first call, starts the server, returns when it accepts connections."""
        fresh = not self.data.exists()
        if fresh:
            self._init()
        self._launch()
        if fresh:
            self.sql(
                f"ALTER USER postgres PASSWORD '{self.superuser_password}'",
                f"CREATE ROLE app LOGIN PASSWORD '{self.password}' CREATEDB",
                "CREATE DATABASE test OWNER app",
                database="postgres",
            )
        return self

    def stop(self) -> None:
        """Fast shutdown; the folder goes too."""
        self._end(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def crash(self) -> None:
        """Immediate shutdown: every connection is cut, the next start recovers. `restart()` brings it back."""
        self._end(signal.SIGQUIT)

    def restart(self, settings: Mapping[str, str] | None = None) -> None:
        """Fast shutdown if it runs, then start again on the same port, with `settings` changed."""
        self._end(signal.SIGINT)
        self._settings |= settings or {}
        self._launch()

    def reload(self) -> None:
        assert self._process is not None, "not running"
        self._process.send_signal(signal.SIGHUP)

    def suspend(self) -> None:
        """Stops the postmaster (not its backends): new connections are accepted by the kernel and never answered."""
        assert self._process is not None, "not running"
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None, "not running"
        self._process.send_signal(signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()

    # use

    def dsn(
        self, *, user: str | None = None, password: str | None = None, database: str | None = None, **more: object
    ) -> str:
        """libpq keywords for a direct connection, as role app unless told otherwise."""
        user = user or self.user
        words: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "user": user,
            "password": password or (self.superuser_password if user == self.superuser else self.password),
            "dbname": database or self.database,
            **more,
        }
        return " ".join(f"{key}={value}" for key, value in words.items())

    def sql(self, *statements: str, database: str | None = None) -> str:
        """Runs `statements` as superuser over the Unix socket, each in its own transaction; psql's unaligned output."""
        command = [client_tool("psql"), "-qAtX", "-v", "ON_ERROR_STOP=1", "-h", str(self.folder), "-p", str(self.port)]
        command += ["-U", self.superuser, "-d", database or self.database]
        for statement in statements:
            command += ["-c", statement]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=environment()
        )
        if done.returncode:
            raise RuntimeError(f"psql: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")

    def connections(self, user: str = "app") -> int:
        """Client connections `user` holds at this moment."""
        mine = f"usename = '{user}' and backend_type = 'client backend'"
        return int(self.sql(f"select count(*) from pg_stat_activity where {mine}"))

    def kill_connections(self, user: str = "app") -> int:
        """pg_terminate_backend for all of `user`'s connections; how many there were."""
        return int(self.sql(f"select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{user}'"))

    @property
    def version(self) -> int:
        """Major version."""
        command = [str(self.bin / "postgres"), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment())
        found = re.search(r"(\d+)", done.stdout)
        assert found, done.stdout
        return int(found.group(1))

    # inside

    def _init(self) -> None:
        password_file = self.folder / "pw"
        password_file.write_text(self.superuser_password)
        self._give_away()
        self._run(
            str(self.bin / "initdb"), "-D", str(self.data), "-U", self.superuser, f"--pwfile={password_file}",
            "-A", self.auth, "-E", "UTF8", "--locale=C.UTF-8", "--no-sync",
        )  # fmt: skip
        lines = [*self._hba, "local all all trust", "local replication all trust"]
        for address in ("127.0.0.1/32", "::1/128"):
            lines += [f"host all all {address} {self.auth}", f"host replication all {address} {self.auth}"]
        (self.data / "pg_hba.conf").write_text("\n".join(lines) + "\n")
        self._settings.setdefault("password_encryption", "md5" if self.auth == "md5" else "scram-sha-256")

    def _give_away(self) -> None:
        if self._owner:
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _run(self, *command: str) -> None:
        quiet: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
        done = subprocess.run(command, check=False, cwd=self.folder, **quiet, **self._as_owner())
        if done.returncode:
            raise RuntimeError(f"{Path(command[0]).name}: {done.stderr}")

    def _as_owner(self) -> dict[str, Any]:
        kind: dict[str, Any] = {"env": environment()}
        if self._owner:
            kind |= {"user": self._owner.pw_uid, "group": self._owner.pw_gid, "extra_groups": []}
        return kind

    def _launch(self) -> None:
        assert self._process is None, "already running"
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        command = [str(self.bin / "postgres"), "-D", str(self.data)]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            # a session of its own: Ctrl-C in the terminal is for us, and we stop the server in our own order
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGINT),  # noqa: PLW1509 - one prctl, no lock taken
                **self._as_owner(),
            )  # fmt: skip
        deadline = time.monotonic() + _START_LIMIT_S
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._end(signal.SIGQUIT)
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        """The postmaster writes its state into the eighth line of its pid file."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready"

    def _end(self, sig: int) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(signal.SIGCONT)  # in case it is suspended
        process.send_signal(sig)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(timeout=10)
