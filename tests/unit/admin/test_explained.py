"""Explanations as data and as lines; and text that cannot move a cursor."""

import json

import pytest

from proxy.admin.explained import lines, row
from proxy.admin.printable import printable
from proxy.reasons import PinReason
from proxy.sql.explain import IGNORE, REFUSE, explain
from proxy.sql.rds import rds


def said(text: bytes, policy: dict[PinReason, str] | None = None) -> list[str]:
    data = row(explain(text, policy=policy), rds(text))
    return list(lines(json.loads(json.dumps(data))))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"select 1", ["1  select $1", "     nothing of it stays in the session"]),
        (b"reset a", ["1  reset a", "     resets a: to what the session began with"]),
        (
            b"set a = b || c",
            [
                "1  set a = b || c",
                "     changes a to what only the server knows: it is asked at the end of the transaction",
            ],
        ),
        (
            b"deallocate p",
            [
                "1  deallocate p",
                "     deallocates p: the prepared statement is forgotten here too",
                "     what had pinned may end: checked with the server at once",
            ],
        ),
    ],
)
def test_lines(text: bytes, expected: list[str]) -> None:
    found = said(text)
    assert found[: len(expected) - 1] == expected[:-1]
    assert expected[-1] in found
    assert found[-2] == "Sluiceway: does not pin"


def test_policies() -> None:
    policy = {PinReason.PIN_LISTEN: IGNORE}
    assert said(b"listen c", policy)[1:3] == [
        "     would pin, ignored by pin_policy: listen: notifications reach the database connection that listens",
        "Sluiceway: does not pin",
    ]
    found = said(b"create function f() begin atomic a; end; set b = 1", {PinReason.PIN_SETTING: REFUSE})
    (line,) = [line for line in found if line.startswith("as a whole: refused by pin_policy: setting: ")]
    assert line.endswith("the text does not tell which")
    assert found[-2] == "Sluiceway: is refused"


def test_rds_proxy() -> None:
    assert said(b"select 1")[-1] == "RDS Proxy: does not pin"
    assert said(b"set local a = 1")[-1] == "RDS Proxy: may pin: SET LOCAL: no exemption is documented"
    assert said(b"select lastval()")[-1].startswith("RDS Proxy: does not pin, and currval() or lastval() may answer")
    assert said(b"listen c; load 'x'")[-1] == "RDS Proxy: pins: LISTEN; pins: LOAD of a library"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain \u00e9 \u65e5", "plain \u00e9 \u65e5"),
        (b"a\xff\xc3\xa9", "a\\xff\u00e9"),
        ("\x1b[2J\x07\r\n\t\0\x7f\x9b", "\\x1b[2J\\x07\\x0d\\x0a\\x09\\x00\\x7f\\x9b"),
        ("\u202eabc\u2028\U000e0001", "\\u202eabc\\u2028\\U000e0001"),
    ],
)
def test_printable(text: bytes | str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(shown) == shown
