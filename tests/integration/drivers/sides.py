"""One script, several ways to the same database: direct and through the proxy. What it says must be the same.

A script is a function of `(say, side)`: it connects to `side` and says what it sees, line by line. `Sides.same` runs it
direct and through a proxy and compares. Every run begins with an empty database. The only legitimate differences are a
few numbers the two connections cannot share; `_NUMBERS` lists them.

Two proxies: *wide* has 20 server connections and TLS to the database too; *tight* has one worker and two connections;
while a script runs there, others with the same user, database and settings run their own transactions on the same ones.
"""

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Any

from tests.harness.postgres import Postgres, client_tool
from tests.harness.processes import wait_until

APPLICATION = "script"  # the noise has it too: sessions with the same settings share their server connections
Say = Callable[..., None]
Script = Callable[[Say, "Side"], None]

# process ids, and the ports and folders in which the sides differ
_NUMBERS = [
    (re.compile(r"\bPID \d+"), "PID n"),
    (re.compile(r"\b[Pp]rocess \d+"), "process n"),
    (re.compile(r'\bport "?\d+"?'), "port n"),
    (re.compile(r"\b(lo_import|lo_unlink|large object|metadata with OID) \d+"), r"\1 n"),
    (re.compile(r"\bpg_temp_\d+"), "pg_temp_n"),
    (re.compile(r"\bpg_toast_temp_\d+"), "pg_toast_temp_n"),
]


@dataclass(frozen=True)
class Side:
    """An address of the database, always with TLS and a checked certificate."""

    name: str
    host: str
    port: int
    ca: Path
    user: str = "app"
    password: str = "apppw"
    database: str = "test"
    programs: Path | None = None  # the server's own psql, pg_dump …, where it is not this machine's

    def tool(self, name: str) -> str:
        """psql, pg_dump …: of the server's version, as pg_dump must be."""
        beside = self.programs / name if self.programs else None
        return str(beside) if beside is not None and beside.exists() else client_tool(name)

    def words(self, **more: object) -> dict[str, Any]:
        """libpq's keywords."""
        return {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            "sslmode": "verify-full",
            "sslrootcert": str(self.ca),
            "application_name": APPLICATION,
            "connect_timeout": 20,
        } | more

    def dsn(self, **more: object) -> str:
        return " ".join(f"{key}='{value}'" for key, value in self.words(**more).items())

    @property
    def environment(self) -> dict[str, str]:
        """For programs: nothing of the caller's own PG settings."""
        mine = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        mine |= {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": "verify-full",
            "PGSSLROOTCERT": str(self.ca),
            "PGAPPNAME": APPLICATION,
        }
        return mine


def run(side: Side, *command: str, stdin: str = "", limit_s: float = 25.0) -> subprocess.CompletedProcess[str]:
    """A client program with `side` in its environment."""
    return subprocess.run(
        command, check=False, input=stdin, capture_output=True, text=True, env=side.environment, timeout=limit_s
    )


def normal(line: str) -> str:
    for pattern, instead in _NUMBERS:
        line = pattern.sub(instead, line)
    return line


def transcript(script: Script, side: Side) -> list[str]:
    """What the script says, and how it ended if it did not mean to."""
    said: list[str] = []

    def say(*words: object) -> None:
        said.extend(normal(" ".join(map(str, words))).splitlines() or [""])

    script(say, side)
    return said


_CALM = r"""
begin;
set local statement_timeout = '17s';
select :client_id as own \gset
select g, g * :client_id from generate_series(1, 40) g;
select 1 / (count(*) filter (where current_setting('statement_timeout') = '17s')) from pg_class where oid = 1259;
commit;
select 1 / (case when current_setting('search_path') = '"$user", public' then 1 else 0 end);
"""
_RUDE = r"""
set search_path = pg_catalog;
set work_mem = '1234kB';
prepare p0 as select 'not yours';
create temporary table mine (n int);
select count(*) from mine;
"""


def _catches(pid: int, sig: int) -> bool:
    """Has the process a handler for that signal yet? (True when it has gone: its exit code will tell.)"""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return caught is None or bool(int(caught[1], 16) >> (sig - 1) & 1)


@contextmanager
def noise(side: Side, folder: Path) -> Iterator[None]:
    """Other clients meanwhile: four whose transactions share the connections, one that leaves state behind."""
    calm, rude = folder / "calm.sql", folder / "rude.sql"
    calm.write_text(_CALM)
    rude.write_text(_RUDE)
    pgbench = [side.tool("pgbench"), "-n", "-T", "600"]
    # a thread for each: pgbench prepares with a call that blocks its thread, and with it the other transactions there
    commands = [
        [*pgbench, "-M", "prepared", "-c", "4", "-j", "4", "-R", "80", "-f", str(calm)],
        [*pgbench, "-C", "-c", "1", "-R", "10", "-f", str(rude)],
    ]
    running = [
        subprocess.Popen(each, env=side.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for each in commands
    ]
    try:
        for process in running:
            wait_until(lambda pid=process.pid: _catches(pid, signal.SIGALRM), 10, "pgbench runs")  # type: ignore[misc]
        yield
    finally:
        ends = []
        for process in running:
            process.send_signal(signal.SIGALRM)  # its own "time is over": it finishes what it does and reports
        for process in running:
            try:
                ends.append(process.communicate(timeout=25)[0])
            except subprocess.TimeoutExpired:
                process.kill()
                ends.append(f"pgbench did not end\n{process.communicate()[0]}")
    for process, told in zip(running, ends, strict=True):
        assert process.returncode == 0, f"the noise beside the script met an error ({process.returncode}):\n{told}"


class Sides:
    """The database under comparison: `direct`, and one proxy in front of it."""

    def __init__(
        self, pg: Postgres, direct: Side, through: Side, said: dict[str, list[str]], folder: Path | None
    ) -> None:
        """`said`: what scripts said on the direct side before. `folder`: make noise, with files here."""
        self.pg, self.direct, self.through = pg, direct, through
        self._said, self._folder = said, folder

    def same(self, script: Script, *, least: int = 2) -> list[str]:
        """Runs it on both sides; the transcript. `least` lines, so that a script that says nothing proves nothing."""
        name = f"{script.__module__}.{script.__qualname__}"
        if name not in self._said:
            self.clear()
            self._said[name] = transcript(script, self.direct)
        expected = self._said[name]
        assert len(expected) >= least, f"{name} said too little: {expected}"
        self.clear()
        if self._folder is None:
            found = transcript(script, self.through)
        else:
            with noise(self.through, self._folder):
                found = transcript(script, self.through)
        if found != expected:
            told = unified_diff(expected, found, "direct", self.through.name, n=2, lineterm="")
            raise AssertionError(f"{name} saw something else through the proxy:\n{lines(list(told))}")
        return found

    def clear(self) -> None:
        """Whatever a script left behind (objects, large objects, prepared transactions) is gone."""
        for gid in self.pg.sql("select gid from pg_prepared_xacts where database = 'test'").split():
            self.pg.sql(f"rollback prepared '{gid}'")
        self.pg.sql("set lock_timeout = '10s'; set client_min_messages = error; drop owned by app cascade")

    def settled(self, what: Callable[[], bool], why: str) -> None:
        wait_until(what, 5.0, why)


def lines(rows: Sequence[object]) -> str:
    return "\n".join(map(str, rows))
