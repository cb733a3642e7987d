"""Who is measured: the server itself, PgBouncer, the proxy; each started once, all of them up all the time.

Same server, same pool of 20, transaction pooling, SCRAM for clients and towards the server, logging of connections off.
PgBouncer runs as one process (`so_reuseport` off), so compare its CPU per transaction with one worker of ours.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Protocol

from tests.harness.certs import Certificate
from tests.harness.ports import free_port
from tests.harness.postgres import Postgres, unprivileged_user
from tests.harness.proxy import ProxyUnderTest

POOL = 20
MAX_CLIENTS = 20_000


class Contender(Protocol):
    """Anything that listens and speaks PostgreSQL's protocol."""

    name: str
    host: str
    port: int
    max_clients: int
    has_tls: bool

    def pids(self) -> list[int]:
        """Processes whose CPU and memory are its cost; empty when that is not asked."""
        ...

    def stop(self) -> None: ...


class Direct:
    """No proxy. Its cost is the server's own and is not counted."""

    def __init__(self, pg: Postgres, max_clients: int) -> None:
        self.name, self.host, self.port = "direct", pg.host, pg.port
        self.max_clients, self.has_tls = max_clients, pg.certificate is not None

    def pids(self) -> list[int]:
        return []

    def stop(self) -> None:
        pass


class PgBouncer:
    """A PgBouncer binary, Debian's or another. `secret`: what its auth_file holds, "plain" or "scram"."""

    def __init__(self, binary: Path, pg: Postgres, certificate: Certificate, secret: str = "plain") -> None:
        self.name, self.host, self.port = "pgbouncer", "127.0.0.1", free_port()
        if secret == "scram":
            self.name = "pgbouncer/scram"
        self.max_clients, self.has_tls = MAX_CLIENTS, True
        self._version = _version(binary)
        self._folder = Path(tempfile.mkdtemp(prefix="sluiceway-pgbouncer-"))
        password = pg.password
        if secret == "scram":
            # the server's own SCRAM secret: clients' keys then serve towards the server too
            password = pg.sql(f"select rolpassword from pg_authid where rolname = '{pg.user}'")
        (self._folder / "users").write_text(f'"{pg.user}" "{password}"\n')
        shutil.copy(certificate.cert, self._folder / "server.crt")
        shutil.copy(certificate.key, self._folder / "server.key")
        (self._folder / "pgbouncer.ini").write_text(self._ini(pg))
        user = unprivileged_user()
        if user:  # it refuses to run as root
            for path in [self._folder, *self._folder.iterdir()]:
                os.chown(path, user.pw_uid, user.pw_gid)
        self._log = self._folder / "log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(binary), str(self._folder / "pgbouncer.ini")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user.pw_uid if user else None,
                group=user.pw_gid if user else None,
                extra_groups=[] if user else None,
            )
        _await_port(self.port, self._process, self._log)

    def _ini(self, pg: Postgres) -> str:
        settings: dict[str, object] = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "pool_mode": "transaction",
            "default_pool_size": POOL,
            "max_client_conn": MAX_CLIENTS,
            "auth_type": "scram-sha-256",
            "auth_file": self._folder / "users",
            "client_tls_sslmode": "allow",
            "client_tls_cert_file": self._folder / "server.crt",
            "client_tls_key_file": self._folder / "server.key",
            "server_tls_sslmode": "disable",
            "so_reuseport": 0,
            "listen_backlog": 1024,
            "log_connections": 0,
            "log_disconnections": 0,
            "log_stats": 0,
            "ignore_startup_parameters": "extra_float_digits",
        }
        if self._version >= (1, 21):
            settings["max_prepared_statements"] = 200
        lines = ["[databases]", f"{pg.database} = host={pg.host} port={pg.port}", "[pgbouncer]"]
        return "\n".join(lines + [f"{key} = {value}" for key, value in settings.items()]) + "\n"

    def pids(self) -> list[int]:
        return [self._process.pid]

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)  # older ones: at once; newer ones: when all clients have left
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


class Sluiceway:
    """The proxy from this tree, with `workers` workers."""

    def __init__(self, pg: Postgres, certificate: Certificate, workers: int) -> None:
        self.name = f"sluiceway×{workers}"
        self._proxy = ProxyUnderTest(
            pg,
            workers=workers,
            tls=certificate,
            proxy={"max_client_connections": MAX_CLIENTS, "max_half_open_logins": 2000},
            target_group={"max_connections": POOL, "connection_borrow_timeout": 60},
            alone=False,
        )
        self.host, self.port = self._proxy.host, self._proxy.port
        self.max_clients, self.has_tls = MAX_CLIENTS, True
        self._proxy.start()

    def pids(self) -> list[int]:
        return [self._proxy.pid, *self._proxy.descendants()]

    def stop(self) -> None:
        self._proxy.__exit__(None)


def _version(binary: Path) -> tuple[int, ...]:
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", told)
    return tuple(int(word) for word in found.groups()) if found else ()


def _await_port(port: int, process: "subprocess.Popen[bytes]", log: Path, limit_s: float = 10.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"{process.args!r} did not start:\n{log.read_text()}") from None
            time.sleep(0.02)
