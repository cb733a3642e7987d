"""make demo: the proxy's main job on a private PostgreSQL, watched as it runs.

A server, a certificate and a configuration are made in a temporary folder; the proxy runs with 2 workers, TLS, SCRAM
and a ceiling of 20 database connections; pgbench's TPC-B runs through it with 100 clients. Everything is gone at the
end, also after Ctrl-C.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from tests.harness.certs import self_signed
from tests.harness.postgres import Postgres, client_tool
from tests.harness.proxy import ProxyUnderTest

CONFIG = """\
[server]
workers = 2
run_dir = "{run_dir}"
metrics_listen = "127.0.0.1:{metrics_port}"

[[proxy]]
name = "demo"
engine_family = "POSTGRESQL"

  [proxy.tls]
  mode = "allow"
  cert_file = "{cert}"
  key_file = "{key}"

  [[proxy.auth]]
  secret = "file:{secret}"
  client_password_auth_type = "POSTGRES_SCRAM_SHA_256"

  [proxy.target_group]
  targets = ["{target}"]
  max_connections = {limit}
  connection_borrow_timeout = 30

  [[proxy.endpoint]]
  name = "default"
  target_role = "READ_WRITE"
  listen = "127.0.0.1:{port}"
"""
BORROW = "sluiceway_database_connections_borrow_latency_seconds_bucket"
WIDTHS = {"second": 6, "tps": 8, "clients": 8, "server connections": 19, "waiting": 8, "borrow p50": 11, "p99": 9}

Metrics = dict[str, float]


def total(metrics: Metrics, name: str) -> float:
    """Sum of a family over all its labels."""
    return sum(value for sample, value in metrics.items() if sample.split("{")[0] == name)


def percentile(before: Metrics, after: Metrics, share: float) -> float | None:
    """Upper bound, in seconds, of the borrow latency of `share` of what happened between two scrapes."""
    buckets: dict[float, float] = {}
    for sample, value in after.items():
        bound = re.search(r'le="([^"]+)"', sample)
        if sample.startswith(BORROW) and bound:
            size = float(bound.group(1))
            buckets[size] = buckets.get(size, 0) + value - before.get(sample, 0)
    count = max(buckets.values(), default=0)
    if not count:
        return None
    return next((bound for bound, seen in sorted(buckets.items()) if seen >= share * count), None)


def in_words(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.1f} ms"


def line(*cells: object) -> str:
    return "".join(str(cell).rjust(width) for cell, width in zip(cells, WIDTHS.values(), strict=True))


def watch(proxy: ProxyUnderTest, pgbench: "subprocess.Popen[str]", say: Console) -> float:
    """A line per second until pgbench ends; the most database connections ever seen."""
    before = proxy.metrics()
    begin = last = time.monotonic()
    most = 0.0
    say.print(line(*WIDTHS), style="bold")
    while pgbench.poll() is None:
        time.sleep(max(0.0, last + 1 - time.monotonic()))
        now, metrics = time.monotonic(), proxy.metrics()
        servers = total(metrics, "sluiceway_database_connections")
        most = max(most, servers)
        done = total(metrics, "sluiceway_transactions_total") - total(before, "sluiceway_transactions_total")
        say.print(
            line(
                f"{now - begin:.0f}",
                f"{done / (now - last):,.0f}",
                f"{total(metrics, 'sluiceway_client_connections'):.0f}",
                f"{servers:.0f} of {total(metrics, 'sluiceway_max_database_connections_allowed'):.0f}",
                f"{total(metrics, 'sluiceway_clients_waiting'):.0f}",
                in_words(percentile(before, metrics, 0.5)),
                in_words(percentile(before, metrics, 0.99)),
            )
        )
        before, last = metrics, now
    return most


def initialise(pg: Postgres, scale: int, say: Console) -> None:
    say.print(f"[bold]==>[/] pgbench -i, scale {scale}, directly on the server")
    command = [client_tool("pgbench"), "-i", "-q", "-s", str(scale), pg.dsn()]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"pgbench -i: {done.stderr}")


def pgbench_report(text: str, mode: str, most: float, limit: int) -> Table:
    table = Table.grid(padding=(0, 2))
    wanted = {
        "number of transactions actually processed": "transactions",
        "number of failed transactions": "failed",
        "latency average": "latency, average",
        "initial connection time": "100 TLS + SCRAM logins",
        "tps": "tps",
    }
    for key, name in wanted.items():
        found = re.search(rf"^{key}\s*[:=]\s*(.*)$", text, re.MULTILINE)
        if found:
            table.add_row(name, found.group(1))
    table.add_row("most database connections", f"{most:.0f}, limit {limit}")
    table.add_row("protocol", mode)
    return table


def run(args: argparse.Namespace, say: Console) -> int:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluiceway-demo-")))
        say.print("[bold]==>[/] a private PostgreSQL and a certificate")
        pg = stack.enter_context(Postgres())
        certificate = self_signed(folder)
        initialise(pg, args.scale, say)
        config = CONFIG.replace("{cert}", str(certificate.cert)).replace("{key}", str(certificate.key))
        proxy = ProxyUnderTest(pg, config=config.replace("{limit}", str(args.limit)))
        say.print("[bold]==>[/] sluiceway serve, with this configuration")
        say.print(Syntax(proxy.config_path.read_text(), "toml", background_color="default"))
        stack.enter_context(proxy)
        where = f"host={proxy.host} port={proxy.port} user=app dbname=test sslmode=require"
        say.print(f'[bold]==>[/] try it meanwhile: PGPASSWORD=apppw psql "{where}"', soft_wrap=True)
        say.print(f"    and: .venv/bin/sluiceway ctl --run-dir {proxy.run_dir} status", soft_wrap=True)
        command = [client_tool("pgbench"), "-n", "-c", str(args.clients), "-j", "2", "-T", str(args.seconds)]
        command += ["-M", args.mode, where]
        say.print(f"[bold]==>[/] pgbench, TPC-B, {args.clients} clients over TLS with SCRAM, {args.seconds} s")
        output = stack.enter_context((folder / "pgbench").open("w+"))
        pgbench = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "PGPASSWORD": pg.password},
        )  # fmt: skip
        try:
            most = watch(proxy, pgbench, say)
        finally:
            pgbench.kill()
            pgbench.wait()
        output.seek(0)
        text = output.read()
        failed = pgbench.returncode != 0 or most > args.limit
        say.print(pgbench_report(text, args.mode, most, args.limit))
        if failed:
            say.print(f"[red]failed:[/] pgbench ended with {pgbench.returncode}\n{text[-2000:]}", markup=True)
            return 1
        say.print("[bold]==>[/] stopping: the proxy drains, then everything is removed")
    say.print("[green]done")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--limit", type=int, default=20, help="database connections")
    parser.add_argument("--scale", type=int, default=10, help="pgbench's scale factor")
    parser.add_argument("--mode", choices=["simple", "extended", "prepared"], default="simple")
    say = Console(highlight=False)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as orderly as Ctrl-C
    try:
        return run(parser.parse_args(), say)
    except KeyboardInterrupt:
        say.print("\ninterrupted: everything is removed")
        return 130


if __name__ == "__main__":
    sys.exit(main())
