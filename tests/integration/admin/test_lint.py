"""A script as we read it is what the real psql sends, and a real server's logs are read alike in all formats."""

import io
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.admin.script import Script
from proxy.admin.serverlog import Format, ServerLog, detect
from proxy.admin.source import Source
from proxy.sql.explain import explain
from tests.harness.postgres import Postgres, client_tool, environment

Logs = tuple[list[bytes], dict[Format, bytes]]
SCRIPT = rb"""\set ON_ERROR_STOP on
\set who 'it''s; \\g'
/* a comment ; */ select 1; -- another ;
select ';', ";".a from (select 2 as a) ";"; select $$;$$, $x$ $$;$x$, e'\';', 'a'
'b;' ;
create temp table t (a int, b text);
COPY t (a, b) FROM stdin;
1	it's; select 'not sent'
2	$$ ; \\g
\.
copy t from stdin with (format csv) \g
3,"x;
y"
\.
select count(*) from t \gset p_
select 1 as "one", :'who';
select :'p_count';
create table r (a int);
create rule s as on update to r do also (insert into t values (7); insert into t values (8));
create function f(int) returns int begin atomic select case when true then 1 else 2 end; select 2; end;
create or replace procedure begin_(a int) language sql as 'select 1;';
select 1 \; select 2;
begin; set local lock_timeout = '1s'; commit
;
set standard_conforming_strings = off;
set escape_string_warning = off;
select 'a\'; b';
set standard_conforming_strings = on;
select 'a\'; select 3
\echo select 4;
 + 1;
select 5 \r
select 6 as "\g;"
\g
drop function f(int);
drop table r;
\copy t from stdin
9	x
\.
\copy t from stdin csv
9,"x"
\.
listen c;
select 'the last one'
"""
COPIES = {b"copy t from stdin", b"copy t from stdin csv"}


@pytest.fixture(scope="module")
def logs() -> Iterator[Logs]:
    """What we find in the script, and the logs of the server it was sent to."""
    settings = {
        "logging_collector": "on",
        "log_destination": "stderr,csvlog,jsonlog",
        "log_directory": "log",
        "log_filename": "server.log",
        "log_statement": "all",
        "log_duration": "on",
        "log_line_prefix": "%m [%p] %q%u@%d/%a ",
    }
    server = Postgres(settings=settings)
    if server.version < 15:
        server.stop()
        pytest.skip("no jsonlog before PostgreSQL 15")
    with server as pg:
        script = pg.folder / "script.sql"
        script.write_bytes(SCRIPT)
        pg.sql("select 'the beginning'")
        done = subprocess.run(
            [client_tool("psql"), "-qAtX", "-f", str(script), f"{pg.dsn()} application_name=script"],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=environment(),
        )
        assert (done.returncode, done.stderr) == (0, b"")
        pg.sql("select 'the end'")
        folder = pg.data / "log"
        yield (
            [text for _, text, _ in Script(Source(io.BytesIO(SCRIPT)))],
            {
                Format.STDERR: complete(folder / "server.log"),
                Format.CSV: complete(folder / "server.csv"),
                Format.JSON: complete(folder / "server.json"),
            },
        )


def complete(path: Path) -> bytes:
    """The collector writes a little later."""
    deadline = time.monotonic() + 10
    while b"the end" not in path.read_bytes():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)
    return path.read_bytes()


def digests(texts: list[bytes]) -> list[bytes]:
    return [explain(text).digest for text in texts]


@pytest.mark.parametrize("kind", [Format.STDERR, Format.CSV, Format.JSON])
def test_what_psql_sends_is_what_we_read(logs: Logs, kind: Format) -> None:
    ours, written = logs
    assert detect(written[kind]) is kind
    log = ServerLog(Source(io.BytesIO(written[kind])), kind)
    sent = [text for _, text, _ in log]
    assert log.problem == ""
    begin = next(i for i, text in enumerate(sent) if b"the beginning" in text)
    end = next(i for i, text in enumerate(sent) if b"the end" in text)
    theirs = sent[begin + 1 : end]
    # psql puts values in the place of its variables, and writes the COPY of `\copy` itself
    expected = [text.replace(b":$", b"$") for text in digests(ours)]
    assert [text for text in digests(theirs) if text not in COPIES] == expected
