"""Server logs: what is an entry, where it goes on, which of them are statements; and how files are told apart."""

import io
import json

import pytest

from proxy.admin.serverlog import BROKEN, ENTRIES, Format, ServerLog, detect
from proxy.admin.source import Source

PREFIXES = [
    b"2024-05-01 12:00:00.123 UTC [4711] LOG:  ",
    b"2024-05-01 12:00:00 UTC:10.0.0.9(51034):app@orders:[4711]:LOG:  ",  # of RDS
    b"LOG:  ",
    b"app=DIALOG: x user=u LOG:  ",
]


def read(text: bytes, kind: Format, longest: int = 1 << 20) -> tuple[list[tuple[int, bytes, bool]], ServerLog]:
    log = ServerLog(Source(io.BytesIO(text), longest), kind, longest)
    return [(found.line, found.text, found.whole) for found in log], log


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_stderr(prefix: bytes, ending: bytes) -> None:
    other = prefix.replace(b"LOG:  ", b"")
    lines = [
        b"\tthe end of an entry that was cut off",
        prefix + b"statement: select 1",
        prefix + b"duration: 0.123 ms  statement: select a",
        b"\tfrom t",
        b"\t",
        b"\t\twhere LOG:  statement: x",
        other + b"ERROR:  LOG:  statement: listen c",
        b"\tlisten d",
        other + b"STATEMENT:  listen e",
        prefix + b"execute <unnamed>: select $1",
        other + b"DETAIL:  Parameters: $1 = 'LOG:  statement: x'",
        prefix + b"duration: 1.5 ms  execute S_1: select 2",
        prefix + b"duration: 1.5 ms  parse S_1: select 2",
        prefix + b"duration: 1.5 ms  bind S_1: select 2",
        prefix + b"execute fetch from S_1/C_1: select 3",
        prefix + b"duration: 1.5 ms",
        prefix + b"statement: ",
        b"\tselect 4",
        b"no entry at all",
        b"",
        b"\tof nothing",
        prefix + b"checkpoint starting: time",
    ]
    found, log = read(ending.join(lines), Format.STDERR)
    assert found == [
        (2, b"select 1", True),
        (3, b"select a\nfrom t\n\n\twhere LOG:  statement: x", True),
        (10, b"select $1", True),
        (12, b"select 2", True),
        (15, b"select 3", True),
        (17, b"\nselect 4", True),
    ]
    assert log.skipped == {ENTRIES: 7, BROKEN: 1}
    assert detect(ending.join(lines)) is Format.STDERR


def csv_row(message: str, severity: str = "LOG") -> str:
    quoted = message.replace('"', '""')
    head = '2024-05-01 12:00:00.123 UTC,"app","orders",4711,"10.0.0.9:51034",6632.1267,5,"SELECT",2024-05-01 11:00 UTC'
    return f'{head},3/7,0,{severity},00000,"{quoted}",,,,,,,,,"psql","client backend",,0'


def test_csv() -> None:
    rows = [
        csv_row("statement: select \"a\",\n'b'"),
        csv_row("duration: 0.1 ms  execute x: select 2"),
        csv_row("statement: listen c", "ERROR"),
        csv_row("checkpoint"),
        "too,short",
    ]
    text = "\n".join(rows).encode() + b"\n" + csv_row("statement: '\udcff'").encode("utf-8", "surrogateescape")
    assert detect(text) is Format.CSV
    found, log = read(text, Format.CSV)
    assert found == [(1, b"select \"a\",\n'b'", True), (3, b"select 2", True), (7, b"'\xff'", True)]
    assert log.skipped == {ENTRIES: 2, BROKEN: 1}
    assert log.problem == ""


def test_csv_whose_quote_has_no_end() -> None:
    text = csv_row("statement: a").encode() + b'\n"' + b"x,\n" * 100_000
    found, log = read(text, Format.CSV, longest=10_000)
    assert [message for _, message, _ in found] == [b"a"]
    assert log.problem == "line 2: field larger than field limit (10000): not read from here on"
    found, log = read(csv_row("statement: " + "a" * 10_000).encode(), Format.CSV, longest=5000)
    assert found == [] and log.problem.startswith("line 1: ")


def test_json() -> None:
    def entry(**fields: object) -> bytes:
        return json.dumps({"timestamp": "2024-05-01", **fields}, separators=(",", ":")).encode()

    lines = [
        entry(error_severity="LOG", message="statement: select 'a'\nfrom t"),
        entry(error_severity="LOG", message="duration: 2 ms  execute <unnamed>: listen c", detail="x"),
        entry(error_severity="ERROR", message="statement: listen c", statement="listen c"),
        entry(error_severity="LOG", message=7),
        entry(error_severity="LOG", message="statement: '\u00e9\u0000'"),
        entry(error_severity="LOG", message="statement: ?").replace(b"?", b"\xff"),
        b'{"timestamp":',
        b"[]",
    ]
    text = b"\n".join(lines)
    assert detect(text) is Format.JSON
    found, log = read(text, Format.JSON)
    assert [message for _, message, _ in found] == [
        b"select 'a'\nfrom t",
        b"listen c",
        "'\u00e9\0'".encode(),
        "\ufffd".encode(),
    ]
    assert log.skipped == {ENTRIES: 1, BROKEN: 3}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n\n",
        b"select 1;",
        b"-- LOG:  is a word\nselect 1;\nselect 2;",
        b"insert into log values ('LOG:  statement: x');\nselect 1;\nselect 2;",
        b'{"a": 1}',
        b"\x00\xff\xfe\n" * 100,
    ],
)
def test_scripts_are_no_logs(text: bytes) -> None:
    assert detect(text) is Format.SCRIPT


def test_an_entry_that_is_too_long() -> None:
    long = b"LOG:  statement: " + b"x" * 300
    found, _ = read(b"\n".join([long, b"\ty", b"LOG:  statement: a"]), Format.STDERR, longest=200)
    assert [(line, whole) for line, _, whole in found] == [(1, False), (3, True)]
    found, _ = read(b"LOG:  statement: a\n" + b"\txx\n" * 1000 + b"LOG:  statement: b", Format.STDERR, longest=200)
    assert [(line, whole) for line, _, whole in found] == [(1, False), (1002, True)]
    assert len(found[0]) < 300


def test_a_line_of_five_megabytes() -> None:
    text = b"LOG:  statement: select '" + b"x" * 5_000_000 + b"'\nLOG:  statement: b"
    found, _ = read(text, Format.STDERR, longest=10_000_000)
    assert [(line, len(statement)) for line, statement, _ in found] == [(1, 5_000_009), (2, 1)]
