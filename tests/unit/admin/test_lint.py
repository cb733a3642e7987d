"""Lint: what is found in realistic and in hostile files, grouped and counted; and the command."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from proxy.admin import cli, lintreport
from proxy.admin import lint as lint_module
from proxy.admin.cli import main
from proxy.admin.lint import Lint, NoTextError
from proxy.admin.serverlog import Format
from proxy.sql.rds import RdsReason

DUMP = rb"""--
-- PostgreSQL database dump
--
\restrict abc

SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

CREATE FUNCTION public.f() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
  CREATE TEMP TABLE t (a int);  -- not read
  RETURN NEW;
END;
$$;

COPY public.t (a, b) FROM stdin;
1	it's
2	; LISTEN c
\.

SELECT pg_catalog.setval('public.t_a_seq', 2, true);
CREATE TEMP TABLE x (a int);
LISTEN jobs;
LISTEN jobs;
BEGIN;
SET LOCAL lock_timeout = '1s';
COMMIT;
\unrestrict abc
"""

LOG = b"""2024-05-01 12:00:00 UTC [1] LOG:  database system is ready to accept connections
2024-05-01 12:00:00 UTC [2] LOG:  statement: SET search_path = "a"; SET NAMES 'UTF8'
2024-05-01 12:00:00 UTC [2] LOG:  statement: SET search_path = "b"; SET NAMES 'UTF8'
2024-05-01 12:00:00 UTC [2] LOG:  execute <unnamed>: SELECT *
\tFROM t
\tWHERE a = $1
2024-05-01 12:00:00 UTC [2] DETAIL:  Parameters: $1 = 'LISTEN c'
2024-05-01 12:00:00 UTC [2] LOG:  duration: 0.5 ms  statement: SELECT pg_advisory_unlock_all();
\tCLOSE ALL;
\tUNLISTEN *;
\tRESET ALL;
2024-05-01 12:00:00 UTC [2] LOG:  statement: DISCARD ALL
"""


def lint(text: bytes, **options: int) -> Lint:
    found = Lint()
    found.read(io.BytesIO(text), "x", **options)  # type: ignore[arg-type]
    return found


def shown(found: Lint) -> list[list[tuple[int, int, str]]]:
    return [
        [(group.count, group.line, group.verdict.digest.decode()) for group in groups] for _, groups in found.sections()
    ]


def test_a_dump() -> None:
    found = lint(DUMP)
    assert shown(found) == [
        [
            (2, 27, "listen jobs"),
            (1, 25, "select pg_catalog.setval($1, $2, true)"),
            (1, 26, "create temp table x (a int)"),
        ],
        [
            (1, 6, "set statement_timeout = $1"),
            (1, 7, "set client_encoding = $1"),
            (1, 8, "set standard_conforming_strings = on"),
            (1, 9, "select pg_catalog.set_config($1, $2, false)"),
        ],
        [(1, 30, "set local lock_timeout = $1")],
    ]
    assert (found.statements, found.pins, found.rds, found.unclear, found.problems) == (13, 4, 8, 1, 0)
    assert lintreport.summary(found) == "13 statements, 4 pin here, 8 would pin RDS Proxy and 1 more may"


def test_a_log() -> None:
    found = lint(LOG)
    assert found.files[0].kind is Format.STDERR
    assert shown(found) == [
        [],
        [
            (2, 2, "set search_path = $1; set names $2"),
            (1, 8, "select pg_advisory_unlock_all(); close all; unlisten *; reset all"),
            (1, 12, "discard all"),
        ],
        [],
    ]
    assert lintreport.summary(found) == "5 statements, 0 pin here, 4 would pin RDS Proxy"
    text = list(lintreport.lines(found))
    assert text[0] == "x: server log, 5 statements; 2 other log entries skipped"
    assert text[2:6] == [
        "Would pin RDS Proxy, does not pin here:",
        "          2 ×  x:2  set search_path = $1; set names $2",
        "               here:      followed: search_path, client_encoding",
        f"               RDS Proxy: pins: {RdsReason.SETTING.value}",
    ]


def test_several_files_are_one_report() -> None:
    found = Lint()
    for name in ("a", "b"):
        found.read(io.BytesIO(b"listen c; select 1"), name)
    assert shown(found)[0] == [(2, 1, "listen c")]
    assert next(iter(found.groups.values())).file == "a"
    assert lintreport.summary(found) == "4 statements, 2 pin here, 2 would pin RDS Proxy"


def test_the_same_digest_with_another_verdict_is_another_group() -> None:
    found = lint(b"set a = '1'; set a = '2'; select set_config('a', $1, true); select set_config('b', $1, false)")
    assert [count for count, _, _ in shown(found)[1]] == [2, 1, 1]


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"".join(b"listen c%d;" % number for number in range(50))
    found = lint(text)
    assert sum(" ×  " in line for line in lintreport.lines(found)) == 20
    assert "  … and 30 more digests: --limit 0 shows them" in lintreport.lines(found)
    assert sum(" ×  " in line for line in lintreport.lines(found, 0)) == 50
    assert len(lintreport.data(found)["pinned"]) == 50
    monkeypatch.setattr(lint_module, "MOST_GROUPS", 10)
    found = lint(text)
    assert (len(found.groups), found.ungrouped, found.pins) == (10, 40, 50)
    assert "40 statements of more digests than can be kept: counted, not shown" in lintreport.lines(found)


HOSTILE: list[bytes] = [
    b"select 'open",
    b"select 1; /* open",
    b"$a$ $b$",
    b"select '\x00'; \x00",
    b"\xff\xc3\x28;\xc3",
    b'listen "\x1b]0;evil\x07";',
    b'listen "\xe2\x80\xae\xc2\x9b2J";',
    b"(((((((" * 10_000,
    b"/*" * 50_000,
    b"'" * 99_999,
    b"\\\\\\\\\n\\",
    b"copy t from stdin;\n" + b"x" * 200_000,
    b'LOG:  statement: listen "\x1b[2J"\n\tx\x00\n',
    b"LOG:  statement: '" + b"x" * 200_000 + b"\n",
    b'{"timestamp":"","error_severity":"LOG","message":"statement: listen \\"\\u001b[2J\\""}',
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: repr(text[:30]))
def test_hostile_files(text: bytes) -> None:
    found = lint(text)
    lines = list(lintreport.lines(found, 0))
    assert all(line.isprintable() for line in lines)
    assert json.dumps(lintreport.data(found)).isprintable()
    assert max(map(len, lines)) < 400


def test_what_cannot_be_read_pins() -> None:
    found = lint(b"select 1;\nselect 'open; listen c")
    assert shown(found)[0] == [(1, 2, "select...")]
    found = lint(b"a;\n" + b"'" + b"x" * 3000, longest=1000)
    assert (found.statements, found.pins, found.problems) == (1, 0, 1)
    assert lintreport.summary(found).endswith("not everything was read: 1 problem")
    found = lint(b"LOG:  statement: " + b"x" * 3000 + b"\nLOG:  statement: a\n", longest=1000)
    assert (found.statements, found.problems) == (2, 1)
    with pytest.raises(NoTextError, match="UTF-16"):
        lint("select 1".encode("utf-16"))


# the command


def run(*args: str | Path, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["lint", *map(str, args)], input=stdin)


def test_exit_codes(tmp_path: Path) -> None:
    clean, pinning, utf16 = tmp_path / "clean.sql", tmp_path / "pins.sql", tmp_path / "utf16.sql"
    clean.write_bytes(b"set a = 1;")
    pinning.write_bytes(b"listen c;")
    utf16.write_bytes("select 1".encode("utf-16"))
    assert run(clean).exit_code == 0
    assert run(pinning).exit_code == 1
    assert run(clean, pinning).exit_code == 1
    assert run("-", stdin=b"select 1").exit_code == 0
    assert run("-", stdin=b"select 'open").exit_code == 1
    options = (clean, "--dialect", "oracle"), (clean, "--limit", "-1"), (clean, "--format", "x")
    for wrong in ((), (tmp_path / "none.sql",), (tmp_path,), (utf16,), *options):
        assert run(*wrong).exit_code == 2, wrong


def test_output(tmp_path: Path) -> None:
    path = tmp_path / "app.sql"
    path.write_bytes(DUMP)
    result = run(path)
    first, *_, last = result.stdout.splitlines()
    assert first == f"{path}: psql script, 13 statements; 2 psql commands skipped; 2 lines of COPY data skipped"
    assert last == "13 statements, 4 pin here, 8 would pin RDS Proxy and 1 more may"
    assert result.stderr == ""
    found = json.loads(run(path, "--json").stdout)
    assert [found[name] for name in ("statements", "pin", "rds_proxy_pin", "rds_proxy_unclear")] == [13, 4, 8, 1]
    assert found["pinned"][0] == {
        "digest": "listen jobs",
        "count": 2,
        "file": str(path),
        "line": 27,
        "pins": [{"reason": "listen", "text": "notifications reach the database connection that listens"}],
        "followed": [],
        "notes": [],
        "rds_proxy": {"pins": [{"reason": "listen", "text": "LISTEN"}], "unclear": [], "misled": False},
    }
    assert found["files"][0]["format"] == "script"
    assert len(json.loads(run(path, "--json", "--limit", "1").stdout)["rds_only"]) == 1


def test_a_format_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"LOG:  statement: listen c")
    assert run(path, "--format", "log").exit_code == 1
    assert json.loads(run(path, "--format", "sql", "--json").stdout)["pin"] == 0


def test_progress_is_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    found = Lint(cli._progress)
    found.read(io.BytesIO(b"select 1;" * 25_000), "a\x1bb")
    assert capsys.readouterr().err.split("\r")[1:] == [
        "a\\x1bb: 0 MB, 10,000 statements",
        "a\\x1bb: 0 MB, 20,000 statements",
    ]


def test_a_large_log_is_not_kept() -> None:
    class Endless(io.RawIOBase):
        """100 MB of log, made as it is read."""

        left = 100_000_000
        line = b"LOG:  statement: select '" + b"x" * 99_973 + b"'\n"

        def readable(self) -> bool:
            return True

        def readinto(self, into: bytearray) -> int:  # type: ignore[override]
            size = min(len(into), self.left, len(self.line))
            into[:size] = self.line[:size]
            self.left -= size
            return size

    import tracemalloc

    tracemalloc.start()
    try:
        found = Lint()
        stream: Any = io.BufferedReader(Endless(), len(Endless.line))
        found.read(stream, "x")
        assert found.statements == 1000
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
