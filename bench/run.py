"""make bench: the proxy, PgBouncer and a direct connection, side by side on one private server.

Everyone is up all the time and runs each load in turn (first to last, then last to first), so that whatever drifts on
this machine hits all of them alike. Numbers of different runs do not compare; ratios within one do.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from bench.contenders import Contender, Direct, PgBouncer, Sluiceway
from bench.idle import bytes_per_client
from bench.load import Load, LoadFailed, Sample, run
from bench.report import Result, show, show_memory
from tests.harness.certs import self_signed
from tests.harness.postgres import Postgres

SERVER_CONNECTIONS = 300
BIG_ROWS = 10_000


def loads(quick: bool) -> list[Load]:
    clients = [16, 100] if quick else [1, 16, 100, 1000]
    modes = ["simple", "prepared"] if quick else ["simple", "extended", "prepared"]
    found = [Load(f"{mode}, {n}", "select 1", n, mode) for mode in modes for n in clients]
    found += [Load(f"TLS simple, {n}", "select 1", n, tls=True) for n in ([100] if quick else [16, 100])]
    found += settings_loads()
    found += [Load("login, 16", "select 1", 16, reconnect=True)]
    if not quick:
        found += [Load("TLS login, 16", "select 1", 16, reconnect=True, tls=True)]
    found += [Load("10 MB result, 4", "select line from big", 4)]
    return found


def settings_loads() -> list[Load]:
    """What a SET costs: beside a second statement that is none, one that changes nothing, and one that nobody else has.

    With the last, every request meets a server connection with somebody else's setting (a peer may not even notice).
    """
    return [
        Load("2 statements, 16", "select 2;\nselect 1", 16),
        Load("needless SET, 16", "set statement_timeout = 60000;\nselect 1", 16),
        Load("own SET, 16", "\\set own random(60000, 1000000000)\nset statement_timeout = :own;\nselect 1", 16),
    ]


def prepare(pg: Postgres) -> None:
    """A table whose rows do not compress, as text of 1 KiB each."""
    pg.sql(
        f"create table big as select (select string_agg(md5((n * 100 + i)::text), '') from generate_series(1, 32) i) "
        f"as line from generate_series(1, {BIG_ROWS}) n",
        "alter table big owner to app",
        "vacuum analyze big",
    )


def measure(load: Load, contenders: list[Contender], pg: Postgres, rounds: int, seconds: float, say: Console) -> Result:
    result = Result(load)
    # the server alone has no room for a thousand clients
    able = [c for c in contenders if c.max_clients >= load.clients and (c.has_tls or not load.tls)]
    for number in range(rounds):
        one: dict[str, Sample | None] = {c.name: None for c in able}
        for c in able if number % 2 == 0 else reversed(able):
            if c.name in result.failures:
                continue
            dsn = f"host={c.host} port={c.port} user={pg.user} dbname={pg.database}"
            try:
                sample = run(load, dsn, pg.password, c.pids(), seconds)
            except LoadFailed as e:
                result.failures[c.name] = str(e)
                say.print(f"[red]{load.name}: {c.name}: {escape(str(e))}")
                continue
            one[c.name] = sample
            say.print(f"[dim]{load.name}, round {number + 1}: {c.name}: {sample.tps:,.0f} tps, {sample.cpu_us:.1f} µs")
        result.rounds.append(one)
    return result


def find_peer(given: str | None) -> Path | None:
    found = given or shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None


def describe(peer: Path | None, pg: Postgres) -> dict[str, str]:
    version = "none: apt install pgbouncer, or --peer PATH"
    if peer:
        version = subprocess.run([peer, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "machine": f"{os.cpu_count()} × {cpu.group(1) if cpu else platform.machine()}, Linux {platform.release()}",
        "server": f"PostgreSQL {pg.version}",
        "peer": version,
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer loads, two rounds of 2 s: about 3 minutes")
    parser.add_argument("--peer", metavar="PATH", help="a PgBouncer binary (default: the one installed)")
    parser.add_argument("--peer-secret", choices=["plain", "scram"], default="plain", help="what its auth_file holds")
    parser.add_argument("--only", metavar="REGEX", default="", help='loads by name, for example "simple, 1"')
    parser.add_argument("--who", metavar="REGEX", default="", help="contenders by name")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="our worker counts (default: 1 2)")
    parser.add_argument("--rounds", type=int, help="default: 3, quick 2")
    parser.add_argument("--seconds", type=float, help="measured, for each run; default: 3, quick 2")
    parser.add_argument("--idle-clients", type=int, default=2000, help="for memory per client; 0: leave out")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here (- for standard output)")
    return parser.parse_args()


def main() -> int:
    args = arguments()
    say = Console(stderr=args.json == "-", highlight=False, width=None if sys.stdout.isatty() else 120)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rounds, seconds = args.rounds or (2 if args.quick else 3), args.seconds or (2.0 if args.quick else 3.0)
    wanted = [load for load in loads(args.quick) if re.search(args.only, load.name)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sluiceway-bench-"))
        settings = {"max_connections": str(SERVER_CONNECTIONS), "jit": "off"}
        pg = stack.enter_context(Postgres(ssl=True, settings=settings))
        prepare(pg)
        certificate = self_signed(Path(folder))
        peer = find_peer(args.peer)
        facts = describe(peer, pg)
        for name, text in facts.items():
            say.print(f"{name}: {text}")
        contenders: list[Contender] = []
        peer_name = f"pgbouncer{'/scram' if args.peer_secret == 'scram' else ''}"

        def chosen(name: str) -> bool:
            return bool(re.search(args.who, name))

        if chosen("direct"):
            contenders.append(Direct(pg, SERVER_CONNECTIONS - 100))
        if peer and chosen(peer_name):
            contenders.append(PgBouncer(peer, pg, certificate, args.peer_secret))
            stack.callback(contenders[-1].stop)
        for workers in args.workers:
            if chosen(f"sluiceway×{workers}"):
                contenders.append(Sluiceway(pg, certificate, workers))
                stack.callback(contenders[-1].stop)
        memory: dict[str, float] = {}
        if args.idle_clients:  # first: later, clients would live in what earlier ones have left behind
            proxies = [c for c in contenders if c.pids()]
            memory = {
                c.name: bytes_per_client(c, args.idle_clients, pg.user, pg.password, pg.database) for c in proxies
            }
        results = [measure(load, contenders, pg, rounds, seconds, say) for load in wanted]
        if results:
            show(results, peer_name, say)
        if memory:
            show_memory(memory, peer_name, args.idle_clients, say)
    if args.json:
        text = json.dumps(
            {
                **facts,
                "rounds": rounds,
                "seconds": seconds,
                "loads": [r.as_dict(peer_name) for r in results],
                "idle_client_bytes": memory,
            },
            indent=1,
        )
        if args.json == "-":
            sys.stdout.write(text + "\n")
        else:
            Path(args.json).write_text(text)
    return 1 if any(r.failures for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
