"""The command `sluiceway`. Scripts rely on the names, the exit codes and the JSON; the tables are for people.

What a command needs is imported inside it: `--help` must not wait for pydantic, nor `ctl` for aiohttp.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from proxy import __version__

EXIT_REFUSED = 1
EXIT_UNREACHABLE = 3

F = TypeVar("F", bound=Callable[..., Any])

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIR = click.Path(file_okay=False, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="sluiceway", message="%(prog)s %(version)s")
def main() -> None:
    """Sluiceway: many client connections in, few database connections out.

    \b
    Examples:
      sluiceway check /etc/sluiceway.toml        is the configuration right?
      sluiceway serve -c /etc/sluiceway.toml     run the proxy in the foreground
      sluiceway ctl status                       what is it doing?
      sluiceway lint app.sql postgresql.log      what would pin?
    """


@main.command()
@click.option("-c", "--config", required=True, type=_FILE, metavar="FILE", help="The configuration, TOML.")
@click.option("--workers", type=click.IntRange(1, 127), metavar="N", help="Worker processes.  [default: the file's]")
@click.option("--run-dir", type=_DIR, metavar="DIR", help="Where control.sock is made.  [default: the file's]")
def serve(config: Path, workers: int | None, run_dir: Path | None) -> None:
    """Run the proxy in the foreground.

    Prints one line when every listener is open. SIGTERM stops gracefully (transactions may end), SIGINT at once, SIGHUP
    reads the configuration again. Exits with 0 after a clean stop, with 78 if it could not start.

    \b
    Examples:
      sluiceway serve -c orders.toml
      sluiceway serve -c orders.toml --workers 4 --run-dir /tmp/orders
    """
    from proxy.supervisor.main import serve as run

    sys.exit(run(config, workers, run_dir))


@main.command()
@click.argument("file", type=_FILE)
def check(file: Path) -> None:
    """Check a configuration FILE.

    Its secrets and certificates are read as well; nothing is started.

    Prints every error with its place, the value and what to do. Exits with 0 if it can be served, else with 1.

    \b
    Example:
      sluiceway check orders.toml && systemctl reload sluiceway
    """
    from proxy.control.config import ConfigErrors, load
    from proxy.control.secrets import fetch_all
    from proxy.control.snapshot import SlotMap, build

    try:
        config = load(file)
        fetched = fetch_all(config)
        if fetched.errors:
            raise ConfigErrors(fetched.errors, str(file))
        snapshot = build(config, fetched.values, SlotMap(), 1)
    except ConfigErrors as invalid:
        click.echo(str(ConfigErrors(invalid.errors, str(file))), err=True)
        sys.exit(EXIT_REFUSED)
    for warning in (*config.warnings, *fetched.warnings):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{file}: OK")
    for proxy in snapshot.proxies:
        parts = [
            _count(len(proxy.endpoints), "endpoint"),
            _count(len(proxy.target_group.targets), "target"),
            _count(len(proxy.credentials), "user"),
        ]
        click.echo(f"  {proxy.name}  {proxy.engine_family}  {', '.join(parts)}  client TLS: {proxy.tls.mode}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


FORMATS = ("sql", "log", "csvlog", "jsonlog")


@main.command()
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(exists=True, dir_okay=False, allow_dash=True)
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="What FILE is.  [default: by its first lines]")
@click.option("--dialect", type=click.Choice(["postgresql"]), default="postgresql", show_default=True)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Digests per section, 0 for all.  [default: 20]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def lint(files: tuple[str, ...], kind: str | None, dialect: str, limit: int | None, as_json: bool) -> None:
    """What in scripts and logs would pin.

    Reads psql scripts and PostgreSQL server logs (log_statement or log_min_duration_statement: stderr format, csvlog,
    jsonlog); - is stdin. Says by digest what pins here and why, what would pin RDS Proxy, and what is followed instead.
    Asks no proxy and no database.

    Exits with 0 if nothing pins here, with 1 if something does or could not be read, with 2 for a wrong command line.

    \b
    Examples:
      sluiceway lint migrations/*.sql
      zcat postgresql.log.gz | sluiceway lint -
    """
    import json

    from proxy.admin import lintreport
    from proxy.admin.lint import Lint, NoTextError
    from proxy.admin.serverlog import Format

    formats = dict(zip(FORMATS, Format, strict=True))
    found = Lint(_progress if sys.stderr.isatty() else None)
    for name in files:
        try:
            if name == "-":
                found.read(sys.stdin.buffer, "stdin", formats.get(kind or ""))
            else:
                with Path(name).open("rb") as stream:
                    found.read(stream, name, formats.get(kind or ""))
        except (OSError, NoTextError) as error:
            raise click.UsageError(str(error)) from None
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        click.echo(json.dumps(lintreport.data(found, limit or 0), indent=2))
    else:
        for line in lintreport.lines(found, lintreport.SHOWN if limit is None else limit):
            click.echo(line)
    sys.exit(EXIT_REFUSED if found.pins or found.problems else 0)


def _progress(name: str, size: int, statements: int) -> None:
    from proxy.admin.printable import printable

    if statements % 10_000 == 0:
        text = f"{printable(name)[-40:]}: {size / 1e6:,.0f} MB, {statements:,} statements"
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)


@main.group()
@click.option(
    "--run-dir",
    type=_DIR,
    metavar="DIR",
    envvar="SLUICEWAY_RUN_DIR",
    help="Run directory of the proxy; its socket is DIR/control.sock."
    "  [default: /run/sluiceway for root, else $XDG_RUNTIME_DIR/sluiceway]",
)
@click.pass_context
def ctl(context: click.Context, run_dir: Path | None) -> None:
    """Look at a running proxy and tell it what to do.

    Exits with 0 if it was done, 1 if the proxy refused, 2 for a wrong command line, 3 if no proxy answers.

    \b
    Examples:
      sluiceway ctl status
      sluiceway ctl explain "SET search_path = app"
      sluiceway ctl clients --json | jq '.[] | select(.state == "waiting")'
      sluiceway ctl --run-dir /tmp/orders drain --deadline 60
    """
    context.obj = run_dir


def _json_option(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


def _ask(method: str, name: str, as_json: bool, **arguments: Any) -> None:
    """One request to the proxy, its answer printed; ends the process if there is none."""
    import json

    from proxy.admin.client import AnswerError, Client, UnreachableError
    from proxy.control.rundir import default_run_dir

    run_dir = click.get_current_context().find_object(Path) or default_run_dir()
    client = Client(run_dir)
    try:
        data = client.get(name) if method == "GET" else client.post(name, **arguments)
    except (AnswerError, UnreachableError) as error:
        reasons = list(error.reasons) if isinstance(error, AnswerError) else [str(error)]
        if as_json:
            click.echo(json.dumps({"error": reasons[0], "reasons": reasons}, indent=2))
        else:
            click.echo("\n".join(reasons), err=True)
        sys.exit(EXIT_REFUSED if isinstance(error, AnswerError) else EXIT_UNREACHABLE)
    if as_json:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False))
        return
    from proxy.admin import tables

    tables.console().print(tables.render(name, data))


@ctl.command()
@_json_option
def status(as_json: bool) -> None:
    """Workers, endpoints and targets at a glance."""
    _ask("GET", "status", as_json)


@ctl.command()
@_json_option
def pools(as_json: bool) -> None:
    """Pools of database connections.

    There is one for each target, database, user and set of startup settings.
    """
    _ask("GET", "pools", as_json)


@ctl.command()
@_json_option
def clients(as_json: bool) -> None:
    """Client connections."""
    _ask("GET", "clients", as_json)


@ctl.command()
@_json_option
def servers(as_json: bool) -> None:
    """Database connections."""
    _ask("GET", "servers", as_json)


@ctl.command()
@_json_option
def pins(as_json: bool) -> None:
    """Clients that hold a database connection, and why.

    A pinned client keeps its connection between transactions; HELD is the time that cost so far.
    """
    _ask("GET", "pins", as_json)


@ctl.command()
@click.argument("sql")
@click.option("--proxy", metavar="NAME", help="Whose pin_policy applies.  [default: the only one]")
@_json_option
def explain(sql: str, proxy: str | None, as_json: bool) -> None:
    """What the proxy would do with SQL (- reads it from stdin).

    Says of each statement whether it pins and why, which settings are followed instead, and what would pin RDS Proxy.
    Nothing is executed. For files and logs there is `sluiceway lint`.

    \b
    Example:
      sluiceway ctl explain "SET search_path = app; LISTEN jobs"
    """
    import json

    from proxy.admin.port import LARGEST_BODY

    if sql == "-":
        text = sys.stdin.buffer.read(LARGEST_BODY + 1)
    else:
        text = sql.encode("utf-8", "surrogateescape")
    # a byte that is no UTF-8 is read as a letter, and so is its replacement
    readable = text.decode("utf-8", "replace")
    if len(json.dumps(readable)) > LARGEST_BODY - 1024:
        raise click.UsageError("the text is too long to ask the proxy; sluiceway lint reads files of any size")
    _ask("POST", "explain", as_json, text=readable, proxy=proxy)


@ctl.command()
@click.option("--deadline", type=click.FloatRange(min=0), metavar="SECONDS", help="Close what is left after this time.")
@click.option("--undo", is_flag=True, help="Accept clients again.")
@_json_option
def drain(deadline: float | None, undo: bool, as_json: bool) -> None:
    """Stop accepting clients.

    Transactions may end, then their clients are disconnected; at the deadline all others are.
    """
    if undo and deadline is not None:
        raise click.UsageError("--undo takes no --deadline")
    if undo:
        _ask("POST", "undrain", as_json)
    else:
        _ask("POST", "drain", as_json, deadline=deadline)


@ctl.command()
@click.argument("target", required=False)
@_json_option
def pause(target: str | None, as_json: bool) -> None:
    """Hold requests back.

    Between transactions, to TARGET (host:port as `status` shows it) or to all. Clients stay connected and wait.
    """
    _ask("POST", "pause", as_json, target=target)


@ctl.command()
@click.argument("target", required=False)
@_json_option
def resume(target: str | None, as_json: bool) -> None:
    """Let the requests go on that `pause` holds back."""
    _ask("POST", "resume", as_json, target=target)


@ctl.command()
@_json_option
def reload(as_json: bool) -> None:
    """Read the configuration again and apply what changed. With any error in it, everything stays as it is."""
    _ask("POST", "reload", as_json)


@ctl.command()
@click.option("--fast", is_flag=True, help="Do not wait for transactions to end.")
@_json_option
def shutdown(fast: bool, as_json: bool) -> None:
    """Stop the proxy, after a drain or at once."""
    _ask("POST", "shutdown", as_json, fast=fast)


@ctl.command()
@click.argument("client", type=int)
@_json_option
def kill(client: int, as_json: bool) -> None:
    """Close one client connection, by the id that `clients` shows."""
    _ask("POST", "kill", as_json, client=client)


if __name__ == "__main__":
    main()
